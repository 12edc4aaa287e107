"""What heads have in common: pooling a text into one vector, and writing tokens.

Shapes: B rows, T tokens a row, N texts (rows, or documents of a flattened batch), D hidden size, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.utils import ModelOutput

from ..configuration.base import TriviumConfig
from ..configuration.errors import InputError
from .documents import Documents, find_documents
from .losses import Items, cross_entropy, language_modeling_loss, shape_logits
from .normalization import make_norm


@dataclass
class TriviumForPreTrainingOutput(ModelOutput):
    """What BERT's two objectives give, under the names of transformers.

    Attributes:
        loss: () the sum of both, or the one that there are labels for.
        prediction_logits: (B, T, V), left out in training.
        seq_relationship_logits: (N, 2).
        hidden_states, attentions: of all layers, if asked for.
    """

    loss: torch.Tensor | None = None
    prediction_logits: torch.Tensor | None = None
    seq_relationship_logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class TriviumPooler(nn.Module):
    """A dense layer and an activation on the vector of a text (BERT's pooler, Devlin et al., 2019)."""

    def __init__(self, config: TriviumConfig, act: str = "tanh", dropout: float = 0.0):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.act_fn = ACT2FN[act]
        self.dropout = nn.Dropout(dropout)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """(N, D) -> (N, D)."""
        return self.dropout(self.act_fn(self.dense(pooled)))


def make_classifier_transform(config: TriviumConfig) -> nn.Module:
    """What stands between a text's vector and its classifier: nothing, or what `classifier_act` asks for."""
    if config.classifier_act is None:
        return nn.Identity()
    return TriviumPooler(config, config.classifier_act, config.classifier_dropout)


class TriviumHeadTransform(nn.Module):
    """Dense, activation and norm before the output matrix (Devlin et al., 2019)."""

    def __init__(self, config: TriviumConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size, bias=config.mlp_bias)
        self.act_fn = ACT2FN[config.hidden_act]
        self.norm = make_norm(config)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., D) -> (..., D)."""
        return self.norm(self.act_fn(self.dense(hidden)))


class TriviumLanguageModelingHead:
    """Mixin of the models that write tokens: `transform`, `lm_head`, and a loss that does not need all logits."""

    config: Any
    training: bool

    def build_lm_head(self, config: TriviumConfig) -> None:
        """Adds the modules; `config` is that of the stack whose states they read."""
        self.transform = TriviumHeadTransform(config) if config.lm_head_transform else nn.Identity()
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=config.lm_head_bias)

    def shape_logits(self, logits: torch.Tensor) -> torch.Tensor:
        """Applies `logit_scale` and Gemma 2's `final_logit_softcapping`."""
        config = self.config.get_text_config(decoder=True)
        return shape_logits(logits, config.logit_scale, config.final_logit_softcapping)

    def fills_cache(self, labels: torch.Tensor | None, asked: bool | None) -> bool:
        """`use_cache` as asked or configured; unless asked not in training on labels, behind which nobody writes."""
        trains = self.training and labels is not None
        return (self.config.use_cache and not trains) if asked is None else asked

    def returns_logits(self, labels: torch.Tensor | None, asked: bool | None) -> bool:
        """Whether all are made: as asked or, if nobody did, unless labels are all that they are for."""
        return labels is None or not self.training if asked is None else asked

    def write(
        self,
        hidden: torch.Tensor,
        labels: torch.Tensor | None,
        num_items_in_batch: Items,
        return_logits: bool | None,
        logits_to_keep: int | torch.Tensor = 0,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Loss and logits from hidden states (B, T, D) and labels aligned with them (B, T).

        Logits (B, T or fewer, V) are left out where nobody reads them: in training with labels, unless `return_logits`.
        Where they are all there, the loss is made from them.
        """
        logits = None
        if self.returns_logits(labels, return_logits):
            logits = self.shape_logits(self.lm_head(self.transform(keep_positions(hidden, logits_to_keep))))
        if labels is None:
            return None, logits
        if logits is not None and logits.shape[:-1] == labels.shape:
            flat_labels = labels.flatten().to(logits.device)
            return cross_entropy(logits.flatten(0, 1), flat_labels, num_items_in_batch), logits
        return language_modeling_loss(hidden, labels, self, num_items_in_batch), logits


def keep_positions(hidden: torch.Tensor, positions: int | torch.Tensor) -> torch.Tensor:
    """The states (B, T, D) at some positions: the last so many (0 = all), or those that a tensor names.

    A tensor holds indices, (K,) for all rows or (B, K), or is a boolean mask (B, T), which gives (kept, D).
    """
    if isinstance(positions, int):
        return hidden[:, slice(-positions, None)]
    if positions.ndim == 1:
        return hidden[:, positions]
    if positions.dtype == torch.bool:
        return hidden[positions]
    return hidden.take_along_dim(positions.unsqueeze(-1), dim=1)


def documents_of(
    hidden: torch.Tensor, position_ids: torch.Tensor | None, attention_mask: torch.Tensor | None, arguments: dict
) -> Documents | None:
    """The documents that the base model saw when it made `hidden` (B, T, D) with these inputs."""
    cu_seq_lens = arguments.get("cu_seq_lens_q")
    return find_documents(hidden.shape[:2], position_ids, attention_mask, arguments.get("past_key_values"), cu_seq_lens)


def pool_first(hidden: torch.Tensor, attention_mask: torch.Tensor | None, documents: Documents | None) -> torch.Tensor:
    """The state of each text's first real token: (B, T, D) -> (N, D)."""
    if documents is not None:
        return documents.first(hidden)
    if not isinstance(attention_mask, torch.Tensor) or attention_mask.ndim != 2:
        return hidden[:, 0]
    first = attention_mask.to(hidden.device).long().argmax(-1)
    return hidden[torch.arange(hidden.shape[0], device=hidden.device), first]


def pool_mean(hidden: torch.Tensor, attention_mask: torch.Tensor | None, documents: Documents | None) -> torch.Tensor:
    """The mean state of each text's real tokens: (B, T, D) -> (N, D)."""
    if documents is not None:
        return documents.mean(hidden)
    if not isinstance(attention_mask, torch.Tensor) or attention_mask.ndim != 2:
        return hidden.mean(1)
    weights = attention_mask.to(hidden.device, hidden.dtype).unsqueeze(-1)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def pool_last(
    hidden: torch.Tensor,
    attention_mask: torch.Tensor | None,
    documents: Documents | None,
    input_ids: torch.Tensor | None = None,
    pad_token_id: int | None = None,
) -> torch.Tensor:
    """The state of each text's last real token, whatever the padding side: (B, T, D) -> (N, D).

    Without a mask the padding is told by `pad_token_id` in `input_ids` (B, T).

    Raises:
        InputError: several rows with neither, so that the last real token is unknown.
    """
    if documents is not None:
        return documents.last(hidden)
    if isinstance(attention_mask, torch.Tensor) and attention_mask.ndim == 2:
        real = attention_mask.to(hidden.device)
    elif input_ids is not None and pad_token_id is not None:
        real = input_ids.to(hidden.device) != pad_token_id
    elif hidden.shape[0] == 1 or input_ids is None:
        return hidden[:, -1]
    else:
        raise InputError("several texts in a batch need an attention_mask, or a pad_token_id in the configuration.")
    steps = torch.arange(real.shape[1], device=hidden.device)
    last = (steps * real.long()).argmax(-1)
    return hidden[torch.arange(hidden.shape[0], device=hidden.device), last]
