import hashlib

import pytest

from trivium.configuration import InputError
from trivium.training.corpora.corpus import SHARES, Corpus, choose_split, draw, draw_order, draw_some, find_file, unique


def corpus(examples, shares=SHARES):
    return Corpus(
        summary="a corpus",
        task="text-classification",
        columns={"text": "a text"},
        sources=(),
        license="mit",
        terms="MIT",
        group="text",
        examples=lambda: examples,
        shares=shares,
    )


@pytest.mark.parametrize("shares", [SHARES, {"train": 0.5, "test": 0.5}, {"test": 1.0}])
@pytest.mark.parametrize("form", ["{}", "c{:03}", "some-package-{}"])
def test_splits_get_their_shares_of_any_names(shares, form):
    names = [form.format(i) for i in range(4000)]
    chosen = [choose_split(name, shares) for name in names]
    assert set(chosen) == set(shares)
    for split, share in shares.items():
        deviation = (4000 * share * (1 - share)) ** 0.5
        assert abs(chosen.count(split) - 4000 * share) <= 4 * deviation


def test_a_draw_is_the_hash_of_its_key_and_independent_of_the_split():
    key = "Gen.1.1"
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    assert draw(key, 7) == int.from_bytes(digest, "big") % 7
    halves = [draw(f"{i}", 2) for i in range(4000) if choose_split(f"{i}") == "test"]
    assert 0.4 < sum(halves) / len(halves) < 0.6


def test_a_drawn_order_holds_everything_and_differs_by_key():
    items = [str(i) for i in range(50)]
    one, other = draw_order("one", items), draw_order("other", items)
    assert sorted(one) == sorted(other) == sorted(items) and one != other != items
    assert draw_order("one", reversed(items)) == one


def test_some_are_drawn_once_each_and_by_the_key():
    items = [str(i) for i in range(50)]
    one, other = draw_some("one", items.copy(), 9), draw_some("other", items.copy(), 9)
    assert len(set(one)) == 9 and set(one) < set(items) and one != other
    assert draw_some("one", items, 9) == one and len(items) == 41 and not set(one) & set(items)


def test_unique_keeps_the_first_of_equal_texts_whatever_their_case_and_spaces():
    examples = [("a", {"text": "A  b", "n": 1}), ("b", {"text": "a b", "n": 2}), ("c", {"text": "a c", "n": 1})]
    assert list(unique(examples, "text")) == [examples[0], examples[2]]


def test_the_order_of_rows_does_not_follow_that_of_the_source():
    examples = [(str(i), {"text": str(i)}) for i in range(200)]
    there, back = corpus(examples).splits([]), corpus(examples[::-1]).splits([])
    assert there == back and there["train"] != sorted(there["train"])
    assert sum(map(len, there.values())) == 200


def test_an_empty_split_is_one_sentence():
    with pytest.raises(InputError, match="left nothing for the split"):
        corpus([("a", {"text": "a"})]).splits([])


def test_a_file_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"no file 'a/\*.txt'"):
        find_file(tmp_path, "a/*.txt")
