"""Configurations: what can be built is built, what cannot is refused in one sentence, and JSON changes nothing."""

import json
import re

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from tests.configuration.strategies import FAMILIES, VOCAB, invalid_fields, valid_fields
from tests.families import BASE_HEADS, CONFIGS, LM_HEADS, VARIANTS, make_config
from trivium.configuration import InputError, TriviumDecoderConfig, TriviumEncoderConfig, TriviumEncoderDecoderConfig

LM = {head.family: head for head in LM_HEADS}
FEW = settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("family", FAMILIES)
def test_random_valid_configurations_build_and_run(family):
    @FEW
    @given(fields=valid_fields(family))
    def check(fields):
        config = CONFIGS[family](**fields)
        assert CONFIGS[family].from_dict(json.loads(config.to_json_string())).to_dict() == config.to_dict()
        model = LM[family].model(config)
        batch = {
            "input_ids": torch.randint(0, VOCAB, (2, 5)),
            "attention_mask": torch.tensor([[1] * 5, [1, 1, 1, 0, 0]]),
        }
        if family == "encoder_decoder":
            batch["decoder_input_ids"] = torch.randint(0, VOCAB, (2, 4))
        output = model.eval()(**batch, labels=batch.get("decoder_input_ids", batch["input_ids"]))
        assert output.logits.shape == (2, 4 if family == "encoder_decoder" else 5, VOCAB)
        assert torch.isfinite(output.logits).all() and torch.isfinite(output.loss)

    check()


def is_one_sentence(message: str) -> bool:
    """A line that ends in a full stop and shows no trace of how it came about."""
    return message.endswith(".") and not message.endswith("..") and "\n" not in message and "Error" not in message


@pytest.mark.parametrize("family", FAMILIES)
def test_random_invalid_configurations_are_refused(family):
    @FEW
    @given(spoilt=invalid_fields(family))
    def check(spoilt):
        name, fields = spoilt
        with pytest.raises(InputError) as refusal:
            CONFIGS[family](**fields)
        message = str(refusal.value)
        assert is_one_sentence(message), message
        assert re.match(r"(Trivium\w+Config: |position_encoding=|attn_implementation=)", message), message
        assert name in message, (name, message)

    check()


FIELDS = [(family, name) for family, config in CONFIGS.items() for name in sorted(config.known_arguments())]


