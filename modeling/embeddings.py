"""From token ids to the input of the first block."""

import torch
from torch import nn

from ..configuration.base import TriviumConfig
from .normalization import make_norm
from .positions import sinusoidal_positions


class TriviumTokenEmbedding(nn.Embedding):
    """An embedding table whose rows are multiplied by `scale` when read (Vaswani et al., 2017, section 3.4).

    The scale is applied here, not in the model, so that `get_input_embeddings()(ids)` is what `inputs_embeds` expects.
    """

    def __init__(self, vocab_size: int, hidden_size: int, scale: float | None = None):
        super().__init__(vocab_size, hidden_size)
        self.scale = scale

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, T, hidden)."""
        embeds = super().forward(input_ids)
        return embeds if self.scale is None else embeds * torch.tensor(self.scale, dtype=embeds.dtype)


class TriviumEmbeddings(nn.Module):
    """Adds absolute positions and segments to the token embeddings, then norm and dropout, as configured."""

    def __init__(self, config: TriviumConfig):
        super().__init__()
        hidden, self.offset = config.hidden_size, config.position_offset
        self.sinusoidal = config.position_encoding == "sinusoidal"
        if config.position_encoding == "learned":
            self.embed_positions = nn.Embedding(config.max_position_embeddings + self.offset, hidden)
        else:
            self.embed_positions = None
        self.embed_token_types = nn.Embedding(config.type_vocab_size, hidden) if config.type_vocab_size else None
        self.norm = make_norm(config) if config.embedding_norm else nn.Identity()
        self.dropout = nn.Dropout(config.embedding_dropout)

    def forward(
        self,
        inputs_embeds: torch.Tensor,
        position_ids: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """inputs_embeds (B, T, hidden), position_ids (B or 1, T), token_type_ids (B, T) -> (B, T, hidden)."""
        x = inputs_embeds
        if self.embed_positions is not None:
            x = x + self.embed_positions(position_ids + self.offset)
        elif self.sinusoidal:
            x = x + sinusoidal_positions(position_ids + self.offset, x.shape[-1], x.dtype)
        if self.embed_token_types is not None:
            if token_type_ids is None:
                token_type_ids = torch.zeros_like(position_ids)
            x = x + self.embed_token_types(token_type_ids)
        return self.dropout(self.norm(x))
