"""The text-to-text pipelines write what `generate` writes for one text alone, and say what they cannot read."""

import copy
import logging

import pytest
import torch
import transformers
from transformers import pipeline

from tests.families import HEADS, randomize
from tests.modeling.pipelines.checkpoints import TEXTS
from trivium.modeling.pipelines.text_to_text import until_end
from trivium.tokenization.families import special_token_ids

RECIPES = {
    "summarization": {"prefix": "summarize: ", "max_length": 9, "num_beams": 2, "min_length": 5},
    "translation_en_to_de": {"prefix": "to German: ", "max_length": 7},
}
SIDES = dict(d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4)
STOCK = {
    "bart": lambda **ids: transformers.BartConfig(**SIDES, max_position_embeddings=128, **ids),
    "t5": lambda **ids: transformers.T5Config(d_model=32, d_kv=8, d_ff=48, num_layers=2, **ids),
}
MODELS = ["ours", *STOCK]
KEYS = {"text-to-text": "generated_text", "text-summarization": "summary_text", "text-translation": "translation_text"}


@pytest.fixture(scope="module")
def tokenizer(tokenizers):
    return tokenizers["encoder_decoder", "bpe"]


def make_model(name, tokenizer, **fields):
    fields |= {"vocab_size": len(tokenizer), **special_token_ids(tokenizer)}
    if name in STOCK:
        model = transformers.AutoModelForSeq2SeqLM.from_config(STOCK[name](**fields))
    else:
        (head,) = [head for head in HEADS if (head.family, head.task) == ("encoder_decoder", "lm")]
        small = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
        model = head.model(head.model.config_class(**small, **fields))
    randomize(model, seed=3)
    return model.eval()


def make_pipe(task, name, tokenizer, **fields):
    return pipeline(task, model=make_model(name, tokenizer, **fields), tokenizer=tokenizer, device="cpu")


def write(pipe, text, **arguments):
    ids = pipe.model.generate(**pipe.tokenizer(text, return_tensors="pt"), **arguments)
    return [pipe.tokenizer.decode(row, skip_special_tokens=True) for row in ids]


