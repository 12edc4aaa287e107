"""Batches of one size: `torch.compile` compiles once, whatever documents the rows hold."""

import json
from pydoc_data.topics import topics

import pytest
import torch

from trivium.training import pretrain as verb
from trivium.training.arguments import PretrainArguments, PretrainTrainingArguments, parse
from trivium.training.objectives.choice import OBJECTIVES, choose_objective

STEPS = 8
# What is traced, and so what is traced anew, does not depend on the backend, and this one is done at once.
BACKEND = "eager"
SHAPE = "--model.hidden_size 32 --model.num_hidden_layers 2 --model.num_attention_heads 2".split()
RUN = f"--max_steps {STEPS} --per_device_train_batch_size 2 --max_length 128 --max_held_out_blocks 3 --logging_steps 1"
MODES = f"--torch_compile true --torch_compile_backend {BACKEND} --disable_tqdm true --eval_on_start false"
MANY_LABELS = pytest.mark.xfail(
    strict=True, reason="one label a document: `next_sentence_label` is as long as a batch has documents"
)
CASES = [
    pytest.param(family, name, id=f"{family}-{name}", marks=[MANY_LABELS] if name == "next-sentence" else [])
    for family, names in OBJECTIVES.items()
    for name in names
]


@pytest.fixture(scope="module")
def paragraphs(tmp_path_factory):
    """Real texts, of two lines to a page, so that a row may hold one document or many.

    Many more, of a few words each, and span corruption makes rows of other sizes (`row_counts`).
    """
    texts = [part.strip() for name in sorted(topics)[:40] for part in topics[name].split("\n\n")]
    pairs = [{"text": text, "target": text.split()[0]} for text in texts if len(text) >= 80]
    path = tmp_path_factory.mktemp("data") / "paragraphs.jsonl"
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    return path


@pytest.fixture
def make(paragraphs, tokenizer_folders, tmp_path):
    """Makes the trainer of a run, and what it will write down: the shapes of each batch, and its documents."""

    def trainer_for(family, objective):
        torch._dynamo.reset()
        fixed = ["--family", family, "--objective", objective, "--tokenizer", str(tokenizer_folders[family])]
        where = ["--data", str(paragraphs), "--output_dir", str(tmp_path), "--save_strategy", "no"]
        argv = [*fixed, *where, *SHAPE, *RUN.split(), *MODES.split()]
        args, training_args = parse(argv, (PretrainArguments, PretrainTrainingArguments), prog="test")
        trainer, _ = verb.make_trainer(args, training_args, choose_objective(args), None)
        shapes, documents = set(), set()
        collate = trainer.data_collator

        def watch(features):
            batch = collate(features)
            shapes.add(tuple((name, *value.shape) for name, value in batch.items()))
            documents.add(int((batch["position_ids"] == 0).sum()))
            return batch

        trainer.data_collator = watch
        return trainer, collate, shapes, documents

    return trainer_for


def recompilations(trainer):
    """What each step's log says."""
    trainer.train()
    return [entry["recompilations"] for entry in trainer.state.log_history if "recompilations" in entry]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "objective"), CASES)
def test_rows_of_any_number_of_documents_are_compiled_once(family, objective, make):
    trainer, _, shapes, documents = make(family, objective)
    assert recompilations(trainer) == [0] * STEPS
    assert len(shapes) == 1 and len(documents) > 1


@pytest.mark.slow
def test_batches_of_many_sizes_would_be_compiled_again(make):
    trainer, collator, shapes, _ = make("encoder-decoder", "ul2")
    collator.fixed_size = False
    counts = recompilations(trainer)
    assert counts[-1] > 0 and counts == sorted(counts) and len(shapes) > 1
