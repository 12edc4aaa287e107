"""Baselines that label words do so as a reader would by hand, on a few sentences."""

from benchmarks import taggers


def rows(*sentences):
    pairs = [[word.split("/") for word in sentence.split()] for sentence in sentences]
    return [{"tokens": [word for word, _ in each], "tags": [tag for _, tag in each]} for each in pairs]


TRAIN = rows("the/AT dogs/N bark/V", "the/AT bark/N", "they/P bark/V loudly/R", "she/P slowly/R walked/V")


def test_known_words_have_their_commonest_tag_and_others_that_of_their_ending():
    asked = rows("the/? bark/? Bark/? sadly/? talked/? xyz/?")
    # "bark" is V twice and N once; nothing ends as "xyz" does, and of all words V is the commonest.
    assert taggers.most_frequent_tag(TRAIN, asked) == [["AT", "V", "V", "R", "V", "V"]]


def test_a_word_is_looked_up_by_itself_and_then_by_ever_shorter_endings():
    assert [*taggers.forms("Ends")] == [("word", "Ends"), *(("ending", e) for e in ("ends", "nds", "ds", "s", ""))]
    assert len([*taggers.forms("a" * 50)]) == taggers.LONGEST_ENDING + 2


def test_neighbours_tell_what_a_word_alone_does_not(monkeypatch):
    monkeypatch.setattr(taggers, "UPDATES", 2000)
    train = rows("the/AT bark/N fell/V", "they/P bark/V now/R", "the/AT walk/N was/V", "they/P walk/V now/R") * 3
    asked = rows("the/? bark/? was/?", "they/? bark/? now/?", "the/? walk/? fell/?")
    expected = [["AT", "N", "V"], ["P", "V", "R"], ["AT", "N", "V"]]
    assert taggers.tag_by_features(train, asked) == expected
    assert taggers.tag_by_features(train, asked) == expected
    assert taggers.most_frequent_tag(train, asked) != expected


def test_the_features_of_a_word_hold_what_stands_beside_it_and_no_more():
    found = taggers.word_features(["In", "Paris", "today"], 1)
    assert {"word Paris", "lower paris", "ending is", "before in", "after today"} < set(found)
    assert "before <start>" in taggers.word_features(["a", "b"], 0) and "after <end>" in taggers.word_features(["a"], 0)
