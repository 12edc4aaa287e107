import pytest

from trivium.training.corpora.roff import Paragraph, characters, read_line, section


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("plain text", "plain text"),
        (".B bold words", "bold words"),
        (".BR open (2),", "open(2),"),
        (".RB ( openat ())", "(openat())"),
        ('.BR EAGAIN " or " EWOULDBLOCK', "EAGAIN or EWOULDBLOCK"),
        ('.B "a ""quoted"" word"', 'a "quoted" word'),
        (r".IR two\ words ,", "two words,"),
        (r"\fIx\fP \(em \[aq]y\[aq] \-1 \&.B \en \f[B]z\f[R]\c", "x \u2014 'y' -1 .B \\n z"),
    ],
)
def test_lines_are_read_as_man_prints_them(line, text):
    assert read_line(line) == ("", text)


def test_a_character_without_a_name_prints_nothing():
    assert characters(r"a\[unknown]b\|c\*(Xyd") == "abcd"


PAGE = """\
.SH NAME
toy \\- play
.SH ERRORS
Each call
.\\" not this
can fail: \\" nor this
.TP
.B EACCES
No \\
way.
.IP
Really.
.RS
.IP \\[bu] 3
first
.PP
second
.RE
.TP
.B EAGAIN
.TQ
.B EINTR
Again.
.SS More
Others.
.SH NOTES
None.
"""


def test_what_is_indented_below_a_tag_belongs_to_it():
    assert section(PAGE, "ERRORS") == [
        Paragraph("", "Each call can fail:"),
        Paragraph("EACCES", "No way. Really. \u2022 first second"),
        Paragraph("EAGAIN, EINTR", "Again."),
        Paragraph("", "More Others."),
    ]


def test_a_section_that_is_not_there_has_no_paragraphs():
    assert section(PAGE, "BUGS") == [] and section(PAGE, "NOTES") == [Paragraph("", "None.")]
