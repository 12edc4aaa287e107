"""Checkpoints on disk: what they hold arrives whole, bit for bit, and goes back under the names that it came with."""

from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import Trainer, TrainingArguments

from tests.references import REFERENCES, VOCAB, case_id, randomize
from trivium import InputError, from_transformers, modeling, to_transformers
from trivium.modeling.conversion import ORIGINS, convert, largest_difference

LANGUAGE_MODELS = (
    modeling.TriviumEncoderForMaskedLM,
    modeling.TriviumDecoderForCausalLM,
    modeling.TriviumEncoderDecoderForConditionalGeneration,
)


def language_model_of(model_type: str) -> str:
    return next(name for name, ours in ORIGINS[model_type].heads.items() if ours in LANGUAGE_MODELS)


# One reference for each `model_type`, with its language model.
FIRST = {reference.model_type: reference for reference in reversed(REFERENCES.values()) if reference.classes is None}
assert FIRST.keys() == ORIGINS.keys()
LMS = [(reference, language_model_of(model_type)) for model_type, reference in FIRST.items()]
BASES = [(reference, next(iter(ORIGINS[model_type].heads))) for model_type, reference in FIRST.items()]
HALVES = [torch.bfloat16, torch.float16]


def tensors_in(folder: Path) -> dict[str, torch.Tensor]:
    return {key: tensor for path in sorted(folder.glob("*.safetensors")) for key, tensor in load_file(path).items()}