@pytest.mark.parametrize("how", [{}, {"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 2}], ids=str)
@pytest.mark.parametrize(("task", "name"), [*zip(KEYS, MODELS, strict=True), *zip(KEYS, MODELS[::-1], strict=True)])
def test_what_is_written_is_what_the_model_writes(task, name, how, tokenizer):
    pipe = make_pipe(task, name, tokenizer)
    expected = [[{KEYS[task]: written} for written in write(pipe, text, max_new_tokens=8, **how)] for text in TEXTS]
    for batch_size in (1, 2):
        assert pipe(TEXTS, max_new_tokens=8, batch_size=batch_size, **how) == expected
    assert pipe(TEXTS[0], max_new_tokens=8, **how) == expected[0]
    assert list(pipe((text for text in TEXTS), max_new_tokens=8, **how)) == expected
    assert pipe(tuple(TEXTS), max_new_tokens=8, **how) == expected and pipe([]) == []


@pytest.mark.parametrize("name", MODELS)
def test_beams_give_their_scores(name, tokenizer):
    pipe = make_pipe("text-to-text", name, tokenizer)
    how = {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 8}
    how |= {"return_dict_in_generate": True, "output_scores": True}
    found = pipe(TEXTS, batch_size=3, **how)
    for text, records in zip(TEXTS, found, strict=True):
        alone = pipe.model.generate(**tokenizer(text, return_tensors="pt"), **how)
        assert [record["score"] for record in records] == pytest.approx(alone.sequences_scores.tolist(), rel=1e-4)


def test_token_ids_and_special_tokens_do_not_depend_on_the_batch(tokenizer):
    pipe = make_pipe("text-to-text", "ours", tokenizer)
    left = copy.deepcopy(tokenizer)
    left.padding_side = "left"
    other = pipeline("text-to-text", model=pipe.model, tokenizer=left, device="cpu")
    for how in ({"return_tensors": True}, {"skip_special_tokens": False}):
        alone = [pipe(text, max_new_tokens=30, **how) for text in TEXTS]
        assert pipe(TEXTS, batch_size=3, max_new_tokens=30, **how) == alone
        assert other(TEXTS, batch_size=3, max_new_tokens=30, **how) == alone
    assert left.padding_side == "left"


@pytest.mark.parametrize(
    ("ids", "ends", "kept"),
    [
        ([0, 5, 1, 0, 0], 1, [5, 1]),
        ([1, 5, 6], 1, [5, 6]),
        ([1, 0, 5, 2, 1], [1, 2], [0, 5, 2]),
        ([0, 5, 0], None, [5, 0]),
    ],
)
def test_a_sequence_ends_with_its_first_end_token(ids, ends, kept):
    assert until_end(ids, ends) == kept


@pytest.mark.parametrize("name", ["ours", "t5"])
def test_the_configuration_says_how_a_task_is_done_and_the_caller_says_it_better(name, tokenizer, caplog):
    fields = {"task_specific_params": RECIPES}
    summarize = make_pipe("text-summarization", name, tokenizer, **fields)
    recipe = {"num_beams": 2, "min_length": 5}
    expected = write(summarize, "summarize: " + TEXTS[0], max_length=9, **recipe)
    assert summarize(TEXTS[0]) == [{"summary_text": expected[0]}]
    expected = write(summarize, "Short: " + TEXTS[0], max_new_tokens=12, num_beams=1, min_length=5)
    assert summarize(TEXTS[0], prefix="Short: ", max_new_tokens=12, num_beams=1) == [{"summary_text": expected[0]}]
    given = transformers.GenerationConfig(max_new_tokens=3, eos_token_id=tokenizer.eos_token_id)
    given.decoder_start_token_id, given.pad_token_id = tokenizer.pad_token_id, tokenizer.pad_token_id
    expected = write(summarize, "summarize: " + TEXTS[0], generation_config=given)
    assert summarize(TEXTS[0], generation_config=given) == [{"summary_text": expected[0]}]
    translate = make_pipe("text-translation", name, tokenizer, **fields)
    expected = write(translate, "to German: " + TEXTS[0], max_length=7)
    assert translate(TEXTS[0], src_lang="en", tgt_lang="de") == [{"translation_text": expected[0]}]
    anything = make_pipe("text-to-text", name, tokenizer, **fields)
    assert anything(TEXTS[0], max_new_tokens=4)[0]["generated_text"] == write(anything, TEXTS[0], max_new_tokens=4)[0]
    assert not caplog.records


@pytest.mark.parametrize(("name", "longest"), [("ours", 256), ("t5", 256), ("bart", 128)])
def test_lengths_that_nobody_says_are_as_long_as_they_can_be(name, longest, tokenizer):
    pipe = make_pipe("text-to-text", name, tokenizer)
    pipe.model.generation_config.eos_token_id = None
    assert len(pipe(TEXTS[0], return_tensors=True)[0]["generated_token_ids"]) == longest
    pipe.model.generation_config.max_length = 10
    assert len(pipe(TEXTS[0], return_tensors=True)[0]["generated_token_ids"]) == 9


def test_languages_become_tokens_where_the_tokenizer_has_them(tokenizer):
    pipe = make_pipe("text-translation", "ours", tokenizer)
    many = copy.deepcopy(tokenizer)
    many.src_lang, sources = None, []
    pipe.tokenizer = many
    pipe.model.generate = lambda **inputs: sources.append((many.src_lang, inputs)) or torch.tensor([[0, 5, 1]])
    pipe("the", src_lang="a", tgt_lang="<extra_id_7>", max_new_tokens=3)
    ((source, inputs),) = sources
    assert source == "a" and inputs["forced_bos_token_id"] == tokenizer.convert_tokens_to_ids("<extra_id_7>")


def test_what_is_too_long_is_refused_cut_or_tried_as_asked(tokenizer, caplog):
    pipe = make_pipe("text-to-text", "ours", tokenizer)  # the tokenizer says 128
    long = "statement " * 200
    length = len(tokenizer(long, verbose=False)["input_ids"])
    with pytest.raises(ValueError, match=f"the text has {length} tokens and the model reads 128: .* truncation=True"):
        pipe(long)
    assert not caplog.records
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    logging.getLogger("trivium.modeling.pipelines.text_to_text").addHandler(caplog.handler)
    cut = pipe(long, truncation=True, max_new_tokens=5)
    assert any(f"{length} tokens and the model reads 128" in record.getMessage() for record in caplog.records)
    ids = tokenizer(long, truncation=True, max_length=128, return_tensors="pt")
    assert cut[0]["generated_text"] == tokenizer.decode(
        pipe.model.generate(**ids, max_new_tokens=5)[0], skip_special_tokens=True
    )
    tried = pipe(long, truncation=False, max_new_tokens=5)
    assert tried[0]["generated_text"] == write(pipe, long, max_new_tokens=5)[0]


@pytest.mark.parametrize(
    ("task", "inputs", "arguments", "said"),
    [
        ("text-to-text", {"text": "x"}, {}, "must be a text or a list of texts, not dict"),
        ("text-to-text", ["x", 3], {}, "not int"),
        ("text-translation", "x", {"src_lang": "en"}, "give both languages"),
        ("text-translation", "x", {"src_lang": "en", "tgt_lang": "fr"}, "no 'translation_en_to_fr' in"),
    ],
)
def test_bad_input_is_told_in_a_sentence(task, inputs, arguments, said, tokenizer):
    with pytest.raises(ValueError, match=said) as error:
        make_pipe(task, "ours", tokenizer)(inputs, **arguments)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


def test_a_text_of_no_token_and_models_that_do_not_write_are_refused(tokenizers, tokenizer):
    bare = copy.deepcopy(tokenizer)
    bare.backend_tokenizer.post_processor = None
    with pytest.raises(ValueError, match="the text is empty"):
        make_pipe("text-to-text", "ours", bare)("")
    for head in HEADS:
        if (head.family, head.task) in {("decoder", "lm"), ("encoder", "lm"), ("encoder_decoder", "answer")}:
            model = head.model(head.model.config_class(hidden_size=32, num_attention_heads=4, num_hidden_layers=1))
            with pytest.raises(ValueError, match=f"{head.model.__name__} does not turn a text into another"):
                pipeline("text-to-text", model=model, tokenizer=tokenizer)
