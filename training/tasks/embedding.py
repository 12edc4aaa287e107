"""A vector for a text, near those of texts that go with it (Reimers & Gurevych, 2019; Gao et al., 2021)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from ...configuration.errors import InputError
from ...modeling.documents import find_documents
from ...modeling.heads import pool_first, pool_last, pool_mean
from .examples import Unusable
from .metrics import measure
from .sentence_transformer import write_modules
from .task import Row, Task, by_length, text_in, tokens_of

TOGETHER = 1024  # texts that are compared with all partners at once
AS_NEAR = 1e-6  # of similarities in float32, which rounding alone may move so far
POOLINGS = {"mean": pool_mean, "first": pool_first, "last": pool_last}


class TextEmbedding(Task):
    """`text` and `positive`, two texts that belong together.

    The loss is the cross-entropy of finding each text's partner among those of the batch, both ways round (Radford et
    al., 2021), by the cosine of their vectors: a larger batch is a harder task. All other texts of the batch count as
    wrong, also one that stands there twice.
    """

    reads = {"text": "the text"}
    targets = {"positive": "a text that belongs to it"}
    heads = {"encoder": "AutoModel", "decoder": "AutoModel"}
    best = "mrr"

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.pooling = self.form.pooling or ("last" if self.family == "decoder" else "mean")
        if self.pooling not in POOLINGS:
            raise InputError(f"`pooling` is {', '.join(POOLINGS)}, not '{self.pooling}'.")

    def write(self, folder: Path, config: Any) -> None:
        """What makes a `SentenceTransformer` of the model, with the same vectors."""
        write_modules(folder, config.hidden_size, self.pooling, self.max_length)

    def check_read(self, row: Row) -> None:
        """Raises `Unusable` for an empty text."""
        text_in(row, "text", "text")

    def check_target(self, row: Row) -> None:
        """Raises `Unusable` for an empty partner, or one that is the text itself."""
        if text_in(row, "positive", "partner") == row["text"]:
            raise Unusable("the text and its partner are the same", "leave it out")

    def read(self, texts: Sequence[str]) -> list[Row]:
        """The tokens of texts."""
        return tokens_of(self.tokenizer, texts, max_length=self.max_length)

    def encode(self, rows: Sequence[Row]) -> list[Row]:
        """The tokens of both texts."""
        sides = (self.read([row[role] for row in rows]) for role in ("text", "positive"))
        return [{"texts": list(texts)} for texts in zip(*sides, strict=True)]

    def collate(self, features: list[Row]) -> dict[str, torch.Tensor]:
        """The texts of a batch and then their partners: (2 B, T), or (1, T) end to end."""
        return self.lay_out([feature["texts"][side] for side in range(2) for feature in features])

    def vectors(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """(N, D), of length 1 each."""
        states = model(**batch).last_hidden_state
        mask, lengths = batch.get("attention_mask"), batch.get("cu_seq_lens_q")
        documents = find_documents(states.shape[:2], batch.get("position_ids"), mask, cu_seq_lens=lengths)
        return F.normalize(POOLINGS[self.pooling](states, mask, documents).float(), dim=-1)

    def loss(self, model: Any, batch: dict[str, torch.Tensor], num_items_in_batch: Any = None) -> torch.Tensor:
        """Of finding partners, both ways round."""
        texts, partners = self.vectors(model, batch).chunk(2)
        similarities = texts @ partners.T / self.form.temperature
        right = torch.arange(len(texts), device=texts.device)
        loss = (F.cross_entropy(similarities, right) + F.cross_entropy(similarities.T, right)) / 2
        return loss if num_items_in_batch is None else loss * len(texts) / num_items_in_batch

    def items(self, batch: dict[str, torch.Tensor]) -> int:
        """A text and its partner have one loss."""
        texts = len(batch["cu_seq_lens_q"]) - 1 if self.form.packing else len(batch["input_ids"])
        return texts // 2

    @torch.no_grad()
    def embed(self, model: Any, texts: Sequence[str], batch_size: int) -> torch.Tensor:
        """The vectors of texts, (N, D) in float32 on the CPU."""
        features = self.read(texts) if texts else []
        found: list[Any] = [None] * len(texts)
        for numbers in by_length(features, batch_size):
            batch = self.lay_out([features[number] for number in numbers])
            vectors = self.vectors(model, {name: value.to(model.device) for name, value in batch.items()}).cpu()
            for number, vector in zip(numbers, vectors, strict=True):
                found[number] = vector
        return torch.stack(found) if found else torch.zeros(0, 0)

    def predict(self, model: Any, rows: Sequence[Row], batch_size: int) -> list[Row]:
        """The `vector` of the text, and of its partner, `partner`, where there is one."""
        answers = [{"vector": row} for row in self.embed(model, [row["text"] for row in rows], batch_size).tolist()]
        if rows and "positive" in rows[0]:
            partners = self.embed(model, [row["positive"] for row in rows], batch_size).tolist()
            return [answer | {"partner": partner} for answer, partner in zip(answers, partners, strict=True)]
        return answers

    def measure(self, predictions: Sequence[Row], rows: Sequence[Row]) -> dict[str, float]:
        """How often the partner is among the nearest 1, 5 and 10 of all partners, and the mean of 1 / its rank.

        A partner that stands in several rows is one among all, and right for each of them. Others that are as near as
        the right one come before it.
        """
        candidates = {
            row["positive"]: number for number, row in reversed([*enumerate(rows)])
        }  # where each stands first
        places = {text: place for place, text in enumerate(candidates)}
        partners = torch.tensor([predictions[number]["partner"] for number in candidates.values()])
        texts = torch.tensor([prediction["vector"] for prediction in predictions])
        right = torch.tensor([places[row["positive"]] for row in rows])
        ranks: list[int] = []
        for some, one in zip(texts.split(TOGETHER), right.split(TOGETHER), strict=True):
            similarities = some @ partners.T
            ranks += (similarities > similarities.gather(1, one[:, None]) - AS_NEAR).sum(1).tolist()
        return measure(("recall_at_k",), ranks, None)
