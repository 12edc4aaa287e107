"""What the contenders are trained on, in the layouts that each of them may be given.

pages        the embedded corpus, documents as long as they are, cut at the maximum
docstrings   of the packages that are installed: shorter, as most of what is fine-tuned on is
full rows    rows cut from the pages laid end to end, all of the maximum

Documents are given to a model

padded       to the longest of a batch of random ones, as `Trainer` and stock collators do by default
grouped      padded too, but documents of about one length come together, as `group_by_length` has it
flattened    end to end in one row, where positions restart
"""

import ast
import sysconfig
import warnings
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from trivium.tokenization import train_tokenizer
from trivium.training.data.corpus import SKIPPED_FOLDERS, python_docs
from trivium.training.objectives.span_corruption import corrupt_spans, raw_length, sentinel_ids

TEXTS = ("pages", "docstrings", "full rows")
MASKED = 0.3  # of an encoder's tokens, for all contenders
IGNORED = -100
MEGABATCH = 50  # batches that are sorted by length together, as in transformers
CHARACTERS = 2_000_000  # of docstrings
SHORTEST = 200  # characters of a docstring
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

Batch = dict[str, torch.Tensor]


class Corpus:
    """One of `TEXTS` as tokens of one family's tokenizer.

    Args:
        family: whose special tokens and objective.
        text: which.
        vocabulary: size of the byte-level BPE that is trained for it.
        max_documents: take only the first so many.
        characters: of docstrings, so many.
    """

    def __init__(
        self,
        family: str,
        text: str,
        vocabulary: int,
        max_documents: int | None = None,
        characters: int = CHARACTERS,
    ):
        self.family, self.text = family, text
        texts = _texts("pages" if text == "full rows" else text, max_documents, characters)
        self.tokenizer = train_tokenizer(texts, family, vocab_size=vocabulary, show_progress=False)
        special = family != "encoder-decoder"  # span corruption adds its own
        rows = self.tokenizer(texts, add_special_tokens=special, verbose=False)["input_ids"]
        self.documents = [np.array(row) for row in rows]

    def batches(self, rows: int, length: int, count: int) -> tuple[dict[str, list[Batch]], int]:
        """The same examples in every layout, `count` batches of `rows` rows of up to `length` tokens in each.

        Returns:
            The batches of each layout, "padded", "grouped" and "flattened" or only "full"; and how many tokens they
            hold: of what is read, and not padding, of an encoder-decoder both sides.
        """
        generator = np.random.default_rng(0)
        pieces = [self._example(piece, generator) for piece in self._pieces(length, rows, count, generator)]
        tokens = sum(len(side) for pair in pieces for side in pair[: 1 + (self.family == "encoder-decoder")])
        sorted_ = _in_batches(pieces, rows)
        if self.text == "full rows":
            return {"full": [self._padded(batch, mask=False) for batch in sorted_]}, tokens
        mixed = _in_batches([pieces[number] for number in generator.permutation(len(pieces))], rows)
        layouts = {"padded": [self._padded(batch) for batch in mixed]}
        layouts["grouped"] = [self._padded(batch) for batch in sorted_]
        return layouts | {"flattened": [self._flattened(batch) for batch in mixed]}, tokens

    def full_rows(self, length: int) -> np.ndarray:
        """(N, L): all documents end to end, cut into what an input of `length` tokens is made of."""
        cut, stream = self._raw(length), np.concatenate(self.documents)
        return stream[: len(stream) // cut * cut].reshape(-1, cut)

    def full_batch(self, rows: np.ndarray, seed: int) -> Batch:
        """A batch of full rows, with what is drawn for the objective drawn from this seed."""
        generator = np.random.default_rng(seed)
        return self._padded([self._example(row, generator) for row in rows], mask=False)

    def _raw(self, length: int) -> int:
        return raw_length(length) if self.family == "encoder-decoder" else length

    def _pieces(self, length: int, rows: int, count: int, generator: np.random.Generator) -> list[np.ndarray]:
        """The documents of `count` batches of those that `group_by_length` would make, evenly from short to long."""
        if self.text == "full rows":
            cut = self.full_rows(length)
            return [cut[number % len(cut)] for number in range(rows * count)]
        drawn = generator.permutation(len(self.documents))[: MEGABATCH * rows]
        pieces = sorted((self.documents[number][: self._raw(length)] for number in drawn), key=len)
        groups = _in_batches(pieces, min(rows, len(pieces)))
        return [piece for number in range(count) for piece in groups[int((number + 0.5) / count * len(groups))]]

    def _example(self, tokens: np.ndarray, generator: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """What the model reads and its labels: (L,) and (L,), or of an encoder-decoder source (S,) and target (T,)."""
        source, labels = tokens, tokens
        if self.family == "encoder":
            chosen = generator.random(len(tokens)) < MASKED
            source = np.where(chosen, self.tokenizer.mask_token_id, tokens)
            labels = np.where(chosen, tokens, IGNORED)
        elif self.family == "encoder-decoder":
            sentinels, eos = sentinel_ids(self.tokenizer), self.tokenizer.eos_token_id
            source, labels = corrupt_spans(tokens, sentinels, eos, generator)
        return torch.as_tensor(source), torch.as_tensor(labels)

    def _padded(self, examples: list, mask: bool = True) -> Batch:
        sources, labels = zip(*examples, strict=True)
        batch = {
            "input_ids": pad_sequence(sources, batch_first=True, padding_value=0),
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
        }
        if mask:
            batch["attention_mask"] = pad_sequence([torch.ones_like(x) for x in sources], batch_first=True)
        return batch

    def _flattened(self, examples: list) -> Batch:
        sources, labels = zip(*examples, strict=True)
        batch = {"input_ids": torch.cat(sources)[None], "position_ids": _positions(sources)}
        if self.family == "encoder-decoder":
            batch["decoder_position_ids"] = _positions(labels)
        elif self.family == "decoder":  # the first token of a document does not follow the one before
            labels = [torch.cat([torch.full_like(part[:1], IGNORED), part[1:]]) for part in labels]
        return batch | {"labels": torch.cat(labels)[None]}


def docstrings(characters: int) -> Iterator[dict[str, str]]:
    """Yields `{"text"}`, different docstrings of the installed packages, in the order of their files, up to so many."""
    seen: set[str] = set()
    library = Path(sysconfig.get_path("purelib"))
    for path in sorted(library.rglob("*.py")):
        if not SKIPPED_FOLDERS.isdisjoint(path.relative_to(library).parts):
            continue
        for text in _docstrings(path):
            if characters <= 0:
                return
            if len(text) >= SHORTEST and text not in seen:
                seen.add(text)
                characters -= len(text)
                yield {"text": text}


def _docstrings(path: Path) -> Iterator[str]:
    """Yields the docstrings of a source file, which is parsed but never run."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of the parser, about others' code
            stack: list[Any] = [ast.parse(path.read_bytes())]
    except (SyntaxError, ValueError, OSError):
        return
    while stack:
        node = stack.pop()
        yield ast.get_docstring(node) or ""
        stack.extend(child for child in reversed(node.body) if isinstance(child, DEFINITIONS))


@cache
def _texts(text: str, max_documents: int | None, characters: int) -> list[str]:
    source = python_docs() if text == "pages" else docstrings(characters)
    return [document["text"] for document in islice(source, max_documents)]


def _in_batches(examples: list, size: int) -> list[list]:
    return [examples[start : start + size] for start in range(0, len(examples) - size + 1, size)]


def _positions(rows: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return torch.cat([torch.arange(len(row)) for row in rows])[None]