@pytest.mark.parametrize(("family", "name"), FIELDS)
def test_a_misspelt_field_gets_the_right_suggestion(family, name):
    middle = len(name) // 2
    slips = [name + "s", name[:middle] + name[middle + 1 :], name[:middle] + name[middle] + name[middle:]]
    slips.append(name[: middle - 1] + name[middle] + name[middle - 1] + name[middle + 1 :])
    for slip in slips:
        if slip in CONFIGS[family].known_arguments() or slip.startswith("_"):
            continue
        with pytest.raises(InputError) as refusal:
            CONFIGS[family](**{slip: 1})
        assert f"no field `{slip}`: did you mean `{name}`?" in str(refusal.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_field_that_resembles_none_is_refused(family):
    with pytest.raises(InputError, match=r"has no field `zebra`: the fields are listed by"):
        CONFIGS[family](zebra=1)


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_a_misspelt_field_inside_a_side(side):
    with pytest.raises(InputError, match="did you mean `hidden_size`"):
        TriviumEncoderDecoderConfig(**{side: {"hiden_size": 16}})


REFUSED = {
    "heads that do not divide": (
        dict(hidden_size=30, num_attention_heads=4),
        "not a multiple of `num_attention_heads`",
    ),
    "groups that do not divide": (dict(num_key_value_heads=3), r"take one of \[1, 2, 4, 8\]"),
    "sliding layers without a window": (
        dict(num_hidden_layers=1, layer_types=["sliding_attention"]),
        "give the window in tokens",
    ),
    "relative positions with flash attention": (
        dict(position_encoding="relative", attn_implementation="flash_attention_2"),
        "use 'sdpa' or 'eager'",
    ),
    "linear biases with flex attention": (
        dict(position_encoding="alibi", attn_implementation="flex_attention"),
        "use 'sdpa' or 'eager'",
    ),
    "odd rotations": (dict(head_dim=7), "must be even"),
    "a norm without a bias": (dict(norm_bias=True), "norm='layernorm'"),
    "an activation that is none": (dict(hidden_act="gelo"), "did you mean 'gelu'"),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", REFUSED)
def test_impossible_combinations_say_what_would_be_right(case, family):
    fields, words = REFUSED[case]
    with pytest.raises(InputError, match=words) as refusal:
        CONFIGS[family](**fields)
    assert is_one_sentence(str(refusal.value))


ROTATIONS = {
    "have the unknown rope_type 'yarm': did you mean 'yarn'": dict(rope_type="yarm", factor=2.0),
    "have no 'rope_tetha': did you mean 'rope_theta'": dict(rope_tetha=10.0),
    "need a positive number as 'factor', not 'two'": dict(rope_type="linear", factor="two"),
    "'factor' must be at least 1": dict(rope_type="dynamic", factor=0.5),
    "need a positive number as 'rope_theta'": dict(rope_theta=-1.0),
    "Missing required keys .*factor": dict(rope_type="yarn"),
    "need a list of 32 positive numbers as 'long_factor'": dict(
        rope_type="longrope", short_factor=[1.0] * 32, long_factor=[1.0]
    ),
    "'partial_rotary_factor' must be at most 1": dict(partial_rotary_factor=1.5),
    "are given per layer type but not for 'full_attention'": dict(sliding_attention=dict(rope_theta=10.0)),
    "of 'full_attention' must be a dictionary, not 3": dict(full_attention=3),
    "of 'full_attention' have the unknown rope_type": dict(full_attention=dict(rope_type="spiral")),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("words", ROTATIONS)
def test_rotations_that_cannot_be_computed(words, family):
    """Of a type that it does not know transformers would only warn, and compute plain RoPE."""
    with pytest.raises(InputError, match=words) as refusal:
        CONFIGS[family](rope_parameters=ROTATIONS[words])
    assert is_one_sentence(str(refusal.value)) and "`rope_parameters`" in str(refusal.value)


@pytest.mark.parametrize("implementation", ["flash_attention_2", "flex_attention"])
@pytest.mark.parametrize("head", LM_HEADS, ids=str)
def test_a_backend_that_cannot_is_refused_by_the_model_too(head, implementation):
    config = make_config(head.family, "relative")
    with pytest.raises(InputError, match="use 'sdpa' or 'eager'"):
        head.model._from_config(config, attn_implementation=implementation)
    with pytest.raises(InputError, match="use 'sdpa' or 'eager'"):
        head.model(config).set_attn_implementation(implementation)


@pytest.mark.parametrize("cls", [TriviumDecoderConfig, TriviumEncoderDecoderConfig])
@pytest.mark.parametrize("name", ["rope_theta", "partial_rotary_factor"])
@pytest.mark.parametrize("kinds", [False, True])
def test_what_is_said_of_rotary_positions_twice_is_one_thing(cls, name, kinds):
    """Else the second, an override for instance, would have no effect."""
    parameters = dict(rope_theta=5.0, partial_rotary_factor=0.5)
    given = {kind: dict(parameters) for kind in ("full_attention", "sliding_attention")} if kinds else parameters
    cls(rope_parameters=given, **{name: parameters[name]})
    with pytest.raises(
        InputError, match=f"`{name}` is 1.0, but `rope_parameters` has it as {parameters[name]}"
    ) as told:
        cls(rope_parameters=given, **{name: 1.0})
    assert is_one_sentence(str(told.value))


@pytest.mark.parametrize("given", [dict(rope_theta=777.0), dict(rope_parameters=dict(rope_theta=777.0))], ids=str)
def test_the_base_of_rotary_positions_goes_to_both_sides(given, tmp_path):
    config = TriviumEncoderDecoderConfig(**given)
    config.save_pretrained(tmp_path)
    for one in (config, TriviumEncoderDecoderConfig.from_pretrained(tmp_path)):
        assert one.encoder.rope_parameters["rope_theta"] == one.decoder.rope_parameters["rope_theta"] == 777.0
    with pytest.raises(InputError, match="`rope_theta` needs position_encoding='rope'"):
        TriviumEncoderDecoderConfig(rope_theta=777.0, position_encoding="none")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (dict(encoder=dict(hidden_size=64)), "shared embeddings need one `hidden_size`"),
        (dict(encoder=dict(vocab_size=64)), "shared embeddings need one `vocab_size`"),
        (dict(decoder=dict(add_cross_attention=False)), "add_cross_attention=True"),
        (dict(decoder=dict(cross_attention_hidden_size=7)), "leave `cross_attention_hidden_size` out"),
        (dict(pad_token_id=None, decoder=dict(pad_token_id=None)), "decoder_start_token_id"),
        (dict(decoder_start_token_id=10**6), "must be a token of the decoder's vocabulary"),
        (dict(hidden_size=64, encoder=TriviumEncoderConfig(hidden_size=32)), "set it in one place"),
    ],
)
def test_two_sides_that_do_not_fit(fields, words):
    with pytest.raises(InputError, match=words) as refusal:
        TriviumEncoderDecoderConfig(**fields)
    assert is_one_sentence(str(refusal.value))


@torch.no_grad()
@pytest.mark.parametrize("head", BASE_HEADS, ids=str)
def test_a_sequence_longer_than_learned_positions(head):
    model = head.model(make_config(head.family, "learned", max_position_embeddings=8)).eval()
    ids = torch.ones(1, 9, dtype=torch.long)
    batch = {"input_ids": ids, "decoder_input_ids": ids} if head.family == "encoder_decoder" else {"input_ids": ids}
    with pytest.raises(InputError, match="9 tokens is longer than the 8 learned positions") as refusal:
        model(**batch)
    assert is_one_sentence(str(refusal.value))
    # A flattened batch may be longer, as long as its documents are not.
    positions = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 3]])
    batch["position_ids"] = positions
    if head.family == "encoder_decoder":
        batch["decoder_position_ids"] = positions
    model(**batch)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_json_changes_nothing(family, variant, tmp_path):
    config = make_config(family, variant, num_labels=3, id2label={0: "a", 1: "b", 2: "c"})
    config.save_pretrained(tmp_path)
    loaded = type(config).from_pretrained(tmp_path)
    again = type(config).from_dict(config.to_dict())
    for other in (loaded, again):
        fields = other.to_dict()
        assert {k: v for k, v in fields.items() if k != "_name_or_path"} == {
            k: v for k, v in config.to_dict().items() if k != "_name_or_path"
        }
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["model_type"] == f"trivium_{family}"
    assert not any(key.startswith("_") for key in saved if key != "_name_or_path")
    if family == "encoder_decoder":
        assert isinstance(loaded.encoder, TriviumEncoderConfig) and isinstance(loaded.decoder, TriviumDecoderConfig)
        assert loaded.decoder.add_cross_attention


def test_a_field_given_once_goes_to_both_sides():
    config = TriviumEncoderDecoderConfig(hidden_size=64, num_attention_heads=4, decoder=dict(num_hidden_layers=2))
    assert config.encoder.hidden_size == config.decoder.hidden_size == config.hidden_size == 64
    assert (config.encoder.num_hidden_layers, config.decoder.num_hidden_layers) == (8, 2)
    config.vocab_size = 99
    assert config.encoder.vocab_size == config.decoder.vocab_size == 99
