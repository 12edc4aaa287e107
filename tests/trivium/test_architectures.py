"""`trivium architectures`: the whole table, some of them side by side, and names that there are not."""

import pytest

from trivium import architecture, cli
from trivium.configuration.architectures import ARCHITECTURES, PAGES


def printed(capsys, *names) -> list[str]:
    assert cli.main(["architectures", *names]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out.splitlines()


def rows_of(lines: list[str]) -> dict[str, list[str]]:
    """The fields that a comparison shows, each with its values."""
    return {line.split("  ")[0].strip(): [cell for cell in line.split("  ")[1:] if cell] for line in lines[1:]}


def test_every_architecture_is_listed_once_beside_its_paper(capsys):
    lines = printed(capsys)
    first_words = [line.split()[0] for line in lines if line and not line.startswith(" ")]
    assert first_words[0] == "name"
    assert sorted(first_words[1:]) == sorted(ARCHITECTURES)
    entries = "\n".join(lines).split("\n\n")
    assert len(entries) == len(PAGES)
    years = []
    for page, entry in zip(PAGES, entries, strict=True):
        assert all(name in entry for name in page.sizes)
        assert all(text in entry for text in (page.paper, page.url, page.particular, page.family))
        years.append(page.year)
    assert years == sorted(years)
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize(
    "names", [("bert-base", "roberta-base"), ("gpt2", "llama-7b"), ("bert-base", "gpt2", "t5-small")]
)
def test_a_comparison_shows_the_fields_that_differ_and_no_other(names, capsys):
    lines = printed(capsys, *names)
    assert lines[0].split() == list(names)
    rows = rows_of(lines)
    assert rows and all(len(values) == len(names) and len(set(values)) > 1 for values in rows.values())
    configs = [architecture(name) for name in names]
    for field in ("hidden_size", "vocab_size", "position_encoding", "norm", "norm_eps", "type_vocab_size"):
        values = {
            str(getattr(config, field, getattr(getattr(config, "decoder", None), field, None))) for config in configs
        }
        assert (field in rows) == (len(values) > 1), field


def test_one_architecture_is_shown_against_the_defaults(capsys):
    rows = rows_of(printed(capsys, "gpt2"))
    assert rows["position_encoding"] == ["learned"]
    assert "classifier_act" not in rows


def test_the_same_one_twice_differs_in_nothing(capsys):
    assert printed(capsys, "gpt2", "gpt2")[1:] == []


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("bert-bas", "there is no architecture 'bert-bas': did you mean bert-base"),
        ("quux", "there is no architecture 'quux': `trivium architectures` lists them."),
    ],
)
def test_a_name_that_there_is_not_is_one_sentence(name, sentence, capsys):
    assert cli.main(["architectures", "gpt2", name]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"trivium: error: {sentence}") and captured.err.count("\n") == 1
