"""What is saved comes back bit for bit, and what is not saved is filled."""

import json

import pytest
import torch
import transformers
from transformers import AutoConfig

from tests.families import HEADS, LM_HEADS, case_name, draw_texts, main_outputs, make_config, make_model, padded
from trivium import modeling
from trivium.configuration import InputError, TriviumDecoderConfig

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
TYINGS = {
    "tied": {},
    "untied": dict(tie_word_embeddings=False),
    "own embeddings": dict(share_embeddings=False),
    "all apart": dict(share_embeddings=False, tie_word_embeddings=False),
}
TYING_CASES = [
    (head, tying)
    for head in HEADS
    for tying, fields in TYINGS.items()
    if "share_embeddings" not in fields or head.family == "encoder_decoder"
]
STAMPS = "_name_or_path architectures auto_map dtype torch_version transformers_version trivium_version".split()
SAVED_CASES = [(*case, "bert", torch.float32) for case in TYING_CASES]
SAVED_CASES += [(head, "tied", "plain", dtype) for head in HEADS for dtype in DTYPES[1:]]


def same_tensors(first, second) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) and one[k].dtype == two[k].dtype for k in one)


def batch_for(head, model) -> dict:
    batch = padded(draw_texts(head, model.config))
    return {k: v.unflatten(0, (2, 2)) for k, v in batch.items()} if head.task == "choice" else batch


@torch.no_grad()
@pytest.mark.parametrize(("head", "tying", "variant", "dtype"), SAVED_CASES, ids=case_name)
def test_a_checkpoint_comes_back_bit_for_bit(head, tying, variant, dtype, tmp_path):
    model = make_model(head, variant, dtype, **TYINGS[tying])
    model.save_pretrained(tmp_path)
    loaded, info = head.model.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"))
    assert same_tensors(model, loaded)
    assert saved_fields(loaded.config) == saved_fields(model.config)
    batch = batch_for(head, model)
    for first, second in zip(main_outputs(model(**batch)), main_outputs(loaded(**batch)), strict=True):
        assert torch.equal(first, second)


def saved_fields(config) -> dict:
    """The fields without what a checkpoint adds to them."""
    fields = config.to_dict()
    for side in (fields, fields.get("encoder", {}), fields.get("decoder", {})):
        for name in STAMPS:
            side.pop(name, None)
    return fields


@pytest.mark.parametrize(("head", "tying"), TYING_CASES, ids=case_name)
def test_tied_weights_are_one_tensor(head, tying, tmp_path):
    """As the configuration says, before and after a checkpoint, and stored once."""
    model = make_model(head, **TYINGS[tying])
    model.save_pretrained(tmp_path)
    for candidate in (model, head.model.from_pretrained(tmp_path)):
        ends = [candidate.get_input_embeddings().weight]
        if head.family == "encoder_decoder" and head.has_base:
            shared = candidate.get_decoder().embed_tokens.weight is ends[0]
            assert shared is candidate.config.share_embeddings
            ends.append(candidate.get_decoder().embed_tokens.weight)
        if head.task in ("lm", "pretraining"):
            tied = candidate.get_output_embeddings().weight is ends[-1]
            assert tied is candidate.config.tie_word_embeddings


@torch.no_grad()
@pytest.mark.parametrize("head", HEADS, ids=str)
def test_a_state_dict_goes_into_a_fresh_model(head):
    model, fresh = make_model(head, seed=0), make_model(head, seed=1)
    assert not same_tensors(model, fresh)
    result = fresh.load_state_dict(model.state_dict())
    assert not result.missing_keys and not result.unexpected_keys
    assert same_tensors(model, fresh)
    batch = batch_for(head, model)
    assert torch.equal(main_outputs(model(**batch))[0], main_outputs(fresh(**batch))[0])


ROPES = {
    "default": {},
    "partial": dict(partial_rotary_factor=0.5),
    "linear": dict(factor=2.0),
    "dynamic": dict(factor=2.0),
    "yarn": dict(factor=4.0, original_max_position_embeddings=16),
    "llama3": dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16),
    "longrope": dict(short_factor=[1.0] * 4, long_factor=[2.0] * 4, factor=4.0, original_max_position_embeddings=16),
    "per type": None,
}


def rope_fields(name: str) -> dict:
    if name == "per type":
        default, linear = (
            dict(rope_type="default", rope_theta=50.0),
            dict(rope_type="linear", factor=3.0, rope_theta=9.0),
        )
        parameters = dict(full_attention=default, sliding_attention=linear)
        return dict(rope_parameters=parameters, layer_types=["full_attention", "sliding_attention"], sliding_window=4)
    kind = "default" if name == "partial" else name
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=100.0) | ROPES[name])


