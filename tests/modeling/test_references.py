"""The block is the published ones: with the weights of a reference of transformers it computes the same numbers."""

import pytest
import torch
import transformers

from tests.families import distance
from trivium import modeling
from trivium.configuration import TriviumDecoderConfig, TriviumEncoderConfig, TriviumEncoderDecoderConfig

SIZES = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=4, vocab_size=64, max_position_embeddings=32)
INNER = dict(intermediate_size=40)


def rename(state: dict, names: dict[str, str]) -> dict:
    """Renames by substrings, in order; what becomes empty is dropped."""
    renamed = {}
    for key, tensor in state.items():
        for old, new in names.items():
            key = key.replace(old, new)
        if "DROP" not in key:
            renamed[key] = tensor
    return renamed


LLAMA_NAMES = {
    "input_layernorm": "self_attn_residual.before",
    "post_attention_layernorm": "mlp_residual.before",
}


def llama():
    sizes = SIZES | INNER | dict(num_key_value_heads=2, attention_bias=True, tie_word_embeddings=False)
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, rope_theta=500.0))
    config = TriviumDecoderConfig(**sizes, attention_output_bias=True, qk_norm=False, rope_theta=500.0, head_dim=6)
    return theirs, modeling.TriviumDecoderForCausalLM(config), LLAMA_NAMES


def qwen3():
    sizes = SIZES | INNER | dict(num_key_value_heads=2, head_dim=8, tie_word_embeddings=True)
    theirs = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**sizes))
    return theirs, modeling.TriviumDecoderForCausalLM(TriviumDecoderConfig(**sizes)), LLAMA_NAMES


def mistral():
    sizes = SIZES | INNER | dict(num_key_value_heads=1, sliding_window=3)
    theirs = transformers.MistralForCausalLM(transformers.MistralConfig(**sizes, head_dim=6, tie_word_embeddings=False))
    config = TriviumDecoderConfig(**sizes, qk_norm=False, tie_word_embeddings=False)
    return theirs, modeling.TriviumDecoderForCausalLM(config), LLAMA_NAMES


def gemma2():
    sizes = SIZES | INNER | dict(num_key_value_heads=2, head_dim=8, sliding_window=3, tie_word_embeddings=True)
    caps = dict(attn_logit_softcapping=5.0, final_logit_softcapping=4.0)
    kinds = ["sliding_attention", "full_attention"]
    theirs = transformers.Gemma2ForCausalLM(
        transformers.Gemma2Config(
            **sizes, **caps, layer_types=kinds, query_pre_attn_scalar=16, attn_implementation="eager"
        )
    )
    config = TriviumDecoderConfig(
        **sizes,
        **caps,
        layer_types=kinds,
        attention_scaling=16**-0.5,
        norm_placement="sandwich",
        norm_unit_offset=True,
        hidden_act="gelu_pytorch_tanh",
        embedding_scale=24**0.5,
        qk_norm=False,
    )
    names = {
        "input_layernorm": "self_attn_residual.before",
        "post_attention_layernorm": "self_attn_residual.after",
        "pre_feedforward_layernorm": "mlp_residual.before",
        "post_feedforward_layernorm": "mlp_residual.after",
    }
    return theirs, modeling.TriviumDecoderForCausalLM(config), names


def gpt2():
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=24, n_layer=2, n_head=4, vocab_size=64, n_positions=32)
    )
    config = TriviumDecoderConfig(
        **SIZES,
        position_encoding="learned",
        norm="layernorm",
        norm_bias=True,
        norm_eps=1e-5,
        hidden_act="gelu_new",
        gated_mlp=False,
        attention_bias=True,
        attention_output_bias=True,
        mlp_bias=True,
        qk_norm=False,
    )
    names = {
        "transformer.wte": "model.embed_tokens",
        "transformer.wpe": "model.embeddings.embed_positions",
        "transformer.h.": "model.layers.",
        "transformer.ln_f": "model.norm",
        "attn.c_proj": "self_attn.o_proj",
        ".attn.": ".self_attn.",
        "ln_1": "self_attn_residual.before",
        "ln_2": "mlp_residual.before",
        "mlp.c_fc": "mlp.up_proj",
        "mlp.c_proj": "mlp.down_proj",
    }
    return theirs, modeling.TriviumDecoderForCausalLM(config), names


