"""Labels are aligned with words as an implementation that goes character by character has them."""

import datasets
import numpy as np
import pytest
import torch

from tests.training.tasks.texts import NOTHING, PLAIN, SCRIPTS, WORDS, random_words, whole_tokens
from trivium.training.tasks.examples import Examples, Unusable
from trivium.training.tasks.tagging import TokenClassification
from trivium.training.tasks.task import IGNORED, Form

TAGS = ["B-X", "B-Y", "I-X", "I-Y", "O"]
LAYOUTS = [(8, 0), (12, 3), (40, 64), (512, 64)]


def make_task(kind, tags=TAGS, **form):
    family, tokenizer = kind
    task = TokenClassification(tokenizer, family, Form(**form))
    task.learn(Examples(datasets.Dataset.from_dict({"tokens": [["x"] * len(tags)], "tags": [tags]}), "data"))
    return task


def random_row(generator, count, words=WORDS):
    return {
        "tokens": ["x", *random_words(generator, count, words)],
        "tags": [TAGS[number] for number in generator.integers(0, len(TAGS), count + 1)],
    }


def slow_labels(tokenizer, row, pieces):
    """The label of each token of the text, and the word if it is its first piece: character by character."""
    owner = []
    for number, word in enumerate(row["tokens"]):
        owner += [number] * len(word) + [None]
    text = " ".join(row["tokens"])
    labels, firsts, seen = [], [], set()
    for begin, end in whole_tokens(tokenizer, text)[1]:
        word = None
        for place in range(begin, end):
            if not text[place].isspace():
                word = owner[place]
                break
        label, first = IGNORED, None
        if word is not None:
            tag = row["tags"][word]
            if word not in seen:
                label, first = TAGS.index(tag), word
            elif pieces == "all":
                label = TAGS.index(tag.replace("B-", "I-"))
            seen.add(word)
        labels.append(label)
        firsts.append(first)
    return labels, firsts


class Oracle:
    """Answers the labels that it is given, and anything where there is none."""

    device = torch.device("cpu")

    def __init__(self):
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, labels, **_):
        guesses = torch.randint(0, len(TAGS), labels.shape, generator=self.generator)
        logits = torch.nn.functional.one_hot(torch.where(labels == IGNORED, guesses, labels), len(TAGS))
        return type("Output", (), {"logits": 9.0 * logits})


def predict(task, rows, batch_size):
    """What a model says that finds the labels in its input."""
    hidden = {tuple(row["tokens"]): task.encode([row]) for row in rows}
    windows = task.windows

    def give_away(words):
        cut, *rest = windows(words)
        return (cut._replace(features=hidden[tuple(words)]), *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task, "windows", give_away)
        return [answer["tags"] for answer in task.predict(Oracle(), rows, batch_size)]


@pytest.mark.parametrize("pieces", ["first", "all"])
@pytest.mark.parametrize("max_length, stride", LAYOUTS)
def test_labels_of_windows_are_those_found_character_by_character(kind, max_length, stride, pieces):
    task = make_task(kind, max_length=max_length, stride=stride, pieces=pieces)
    generator = np.random.default_rng(max_length)
    for count in (0, 3, 30):
        row = random_row(generator, count)
        expected, firsts = slow_labels(task.tokenizer, row, pieces)
        windows, _, _ = task.windows(row["tokens"])
        labelled = set()
        for feature, numbers in zip(task.encode([row]), windows.numbers, strict=True):
            assert feature["labels"] == [IGNORED if number < 0 else expected[number] for number in numbers]
            labelled |= {firsts[number] for number in numbers if number >= 0}
        assert labelled - {None} == {first for first in firsts if first is not None}
        assert {number for number, word in enumerate(row["tokens"]) if word in PLAIN + SCRIPTS} <= labelled


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pieces", ["first", "all"])
@pytest.mark.parametrize("max_length, stride", LAYOUTS)
def test_a_model_that_knows_the_labels_gets_them_all_right(kind, monkeypatch, max_length, stride, pieces, side):
    task = make_task(kind, max_length=max_length, stride=stride, pieces=pieces)
    generator = np.random.default_rng(1)
    rows = [random_row(generator, count, PLAIN + SCRIPTS) for count in (1, 7, 30)]
    for row in rows:
        row["tokens"] = [word.replace("<|eos|>", "y") for word in row["tokens"]]
    monkeypatch.setattr(task.tokenizer, "padding_side", side)
    for size in (1, 3, 64):
        assert predict(task, rows, size) == [row["tags"] for row in rows]