@torch.no_grad()
@pytest.mark.parametrize(("rope", "dtype"), [(rope, DTYPES[i % 3]) for i, rope in enumerate(ROPES)])
@pytest.mark.parametrize("head", LM_HEADS, ids=str)
def test_no_buffer_is_left_unfilled(head, rope, dtype, tmp_path):
    """Buffers are not in the checkpoint, and loading builds the model without memory."""
    model = make_model(head, dtype=dtype, **rope_fields(rope))
    made = dict(head.model(model.config).named_buffers())
    assert made and all(torch.isfinite(buffer).all() for buffer in made.values())
    model.save_pretrained(tmp_path)
    for options in ({}, {"device_map": "cpu"}, {"device_map": "auto"}, {"dtype": torch.float32}):
        loaded = head.model.from_pretrained(tmp_path, **options)
        buffers = dict(loaded.named_buffers())
        assert buffers.keys() == made.keys()
        assert all(torch.equal(buffers[name], made[name]) for name in made), options
        assert not any(tensor.is_meta for tensor in (*loaded.parameters(), *buffers.values()))


BASES = {head.family: head for head in HEADS if head.task == "base"}


@torch.no_grad()
@pytest.mark.parametrize("head", [head for head in HEADS if head.task != "base"], ids=str)
def test_heads_grow_on_a_base_model_and_on_another_head(head, tmp_path):
    """What the checkpoint has is taken; what it lacks is initialised, not left as it lay in memory."""
    base = make_model(BASES[head.family], "plain", tie_word_embeddings=False)
    base.save_pretrained(tmp_path / "base")
    other = next(h for h in HEADS if h.family == head.family and h.task not in ("base", head.task))
    grown = make_model(other, "plain", tie_word_embeddings=False)
    grown.save_pretrained(tmp_path / "other")
    for path, source in (("base", base), ("other", grown.base_model)):
        loaded, info = head.model.from_pretrained(tmp_path / path, output_loading_info=True)
        if head.has_base:
            assert same_tensors(loaded.base_model, source)
        else:
            assert same_tensors(loaded.get_encoder(), source.encoder)
        assert not any("decoder" in name for name in info["unexpected_keys"])  # not even where there is none
        new = {name for name, _ in loaded.named_parameters() if not name.startswith("model.")}
        assert set(info["missing_keys"]) == new - set(grown.state_dict() if path == "other" else ())
        for name in info["missing_keys"]:
            tensor = loaded.get_parameter(name)
            assert torch.isfinite(tensor).all()
            if name.endswith("bias"):
                assert not tensor.any()
            else:
                assert 0.005 < tensor.std() < 0.04, name
    backbone = type(base).from_pretrained(tmp_path / "other")
    assert same_tensors(backbone, grown.base_model)


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_auto_classes_build_and_load(head, tmp_path):
    model = make_model(head)
    model.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is type(model.config)
    names = [name for name, models in modeling.AUTO_CLASSES.items() if head.model in models]
    assert names
    for name in names:
        assert type(getattr(transformers, name).from_pretrained(tmp_path)) is head.model
        assert type(getattr(transformers, name).from_config(model.config)) is head.model


@torch.no_grad()
@pytest.mark.parametrize("head", LM_HEADS, ids=str)
def test_large_checkpoints_in_shards(head, tmp_path):
    model = make_model(head)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert same_tensors(head.model.from_pretrained(tmp_path), model)


def test_a_checkpoint_says_what_it_is(tmp_path):
    model = modeling.TriviumDecoderForCausalLM(make_config("decoder"))
    model.save_pretrained(tmp_path)
    config = TriviumDecoderConfig.from_pretrained(tmp_path)
    assert config.architectures == ["TriviumDecoderForCausalLM"] and config.model_type == "trivium_decoder"


@pytest.mark.parametrize("how", ["folder", "sharded", "file", "asked for"])
@pytest.mark.parametrize("head", LM_HEADS, ids=str)
def test_pickles_are_refused_in_one_sentence(head, how, tmp_path):
    model = make_model(head)
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "aside")
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    place, options = tmp_path, {}
    if how == "sharded":
        index = {"metadata": {}, "weight_map": dict.fromkeys(model.state_dict(), "pytorch_model.bin")}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    if how == "file":
        place, options = tmp_path / "pytorch_model.bin", {"config": model.config}
    if how == "asked for":
        (tmp_path / "aside").rename(tmp_path / "model.safetensors")
        options = {"use_safetensors": False}
    with pytest.raises(InputError, match=r"has no weights in safetensors, and pickled ones are not read.*again with"):
        head.model.from_pretrained(place, **options)
