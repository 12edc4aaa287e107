"""The named architectures: as many parameters as published and as the reference has, and changes stay consistent."""

import pytest
import torch
import transformers

from trivium import InputError, architecture, modeling
from trivium.configuration import encoder_decoder_pages, encoder_pages
from trivium.configuration.architectures import ARCHITECTURES, PAGES, describe
from trivium.modeling.conversion.fields import write_config
from trivium.modeling.conversion.origins import ORIGINS, class_for

CLASSES = {
    "encoder": (modeling.TriviumEncoderModel, modeling.TriviumEncoderForMaskedLM),
    "decoder": (modeling.TriviumDecoderModel, modeling.TriviumDecoderForCausalLM),
    "encoder-decoder": (
        modeling.TriviumEncoderDecoderModel,
        modeling.TriviumEncoderDecoderForConditionalGeneration,
    ),
}
UNITS = {"M": 10**6, "B": 10**9}


def on_meta(cls, config):
    with torch.device("meta"):
        return cls(config)


def parameters(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def counted_class(found) -> type:
    return CLASSES[found.page.family][found.page.counted != "stack"]


def rounds_to(number: int, published: str) -> bool:
    """Whether a number is what was published, to as many digits as were."""
    if "+" in published:  # the nominal sizes of two sides
        return False
    unit = UNITS.get(published[-1], 1)
    digits = published.rstrip("".join(UNITS)).replace(",", "")
    if unit == 1:
        return number == int(digits)
    decimals = len(digits.partition(".")[2])
    trailing = len(digits) - len(digits.rstrip("0")) if not decimals else 0
    step = 10.0**-decimals * 10**trailing  # zeros at the end of 110M are no digits, but 13.0B has three
    return abs(number / unit - float(digits)) <= step / 2


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_has_as_many_parameters_as_published(name):
    found = ARCHITECTURES[name]
    count = parameters(on_meta(counted_class(found), architecture(name)))
    assert count == found.size.parameters
    assert rounds_to(count, found.size.published) != bool(found.size.remark), "a remark says why it does not, if not"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_reference_counts_the_same_at_full_size(name):
    found = ARCHITECTURES[name]
    origin = ORIGINS[found.page.model_type]
    config = architecture(name, **origin.changes)
    reference = on_meta(getattr(transformers, class_for(origin, counted_class(found))), write_config(origin, config))
    count = parameters(reference)
    if found.page is encoder_decoder_pages.T5_V1_1:  # tied until a checkpoint says otherwise
        count += reference.lm_head.weight.numel()
    if found.page is encoder_decoder_pages.MARIAN:  # a buffer there
        count += reference.final_logits_bias.numel()
    assert count == parameters(on_meta(counted_class(found), config))


def test_every_page_says_where_it_comes_from():
    for page in PAGES:
        assert page.url.startswith("https://") and page.source.startswith("https://")
        assert page.paper and page.particular and page.reference and 2017 <= page.year <= 2025
        assert len(page.particular) < 120
    assert len(ARCHITECTURES) == sum(len(page.sizes) for page in PAGES)


def test_what_follows_from_changes_follows():
    config = architecture("gemma2-2b", num_hidden_layers=3, hidden_size=64)
    assert config.layer_types == ["sliding_attention", "full_attention", "sliding_attention"]
    assert config.embedding_scale == 8.0
    config = architecture("t5-small", hidden_size=64, encoder=dict(num_hidden_layers=1))
    assert config.decoder.logit_scale == 0.125
    assert (config.encoder.num_hidden_layers, config.decoder.num_hidden_layers) == (1, 6)
    assert architecture("t5gemma-9b-2b").encoder.embedding_scale == 3584**0.5


def test_a_smaller_vocabulary_leaves_out_the_tokens_beyond_it():
    config = architecture("gpt2", vocab_size=100)
    assert (config.bos_token_id, config.eos_token_id) == (None, None)
    assert architecture("gpt2", vocab_size=100, eos_token_id=3).eos_token_id == 3
    assert architecture("bert-base", vocab_size=102).pad_token_id == 0


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("bert", {}, ("bert-base", "bert-large")),
        ("zzz", {}, ("trivium architectures",)),
        ("gpt2", {"hidden_sise": 3}, ("hidden_size",)),
        ("gpt2", {"hidden_size": 25}, ("num_attention_heads",)),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(name, changes, words):
    with pytest.raises(InputError) as error:
        architecture(name, **changes)
    assert all(word in str(error.value) for word in words)


def test_a_description_rebuilds_the_configuration():
    for name in ("bert-base", "gemma2-2b", "llama3.1-8b", "modernbert-base"):
        config = architecture(name)
        assert type(config)(**describe(config)).to_dict() == config.to_dict()


def test_pages_are_not_changed_by_use():
    before = repr(encoder_pages.BERT.fields)
    architecture("bert-base", hidden_size=24, num_attention_heads=4)
    assert repr(encoder_pages.BERT.fields) == before