def bert():
    sizes = SIZES | INNER
    theirs = transformers.BertForPreTraining(transformers.BertConfig(**sizes, hidden_act="gelu"))
    config = TriviumEncoderConfig(
        **sizes,
        position_encoding="learned",
        norm="layernorm",
        norm_bias=True,
        norm_eps=1e-12,
        norm_placement="post",
        embedding_norm=True,
        type_vocab_size=2,
        gated_mlp=False,
        attention_bias=True,
        attention_output_bias=True,
        mlp_bias=True,
        qk_norm=False,
        lm_head_transform=True,
        lm_head_bias=True,
        pooler=True,
    )
    names = {
        "cls.predictions.decoder": "lm_head",
        "cls.predictions.bias": "DROP",
        "cls.predictions.transform.LayerNorm": "transform.norm",
        "cls.predictions.transform": "transform",
        "cls.seq_relationship": "seq_relationship",
        "bert.embeddings.word_embeddings": "model.embed_tokens",
        "bert.embeddings.position_embeddings": "model.embeddings.embed_positions",
        "bert.embeddings.token_type_embeddings": "model.embeddings.embed_token_types",
        "bert.embeddings.LayerNorm": "model.embeddings.norm",
        "bert.embeddings.position_ids": "DROP",
        "bert.embeddings.token_type_ids": "DROP",
        "bert.pooler": "model.pooler",
        "bert.encoder.layer.": "model.layers.",
        "attention.self.query": "self_attn.q_proj",
        "attention.self.key": "self_attn.k_proj",
        "attention.self.value": "self_attn.v_proj",
        "attention.output.dense": "self_attn.o_proj",
        "attention.output.LayerNorm": "self_attn_residual.outer",
        "intermediate.dense": "mlp.up_proj",
        "output.dense": "mlp.down_proj",
        "output.LayerNorm": "mlp_residual.outer",
    }
    return theirs, modeling.TriviumEncoderForPreTraining(config), names


def t5(gated: bool):
    theirs = transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            d_model=24,
            d_kv=6,
            d_ff=40,
            num_layers=2,
            num_heads=4,
            vocab_size=64,
            decoder_start_token_id=0,
            relative_attention_num_buckets=8,
            relative_attention_max_distance=20,
            feed_forward_proj="gated-gelu" if gated else "relu",
        )
    )
    config = TriviumEncoderDecoderConfig(
        **SIZES | INNER,
        position_encoding="relative",
        relative_attention_num_buckets=8,
        relative_attention_max_distance=20,
        attention_scaling=1.0,
        hidden_act="gelu_new" if gated else "relu",
        gated_mlp=gated,
        qk_norm=False,
        # Tied T5 scales the states, which is a scale of the logits.
        decoder=dict(logit_scale=24**-0.5),
    )
    names = {"encoder.": "model.encoder.", "decoder.": "model.decoder.", "shared": "DROP"}
    names |= {f"block.{i}.": f"layers.{i}." for i in range(2)}
    names |= {
        "layer.0.SelfAttention.relative_attention_bias": "POSITION",
        "layers.0.POSITION": "position_bias.table",
        "layer.0.SelfAttention": "self_attn",
        "layer.1.EncDecAttention": "cross_attn",
        ".q.": ".q_proj.",
        ".k.": ".k_proj.",
        ".v.": ".v_proj.",
        ".o.": ".o_proj.",
        "DenseReluDense.wi_0": "mlp.gate_proj",
        "DenseReluDense.wi_1": "mlp.up_proj",
        "DenseReluDense.wi.": "mlp.up_proj.",
        "DenseReluDense.wo": "mlp.down_proj",
        "layer.0.layer_norm": "self_attn_residual.before",
        "layer.2.layer_norm": "mlp_residual.before",
        "final_layer_norm": "norm",
        "layer.1.mlp": "mlp",
        "layer.2.mlp": "mlp",
    }
    return theirs, modeling.TriviumEncoderDecoderForConditionalGeneration(config), names


