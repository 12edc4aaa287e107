"""Baselines that count words answer as a reader would by hand, on a few rows."""

import math

import numpy as np
import pytest

from benchmarks import lexical

LABELLED = [{"text": text, "label": label} for text, label in (("good film", "kind"), ("bad film", "unkind"))] * 5
RETRIEVED = [
    {"text": "cat", "positive": "a cat sat here"},
    {"text": "dog dog", "positive": "the dog ran and ran"},
    {"text": "nothing known", "positive": "birds"},
    {"text": "ran", "positive": "fish ran off"},
]
MANUAL = "EACCES Not allowed.\nEINVAL flags is wrong.\nEINVAL size is wrong.\nEIO The disk failed."


def test_labels_follow_the_words_or_the_majority():
    rest = [{"text": "a good story", "label": "kind"}]
    asked = [{"text": "bad bad film"}, {"text": "good"}]
    assert lexical.classify(LABELLED, asked) == ["unkind", "kind"]
    assert lexical.most_frequent_label(LABELLED + rest, asked) == ["kind", "kind"]


def test_any_number_of_labels_follow_the_words():
    kinds = {"red": ["r"], "blue": ["b"], "red blue": ["b", "r"], "grey": []}
    train = [{"text": text, "labels": labels} for text, labels in kinds.items()] * 10
    assert lexical.classify_into_many(train, [{"text": text} for text in kinds]) == [*kinds.values()]
    assert lexical.most_frequent_labels([*train, {"labels": ["r"]}], train[:2]) == [["r"], ["r"]]


@pytest.mark.parametrize("cosine_only", [False, True])
def test_pairs_are_told_apart_by_the_words_they_share(cosine_only):
    words = "one two three four five six seven eight".split()
    train = [
        {"text": f"{a} {b}", "text_pair": f"{a} {b}" if same else "nine ten", "label": "same" if same else "different"}
        for a in words
        for b in words
        for same in (True, False)
    ]
    asked = [{"text": "two one", "text_pair": "two one"}, {"text": "two one", "text_pair": "nine ten"}]
    assert lexical.classify_pairs(train, asked, cosine_only) == ["same", "different"]


def test_numbers_grow_with_the_words():
    train = [{"text": text, "score": score} for text, score in (("bad", -1.0), ("so so", 0.0), ("good", 1.0))] * 9
    low, middle, high = lexical.regress(train, [{"text": "bad"}, {"text": "so so"}, {"text": "good"}])
    assert low < -0.5 < abs(middle) < 0.5 < high


def test_cosines_are_those_of_values_by_hand():
    pairs = [{"text": "a1 b1", "text_pair": "b1 c1"}, {"text": "a1 b1", "text_pair": "a1 b1"}]
    ours, same = lexical.cosines([], pairs)
    alone = math.log(3 / 2) + 1  # of a word that one of both texts has; of one that both have it is 1
    assert ours == pytest.approx(1 / (1 + alone**2)) and same == pytest.approx(1)
    assert lexical.cosines([], [{"text": "walk", "text_pair": "walked"}], analyzer="char_wb", ngram_range=(3, 5))[0] > 0


@pytest.mark.parametrize("rank", [lexical.rank_by_tfidf, lexical.rank_by_bm25])
def test_texts_that_share_words_rank_first_and_those_that_share_none_last(rank, monkeypatch):
    expected = [1, 1, 4, 2]
    assert rank([], RETRIEVED) == expected
    monkeypatch.setattr(lexical, "QUERIES_AT_ONCE", 3)
    assert rank([], RETRIEVED) == expected


def test_bm25_ranks_as_the_formula_does_word_by_word():
    generator = np.random.default_rng(3)
    words = np.array([f"w{number}" for number in range(30)])
    texts = [" ".join(generator.choice(words, generator.integers(2, 40))) for _ in range(25)]
    rows = [{"text": " ".join(generator.choice(words, 4)), "positive": text} for text in texts]
    split = [text.split() for text in texts]
    mean = sum(map(len, split)) / len(split)

    def score(query, document):
        total = 0.0
        for word in query.split():
            holding = sum(word in other for other in split)
            count, long = document.count(word), 1.2 * (0.25 + 0.75 * len(document) / mean)
            total += math.log(1 + (25 - holding + 0.5) / (holding + 0.5)) * count * 2.2 / (count + long)
        return total

    slow = []
    for number, row in enumerate(rows):
        scores = [score(row["text"], document) for document in split]
        slow.append(sum(value >= scores[number] - 1e-12 for value in scores))
    assert lexical.rank_by_bm25([], rows) == slow and len(set(slow)) > 5


def test_choices_are_taken_by_their_letters_and_by_known_definitions():
    known = {"text": "a round fruit", "choices": ["apple", "stone"], "label": 0}
    asked = [
        {"text": "rice that is puffed", "choices": ["wheat", "puffed rice", "bran"], "label": 1},
        {"text": "some sweet fruit", "choices": ["wheel", "apple"], "label": 1},
    ]
    assert lexical.choose_by_spelling([known, asked[0]], asked) == [1, 0]  # no letters of "apple"
    assert lexical.choose_by_spelling([known, asked[0]], asked, definitions=True) == [1, 1]
    assert lexical.first_choice([known], asked) == [0, 0]


def test_answers_are_lines_of_the_context():
    asked = ["Why does f(2) return EINVAL?", "When does f(2) fail with EPERM?", "What is it?"]
    rows = [{"question": question, "context": MANUAL} for question in asked]
    assert lexical.line_of_the_error([], rows) == ["flags is wrong.", "", ""]
    disk = {"question": "f(2) fails since the disk failed: why?", "context": MANUAL}
    assert lexical.nearest_line(rows, [disk]) == ["EIO The disk failed."]


def test_texts_are_copied_cut_or_taken_from_the_nearest():
    long = "One two three four five. Six seven eight nine ten.\n\nMore."
    rows = [{"source": long, "target": "five"}, {"source": "A line\nand more.", "target": "line"}]
    assert lexical.copy_source([], rows)[0] == long
    assert lexical.first_sentence([], rows) == ["One two three four five.", "A line"]
    assert lexical.first_words([], rows)[0] == "One two three four five. Six seven eight"
    assert lexical.nearest_target(rows, [{"source": "more of that line"}, {"source": "seven"}]) == ["line", "five"]


def test_of_a_conversation_the_last_message_is_written_and_the_others_are_read():
    said = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi!"}]
    more = [{"role": "user", "content": "Bye"}, {"role": "assistant", "content": "See you."}]
    train = [{"messages": said}, {"messages": more}]
    assert lexical.nearest_target(train, [{"messages": [{"role": "user", "content": "Bye bye"}, said[1]]}]) == [
        "See you."
    ]
    assert lexical.copy_source([], [{"messages": said + more}]) == ["Hello\nHi!\nBye"]
