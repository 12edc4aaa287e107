"""`torch.compile` compiles once, whatever documents the rows hold, and whatever sizes the batches have."""

import json
from pydoc_data.topics import topics

import pytest
import torch

from trivium.training import pretrain as verb
from trivium.training import trainer as module
from trivium.training.arguments import PretrainArguments, PretrainTrainingArguments, parse
from trivium.training.objectives.choice import OBJECTIVES, choose_objective

STEPS = 8
# What is traced, and so what is traced anew, does not depend on the backend, and this one is done at once.
BACKEND = "eager"
SHAPE = "--model.hidden_size 32 --model.num_hidden_layers 2 --model.num_attention_heads 2".split()
RUN = f"--max_steps {STEPS} --per_device_train_batch_size 2 --max_length 128 --max_held_out_blocks 3 --logging_steps 1"
MODES = f"--torch_compile true --torch_compile_backend {BACKEND} --disable_tqdm true --eval_on_start false"
CASES = [(family, name, "paragraphs") for family, names in OBJECTIVES.items() for name in names]
# Of so many documents a row that those who hide spans give each one, and sizes vary.
CASES += [(family, name, "phrases") for family, name in [("encoder", "next-sentence"), ("encoder-decoder", "ul2")]]
CASES += [("encoder-decoder", "span-corruption", "phrases")]
# Whose batches have many sizes, or hold something of which there is one a document.
VARYING = {("encoder", "next-sentence"), ("encoder-decoder", "ul2"), ("encoder-decoder", "pairs")}


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Real texts, of two lines to a page, so that a row may hold one document or many; and phrases of a few words."""
    paragraphs = [part.strip() for name in sorted(topics)[:40] for part in topics[name].split("\n\n")]
    paragraphs = [text for text in paragraphs if len(text) >= 80]
    phrases = [" ".join(text.split()[:4]) for text in paragraphs]
    folder = tmp_path_factory.mktemp("data")
    for name, documents in (("paragraphs", paragraphs), ("phrases", phrases)):
        lines = [json.dumps({"text": text, "target": text.split()[0]}) + "\n" for text in documents]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.fixture
def make(texts, tokenizer_folders, tmp_path):
    """Makes the trainer of a run, and what it will write down: its batches' shapes and numbers of documents."""

    def trainer_for(family, objective, name, *more):
        torch._dynamo.reset()
        fixed = ["--family", family, "--objective", objective, "--tokenizer", str(tokenizer_folders[family])]
        where = ["--data", str(texts / f"{name}.jsonl"), "--output_dir", str(tmp_path), "--save_strategy", "no"]
        argv = [*fixed, *where, *SHAPE, *RUN.split(), *MODES.split(), *more]
        args, training_args = parse(argv, (PretrainArguments, PretrainTrainingArguments), prog="test")
        trainer, _ = verb.make_trainer(args, training_args, choose_objective(args), None)
        shapes, documents = set(), set()
        collate = trainer.data_collator

        def watch(features):
            batch = collate(features)
            shapes.add(tuple((name, *value.shape) for name, value in batch.items()))
            documents.add(int((batch["position_ids"] == 0).sum()))
            return batch

        watch.one_size = getattr(collate, "one_size", False)
        trainer.data_collator = watch
        return trainer, shapes, documents

    return trainer_for


def recompilations(trainer):
    """What each step's log says."""
    trainer.train()
    return [entry["recompilations"] for entry in trainer.state.log_history if "recompilations" in entry]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "objective", "name"), CASES)
def test_a_model_is_compiled_once(family, objective, name, make):
    trainer, shapes, documents = make(family, objective, name)
    assert recompilations(trainer) == [0] * STEPS
    assert len(documents) > 1
    if name == "paragraphs":
        assert (len(shapes) > 1) == ((family, objective) in VARYING)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["ul2", "pairs"])
def test_batches_padded_to_one_size_are_compiled_once_for_that_size_alone(objective, make, monkeypatch):
    monkeypatch.setattr(module, "let_sizes_vary", None)
    trainer, shapes, documents = make("encoder-decoder", objective, "paragraphs", "--pad_to_fixed_size", "true")
    assert recompilations(trainer) == [0] * STEPS
    assert len(shapes) == 1 < len(documents)
    assert all(0 < entry["waste"] < 0.6 for entry in trainer.state.log_history if "waste" in entry)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["ul2", "pairs"])
def test_padding_to_one_size_changes_no_loss(objective, make):
    losses = []
    for fixed in ("false", "true"):
        target = ["--max_target_length", "128"]  # or the rows would be others
        options = ["--pad_to_fixed_size", fixed, "--torch_compile", "false", *target]
        trainer, shapes, _ = make("encoder-decoder", objective, "paragraphs", *options)
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
        assert (len(shapes) == 1) == (fixed == "true")
    assert len(losses[0]) == STEPS and losses[1] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.slow
def test_batches_of_many_sizes_would_be_compiled_again(make, monkeypatch):
    monkeypatch.setattr(module, "let_sizes_vary", lambda batch: None)
    trainer, shapes, _ = make("encoder-decoder", "ul2", "paragraphs")
    counts = recompilations(trainer)
    assert counts[-1] > 0 and counts == sorted(counts) and len(shapes) > 1
