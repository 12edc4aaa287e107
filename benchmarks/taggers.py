"""Baselines that label words: the tag that a word most often has, and a linear model of a word and its neighbours."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import SGDClassifier

from .lexical import Rows

LONGEST_ENDING = 5
UPDATES = 1_000_000  # after which stochastic gradient descent usually has converged, says scikit-learn's guide


def most_frequent_tag(train: Rows, test: Rows) -> list[list[str]]:
    """Of a known word the tag that it most often has; of others that of words with the longest ending that is known."""
    counts: dict[tuple[str, str], Counter] = defaultdict(Counter)
    for row in train:
        for word, tag in zip(row["tokens"], row["tags"], strict=True):
            for form in forms(word):
                counts[form][tag] += 1
    commonest = {form: tags.most_common(1)[0][0] for form, tags in counts.items()}
    return [[next(filter(None, map(commonest.get, forms(word)))) for word in row["tokens"]] for row in test]


def forms(word: str) -> Iterator[tuple[str, str]]:
    """What a word is looked up by, in turn: itself, then its endings from the longest to none at all."""
    yield "word", word
    for length in range(min(LONGEST_ENDING, len(word)), -1, -1):
        yield "ending", word[len(word) - length :].lower()


def tag_by_features(train: Rows, test: Rows) -> list[list[str]]:
    """Logistic regression, word by word, of what a word and its neighbours look like."""
    vectorizer = CountVectorizer(analyzer=lambda features: features, binary=True, dtype=float)
    model = SGDClassifier(loss="log_loss", alpha=1e-5, tol=None, random_state=0)
    tags = [tag for row in train for tag in row["tags"]]
    model.set_params(max_iter=max(1, round(UPDATES / len(tags))))
    model.fit(vectorizer.fit_transform(_each_word(train)), tags)
    found = iter(model.predict(vectorizer.transform(_each_word(test))).tolist())
    return [[next(found) for _ in row["tokens"]] for row in test]


def word_features(words: list[str], place: int) -> list[str]:
    """What a word looks like: itself, beginning and endings, case, digits; and the words beside it."""
    word = words[place]
    lower = word.lower()
    before = words[place - 1].lower() if place else "<start>"
    after = words[place + 1].lower() if place + 1 < len(words) else "<end>"
    looks = (word[:1].isupper(), word.isupper(), any(map(str.isdigit, word)), word.isalnum(), place == 0)
    return [
        "any",
        f"word {word}",
        f"lower {lower}",
        *(f"ending {lower[-length:]}" for length in (1, 2, 3)),
        f"beginning {lower[:2]}",
        f"looks {looks}",
        f"before {before}",
        f"before it ends {before[-3:]}",
        f"after {after}",
        f"after it ends {after[-3:]}",
    ]


def _each_word(rows: Rows) -> Iterator[list[str]]:
    return (word_features(row["tokens"], place) for row in rows for place in range(len(row["tokens"])))
