"""`trivium architectures`: every name with its paper, and what tells some of them apart."""

import pytest

from trivium import cli
from trivium.architectures import count, show
from trivium.configuration.architectures import ARCHITECTURES, PAGES


def lines(capsys, *names) -> list[list[str]]:
    """What the verb prints, split into columns."""
    assert cli.main(["architectures", *names]) == 0
    return [[cell for cell in line.split("  ") if cell] for line in capsys.readouterr().out.splitlines()]


def test_every_architecture_is_listed_once_with_its_size_and_its_paper(capsys):
    rows = lines(capsys)
    first = [row[0] for row in rows if row]
    assert all(first.count(name) == 1 for name in ARCHITECTURES)
    for name, found in ARCHITECTURES.items():
        assert count(found.size.parameters) in next(row for row in rows if row and row[0] == name)[1]
    said = [cell.strip() for row in rows for cell in row]
    for page in PAGES:
        assert page.paper in said and page.url in said and page.particular in said


@pytest.mark.parametrize(
    ("first", "second"),
    [("bert-base", "gpt2"), ("gpt2", "gpt2-xl"), ("t5-small", "bert-base"), ("t5gemma-9b-2b", "gemma2-2b")],
)
def test_a_comparison_shows_what_differs_and_nothing_else(first, second, capsys):
    header, *rows = lines(capsys, first, second)
    assert [cell.strip() for cell in header] == [first, second]
    assert rows
    assert all(one.strip() != other.strip() for _, one, other in rows)


def test_sizes_of_one_architecture_differ_in_their_shape_only(capsys):
    shape = {"hidden_size", "num_hidden_layers", "num_attention_heads"}
    assert {row[0].strip() for row in lines(capsys, "gpt2", "gpt2-xl")[1:]} == shape


def test_one_architecture_alone_shows_its_fields(capsys):
    rows = {row[0].strip(): row[1].strip() for row in lines(capsys, "gemma2-2b")[1:]}
    assert rows["norm_placement"] == "sandwich" and rows["layer_types"] == "sliding, full, ..."
    assert "gated_mlp" not in rows


def test_an_unknown_name_is_one_sentence_with_the_nearest(capsys):
    assert cli.main(["architectures", "bert-bass"]) == 2
    assert "there is no architecture 'bert-bass': did you mean bert-base" in capsys.readouterr().err


def test_values_are_said_in_few_words():
    assert show(["full_attention"] * 3) == "full, ..."
    assert show(["full_attention", "sliding_attention", "full_attention"]) == "full, sliding, ..."
    assert show({"full_attention": {"rope_theta": 160000.0}}) == "full_attention rope_theta 160000"
    assert [count(number) for number in (124_439_808, 1_557_611_200, 405_853_388_800, 512)] == [
        "124M",
        "1.56B",
        "406B",
        "512",
    ]
