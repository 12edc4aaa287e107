"""Every decoding strategy that promises the same tokens gives them, with every cache and with none."""

import pytest
import torch
import transformers
from packaging.version import Version
from transformers import GenerationConfig

from tests.families import FAMILY_VARIANTS, LM_HEADS, VARIANTS, distance, draw_texts, make_model, padded

HEADS = {head.family: head for head in LM_HEADS if head.family != "encoder"}
CASES = [(family, variant) for family in HEADS for variant in (*VARIANTS, *FAMILY_VARIANTS[family])]
FEW = [(family, variant) for family in HEADS for variant in ("plain", "sliding", "relative")]
NEW = 10
LENGTHS = (6, 3, 5)


def prompts(head, config, lengths=LENGTHS) -> dict:
    texts = draw_texts(head, config, lengths)
    for text in texts:
        text.pop("decoder_input_ids", None)
    return padded(texts, "left", pad_token=7 if head.family == "decoder" else 0)


def write(model, batch: dict, **options) -> torch.Tensor:
    """The new tokens; a model of random weights would stop at once, so the end is not allowed."""
    torch.manual_seed(0)
    options = dict(max_new_tokens=NEW, min_new_tokens=NEW, pad_token_id=0, do_sample=False) | options
    tokens = model.generate(**batch, generation_config=GenerationConfig(eos_token_id=2, **with_start(model, options)))
    return tokens if model.config.is_encoder_decoder else tokens[:, batch["input_ids"].shape[1] :]


def with_start(model, options: dict) -> dict:
    return options | {"decoder_start_token_id": 0} if model.config.is_encoder_decoder else options


@torch.no_grad()
@pytest.mark.parametrize(("family", "variant"), CASES)
def test_greedy_is_the_argmax_of_each_text_alone(family, variant):
    """The reference knows no cache, no padding and no `generate`."""
    head = HEADS[family]
    model = make_model(head, variant, torch.float64)
    found = write(model, prompts(head, model.config))
    for row, text in zip(found, draw_texts(head, model.config, LENGTHS), strict=True):
        ids = text["input_ids"]
        said = torch.zeros(1, dtype=torch.long) if family == "encoder_decoder" else ids
        for _ in range(NEW):
            batch = (
                dict(input_ids=ids[None], decoder_input_ids=said[None])
                if family == "encoder_decoder"
                else {"input_ids": said[None]}
            )
            logits = model(**batch, use_cache=False).logits[0, -1]
            logits[2] = -torch.inf
            said = torch.cat((said, logits.argmax()[None]))
        assert row.tolist() == said[-len(row) :].tolist()


STRATEGIES = {
    "greedy": {},
    "sampling": dict(do_sample=True, temperature=1.5, top_k=0),
    "beams": dict(num_beams=3, length_penalty=1.3),
    "sampled beams": dict(num_beams=2, do_sample=True),
}


@torch.no_grad()
@pytest.mark.parametrize("cache", [None, "static"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("family", "variant"), FEW)
def test_a_cache_changes_no_strategy(family, variant, strategy, cache):
    head = HEADS[family]
    model = make_model(head, variant, torch.float64)
    batch = prompts(head, model.config)
    options = STRATEGIES[strategy]
    uncached = write(model, batch, use_cache=False, **options)
    extra = {} if cache is None else dict(cache_implementation=cache, disable_compile=True)
    assert torch.equal(write(model, batch, **options, **extra), uncached)


@torch.no_grad()
@pytest.mark.parametrize("how", ["assistant", "itself", "prompt lookup"])
@pytest.mark.parametrize(("family", "variant"), FEW)
def test_assisted_generation_is_greedy(family, variant, how):
    if variant == "sliding" and how != "prompt lookup" and Version(transformers.__version__) < Version("5.18"):
        pytest.skip("transformers 5.17 sizes the mask of a cropped sliding cache wrongly here, and torch refuses it")
    head = HEADS[family]
    model = make_model(head, variant, torch.float64)
    batch = prompts(head, model.config, lengths=(6,))
    greedy = write(model, batch, use_cache=True)
    if how == "prompt lookup":
        found = write(model, batch, prompt_lookup_num_tokens=3)
    else:
        assistant = model if how == "itself" else make_model(head, variant, torch.float64, seed=1, num_hidden_layers=2)
        torch.manual_seed(0)
        options = with_start(model, dict(max_new_tokens=NEW, min_new_tokens=NEW, pad_token_id=0, eos_token_id=2))
        found = model.generate(**batch, assistant_model=assistant, do_sample=False, **options)
        found = found if model.config.is_encoder_decoder else found[:, batch["input_ids"].shape[1] :]
    assert torch.equal(found, greedy)


@torch.no_grad()
@pytest.mark.parametrize("family", HEADS)
def test_scores_of_generation_are_the_logits_of_one_pass(family):
    head = HEADS[family]
    model = make_model(head, "sliding-relative", torch.float64)
    batch = prompts(head, model.config)
    torch.manual_seed(0)
    options = with_start(model, dict(max_new_tokens=NEW, min_new_tokens=NEW, pad_token_id=0, eos_token_id=2))
    made = model.generate(**batch, **options, return_dict_in_generate=True, output_logits=True)
    given = torch.stack(made.logits, 1)
    if family == "decoder":
        mask = torch.cat((batch["attention_mask"], torch.ones(len(LENGTHS), NEW, dtype=torch.long)), 1)
        logits = model(made.sequences, attention_mask=mask).logits[:, -NEW - 1 : -1]
    else:
        logits = model(**batch, decoder_input_ids=made.sequences).logits[:, :-1]
    assert distance(given, logits) < 1e-6  # `generate` keeps scores in float32


@torch.no_grad()
@pytest.mark.parametrize("family", HEADS)
def test_generation_from_embeddings(family):
    head = HEADS[family]
    model = make_model(head, "sinusoidal", torch.float64)
    batch = prompts(head, model.config)
    greedy = write(model, batch)
    embeds = model.get_input_embeddings()(batch.pop("input_ids"))
    torch.manual_seed(0)
    options = with_start(model, dict(max_new_tokens=NEW, min_new_tokens=NEW, pad_token_id=0, eos_token_id=2))
    assert torch.equal(model.generate(inputs_embeds=embeds, **batch, **options), greedy)
