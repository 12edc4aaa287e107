"""What the contenders are trained on: the embedded corpus, in the layout that each side would be given.

real lengths   documents as they are, cut at the maximum: padded for the peer, flattened for ours
fixed length   rows cut from the documents laid end to end, all full: the same tensors for both
"""

from collections.abc import Iterator
from functools import cache
from itertools import islice

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from trivium.tokenization import train_tokenizer
from trivium.training.data.corpus import python_docs
from trivium.training.objectives.span_corruption import corrupt_spans, raw_length, sentinel_ids

LAYOUTS = ("real lengths", "fixed length")
MASKED = 0.3  # of an encoder's tokens, for both contenders
IGNORED = -100


class Corpus:
    """The embedded corpus as tokens of one family's tokenizer.

    Args:
        family: whose special tokens and objective.
        vocabulary: size of the byte-level BPE that is trained for it.
        max_documents: take only the first so many.
    """

    def __init__(self, family: str, vocabulary: int, max_documents: int | None = None):
        texts = _texts(max_documents)
        self.family = family
        self.tokenizer = train_tokenizer(texts, family, vocab_size=vocabulary, show_progress=False)
        special = family != "encoder-decoder"  # span corruption adds its own
        rows = self.tokenizer(texts, add_special_tokens=special, verbose=False)["input_ids"]
        self.documents = [np.array(row) for row in rows]

    def batches(self, layout: str, rows: int, length: int, count: int) -> list[dict]:
        """`count` batches `{"ours", "peer", "tokens"}` of `rows` rows of up to `length` tokens, the same every time.

        `tokens` counts what is read and not padding; of an encoder-decoder both sides.
        """
        generator = np.random.default_rng(0)
        cut = raw_length(length) if self.family == "encoder-decoder" else length
        pieces = self._pieces(layout, cut, generator)
        made = []
        for _ in range(count):
            examples = [self._example(next(pieces), generator) for _ in range(rows)]
            counted = [len(side) for pair in examples for side in pair[: 1 + (self.family == "encoder-decoder")]]
            if layout == "fixed length":
                ours = peer = {"input_ids": _stack(examples, 0), "labels": _stack(examples, 1)}
            else:
                ours, peer = self._flattened(examples), self._padded(examples)
            made.append({"ours": ours, "peer": peer, "tokens": sum(counted)})
        return made

    def _pieces(self, layout: str, length: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
        documents = self.documents
        if layout == "fixed length":
            stream = np.concatenate(documents)
            documents = np.split(stream[: len(stream) // length * length], len(stream) // length)
        while True:
            for index in generator.permutation(len(documents)):
                yield documents[index][:length]

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

    def _padded(self, examples: list) -> dict[str, torch.Tensor]:
        sources, labels = zip(*examples, strict=True)
        return {
            "input_ids": pad_sequence(sources, batch_first=True, padding_value=0),
            "attention_mask": pad_sequence([torch.ones_like(x) for x in sources], batch_first=True),
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
        }

    def _flattened(self, examples: list) -> dict[str, torch.Tensor]:
        sources, labels = zip(*examples, strict=True)
        batch = {"input_ids": torch.cat(sources)[None], "position_ids": _positions(sources)}
        if self.family == "encoder-decoder":
            batch["decoder_position_ids"] = _positions(labels)
        return batch | {"labels": torch.cat(labels)[None]}


@cache
def _texts(max_documents: int | None) -> list[str]:
    return [document["text"] for document in islice(python_docs(), max_documents)]


def _positions(rows: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return torch.cat([torch.arange(len(row)) for row in rows])[None]


def _stack(examples: list, side: int) -> torch.Tensor:
    return torch.stack([example[side] for example in examples])
