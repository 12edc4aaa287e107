"""Baselines that count words: TF-IDF with linear models, nearest neighbours and rules. No word has a meaning here.

A baseline takes the rows to train on and the rows to answer, and returns an answer for each of the latter. Settings are
the same for every set of data, and nothing is random.
"""

import re
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import scipy.sparse as sparse
from sklearn import config_context
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import MultiLabelBinarizer

from trivium.training.metrics.retrieval import ranks

Rows = list[dict[str, Any]]
ERROR = re.compile(r"\bE[A-Z0-9]{2,}\b")
SENTENCE_END = re.compile(r"(?<=[.!?])\s|\n")
QUERIES_AT_ONCE = 500
MEBIBYTES = 256  # for the distances that are held at once


def tfidf_of_phrases() -> TfidfVectorizer:
    """Words and pairs of neighbours, those that at least two texts have."""
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)


def linear_classifier() -> OneVsRestClassifier:
    """Logistic regression of each label against all others."""
    return OneVsRestClassifier(LogisticRegression(C=10, solver="liblinear"))


def most_frequent_label(train: Rows, test: Rows) -> list[str]:
    """The commonest `label`, whatever the text."""
    ((label, _),) = Counter(row["label"] for row in train).most_common(1)
    return [label] * len(test)


def most_frequent_labels(train: Rows, test: Rows) -> list[list[str]]:
    """The commonest of all `labels`, alone, whatever the text."""
    ((label, _),) = Counter(label for row in train for label in row["labels"]).most_common(1)
    return [[label]] * len(test)


def classify(train: Rows, test: Rows) -> list[str]:
    """A `label` for each text."""
    vectorizer, model = tfidf_of_phrases(), linear_classifier()
    model.fit(vectorizer.fit_transform(column(train, "text")), column(train, "label"))
    return model.predict(vectorizer.transform(column(test, "text"))).tolist()


def classify_into_many(train: Rows, test: Rows) -> list[list[str]]:
    """Any number of `labels` for each text: those that are likelier than not."""
    vectorizer, model, sets = tfidf_of_phrases(), linear_classifier(), MultiLabelBinarizer()
    model.fit(vectorizer.fit_transform(column(train, "text")), sets.fit_transform(column(train, "labels")))
    found = sets.inverse_transform(model.predict(vectorizer.transform(column(test, "text"))))
    return [list(labels) for labels in found]


def classify_pairs(train: Rows, test: Rows, cosine_only: bool = False) -> list[str]:
    """A `label` for each pair: from products and differences of both texts' values, and their cosine, or it alone."""
    vectorizer, model = tfidf_of_phrases(), linear_classifier()
    vectorizer.fit(column(train, "text") + column(train, "text_pair"))

    def features(rows: Rows) -> Any:
        first, second = (vectorizer.transform(column(rows, name)) for name in ("text", "text_pair"))
        products = first.multiply(second)
        cosine = products.sum(axis=1)
        return np.asarray(cosine) if cosine_only else sparse.hstack([products, abs(first - second), cosine]).tocsr()

    model.fit(features(train), column(train, "label"))
    return model.predict(features(test)).tolist()


def regress(train: Rows, test: Rows) -> list[float]:
    """A `score` for each text, by ridge regression."""
    vectorizer, model = tfidf_of_phrases(), Ridge()
    model.fit(vectorizer.fit_transform(column(train, "text")), column(train, "score"))
    return model.predict(vectorizer.transform(column(test, "text"))).tolist()


def cosines(train: Rows, test: Rows, **settings: Any) -> list[float]:
    """How alike the texts of each pair are; `settings` are those of `TfidfVectorizer`.

    Nothing is learnt but how rare a word is among the different texts of `test`, which needs no ratings.
    """
    first, second = column(test, "text"), column(test, "text_pair")
    vectorizer = TfidfVectorizer(**settings).fit(sorted({*first, *second}))
    return _row_products(vectorizer.transform(first), vectorizer.transform(second)).tolist()


def rank_by_tfidf(train: Rows, test: Rows) -> list[int]:
    """The rank of each `positive` among all of `test` by the cosine with its `text`."""
    vectorizer = TfidfVectorizer(sublinear_tf=True)
    documents = vectorizer.fit_transform(column(test, "positive"))
    return _ranks(vectorizer.transform(column(test, "text")), documents)


