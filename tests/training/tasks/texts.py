"""Random texts of all that is awkward."""

import numpy as np

PLAIN = "the statement object value import naïve café raises Ünïcödé list3.5 don't [MASK] <|eos|> x".split()
SCRIPTS = [
    "真っ白な雪",
    "雪",
    "Ελληνικά",
    "עברית",
    "हिन्दी",
    "กำ",
    "한국어",
    "🙂",
    "👩‍👩‍👧‍👦",
    "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "e\u0301te\u0301",
    "ﬁne",
    "ⅷ",
    "ﷺ",
]
ODD = [
    "...",
    "—!?",
    "(",
    "New York",
    "a  b",
    " lead",
    "trail ",
    "\u0301",
    "\u00a8",
    "'",
    "_" * 30,
    "long" * 40,
    "雪" * 60,
]
# What some tokenizers see nothing of.
NOTHING = ["", " ", "\u00a0", "▁", "\u200b", "\u00ad", "\x00", "\ufeff", "\t"]
WORDS = PLAIN + SCRIPTS + ODD + NOTHING


def random_words(generator: np.random.Generator, count: int, words: list[str] = WORDS) -> list[str]:
    return [words[number] for number in generator.integers(0, len(words), count)]


def whole_tokens(tokenizer, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """The tokens of a text without special ones, and their characters."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return encoded["input_ids"], encoded["offset_mapping"]
