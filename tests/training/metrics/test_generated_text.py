import math
from collections import Counter
from functools import lru_cache

import numpy as np
import pytest
import sacrebleu

from tests.training.metrics.examples import examples
from trivium.configuration import InputError
from trivium.training.metrics import load
from trivium.training.metrics.answers import normalize_answer

# The documentation of sacrebleu: a system's output, and two references of each sentence.
SYSTEM = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
REFERENCES = [
    ["The dog bit the man.", "The dog had bit the man."],
    ["It was not unexpected.", "No one was surprised."],
    ["The man bit him first.", "The man had bitten the dog."],
]
SEEDS = range(4)


def grams(items, n):
    return Counter(tuple(items[i : i + n]) for i in range(len(items) - n + 1))


def slow_bleu(predictions, references):
    """Papineni et al. 2002, with each order that matches nothing counted as a half, a quarter, ... of a match."""
    length = closest = 0
    matches, totals = [0] * 4, [0] * 4
    for text, accepted in zip(predictions, references, strict=True):
        words, rights = text.split(), [right.split() for right in accepted]
        length += len(words)
        closest += min((abs(len(right) - len(words)), len(right)) for right in rights)[1]
        for n in range(4):
            most = Counter()
            for right in rights:
                most |= grams(right, n + 1)
            matches[n] += (grams(words, n + 1) & most).total()
            totals[n] += grams(words, n + 1).total()
    logs, half = [], 1.0
    for match, total in zip(matches, totals, strict=True):
        if not match:
            half /= 2
        logs.append(math.log((match or half) / total))
    return 100 * math.exp(min(0, 1 - closest / length)) * math.exp(sum(logs) / 4)


def slow_chrf(predictions, references, beta=2):
    """Popović 2015, of one reference each: over characters without spaces."""
    precisions, recalls = [], []
    for n in range(1, 7):
        pairs = [
            (grams("".join(text.split()), n), grams("".join(right.split()), n))
            for text, (right,) in zip(predictions, references, strict=True)
            if len("".join(right.split())) >= n  # sacrebleu leaves out what could not match
        ]
        match = sum((text & right).total() for text, right in pairs)
        precisions.append(match / sum(text.total() for text, _ in pairs))
        recalls.append(match / sum(right.total() for _, right in pairs))
    precision, recall = np.mean(precisions), np.mean(recalls)
    return 100 * (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


def slow_rouge(prediction, right, tokenize):
    words, others = tokenize(prediction), tokenize(right)

    @lru_cache(None)
    def common(i, j):
        if i == len(words) or j == len(others):
            return 0
        same = 1 + common(i + 1, j + 1) if words[i] == others[j] else 0
        return max(same, common(i + 1, j), common(i, j + 1))

    def f1(match, one, other):
        return 2 * match / (one + other) if match else 0.0

    scores = {
        f"rouge{n}": f1((grams(words, n) & grams(others, n)).total(), grams(words, n).total(), grams(others, n).total())
        for n in (1, 2)
    }
    return scores | dict.fromkeys(["rougeL", "rougeLsum"], f1(common(0, 0), len(words), len(others)))


@pytest.mark.parametrize("seed", SEEDS)
def test_bleu_is_that_of_the_paper(seed):
    predictions, references = examples("bleu", 20, seed)
    found = load("bleu", tokenize="none").compute(predictions=predictions, references=references)
    assert found["bleu"] == pytest.approx(slow_bleu(predictions, references))
    assert found["bleu_signature"] == f"nrefs:var|case:mixed|eff:no|tok:none|smooth:exp|version:{sacrebleu.__version__}"


@pytest.mark.parametrize("seed", SEEDS)
def test_chrf_is_that_of_the_paper(seed):
    predictions, references = examples("chrf", 20, seed)
    references = [accepted[:1] for accepted in references]
    found = load("chrf").compute(predictions=predictions, references=references)
    assert found["chrf"] == pytest.approx(slow_chrf(predictions, references))


def test_the_examples_of_sacrebleu():
    found = load("bleu").compute(predictions=SYSTEM, references=REFERENCES)
    assert found["bleu"] == pytest.approx(48.53, abs=0.005) and "nrefs:2|case:mixed" in found["bleu_signature"]
    found = load("chrf").compute(predictions=SYSTEM, references=REFERENCES)
    assert found["chrf"] == pytest.approx(59.73, abs=0.005) and "nw:0" in found["chrf_signature"]
    streams = [list(stream) for stream in zip(*REFERENCES, strict=True)]
    found = load("chrf", word_order=2).compute(predictions=SYSTEM, references=REFERENCES)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(SYSTEM, streams, word_order=2).score)


