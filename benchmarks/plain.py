"""The floor: transformers as one writes them in plain torch in an evening, without anything that a library needs.

Pre-norm blocks with RMSNorm, SwiGLU, one matrix for queries, keys and values, learned positions, tied embeddings,
torch's attention kernels and the whole logits. Padding stands on the right.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

IGNORED = -100


class Output(NamedTuple):
    """What a forward pass returns, with the names of transformers."""

    loss: torch.Tensor
    logits: torch.Tensor


class PlainAttention(nn.Module):
    """Attention of a sequence to itself, or to `other`."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None, causal: bool, other: torch.Tensor | None = None):
        """Reads x (B, T, D) and other (B, S, D), whose mask (B, 1, 1, S) is true where there is no padding."""
        if other is None:
            parts = self.queries_keys_values(x).chunk(3, dim=-1)
        else:
            query, *rest = self.queries_keys_values.weight.split([x.shape[-1], 2 * x.shape[-1]])
            parts = (F.linear(x, query), *F.linear(other, rest[0]).chunk(2, dim=-1))
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
        return self.out(mixed.transpose(1, 2).flatten(2))


class PlainBlock(nn.Module):
    """Attention, attention to another sequence if there is one, and a gated feed-forward."""

    def __init__(self, width: int, heads: int, inner: int, crosses: bool):
        super().__init__()
        self.attention, self.norm = PlainAttention(width, heads), nn.RMSNorm(width)
        self.cross = PlainAttention(width, heads) if crosses else None
        self.cross_norm = nn.RMSNorm(width) if crosses else None
        self.up, self.down = nn.Linear(width, 2 * inner, bias=False), nn.Linear(inner, width, bias=False)
        self.inner_norm = nn.RMSNorm(width)

    def forward(self, x: torch.Tensor, mask, causal: bool, other=None, other_mask=None) -> torch.Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = x + self.attention(self.norm(x), mask, causal)
        if self.cross is not None:
            x = x + self.cross(self.cross_norm(x), other_mask, False, other)
        gate, up = self.up(self.inner_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class PlainStack(nn.Module):
    """Positions and blocks."""

    def __init__(self, width: int, heads: int, inner: int, layers: int, max_length: int, causal=False, crosses=False):
        super().__init__()
        self.causal = causal
        self.positions = nn.Embedding(max_length, width)
        self.blocks = nn.ModuleList(PlainBlock(width, heads, inner, crosses) for _ in range(layers))
        self.norm = nn.RMSNorm(width)

    def forward(self, x: torch.Tensor, mask=None, other=None, other_mask=None) -> torch.Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = x + self.positions.weight[: x.shape[1]]
        for block in self.blocks:
            x = block(x, mask, self.causal, other, other_mask)
        return self.norm(x)


class Plain(nn.Module):
    """One of the three families with the loss of its pretraining.

    Args:
        family: "decoder", "encoder" or "encoder-decoder", which has half the layers on each side.
        vocabulary, width, heads, inner, layers, max_length: the shape.
    """

    def __init__(self, family: str, vocabulary: int, width: int, heads: int, inner: int, layers: int, max_length: int):
        super().__init__()
        self.family, both = family, family == "encoder-decoder"
        self.embedding = nn.Embedding(vocabulary, width)
        shape = (width, heads, inner, layers // 2 if both else layers, max_length)
        self.encoder = PlainStack(*shape) if family != "decoder" else None
        self.decoder = PlainStack(*shape, causal=True, crosses=both) if family != "encoder" else None
        for weight in self.parameters():
            if weight.ndim > 1:
                nn.init.normal_(weight, std=0.02)

    def forward(
        self, input_ids: torch.Tensor, labels: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> Output:
        """input_ids (B, S), labels (B, T) and attention_mask (B, S) -> the loss and logits (B, T, V).

        A decoder's labels are its inputs and are shifted here; so are an encoder-decoder's, which its decoder reads.
        """
        mask = None if attention_mask is None else attention_mask.bool()[:, None, None]
        x = self.embedding(input_ids)
        if self.family == "decoder":  # what is padded stands after what is read, and is not seen
            x, labels = self.decoder(x), F.pad(labels[:, 1:], (0, 1), value=IGNORED)
        else:
            x = self.encoder(x, mask)
        if self.family == "encoder-decoder":
            before = F.pad(labels[:, :-1], (1, 0), value=0).clamp(min=0)
            x = self.decoder(self.embedding(before), None, x, mask)
        logits = F.linear(x, self.embedding.weight)
        return Output(F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED), logits)
