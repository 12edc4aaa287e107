"""`trivium architectures`: the whole table, some of them side by side, and names that there are not."""

import pytest

from trivium import architecture, cli
from trivium.architectures import count, show
from trivium.configuration.architectures import ARCHITECTURES, PAGES


def printed(capsys, *names) -> list[str]:
    assert cli.main(["architectures", *names]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out.splitlines()


def rows_of(lines: list[str]) -> dict[str, list[str]]:
    """The fields that a comparison shows, each with its values."""
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines[1:]]
    return {name: values for name, *values in cells}


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
    sizes = {line.split()[0]: line.split()[1] for line in lines if line and not line.startswith(" ")}
    assert all(sizes[name] == count(found.size.parameters) for name, found in ARCHITECTURES.items())


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


def test_sizes_of_one_architecture_differ_in_their_shape_only(capsys):
    rows = rows_of(printed(capsys, "gpt2", "gpt2-xl"))
    assert rows.keys() == {"hidden_size", "num_hidden_layers", "num_attention_heads"}


def test_one_architecture_is_shown_against_the_defaults(capsys):
    rows = rows_of(printed(capsys, "gemma2-2b"))
    assert rows["norm_placement"] == ["sandwich"] and rows["layer_types"] == ["sliding, full, ..."]
    assert "gated_mlp" not in rows and "classifier_act" not in rows


def test_the_same_one_twice_differs_in_nothing(capsys):
    assert printed(capsys, "gpt2", "gpt2")[1:] == []


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("bert-bass", "there is no architecture 'bert-bass': did you mean bert-base"),
        ("quux", "there is no architecture 'quux': `trivium architectures` lists them."),
    ],
)
def test_a_name_that_there_is_not_is_one_sentence(name, sentence, capsys):
    assert cli.main(["architectures", "gpt2", name]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"trivium: error: {sentence}") and captured.err.count("\n") == 1


def test_values_are_said_in_few_words():
    assert show(["full_attention"] * 3) == "full, ..."
    assert show(["full_attention", "sliding_attention", "full_attention"]) == "full, sliding, ..."
    assert show({"full_attention": {"rope_theta": 160000.0}}) == "full_attention rope_theta 160000"
    numbers = (124_439_808, 1_557_611_200, 405_853_388_800, 512)
    assert [count(number) for number in numbers] == ["124M", "1.56B", "406B", "512"]