def test_case_counts_unless_it_is_not_to():
    given = dict(predictions=[text.upper() for text in SYSTEM], references=REFERENCES)
    lowered = dict(predictions=SYSTEM, references=[[text.lower() for text in texts] for texts in REFERENCES])
    for name in ("bleu", "chrf"):
        assert load(name, lowercase=True).compute(**given)[name] == load(name, lowercase=True).compute(**lowered)[name]
        assert load(name).compute(**given)[name] < load(name, lowercase=True).compute(**given)[name]


@pytest.mark.parametrize("name", ["bleu", "chrf", "rouge", "exact_match"])
def test_the_same_text_is_perfect_and_another_is_nothing(name):
    texts = ["one two three four five", "six seven eight nine ten"]
    found = load(name).compute(predictions=texts, references=texts)
    scores = {key: value for key, value in found.items() if isinstance(value, float)}
    assert scores == pytest.approx(dict.fromkeys(scores, 100 if name in ("bleu", "chrf") else 1))
    other = load(name).compute(predictions=["", "qq"], references=texts)
    assert all(other[key] == 0 for key in scores)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("tokenize", [None, str.split])
def test_rouge_is_that_of_the_paper_and_the_best_reference_counts(seed, tokenize):
    def published(text):
        return "".join(sign if sign.isalnum() else " " for sign in text.lower()).split()

    predictions, references = examples("rouge", 20, seed)
    means = {}
    for name in ("rouge1", "rouge2", "rougeL", "rougeLsum"):
        best = [
            max(slow_rouge(text, right, tokenize or published)[name] for right in accepted)
            for text, accepted in zip(predictions, references, strict=True)
        ]
        means[name] = np.mean(best)
    found = load("rouge", tokenizer=tokenize).compute(predictions=predictions, references=references)
    assert found == pytest.approx(means)


def test_the_examples_of_the_paper_of_rouge():
    def rouge_l(text, **settings):
        return load("rouge", **settings).compute(predictions=[text], references=["police killed the gunman"])["rougeL"]

    assert rouge_l("police kill the gunman") == 0.75 and rouge_l("the gunman kill police") == 0.5
    assert rouge_l("police kill the gunman", use_stemmer=True) == 1
    found = load("rouge").compute(predictions=["w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5"], references=["w1 w2 w3 w4 w5"])
    assert found["rougeLsum"] == pytest.approx(2 * 4 / (5 + 10))  # the union of both lines has 4 of the 5


def test_scripts_that_rouge_does_not_see_are_said_and_a_tokenizer_mends_it():
    texts = ["кот сидел на коврике"]
    with pytest.raises(InputError, match="no word in any reference; give a `tokenizer`"):
        load("rouge").compute(predictions=texts, references=texts)
    assert load("rouge", tokenizer=str.split).compute(predictions=texts, references=texts)["rouge2"] == 1
    with pytest.raises(InputError, match="`use_stemmer` belongs to"):
        load("rouge", tokenizer=str.split, use_stemmer=True)


def test_exact_match_is_of_texts_as_they_are_but_for_the_space_around_them():
    given = dict(predictions=[" 42\n", "Forty two", "b"], references=["42", "forty two", ["a", "b"]])
    assert load("exact_match").compute(**given) == {"exact_match": pytest.approx(2 / 3)}
    assert load("exact_match", normalize=normalize_answer).compute(**given) == {"exact_match": 1}
    assert load("exact_match", normalize=str).compute(**given) == {"exact_match": pytest.approx(1 / 3)}


@pytest.mark.parametrize("name", ["bleu", "chrf", "rouge", "exact_match"])
def test_a_text_without_a_reference_is_named(name):
    with pytest.raises(InputError, match="Example 1 of a batch has no reference"):
        load(name).add_batch(predictions=["a", "b"], references=["a", []])
    with pytest.raises(InputError, match=r"predictions must be texts, and there is \[5\]; decode"):
        load(name).add_batch(predictions=["a", [5]], references=["a", "b"])


def test_a_tokenizer_that_sacrebleu_has_not_is_refused():
    with pytest.raises(InputError, match=r"`tokenize` is '14a', and sacrebleu has .*13a.*intl"):
        load("bleu", tokenize="14a")
