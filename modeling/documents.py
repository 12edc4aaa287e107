"""Flattened batches: documents laid end to end, told apart by positions that restart.

A padded batch of three texts is a rectangle with holes. The same texts end to end are one row (or rows of equal length)
without holes; position_ids such as 0 1 2 3 0 1 0 1 2 say where each document begins. Nothing may pass from one
document to another: not through attention, not through pooling, not through a label.

Shapes: B rows (usually 1), T tokens a row, N documents in the whole batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import Cache

from ..configuration.errors import InputError


@dataclass
class Documents:
    """Which token belongs to which document.

    Attributes:
        starts: (B, T) bool, true at the first token of each document.
        ids: (B, T) long, the number of each token's document, counted through the whole batch.
        position_ids: (B, T) long, restarting at every document.
        bounds: (N + 1,) long, where documents begin and where the last one ends, if a batch says so: then their number
            is known without waiting for the device, and `torch.compile` needs no break to find it.
    """

    starts: torch.Tensor
    ids: torch.Tensor
    position_ids: torch.Tensor
    bounds: torch.Tensor | None = None

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each document (N numbers); waits for the device."""
        return torch.bincount(self.ids.flatten()).tolist()

    @cached_property
    def cu_seq_lens(self) -> torch.Tensor:
        """Where documents begin, and where the last one ends: (N + 1,) int32, as flash attention wants it."""
        ends = torch.tensor(self.lengths, device=self.ids.device).cumsum(0)
        return torch.nn.functional.pad(ends, (1, 0)).to(torch.int32)

    def to(self, device: torch.device | str | int, **kwargs) -> "Documents":
        """The same on another device, where Accelerate has put some of the blocks."""
        ids = self.ids.to(device, **kwargs)
        if ids is self.ids:
            return self
        bounds = None if self.bounds is None else self.bounds.to(device, **kwargs)
        moved = Documents(self.starts.to(device, **kwargs), ids, self.position_ids.to(device, **kwargs), bounds)
        moved.lengths = self.lengths
        return moved

    def first(self, x: torch.Tensor) -> torch.Tensor:
        """The first token's features of each document: (B, T, ...) -> (N, ...)."""
        bounds = self.cu_seq_lens.long() if self.bounds is None else self.bounds.clamp(max=self.ids.numel() - 1)
        return x.flatten(0, 1)[bounds[:-1]]

    def last(self, x: torch.Tensor) -> torch.Tensor:
        """The last token's features of each document: (B, T, ...) -> (N, ...)."""
        return x.flatten(0, 1)[self.cu_seq_lens[1:].long() - 1]

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """The mean of each document's features: (B, T, D) -> (N, D)."""
        lengths = torch.tensor(self.lengths, device=x.device, dtype=x.dtype)
        total = x.new_zeros(len(self.lengths), x.shape[-1]).index_add(0, self.ids.flatten(), x.flatten(0, 1))
        return total / lengths[:, None]

    def pad(self, x: torch.Tensor, value: float) -> torch.Tensor:
        """One row per document, filled up with `value`: (B, T, ...) -> (N, longest, ...)."""
        return pad_sequence(x.flatten(0, 1).split(self.lengths), batch_first=True, padding_value=value)