def split_products(state: dict) -> dict:
    """GPT-2 has q, k and v in one matrix, and all matrices the other way round."""
    split = {}
    for key, tensor in state.items():
        if key.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            tensor = tensor.T
        parts = zip("qkv", tensor.chunk(3), strict=True) if "c_attn" in key else [("", tensor)]
        split |= {key.replace("c_attn", f"{part}_proj"): piece.contiguous() for part, piece in parts}
    return split


def name_second_norms(state: dict) -> dict:
    """The second sublayer of T5 is the encoder's feed-forward and the decoder's cross-attention."""
    places = {"e": "mlp_residual.before", "d": "cross_attn_residual.before"}
    return {key.replace("layer.1.layer_norm", places.get(key[0], "")): tensor for key, tensor in state.items()}


PREPARE = {"gpt2": split_products, "t5": name_second_norms, "t5-gated": name_second_norms}
REFERENCES = {
    "llama": llama,
    "qwen3": qwen3,
    "mistral": mistral,
    "gemma2": gemma2,
    "gpt2": gpt2,
    "bert": bert,
    "t5": lambda: t5(gated=False),
    "t5-gated": lambda: t5(gated=True),
}


def batch_for(name: str) -> dict:
    torch.manual_seed(1)
    mask = torch.ones(3, 11, dtype=torch.long)
    if name != "gemma2":  # theirs makes NaN of padding where it attends eagerly in float64
        mask[1, 7:] = mask[2, 4:] = 0
    batch = {"input_ids": torch.randint(3, 64, (3, 11)), "attention_mask": mask}
    if name == "bert":
        batch |= {
            "token_type_ids": torch.randint(0, 2, (3, 11)),
            "labels": torch.randint(0, 64, (3, 11)).masked_fill(mask == 0, -100),
        }
        batch |= {"next_sentence_label": torch.tensor([0, 1, 1])}
    elif name.startswith("t5"):
        batch |= {"labels": torch.randint(3, 64, (3, 9))}
    else:
        batch |= {"labels": batch["input_ids"].masked_fill(mask == 0, -100)}
    return batch


@torch.no_grad()
@pytest.mark.parametrize("name", REFERENCES)
def test_a_reference_with_our_code(name):
    torch.manual_seed(0)
    theirs, ours, names = REFERENCES[name]()
    for parameter in theirs.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    state = PREPARE.get(name, dict)(theirs.state_dict())
    result = ours.load_state_dict(rename(state, names), strict=False)
    assert not result.unexpected_keys
    assert all("lm_head" in key or "embed_tokens" in key for key in result.missing_keys)
    ours.tie_weights()
    theirs, ours = theirs.double().eval(), ours.double().eval()
    batch = batch_for(name)
    expected, found = theirs(**batch), ours(**batch)
    # In double precision; but most references take their norms, or the loss, in float32 whatever they are given.
    tolerance = 1e-9 if name in ("bert", "gpt2") else 2e-6
    outputs = ("prediction_logits", "seq_relationship_logits") if name == "bert" else ("logits",)
    real = torch.ones(3, 9, dtype=torch.bool) if name.startswith("t5") else batch["attention_mask"].bool()
    for output in outputs:
        chosen = slice(None) if output.startswith("seq") else real
        assert distance(found[output][chosen], expected[output][chosen]) < tolerance
    assert found.loss.item() == pytest.approx(expected.loss.item(), rel=2e-6)
