"""Who sees whom: the mask of every layer type, with padding, documents, windows, caches and position biases folded in.

The masks themselves are built by transformers, so that each backend gets the form it takes (none, boolean, float,
block).

Shapes: B batch, H heads, Q query tokens, K key tokens.
"""

import torch
from transformers.cache_utils import Cache
from transformers.masking_utils import (
    create_bidirectional_mask,
    create_bidirectional_sliding_window_mask,
    create_causal_mask,
    create_sliding_window_causal_mask,
)

from ..configuration.base import TriviumConfig
from .documents import Documents
from .varlen import NAME, can_compile

MASK_FUNCTIONS = {
    ("full_attention", True): create_causal_mask,
    ("full_attention", False): create_bidirectional_mask,
    ("sliding_attention", True): create_sliding_window_causal_mask,
    ("sliding_attention", False): create_bidirectional_sliding_window_mask,
}


def choose_backend(config: TriviumConfig, documents: Documents | None, training: bool) -> str | None:
    """The backend for this batch, or `None` for the model's own: ours for a flattened one, unless the user chose."""
    if documents is None or config._attn_implementation_chosen:
        return None
    if torch.compiler.is_compiling() and not can_compile(config, training):
        return None
    return NAME


def self_attention_arguments(
    config: TriviumConfig,
    inputs_embeds: torch.Tensor,
    attention_mask: torch.Tensor | dict | None,
    documents: Documents | None,
    past_key_values: Cache | None,
    bias: torch.nn.Module | None,
    is_causal: bool,
    training: bool,
) -> dict[str, dict]:
    """The keyword arguments of the self-attention of each layer type: its mask, and what its backend needs.

    Args:
        inputs_embeds: (B, Q, hidden), for sizes, dtype and device.
        attention_mask: (B, K) of ones and zeros, (B, 1, Q, K) ready made, or a dictionary of ready-made ones.
        documents: those of a flattened batch.
        past_key_values: the cache of the self-attention.
        bias: the module that gives a bias (1, H, Q, K) for positions (Q,) and (K,).
    """
    kinds = sorted(set(config.layer_types))
    backend = choose_backend(config, documents, training)
    if (backend or config._attn_implementation) == NAME and documents is not None:
        shared = {"attention_mask": None, "attention_backend": backend, "documents": (documents, documents)}
        if bias is not None:
            reach = inputs_embeds.shape[1] if torch.compiler.is_compiling() else max(documents.lengths)
            positions = torch.arange(reach, device=inputs_embeds.device)
            shared["position_bias"] = bias(positions, positions)
        return dict.fromkeys(kinds, shared)
    if documents is not None and "flash" in config._attn_implementation:
        return dict.fromkeys(kinds, {"attention_mask": None} | _flash_lengths(documents, documents))

    arguments = {}
    for kind in kinds:
        mask = attention_mask
        if isinstance(mask, dict):
            mask = mask[kind]
        elif mask is None or mask.ndim == 2:
            mask = _build_mask(config, kind, inputs_embeds, mask, documents, past_key_values, is_causal)
        if bias is not None:
            layer = config.layer_types.index(kind)
            mask = _fold_bias(mask, bias, inputs_embeds, past_key_values, layer, is_causal)
        arguments[kind] = {"attention_mask": mask}
    return arguments


def cross_attention_arguments(
    config: TriviumConfig,
    inputs_embeds: torch.Tensor,
    encoder_hidden_states: torch.Tensor,
    encoder_attention_mask: torch.Tensor | None,
    queries: Documents | None,
    keys: Documents | None,
    training: bool,
) -> dict:
    """The keyword arguments of the cross-attention; document i of the decoder sees document i of the encoder."""
    backend = choose_backend(config, queries, training)
    if queries is not None and (backend or config._attn_implementation) == NAME:
        return {"attention_mask": None, "attention_backend": backend, "documents": (queries, keys)}
    if queries is not None and "flash" in config._attn_implementation:
        return {"attention_mask": None} | _flash_lengths(queries, keys)
    overlay = {}
    if queries is not None:
        overlay["and_mask_function"] = lambda b, h, q, k: queries.ids[b, q] == keys.ids[b, k]
        encoder_attention_mask = None
    mask = create_bidirectional_mask(
        config=config,
        inputs_embeds=inputs_embeds,
        attention_mask=encoder_attention_mask,
        encoder_hidden_states=encoder_hidden_states,
        **overlay,
    )
    return {"attention_mask": mask}


def _build_mask(config, kind, inputs_embeds, attention_mask, documents, past_key_values, is_causal):
    """The mask of one layer type from a padding mask (B, K) or the documents of a flattened batch."""
    arguments = {"config": config, "inputs_embeds": inputs_embeds, "attention_mask": attention_mask}
    if documents is not None:
        arguments["attention_mask"] = None
    if is_causal:
        arguments["past_key_values"] = past_key_values
        arguments["position_ids"] = None if documents is None else documents.position_ids
    elif documents is not None:
        ids = documents.ids
        arguments["and_mask_function"] = lambda b, h, q, k: ids[b, q] == ids[b, k]
    return MASK_FUNCTIONS[kind, is_causal](**arguments)


def _fold_bias(mask, bias, inputs_embeds, past_key_values, layer, is_causal):
    """One additive mask (B or 1, H, Q, K) from a mask as sdpa or eager take it and the bias on the scores."""
    length, device, dtype = inputs_embeds.shape[1], inputs_embeds.device, inputs_embeds.dtype
    past, keys, offset = 0, length, 0
    if past_key_values is not None:
        past = past_key_values.get_seq_length()
        keys, offset = past_key_values.get_mask_sizes(length, layer)
    query_positions = torch.arange(length, device=device) + past
    key_positions = torch.arange(keys, device=device) + offset
    values = bias(query_positions, key_positions).to(dtype)
    if mask is None and is_causal:
        mask = (key_positions[None, :] <= query_positions[:, None])[None, None]
    if mask is None:
        return values
    return torch.where(mask, values, torch.finfo(dtype).min) if mask.dtype == torch.bool else values + mask


def _flash_lengths(queries: Documents, keys: Documents) -> dict:
    """What the flash backends of transformers take for a flattened batch."""
    return {
        "cu_seq_lens_q": queries.cu_seq_lens,
        "cu_seq_lens_k": keys.cu_seq_lens,
        "max_length_q": max(queries.lengths),
        "max_length_k": max(keys.lengths),
    }
