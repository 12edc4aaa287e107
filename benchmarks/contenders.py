"""Who is compared: our three families and the stock model that a user would take instead, in the same shape."""

from dataclasses import dataclass

from torch import nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)

import trivium

FAMILIES = ("decoder", "encoder", "encoder-decoder")
PEERS = {"decoder": "Llama", "encoder": "ModernBERT", "encoder-decoder": "T5"}


@dataclass(frozen=True)
class Shape:
    """What both contenders have in common; an encoder-decoder has half the layers on each side."""

    hidden: int
    layers: int
    heads: int
    inner: int
    vocabulary: int


# Named after the parameters of the decoder; the embedding is tied to the output matrix everywhere.
SHAPES = {
    "toy": Shape(32, 2, 2, 64, 512),
    "5m": Shape(256, 4, 4, 704, 8192),
    "30m": Shape(512, 8, 8, 1344, 8192),
    "125m": Shape(768, 12, 12, 2048, 50_304),
}


def build(name: str, family: str, shape: Shape, max_length: int) -> nn.Module:
    """The model of `"ours"` or `"peer"`, in training mode, without dropout.

    Each side keeps the habits of its own family (norms, activations, kind of positions); only the shape is made equal.
    """
    makers = {"decoder": _decoder, "encoder": _encoder, "encoder-decoder": _encoder_decoder}
    return makers[family](name, shape, max_length).train()


def _decoder(name: str, shape: Shape, max_length: int) -> nn.Module:
    common = _common(shape) | {"max_position_embeddings": max_length, "use_cache": False}
    if name == "ours":
        return trivium.TriviumDecoderForCausalLM(trivium.TriviumDecoderConfig(**common))
    return LlamaForCausalLM(LlamaConfig(**common))


def _encoder(name: str, shape: Shape, max_length: int) -> nn.Module:
    common = _common(shape) | {"max_position_embeddings": max_length}
    if name == "ours":
        return trivium.TriviumEncoderForMaskedLM(trivium.TriviumEncoderConfig(**common))
    special = {"bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
    return ModernBertForMaskedLM(ModernBertConfig(**common, **special))


def _encoder_decoder(name: str, shape: Shape, max_length: int) -> nn.Module:
    depth = shape.layers // 2
    common = {"vocab_size": shape.vocabulary, "pad_token_id": 0, "decoder_start_token_id": 0, "use_cache": False}
    if name == "ours":
        stack = _common(shape) | {"num_hidden_layers": depth, "max_position_embeddings": max_length}
        config = trivium.TriviumEncoderDecoderConfig(**(stack | common))
        return trivium.TriviumEncoderDecoderForConditionalGeneration(config)
    config = T5Config(
        **common,
        d_model=shape.hidden,
        d_kv=shape.hidden // shape.heads,
        d_ff=shape.inner,
        num_heads=shape.heads,
        num_layers=depth,
        num_decoder_layers=depth,
        feed_forward_proj="gated-gelu",  # T5 1.1, the form that is pretrained today
        dropout_rate=0.0,
    )
    return T5ForConditionalGeneration(config)


def _common(shape: Shape) -> dict:
    return {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
    }