def write_tensors(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """The same names, bits and dtypes."""
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.dtype and torch.equal(found[key], tensor), key


@pytest.mark.parametrize(
    ("reference", "name", "dtype"),
    [(*case, torch.float32) for case in BASES] + [(*case, dtype) for case in LMS for dtype in (torch.float32, *HALVES)],
    ids=case_id,
)
def test_a_folder_goes_back_into_the_same_folder(reference, name, dtype, tmp_path):
    reference.model(name).to(dtype).save_pretrained(tmp_path / "theirs")
    ours = from_transformers(tmp_path / "theirs")
    assert ours.dtype == ours.config.dtype == dtype
    assert all(parameter.dtype == dtype for parameter in ours.parameters())
    ours.save_pretrained(tmp_path / "ours")
    ours = type(ours).from_pretrained(tmp_path / "ours")
    to_transformers(ours).save_pretrained(tmp_path / "back")
    if reference.model_type == "t5" and dtype == torch.float16:  # transformers keeps a part of it in float32
        getattr(transformers, name).from_pretrained(tmp_path / "theirs").save_pretrained(tmp_path / "theirs")
    assert_same(tensors_in(tmp_path / "back"), tensors_in(tmp_path / "theirs"))


@pytest.mark.parametrize(("reference", "name"), LMS, ids=case_id)
def test_shards_hold_what_one_file_holds(reference, name, tmp_path):
    theirs = reference.model(name)
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert_same(from_transformers(tmp_path).state_dict(), from_transformers(theirs).state_dict())


@pytest.mark.parametrize(("reference", "name"), LMS, ids=case_id)
def test_weights_come_in_the_dtype_asked_for(reference, name, tmp_path):
    dtype = torch.bfloat16
    theirs = reference.model(name)
    theirs.save_pretrained(tmp_path)
    expected = from_transformers(theirs).to(dtype).state_dict()
    for source in (tmp_path, theirs):
        ours = from_transformers(source, dtype=dtype)
        assert ours.config.dtype == dtype
        assert_same(ours.state_dict(), expected)
    assert theirs.dtype == torch.float32


@pytest.mark.parametrize(("reference", "name"), LMS, ids=case_id)
def test_a_converted_checkpoint_is_one_of_ours(reference, name, tmp_path):
    """In our layout, which Trainer needs to resume, and for the Auto classes."""
    ours = from_transformers(reference.model(name))
    ours.save_pretrained(tmp_path)
    stored = tensors_in(tmp_path)
    assert stored.keys() <= ours.state_dict().keys()
    layers = "model.decoder.layers.0." if ours.config.is_encoder_decoder else "model.layers.0."
    assert f"{layers}self_attn.q_proj.weight" in stored
    auto = next(auto for auto, models in modeling.AUTO_CLASSES.items() if type(ours) in models)
    loaded = getattr(transformers, auto).from_pretrained(tmp_path)
    assert type(loaded) is type(ours)
    assert_same(loaded.state_dict(), ours.state_dict())
    assert loaded.config.origin == reference.model_type


def tie(reference, name: str, tied: bool):
    """A model with its output matrix tied or not, its embeddings one in any case."""
    config = reference.config(name)
    config.tie_word_embeddings = tied
    torch.manual_seed(0)
    model = getattr(transformers, name)(config).eval()
    randomize(model)
    if reference.model_type in ("bart", "marian"):  # one flag ties both embeddings and the output matrix
        for side in (model.get_encoder(), model.get_decoder()):
            side.embed_tokens.weight.data.copy_(model.base_model.shared.weight.data)
    return model


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize(("reference", "name"), [case for case in LMS if case[0].model_type != "t5"], ids=case_id)
def test_the_output_matrix_is_tied_as_it_was(reference, name, tied, tmp_path):
    theirs = tie(reference, name, tied)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = from_transformers(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    again = type(ours).from_pretrained(tmp_path / "ours")
    back = to_transformers(again)
    for model in (theirs, ours, again, back):
        inner = model.get_decoder() if model.config.is_encoder_decoder else model
        assert (model.get_output_embeddings().weight is inner.get_input_embeddings().weight) is tied
        assert model.config.tie_word_embeddings is tied
        assert largest_difference(theirs, model) < 1e-5
    back.save_pretrained(tmp_path / "back")
    unread = ("cls.predictions.bias", "lm_head.bias")  # BERT's bias beside that of the untied output matrix
    stored = [tensors_in(tmp_path / folder) for folder in ("back", "theirs")]
    if not tied and reference.model_type in ("bert", "roberta"):
        stored = [{key: tensor for key, tensor in one.items() if key not in unread} for one in stored]
    assert_same(*stored)


def test_a_t5_whose_output_matrix_differs_is_untied_whatever_its_configuration_says(tmp_path):
    """T5 1.1: in its configuration the flag says whether the output is scaled."""
    reference = REFERENCES["t5-v1.1"]
    reference.model("T5ForConditionalGeneration").save_pretrained(tmp_path / "theirs")
    stored = tensors_in(tmp_path / "theirs")
    write_tensors(tmp_path / "theirs", stored | {"lm_head.weight": torch.randn_like(stored["shared.weight"])})
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "theirs")
    assert theirs.config.tie_word_embeddings
    ours = from_transformers(tmp_path / "theirs")
    assert ours.config.tie_word_embeddings is False and ours.config.decoder.logit_scale is None
    assert largest_difference(theirs, ours) < 1e-5
    to_transformers(ours).save_pretrained(tmp_path / "back")
    assert_same(tensors_in(tmp_path / "back"), tensors_in(tmp_path / "theirs"))


@pytest.mark.parametrize(("reference", "name"), LMS, ids=case_id)
def test_a_vocabulary_that_was_resized_comes_along(reference, name, tmp_path):
    theirs = reference.model(name)
    if reference.model_type != "t5gemma":  # whose own checkpoint then does not load: only one side is resized
        theirs.resize_token_embeddings(VOCAB + 13)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = from_transformers(tmp_path / "theirs")
    assert ours.config.vocab_size == theirs.get_input_embeddings().num_embeddings
    assert largest_difference(theirs, ours) < 1e-5
    ours.resize_token_embeddings(VOCAB + 20)
    to_transformers(ours).save_pretrained(tmp_path / "back")
    attention = reference.fields.get("attn_implementation")
    back = getattr(transformers, name).from_pretrained(tmp_path / "back", attn_implementation=attention)
    assert back.get_input_embeddings().num_embeddings == back.get_output_embeddings().out_features == VOCAB + 20
    assert largest_difference(ours, back) < 1e-5


# (the checkpoint without the tensor at `key`, `key`, the tensor) -> the checkpoint; and what is said of it.
DAMAGE = {
    "missing": (lambda rest, key, tensor: rest, "it lacks {key}."),
    "unknown": (
        lambda rest, key, tensor: rest | {key: tensor, "odd.weight": tensor.clone()},
        "it also has odd.weight.",
    ),
    "beyond the last layer": (
        lambda rest, key, tensor: rest | {key: tensor, beyond(key): tensor.clone()},
        "it also has {beyond}.",
    ),
    "of another shape": (
        lambda rest, key, tensor: rest | {key: tensor[:-1].clone()},
        "it has in another shape {key}.",
    ),
}


def beyond(key: str) -> str:
    return key.replace(".0.", ".7.", 1)


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(("reference", "name"), LMS, ids=case_id)
def test_a_checkpoint_with_other_weights_is_refused_by_name(reference, name, damage, tmp_path):
    reference.model(name).save_pretrained(tmp_path)
    stored = tensors_in(tmp_path)
    key = next(key for key in stored if ".0." in key and key.endswith(".weight") and "norm" not in key.lower())
    change, sentence = DAMAGE[damage]
    tensor = stored.pop(key)
    write_tensors(tmp_path, change(stored, key, tensor))
    with pytest.raises(InputError) as refused:
        from_transformers(tmp_path)
    assert str(refused.value) == f"'{tmp_path}' is no whole {name}: {sentence.format(key=key, beyond=beyond(key))}"


# What early checkpoints hold beside the weights: masks, positions.
LEFTOVERS = {
    "bert": {"bert.embeddings.position_ids": torch.arange(32)[None]},
    "roberta": {"roberta.embeddings.position_ids": torch.arange(32)[None]},
    "openai-gpt": {"transformer.h.0.attn.bias": torch.ones(1, 1, 32, 32)},
    "gpt2": {"transformer.h.1.attn.bias": torch.ones(1, 1, 32, 32), "transformer.h.0.attn.masked_bias": torch.ones(1)},
    "gpt_neo": {
        "transformer.h.0.attn.attention.bias": torch.ones(1, 1, 32, 32),
        "transformer.h.2.attn.attention.masked_bias": torch.ones(1),
    },
    "llama": {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(3)},
    "marian": {"model.encoder.embed_positions.weight": torch.ones(32, 24)},
}


@pytest.mark.parametrize("model_type", LEFTOVERS)
def test_what_we_compute_may_lie_beside_the_weights(model_type, tmp_path):
    theirs = FIRST[model_type].model(language_model_of(model_type))
    theirs.save_pretrained(tmp_path)
    write_tensors(tmp_path, tensors_in(tmp_path) | LEFTOVERS[model_type])
    ours, report = convert(tmp_path)
    assert report.sentences() == []
    assert_same(ours.state_dict(), from_transformers(theirs).state_dict())


@pytest.mark.parametrize(("reference", "name"), LMS, ids=case_id)
def test_neither_model_changes_the_other(reference, name):
    """They share no memory, on the way there and on the way back; what is made is in evaluation mode."""
    theirs = reference.model(name).train()
    weights = {key: tensor.clone() for key, tensor in theirs.state_dict().items()}
    fields = theirs.config.to_dict()
    ours = from_transformers(theirs)
    assert not ours.training and theirs.training
    ours.train()
    back = to_transformers(ours)
    assert not back.training and ours.training
    with torch.no_grad():
        for parameter in (*ours.parameters(), *back.parameters()):
            parameter.zero_()
    assert_same(theirs.state_dict(), weights)
    assert theirs.config.to_dict() == fields
    copy = from_transformers(theirs, type(ours))
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.zero_()
    assert_same(theirs.state_dict(), weights)


def train(model, folder: Path, resume: str | None = None) -> dict[int, float]:
    """The losses by step of six steps on drawn texts."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, VOCAB, (12, 9), generator=generator)
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=2,
        max_steps=6,
        save_steps=3,
        logging_steps=1,
        learning_rate=0.01,
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
    )
    trainer = Trainer(model, arguments, train_dataset=[dict(input_ids=row, labels=row) for row in ids])
    trainer.train(resume_from_checkpoint=resume)
    return {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama", "t5"])
def test_training_resumes_where_it_stopped(model_type, tmp_path):
    def converted():
        return from_transformers(FIRST[model_type].model(language_model_of(model_type)))

    model = converted()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    losses = train(model, tmp_path)
    assert len(losses) == 6
    assert tensors_in(tmp_path / "checkpoint-3").keys() <= before.keys()
    resumed = converted()
    assert train(resumed, tmp_path, resume=str(tmp_path / "checkpoint-3")) == losses
    assert_same(resumed.state_dict(), model.state_dict())
    assert not torch.equal(next(iter(before.values())), next(iter(model.state_dict().values())))
    assert largest_difference(model, to_transformers(model)) < 1e-5
