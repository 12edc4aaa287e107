"""Whatever a text holds, a card shows it, and a reader of Markdown sees nothing else in it."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivium.model_cards.text import REMOVED, Markdown, block, code, escape, line, prose, redact, table, visible

markdown_it = pytest.importorskip("markdown_it")

HOSTILE = [
    "</details><script>alert(1)</script>",
    "<!-- hidden",
    "-->",
    "[click](javascript:alert(1))",
    "![x](http://example.org/x.png)",
    "`code` ``` ````",
    "a | b | c",
    "a\\|b\\\\|c",
    "one\ntwo\n\n# three\n---\nlicense: mit\n---\n",
    "\n---\nlicense: mit\n---\n",
    "# heading",
    "1. list",
    "- list",
    "> quote",
    "Title\n=====",
    "    indented",
    "*bold* _it_ __init__ ~~gone~~ $x^2$ $$y$$",
    "&lt;b&gt; &#60; &amp;",
    "[ref]: http://example.org",
    "<https://example.org> <a@b.c>",
    "{{ 7 * 7 }} {% raw %}",
    "admin\u202egpj.exe \u2066x\u2069 \u200b\u00ad\u2028\x00\x1b[31m",
    "\\",
    "trailing\\",
    "```\n</details>\n```",
    "~~~\nx\n~~~",
    "| a |\n| - |\n| b |",
    "",
    "   ",
]
BULLET = re.compile(r"^[-*] +(?=\S)")
ANY = st.one_of(st.sampled_from(HOSTILE), st.text(), st.text(alphabet="`|\\<>[]()*_#-~$&!\n ab1.:{}%"))


def parser():
    return markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def inline(tokens):
    """The inline parts of a text, in order."""
    return [child for token in tokens for child in (inline(token.children) if token.children else [token])]


def shown(tokens):
    return "".join(" " if one.type == "softbreak" else one.content for one in inline(tokens))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_only_text(text):
    check_escaped(text)


@given(ANY)
@settings(max_examples=150, deadline=None)
def test_any_text_is_only_text(text):
    check_escaped(text)


def check_escaped(text):
    tokens = parser().parse(f"a {escape(text)} z")
    assert [one.type for one in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    assert {one.type for one in tokens[1].children} <= {"text", "text_special"}
    assert shown(tokens).split() == ["a", *line(text).split(), "z"]


@given(ANY)
@settings(max_examples=150, deadline=None)
def test_code_is_one_piece_of_code_or_only_text(text):
    tokens = parser().parse(f"a {code(text)} z")
    assert [one.type for one in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    kinds = [one.type for one in tokens[1].children]
    assert kinds == ["text", "code_inline", "text"] or set(kinds) <= {"text", "text_special"}
    assert shown(tokens).split() == ["a", *line(text).split(), "z"]


@given(st.lists(ANY, min_size=2, max_size=2), st.lists(ANY, min_size=2, max_size=2))
@settings(max_examples=150, deadline=None)
def test_a_table_has_the_cells_that_were_put_in(head, row):
    tokens = parser().parse(table(head, [row, [code(cell) for cell in row]]))
    cells = [shown([after]) for before, after in pairwise(tokens) if before.type in ("th_open", "td_open")]
    assert [" ".join(cell.split()) for cell in cells] == [line(cell) for cell in (*head, *row, *row)]
    assert tokens[0].type == "table_open" and tokens[-1].type == "table_close"


@given(ANY)
@settings(max_examples=150, deadline=None)
def test_a_block_is_one_block(text):
    (token,) = parser().parse(block(text, "yaml"))
    assert token.type == "fence" and token.info == "yaml"
    assert token.content.strip("\n") == visible(text).strip("\n")


@given(ANY)
@settings(max_examples=150, deadline=None)
def test_prose_has_paragraphs_and_lists_and_no_more(text):
    allowed = {"paragraph_open", "paragraph_close", "inline", "list_item_open", "list_item_close"}
    tokens = parser().parse(prose(text))
    assert {one.type for one in tokens} <= allowed | {"bullet_list_open", "bullet_list_close"}
    children = [child for token in tokens if token.type == "inline" for child in token.children]
    assert {child.type for child in children} <= {"text", "text_special", "softbreak"}
    written = [word for one in visible(text).split("\n") for word in BULLET.sub("", one.strip()).split()]
    assert [word for token in tokens if token.type == "inline" for word in shown([token]).split()] == written


def test_prose_keeps_what_its_writer_meant():
    html = parser().render(prose("First *words*.\nMore.\n\n- one\n* two <b>\n\n1. not a list"))
    assert html.split("\n")[0] == "<p>First *words*."
    assert html.count("<li>") == 2 and "two &lt;b&gt;" in html and "<p>1. not a list</p>" in html


def test_what_is_markdown_already_is_not_escaped_again():
    once = escape("a_b *c*")
    assert escape(once) is once and escape(Markdown("**x**")) == "**x**"
    assert parser().renderInline(escape("model_cards __init__ a.b_c")) == "model_cards __init__ a.b_c"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--hub_token hf_abcdefghijklmnopqrstuvwxyz0123456789", f"--hub_token {REMOVED}"),
        ("--hub_token=abc --max_tokens 10", f"--hub_token={REMOVED} --max_tokens 10"),
        ("HF_TOKEN=abc run", f"HF_TOKEN={REMOVED} run"),
        ("x hf_AbCdEfGhIj y", f"x {REMOVED} y"),
        ("'hf_AbCdEfGhIj'", f"'{REMOVED}'"),
        ("https://ada:word@example.org/x", f"https://{REMOVED}@example.org/x"),
        ("https://example.org/x?token=abc&y=1", f"https://example.org/x?token={REMOVED}&y=1"),
        ("--wandb_api_key 123", f"--wandb_api_key {REMOVED}"),
        ("ghp_abcdefghijklmnop", REMOVED),
        ("--tokenizer bert --vocab_size 10", "--tokenizer bert --vocab_size 10"),
        ("pad_token_id: 0, hf_hub", "pad_token_id: 0, hf_hub"),
    ],
)
def test_secrets_are_taken_out_and_the_rest_is_left(text, expected):
    assert redact(text) == expected
    for show in (escape, code, block, prose, visible, line):
        assert "hf_A" not in show(text) and "word@" not in show(text)


def test_what_is_not_seen_is_shown():
    assert visible("a\u202eb\u2066\u200bc\x07") == "a\\u202eb\\u2066\\u200bc\\u0007"
    assert visible("\U000e0041") == "\\U000e0041"
    for spelt in ("naïve 真", "\u0645\u06cc\u200c\u062e\u0648", "👩\u200d💻"):  # joiners belong to the spelling
        assert visible(spelt) == spelt
