"""Ours as theirs: what comes is the same model, and where there is none, what would be lost is said."""

import pytest
import torch
import transformers

from tests.families import HEADS, TINY, VARIANTS, make_model
from tests.references import REFERENCES, randomize
from trivium import (
    InputError,
    TriviumDecoderConfig,
    TriviumDecoderForCausalLM,
    TriviumEncoderConfig,
    TriviumEncoderForMaskedLM,
    TriviumEncoderForSequenceClassification,
    architecture,
    from_transformers,
    to_transformers,
)
from trivium.configuration.architectures import PAGES
from trivium.modeling import AUTO_CLASSES
from trivium.modeling.conversion import largest_difference

LANGUAGE_MODELS = {
    "encoder": "AutoModelForMaskedLM",
    "decoder": "AutoModelForCausalLM",
    "encoder-decoder": "AutoModelForSeq2SeqLM",
}


def drawn(model_class, config):
    torch.manual_seed(0)
    model = model_class(config).eval()
    randomize(model)
    return model


@pytest.mark.parametrize("page", PAGES, ids=lambda page: next(iter(page.sizes)))
def test_each_architecture_becomes_its_reference(page):
    """Made here, by name, not converted from there: GPT-3 alone has nothing that computes it in transformers."""
    small = TINY | dict(intermediate_size=128, num_key_value_heads=4)
    small |= dict(decoder_start_token_id=0) if page.family == "encoder-decoder" else {}
    config = architecture(next(iter(page.sizes)), **small)
    classes = AUTO_CLASSES[LANGUAGE_MODELS[page.family]]
    ours = drawn(next(cls for cls in classes if cls.config_class is type(config)), config)
    try:
        theirs = to_transformers(ours)
    except InputError as refused:
        assert "as gpt_neo it would lose attention_bias=True, attention_scaling=" in str(refused)
        assert next(iter(page.sizes)).startswith("gpt3")
        return
    assert largest_difference(theirs, ours) < 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("head", [head for head in HEADS if head.task in ("lm", "sequence")], ids=str)
def test_what_comes_computes_the_same(head, variant):
    """Of every choice in the configuration: either transformers has it, or the sentence names what it has not."""
    ours = make_model(head, variant)
    try:
        theirs = to_transformers(ours)
    except InputError as refused:
        assert "transformers has no model that computes this one: " in str(refused)
        return
    assert largest_difference(theirs, ours) < 1e-4


DECODERS = [
    ({}, "Qwen3ForCausalLM"),
    (dict(sliding_window=3, layer_types=["full_attention", "sliding_attention"]), "Qwen3ForCausalLM"),
    (dict(qk_norm=False), "LlamaForCausalLM"),
    (dict(qk_norm=False, tie_word_embeddings=False, num_key_value_heads=2), "LlamaForCausalLM"),
    (dict(qk_norm=False, sliding_window=3), "MistralForCausalLM"),
]


@pytest.mark.parametrize(("fields", "name"), DECODERS, ids=[f"{name}-{len(fields)}" for fields, name in DECODERS])
def test_our_decoder_is_one_that_others_know(fields, name, tmp_path):
    ours = drawn(TriviumDecoderForCausalLM, TriviumDecoderConfig(**TINY | fields))
    theirs = to_transformers(ours)
    assert type(theirs).__name__ == name
    assert torch.equal(theirs.generate(torch.tensor([[5, 6]])), ours.generate(torch.tensor([[5, 6]])))
    theirs.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded) is type(theirs)
    assert largest_difference(loaded, ours) < 1e-5


def test_the_architecture_can_be_chosen():
    ours = drawn(TriviumDecoderForCausalLM, TriviumDecoderConfig(**TINY, qk_norm=False))
    for model_type in ("llama", "mistral"):
        assert to_transformers(ours, model_type).config.model_type == model_type
    for model_type, sentence in (
        ("qwen3", "transformers has no qwen3 that computes this one: as qwen3 it would lose qk_norm=False."),
        ("t5", "transformers has no t5 that computes this one: it has nothing like a TriviumDecoderForCausalLM."),
        ("lama", "'lama' is no architecture of transformers that can be converted: did you mean llama."),
    ):
        with pytest.raises(InputError) as refused:
            to_transformers(ours, model_type)
        assert str(refused.value) == sentence


def test_what_nothing_computes_is_refused_with_what_would_be_lost():
    ours = TriviumEncoderForMaskedLM(TriviumEncoderConfig(**TINY))
    with pytest.raises(InputError, match=r"transformers has no model that computes this one: .* would lose .*qk_norm"):
        to_transformers(ours)


@pytest.mark.parametrize(
    ("fields", "lost"),
    [
        (dict(final_logit_softcapping=3.0), "final_logit_softcapping=3.0"),
        (dict(logit_scale=0.5), "logit_scale=0.5"),
        (dict(attention_bias=True), "attention_output_bias=False"),
        (dict(embedding_scale=2.0), "embedding_scale=2.0"),
        (dict(position_encoding="alibi"), "position_encoding='alibi'"),
        (
            dict(rope_parameters=dict(rope_type="default", rope_theta=10.0, partial_rotary_factor=0.5)),
            "`partial_rotary_factor`",
        ),
        (
            dict(
                rope_parameters=dict(
                    full_attention=dict(rope_type="default", rope_theta=10.0),
                    sliding_attention=dict(rope_type="default", rope_theta=10.0),
                )
            ),
            "`rope_parameters` for each type of layer",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_field_that_would_be_lost_is_named(fields, lost):
    ours = TriviumDecoderForCausalLM(TriviumDecoderConfig(**TINY | fields))
    with pytest.raises(InputError) as refused:
        to_transformers(ours, "qwen3")
    assert lost in str(refused.value)


def test_a_pooling_that_theirs_does_not_have_would_be_lost():
    theirs = REFERENCES["distilbert"].model("DistilBertForSequenceClassification")
    ours = from_transformers(theirs)
    ours.config.classifier_pooling = "mean"
    with pytest.raises(InputError, match="as distilbert it would lose classifier_pooling='mean'"):
        to_transformers(ours)


def test_what_was_changed_after_conversion_is_written():
    ours = from_transformers(REFERENCES["bert"].model("BertForSequenceClassification"))
    assert isinstance(ours, TriviumEncoderForSequenceClassification)
    with torch.no_grad():
        ours.score.bias.fill_(3.0)
    theirs = to_transformers(ours)
    assert theirs.classifier.bias.tolist() == [3.0] * ours.config.num_labels


def test_generation_defaults_come_along(tmp_path):
    theirs = REFERENCES["bart"].model("BartForConditionalGeneration")
    wanted = dict(num_beams=3, temperature=0.7, do_sample=True, forced_bos_token_id=5, max_new_tokens=9)
    theirs.generation_config.update(**wanted, suppress_tokens=[7])
    theirs.save_pretrained(tmp_path / "theirs")
    ours = from_transformers(theirs)
    assert ours.generation_config.to_dict() == theirs.generation_config.to_dict()
    assert ours.generation_config is not theirs.generation_config
    from_transformers(tmp_path / "theirs").save_pretrained(tmp_path / "ours")
    ours = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "ours")
    back = to_transformers(ours)
    ids = torch.tensor([[5, 6, 7, 2]])
    written = []
    for model in (theirs, ours, back):
        assert {name: getattr(model.generation_config, name) for name in wanted} == wanted
        assert model.generation_config.suppress_tokens == [7]
        torch.manual_seed(0)
        written.append(model.generate(ids).tolist())
    assert written[0] == written[1] == written[2]
    assert written[0][0][1] == 5 and 7 not in written[0][0]
