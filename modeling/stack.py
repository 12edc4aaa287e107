"""What encoder and decoder share: token embedding, blocks, final norm, and the contract with transformers."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import logging
from transformers.utils.output_capturing import OutputRecorder

from ..configuration.base import TriviumConfig
from ..configuration.errors import InputError
from ..configuration.validation import check_attention, check_sequence_length
from .attention import TriviumAttention
from .block import TriviumBlock
from .documents import Documents
from .embeddings import TriviumEmbeddings, TriviumTokenEmbedding
from .masks import self_attention_arguments
from .normalization import TriviumRMSNorm, make_norm
from .positions import TriviumAlibiBias, TriviumRelativeBias, rotary_embeddings
from .unpadding import Padded, PaddingCache, RealTokens, find_real_tokens

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
NO_SAFETENSORS = re.compile(r"file named model\S*\.safetensors")  # what transformers says of a folder or repository

logger = logging.get_logger(__name__)

# What collators send along for flash attention; the documents hold it already.
LENGTH_ARGUMENTS = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx")


class TriviumPreTrainedModel(PreTrainedModel):
    """Loading, saving, initialisation and the promises that the tools of transformers read off a class.

    Attributes:
        after_saving: called with each folder that a model was saved to, and with the repository on the Hub that it is
            pushed to, or `None`. The installed package writes a card there, which the code in a checkpoint cannot.
    """

    config: TriviumConfig
    after_saving: ClassVar[list[Callable[[Path, str | None], None]]] = []
    base_model_prefix = "model"
    input_modalities = ("text",)
    supports_gradient_checkpointing = True
    _no_split_modules = ["TriviumBlock"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {
        "hidden_states": TriviumBlock,
        "attentions": OutputRecorder(TriviumAttention, index=1, layer_name="self_attn"),
        "cross_attentions": OutputRecorder(TriviumAttention, index=1, layer_name="cross_attn"),
    }

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, from safetensors alone: reading a pickle can run code.

        Raises:
            InputError: there are no weights in safetensors.
        """
        name = str(pretrained_model_name_or_path)
        refusal = (
            f"'{name}' has no weights in safetensors, and pickled ones are not read, since that can run code: have "
            "them saved again with `save_pretrained`."
        )
        if kwargs.setdefault("use_safetensors", True) is False or name.endswith(PICKLES):
            raise InputError(refusal)
        try:
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        except OSError as error:
            if NO_SAFETENSORS.search(str(error)):
                raise InputError(refusal) from None
            raise

    def save_pretrained(
        self, save_directory: str | os.PathLike, is_main_process: bool = True, *args: Any, **kwargs: Any
    ) -> None:
        """As in transformers, with the code beside the weights, and a card."""
        super().save_pretrained(save_directory, is_main_process, *args, **kwargs)
        for finish in self.after_saving if is_main_process else []:
            finish(Path(save_directory), None)

    def _upload_modified_files(self, working_dir: str | os.PathLike, repo_id: str, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, which has just put a card of its own into the folder that is pushed."""
        for finish in self.after_saving:
            finish(Path(working_dir), repo_id)
        return super()._upload_modified_files(working_dir, repo_id, *args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Weights normal with `initializer_range`, biases zero, norms at one (called by transformers, leaf by leaf)."""
        super()._init_weights(module)
        if isinstance(module, TriviumRMSNorm) and module.unit_offset:
            init.zeros_(module.weight)

    def get_correct_attn_implementation(self, requested_attention: str | None, *args, **kwargs) -> str:
        """As in transformers, but refuses what cannot compute this configuration.

        Raises:
            InputError: the backend asked for cannot, with what can.
        """
        for stack in [getattr(self.config, name) for name in self.config.sub_configs] or [self.config]:
            check_attention(stack, requested_attention)
            if stack._attn_implementation_chosen:
                say_who_caps(stack, requested_attention)
        return super().get_correct_attn_implementation(requested_attention, *args, **kwargs)

    def set_attn_implementation(self, attn_implementation: str | dict, *args, **kwargs) -> None:
        """As in transformers; from then on a flattened batch uses it too."""
        super().set_attn_implementation(attn_implementation, *args, **kwargs)
        for module in self.modules():
            if isinstance(module, TriviumPreTrainedModel):
                module.config._attn_implementation_chosen = True
                say_who_caps(module.config, module.config._attn_implementation)


def say_who_caps(config: TriviumConfig, implementation: str | None) -> None:
    """Tells, once, whoever asked sdpa for capped scores that they are not computed by it."""
    if implementation == "sdpa" and getattr(config, "attn_logit_softcapping", None) is not None:
        logger.warning_once(
            "attn_implementation='sdpa' cannot cap scores as attn_logit_softcapping asks: Trivium's own attention "
            "caps them, in blocks."
        )


class TriviumStack(TriviumPreTrainedModel):
    """Token embedding, blocks and final norm; `encoder.py` and `decoder.py` give it a forward."""

    is_causal: bool

    def __init__(self, config: TriviumConfig):
        super().__init__(config)
        self.embed_tokens = TriviumTokenEmbedding(config.vocab_size, config.hidden_size, config.embedding_scale)
        self.embeddings = TriviumEmbeddings(config)
        self.rotary_emb = rotary_embeddings(config) if config.position_encoding == "rope" else None
        biases = {
            "relative": lambda: TriviumRelativeBias(config, self.is_causal),
            "alibi": lambda: TriviumAlibiBias(config),
        }
        self.position_bias = biases[config.position_encoding]() if config.position_encoding in biases else None
        self.layers = nn.ModuleList(TriviumBlock(config, i, self.is_causal) for i in range(config.num_hidden_layers))
        self.norm = make_norm(config) if config.final_norm else nn.Identity()
        self.gradient_checkpointing = False

    def embed(
        self,
        input_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
    ) -> torch.Tensor:
        """Token ids (B, T), or embeddings (B, T, hidden) as they are.

        Raises:
            ValueError: both or neither given.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds.")
        return self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds

    def run(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor | dict | None,
        position_ids: torch.Tensor | None,
        documents: Documents | None,
        token_type_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        self_attention_cache: Cache | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        cross_attention: dict | None = None,
        real: RealTokens | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """Embeddings (B, T, hidden) -> hidden states of the last block, normed, (B, T, hidden).

        `real` are the tokens to be read of the embeddings, if what the cross-attention is given has lost its padding.
        """
        kwargs = {name: value for name, value in kwargs.items() if name not in LENGTH_ARGUMENTS}
        if documents is None and encoder_hidden_states is None:
            rows = Padded(inputs_embeds, attention_mask, position_ids)
            (real,) = find_real_tokens(self.config, self.layers, self_attention_cache, rows) or (None,)
        if real is not None:
            position_ids, documents, attention_mask = None, real.documents, None
            inputs_embeds, token_type_ids = map(real.drop_padding, (inputs_embeds, token_type_ids))
            if past_key_values is not None:
                past_key_values = PaddingCache(self_attention_cache, real)
        position_ids = self.positions(inputs_embeds, attention_mask, position_ids, documents, self_attention_cache)
        layer_arguments = self_attention_arguments(
            self.config,
            inputs_embeds,
            attention_mask,
            documents,
            self_attention_cache,
            self.position_bias,
            self.is_causal,
            self.training,
        )
        x = self.embeddings(inputs_embeds, position_ids, token_type_ids)
        if self.rotary_emb is not None:
            turned = {kind: rotary(x, position_ids) for kind, rotary in self.rotary_emb.items()}
            for kind in layer_arguments:
                cos_sin = turned[kind if kind in turned else "shared"]
                layer_arguments[kind] = layer_arguments[kind] | {"position_embeddings": cos_sin}
        for layer, kind in zip(self.layers, self.config.layer_types, strict=False):
            arguments = dict(layer_arguments[kind])
            x = layer(
                x,
                # What may carry a gradient goes by position: reentrant checkpoints follow nothing else.
                encoder_hidden_states,
                arguments.pop("attention_mask"),
                arguments.pop("position_bias", None),
                past_key_values=past_key_values,
                cross_attention=cross_attention,
                **arguments,
                **kwargs,
            )
        x = self.norm(x)
        return x if real is None else real.restore_padding(x)

    def positions(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor | dict | None,
        position_ids: torch.Tensor | None,
        documents: Documents | None,
        cache: Cache | None,
    ) -> torch.Tensor:
        """Position ids (B or 1, T): as given, else counted over the real tokens, whatever the padding side.

        Raises:
            InputError: a sequence longer than the learned positions.
        """
        length, device = inputs_embeds.shape[1], inputs_embeds.device
        past = cache.get_seq_length() if cache is not None else 0
        if self.config.position_encoding == "learned" and not torch.compiler.is_compiling():
            longest = max(documents.lengths) if documents is not None else length
            if isinstance(past, int):
                check_sequence_length(self.config, longest + past)
        if documents is not None:
            return documents.position_ids
        if position_ids is not None:
            return position_ids
        if isinstance(attention_mask, torch.Tensor) and attention_mask.ndim == 2:
            counted = attention_mask.long().cumsum(-1) - 1
            return counted.clamp(min=0)[:, -length:]
        return (torch.arange(length, device=device) + past).unsqueeze(0)


def refuse_cross_attention_input(config: TriviumConfig, encoder_hidden_states: torch.Tensor | None) -> None:
    """Raises `InputError` where states are given to blocks that cannot attend to them."""
    if encoder_hidden_states is not None and not config.add_cross_attention:
        raise InputError("encoder_hidden_states need blocks with cross-attention: configure add_cross_attention=True.")
