from trivium.training.corpora.manual import ERROR, lay_out, questions
from trivium.training.corpora.roff import Paragraph


def test_entries_point_at_the_text_behind_their_tag():
    context, entries = lay_out(
        [Paragraph("", "Fails with:"), Paragraph("EAGAIN or EINTR", "Try again."), Paragraph("Domain error", "x")]
    )
    assert context == "Fails with:\nEAGAIN or EINTR Try again.\nDomain error x"
    assert [(entry.error, context[entry.start : entry.end]) for entry in entries] == [
        ("EAGAIN", "Try again."),
        ("EINTR", "Try again."),
    ]


def test_every_reason_of_a_page_is_an_answer(folders):
    rows = {row["id"]: row for _, row in questions(folders["manpages-dev"])}
    answers = rows["call7.2/EACCES"]["answers"]
    assert answers["text"] == [
        "The file path7 is not allowed (see proc(5)). Still denied.",
        "Another reason.",
    ]
    assert rows["call7.2/EACCES"]["title"] == "call7(2)" and "EACCES" in rows["call7.2/EACCES"]["question"]
    assert rows["call7.2/EWOULDBLOCK"]["answers"]["text"] == ["Try again\u2014later."]
    assert "ENOSYS" not in rows["call7.2/EACCES"]["context"]


def test_questions_without_an_answer_ask_for_what_the_page_does_not_name(folders, tmp_path):
    import gzip

    place = tmp_path / "usr/share/man/man2"
    place.mkdir(parents=True)
    names = ["EPERM", "EIO", "EINVAL", "ENOMEM", "EFAULT", "EBADF"]
    for i in range(200):
        listed = names[i % 6 :] + names[: i % 6]
        entries = "".join(f".TP\n.B {name}\nReason {i}.\n" for name in listed[:3])
        (place / f"c{i}.2.gz").write_bytes(gzip.compress(f".SH ERRORS\n{entries}".encode()))
    rows = [row for _, row in questions(tmp_path)]
    unanswerable = [row for row in rows if not row["answers"]["text"]]
    assert 0.08 < len(unanswerable) / len(rows) < 0.2
    for row in unanswerable:
        assert row["answers"]["answer_start"] == []
        assert row["id"].partition("/")[2] in row["question"]
        assert row["id"].partition("/")[2] not in ERROR.findall(row["context"])
    assert len({row["id"] for row in rows}) == len(rows)
