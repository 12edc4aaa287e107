import pytest

from trivium.training.corpora.wordnet import Synset, definitions, find_file, read_synsets, tells


def test_synsets_are_read_with_their_first_word_hypernym_and_definition(folders):
    synsets = list(read_synsets(find_file(folders["wordnet-base"], "usr/share/wordnet/data.noun")))
    assert synsets[0] == Synset("kind0", "", "a general thing")
    assert synsets[1] == Synset("sort 0 ash", "00000000", "that is 0 of 0; twice")


def test_the_right_word_is_at_its_place_among_words_of_one_kind(folders):
    rows = list(definitions(folders["wordnet-base"]))
    assert len(rows) == 2 * 80 * 6  # "an oak tree" defines no oak
    places = [row["label"] for _, row in rows]
    assert all(places.count(place) > len(rows) / 7 for place in range(5))
    for group, row in rows:
        number, kind = row["text"].split(";")[0].split()[2::2]
        word = ["ash", "birch", "cedar", "date", "elm", "fir"][int(number)]
        assert row["choices"][row["label"]] == f"sort {kind} {word}" and group.endswith(f" {int(kind):08}")


@pytest.mark.parametrize(
    ("word", "definition", "expected"),
    [
        ("oak", "an oak tree", True),
        ("baker", "someone who bakes", False),
        ("mountain bike", "a bicycle for mountains", True),
        ("fir", "a firm tree", True),
        ("at sea", "a boat", False),
    ],
)
def test_definitions_that_hold_their_word_are_known(word, definition, expected):
    assert tells(Synset(word, "", definition)) == expected