def find_documents(
    shape: Sequence[int],
    position_ids: torch.Tensor | None,
    attention_mask: torch.Tensor | dict | None = None,
    past_key_values: Cache | None = None,
    cu_seq_lens: torch.Tensor | None = None,
) -> Documents | None:
    """The documents of a batch of `shape` (B, T), or `None` if it is not flattened.

    A batch is flattened if it has cumulative lengths, or if it has position ids that restart and no mask (an
    all-ones mask counts as none). Steps of generation (a cache that already holds tokens) never are.

    Raises:
        InputError: cumulative lengths that do not cover the batch or come with a padding mask; a flattened batch with a
            cache to fill, since a cache holds one text per row.
    """
    compiling = torch.compiler.is_compiling()
    if cu_seq_lens is not None:
        if attention_mask is not None and not compiling and not bool(attention_mask.all()):
            raise InputError(
                "cu_seq_lens describe a batch without padding, but attention_mask has zeros: give one of them."
            )
        return _documents_from_lengths(shape, cu_seq_lens, position_ids)
    if position_ids is None or position_ids.shape[-1] == 1 or isinstance(attention_mask, dict):
        return None
    if attention_mask is not None and (attention_mask.ndim != 2 or compiling):
        return None
    if past_key_values is not None and (compiling or past_key_values.get_seq_length() > 0):
        return None
    position_ids = position_ids.expand(shape)
    steps = position_ids.diff(dim=-1)
    starts = torch.nn.functional.pad(steps != 1, (1, 0), value=True)
    if not compiling and (not bool((steps != 1).any()) or not (attention_mask is None or bool(attention_mask.all()))):
        return None
    if past_key_values is not None:
        raise InputError(
            "a flattened batch cannot fill a cache, which holds one text per row: pad the batch to generate."
        )
    return Documents(starts, starts.flatten().cumsum(0).view(shape) - 1, position_ids)


def _documents_from_lengths(shape, cu_seq_lens, position_ids) -> Documents:
    """Documents from cumulative lengths (N + 1,), which may name empty documents that position ids cannot show."""
    batch, length = shape
    bounds = cu_seq_lens.to(torch.long)
    if not torch.compiler.is_compiling() and (int(bounds[0]) != 0 or int(bounds[-1]) != batch * length):
        raise InputError(
            f"cu_seq_lens run from {int(bounds[0])} to {int(bounds[-1])} but the batch has {batch} x {length} tokens: "
            f"they must run from 0 to {batch * length}."
        )
    # Not `bincount`, whose size depends on what it counts.
    counts = bounds.new_zeros(batch * length + 1).index_add(0, bounds[:-1], torch.ones_like(bounds[:-1]))[:-1]
    ids = counts.cumsum(0) - 1
    if position_ids is None:
        position_ids = torch.arange(batch * length, device=bounds.device) - bounds[ids]
    return Documents((counts > 0).view(shape), ids.view(shape), position_ids.view(shape), bounds)


def check_paired(queries: Documents | None, keys: Documents | None, text: str = "encoder") -> None:
    """Raises `InputError` unless both sides are flattened into equally many documents, or neither is."""
    if (queries is None) != (keys is None):
        flat, other = ("decoder", text) if keys is None else (text, "decoder")
        raise InputError(
            f"the {flat}'s batch is flattened but the {other}'s is not: give both `position_ids` and "
            "`decoder_position_ids` (or both cu_seq_lens_k and cu_seq_lens_q) that restart at each document."
        )
    if queries is None or torch.compiler.is_compiling() or queries is keys:
        return
    if len(queries.lengths) != len(keys.lengths):
        raise InputError(
            f"the decoder's batch holds {len(queries.lengths)} documents and the {text}'s {len(keys.lengths)}: "
            "document i of the one attends to document i of the other, so the numbers must be equal."
        )


def shift_right(token_ids: torch.Tensor, starts: torch.Tensor, start_token: int, pad_token: int | None) -> torch.Tensor:
    """What a decoder reads to predict `token_ids`: each text one step later, `start_token` at its start.

    Args:
        token_ids: (B, T), -100 where there is no label.
        starts: (B, T) bool, the first token of each text.
        pad_token: stands for -100; `start_token` if there is none.
    """
    shifted = torch.where(starts, start_token, token_ids.roll(1, dims=-1))
    return shifted.masked_fill(shifted == -100, start_token if pad_token is None else pad_token)


def first_tokens(
    token_ids: torch.Tensor, attention_mask: torch.Tensor | None, documents: Documents | None
) -> torch.Tensor:
    """(B, T) bool: the first real token of each text, whatever the padding side."""
    if documents is not None:
        return documents.starts
    real = torch.ones_like(token_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    return real & (real.long().cumsum(-1) == 1)