def test_words_that_are_nothing_are_outside(kind):
    task = make_task(kind)
    row = {"tokens": ["x", *NOTHING, "y"], "tags": ["B-X", *["B-Y"] * len(NOTHING), "I-X"]}
    (tags,) = predict(task, [row], 2)
    spaces = [place for place, word in enumerate(row["tokens"]) if not word.strip()]
    assert spaces and all(tags[place] == "O" for place in spaces)
    assert (tags[0], tags[-1]) == ("B-X", "I-X")


def test_later_pieces_of_a_word_are_inside_only_where_there_is_such_a_label(kind):
    task = make_task(kind, ["B-X", "B-Y", "I-Y", "O"], pieces="all")
    row = {"tokens": ["statementraises"] * 3, "tags": ["B-X", "B-Y", "O"]}
    (feature,) = task.encode([row])
    (windows, owners, _) = task.windows(row["tokens"])
    for word, (own, later) in enumerate((("B-X", "B-X"), ("B-Y", "I-Y"), ("O", "O"))):
        (places,) = np.nonzero((windows.numbers[0] >= 0) & (owners[windows.numbers[0]] == word))
        labels = [task.labels[feature["labels"][place]] for place in places]
        assert len(labels) > 1 and labels == [own] + [later] * (len(labels) - 1)


def test_no_rows_have_no_answers(kind):
    assert make_task(kind).predict(None, [], 4) == []


@pytest.mark.parametrize(
    "row, reason",
    [
        ({"tokens": "a b", "tags": ["O"]}, "`tokens` holds no list of words"),
        ({"tokens": ["a", None], "tags": ["O", "O"]}, "`tokens` holds no list of words"),
        ({"tokens": [], "tags": []}, "`tokens` holds no word"),
        ({"tokens": [" ", ""], "tags": ["O", "O"]}, "`tokens` holds no word"),
        ({"tokens": ["a"], "tags": "O"}, "`tags` holds no list"),
        ({"tokens": ["a"], "tags": ["O", "O"]}, "there are 1 tokens but 2 tags"),
        ({"tokens": ["a"], "tags": ["B-Z"]}, "the tag is 'B-Z', and those to train on are B-X, I-X, O, S-X"),
        ({"tokens": ["a"], "tags": [None]}, "the tag is None, and those to train on are B-X, I-X, O, S-X"),
        ({"tokens": ["a"], "tags": ["S-X"]}, "the tag 'S-X' is not B-, I- or O, as others are"),
    ],
)
def test_what_cannot_be_used_is_told(tokenizers, row, reason):
    task = make_task(("encoder", tokenizers["encoder"]), ["B-X", "I-X", "O", "S-X"])
    with pytest.raises(Unusable) as caught:
        task.check(row)
    assert caught.value.reason == reason and caught.value.way_out


@pytest.mark.parametrize("tags", [["NOUN", "VERB"], ["B-X", "O"]])
def test_measured_are_spans_or_words(tokenizers, tags):
    task = make_task(("encoder", tokenizers["encoder"]), tags)
    rows = [{"tokens": ["a", "b"], "tags": tags}]
    scores = task.measure(rows, rows)
    assert scores["f1"] == 1.0 and ("precision" in scores) == (tags[0] == "B-X")