def rank_by_bm25(train: Rows, test: Rows, k1: float = 1.2, b: float = 0.75) -> list[int]:
    """The rank of each `positive` among all of `test` by BM25 (Robertson & Zaragoza, 2009)."""
    vectorizer = CountVectorizer()
    counts = vectorizer.fit_transform(column(test, "positive")).tocsr().astype(np.float64)
    lengths = np.asarray(counts.sum(axis=1)).ravel()
    holding = np.asarray((counts > 0).sum(axis=0)).ravel()
    rarity = np.log1p((len(test) - holding + 0.5) / (holding + 0.5))
    saturation = np.repeat(k1 * (1 - b + b * lengths / lengths.mean()), np.diff(counts.indptr))
    counts.data *= (k1 + 1) / (counts.data + saturation) * rarity[counts.indices]
    return _ranks(vectorizer.transform(column(test, "text")).astype(np.float64), counts)


def first_choice(train: Rows, test: Rows) -> list[int]:
    """Always the first: chance, since choices stand in random order."""
    return [0] * len(test)


def choose_by_spelling(train: Rows, test: Rows, definitions: bool = False) -> list[int]:
    """The choice that has most runs of 3 to 5 letters in common with the text, by TF-IDF.

    Args:
        definitions: to a choice belong the texts which it was right for in `train`.
    """
    said = defaultdict(list)
    for row in train if definitions else ():
        said[row["choices"][row["label"]]].append(row["text"])
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)
    vectorizer.fit([text for row in train for text in (row["text"], *row["choices"])])
    texts = [row["text"] for row in test for _ in row["choices"]]
    choices = [" ".join([choice, *said[choice]]) for row in test for choice in row["choices"]]
    scores = _row_products(vectorizer.transform(texts), vectorizer.transform(choices))
    ends = np.cumsum([len(row["choices"]) for row in test])
    return [int(part.argmax()) for part in np.split(scores, ends[:-1])]


def line_of_the_error(train: Rows, test: Rows) -> list[str]:
    """The rest of the first line of the context that begins with the error in the question, or "" without one."""

    def answer(row: dict[str, Any]) -> str:
        asked = ERROR.search(row["question"])
        lines = (line.partition(" ") for line in row["context"].splitlines())
        return next((rest for name, _, rest in lines if asked and name == asked.group()), "")

    return [answer(row) for row in test]


def nearest_line(train: Rows, test: Rows) -> list[str]:
    """The line of the context that has most words in common with the question, by TF-IDF."""
    vectorizer = TfidfVectorizer().fit(line for row in train for line in row["context"].splitlines())
    answers = []
    for row in test:
        lines = row["context"].splitlines()
        scores = vectorizer.transform(lines) @ vectorizer.transform([row["question"]]).T
        answers.append(lines[int(scores.toarray().argmax())])
    return answers


def copy_source(train: Rows, test: Rows) -> list[str]:
    """What was read."""
    return [source(row) for row in test]


def first_sentence(train: Rows, test: Rows) -> list[str]:
    """What was read, up to the end of the first sentence or line."""
    return [SENTENCE_END.split(source(row), maxsplit=1)[0] for row in test]


def first_words(train: Rows, test: Rows, count: int = 8) -> list[str]:
    """The first words of what was read."""
    return [" ".join(source(row).split()[:count]) for row in test]


def nearest_target(train: Rows, test: Rows) -> list[str]:
    """What was written for the text to train on that is most alike by TF-IDF."""
    vectorizer = TfidfVectorizer(sublinear_tf=True)
    neighbours = NearestNeighbors(n_neighbors=1, metric="cosine").fit(vectorizer.fit_transform(map(source, train)))
    with config_context(working_memory=MEBIBYTES):
        nearest = neighbours.kneighbors(vectorizer.transform(map(source, test)), return_distance=False)
    return [target(train[number]) for number in nearest[:, 0]]


def column(rows: Rows, name: str) -> list[Any]:
    """The values of one column."""
    return [row[name] for row in rows]


def source(row: dict[str, Any]) -> str:
    """What is read before something is written: a text, or all messages but the last."""
    return row["source"] if "source" in row else "\n".join(message["content"] for message in row["messages"][:-1])


def target(row: dict[str, Any]) -> str:
    """What is to be written: a text, or the last message."""
    return row["target"] if "target" in row else row["messages"][-1]["content"]


def _row_products(first: Any, second: Any) -> np.ndarray:
    return np.asarray(first.multiply(second).sum(axis=1)).ravel()


def _ranks(queries: Any, documents: Any) -> list[int]:
    """Ranks from 1 of each query's own document; as in the metric, those that are just as near come before it."""
    found: list[int] = []
    for start in range(0, queries.shape[0], QUERIES_AT_ONCE):
        similarities = (queries[start : start + QUERIES_AT_ONCE] @ documents.T).toarray()
        found += ranks(similarities, np.arange(start, start + len(similarities))).tolist()
    return found
