"""Who is compared, in one shape: our three families, the stock models that a user would take instead, plain torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)

import trivium

from .plain import Plain

OURS, PLAIN = "Trivium", "plain torch"


@dataclass(frozen=True)
class Shape:
    """What all contenders have in common; an encoder-decoder has half the layers on each side."""

    hidden: int
    layers: int
    heads: int
    inner: int
    vocabulary: int

    @property
    def ungated(self) -> int:
        """The width of a feed-forward without a gate that has as many parameters."""
        return self.inner * 3 // 2


# Named after the parameters of the decoder; the embedding is tied to the output matrix everywhere.
SHAPES = {
    "toy": Shape(32, 2, 2, 64, 512),
    "5m": Shape(256, 4, 4, 704, 8192),
    "30m": Shape(512, 8, 8, 1344, 8192),
    "125m": Shape(768, 12, 12, 2048, 50_304),
}


def build(name: str, family: str, shape: Shape, max_length: int) -> nn.Module:
    """A contender in training mode, without dropout.

    Each keeps the habits of its own family (norms, activations, kind of positions); only the shape is made equal, and
    the feed-forward of models without a gate is wider by half, so that parameters are equal too.
    """
    return CONTENDERS[family][name](shape, max_length).train()


def stock(family: str) -> list[str]:
    """The models of transformers that a family is compared with."""
    return [name for name in CONTENDERS[family] if name not in (OURS, PLAIN)]


def _trivium_decoder(shape: Shape, max_length: int) -> nn.Module:
    config = trivium.TriviumDecoderConfig(**_common(shape, max_length), use_cache=False)
    return trivium.TriviumDecoderForCausalLM(config)


def _llama(shape: Shape, max_length: int) -> nn.Module:
    return LlamaForCausalLM(LlamaConfig(**_common(shape, max_length), use_cache=False))


def _gpt2(shape: Shape, max_length: int) -> nn.Module:
    names = {"n_embd": shape.hidden, "n_layer": shape.layers, "n_head": shape.heads, "n_inner": shape.ungated}
    drops = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    size = {"vocab_size": shape.vocabulary, "n_positions": max_length, "pad_token_id": 0}
    size |= {"bos_token_id": 1, "eos_token_id": 1}
    return GPT2LMHeadModel(GPT2Config(**names, **drops, **size, use_cache=False))


def _trivium_encoder(shape: Shape, max_length: int) -> nn.Module:
    return trivium.TriviumEncoderForMaskedLM(trivium.TriviumEncoderConfig(**_common(shape, max_length)))


def _modernbert(shape: Shape, max_length: int) -> nn.Module:
    special = {"bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
    return ModernBertForMaskedLM(ModernBertConfig(**_common(shape, max_length), **special))


def _bert(shape: Shape, max_length: int) -> nn.Module:
    common = _common(shape, max_length) | {"intermediate_size": shape.ungated}
    drops = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertForMaskedLM(BertConfig(**common, **drops))


def _trivium_encoder_decoder(shape: Shape, max_length: int) -> nn.Module:
    common = _common(shape, max_length) | {"num_hidden_layers": shape.layers // 2}
    config = trivium.TriviumEncoderDecoderConfig(**common, use_cache=False, decoder_start_token_id=0)
    return trivium.TriviumEncoderDecoderForConditionalGeneration(config)


def _t5(shape: Shape, max_length: int) -> nn.Module:
    config = T5Config(
        vocab_size=shape.vocabulary,
        d_model=shape.hidden,
        d_kv=shape.hidden // shape.heads,
        d_ff=shape.inner,
        num_heads=shape.heads,
        num_layers=shape.layers // 2,
        num_decoder_layers=shape.layers // 2,
        feed_forward_proj="gated-gelu",  # T5 1.1, the form that is pretrained today
        dropout_rate=0.0,
        pad_token_id=0,
        decoder_start_token_id=0,
        use_cache=False,
    )
    return T5ForConditionalGeneration(config)


def _bart(shape: Shape, max_length: int) -> nn.Module:
    both = {"layers": shape.layers // 2, "attention_heads": shape.heads, "ffn_dim": shape.ungated}
    sides = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in both.items()}
    drops = dict.fromkeys(("dropout", "attention_dropout", "activation_dropout"), 0.0)
    size = {"vocab_size": shape.vocabulary, "d_model": shape.hidden, "max_position_embeddings": max_length}
    special = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    special |= {"forced_eos_token_id": None}
    return BartForConditionalGeneration(BartConfig(**size, **sides, **drops, **special, use_cache=False))


def _plain(family: str) -> Callable[[Shape, int], nn.Module]:
    def make(shape: Shape, max_length: int) -> nn.Module:
        return Plain(family, shape.vocabulary, shape.hidden, shape.heads, shape.inner, shape.layers, max_length)

    return make


def _common(shape: Shape, max_length: int) -> dict[str, Any]:
    return {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "max_position_embeddings": max_length,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
    }


CONTENDERS: dict[str, dict[str, Callable[[Shape, int], nn.Module]]] = {
    "decoder": {OURS: _trivium_decoder, "Llama": _llama, "GPT-2": _gpt2, PLAIN: _plain("decoder")},
    "encoder": {OURS: _trivium_encoder, "ModernBERT": _modernbert, "BERT": _bert, PLAIN: _plain("encoder")},
    "encoder-decoder": {OURS: _trivium_encoder_decoder, "T5": _t5, "BART": _bart, PLAIN: _plain("encoder-decoder")},
}
FAMILIES = tuple(CONTENDERS)
# Stock models that see where documents end in one row of several, by their positions, without flash attention.
FLATTENED = {OURS, "Llama", "GPT-2"}
