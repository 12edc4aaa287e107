"""Every save has its card, whoever saves: a model by itself, a stock trainer, a push. No card outlives its weights."""

import json
import logging

import pytest
from huggingface_hub import CardData, ModelCard
from transformers import Trainer, TrainingArguments

from tests.families import HEADS, LM_HEADS, draw_texts, make_model, padded
from tests.model_cards.folders import log, record, save
from trivium.model_cards.card import PUSHED, README, TRAINERS, is_by_hand, write_card
from trivium.model_cards.weights import BLOCK, BLOCKS, weights_stamp

STOCK = ModelCard.from_template(CardData(tags=["a"], library_name="transformers"), model_description=PUSHED).content


def text_of(folder):
    return (folder / README).read_text(encoding="utf-8")


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_a_model_of_any_head_is_saved_with_the_card_that_the_verb_writes(head, tmp_path):
    make_model(head).save_pretrained(tmp_path / "model")
    saved = text_of(tmp_path / "model")
    assert f"`{head.model.__name__}`" in saved and not is_by_hand(tmp_path / "model" / README)
    write_card(tmp_path / "model")
    assert text_of(tmp_path / "model") == saved


def test_a_stock_trainers_checkpoints_and_its_model_have_cards_and_the_latter_the_curve(tmp_path):
    head = LM_HEADS[0]
    model = make_model(head)
    rows = [{name: tensor[0] for name, tensor in padded(draw_texts(head, model.config, labels=True)).items()}]
    arguments = dict(max_steps=2, save_steps=1, logging_steps=1, use_cpu=True, report_to="none", disable_tqdm=True)
    trainer = Trainer(model, TrainingArguments(str(tmp_path / "run"), **arguments), train_dataset=rows)
    trainer.train()
    trainer.save_model()
    for folder in (tmp_path / "run" / "checkpoint-1", tmp_path / "run" / "checkpoint-2", tmp_path / "run"):
        assert f"`{type(model).__name__}`" in text_of(folder), folder
    assert (tmp_path / "run" / "assets/loss.png").is_file() and "assets/loss.png" in text_of(tmp_path / "run")


@pytest.mark.parametrize("is_main", [True, False])
def test_only_the_main_process_writes_one(is_main, tmp_path):
    make_model(HEADS[0]).save_pretrained(tmp_path / "model", is_main_process=is_main)
    assert (tmp_path / "model" / README).exists() == is_main


def test_what_a_hand_wrote_stays_and_folders_that_are_written_aside_are_left_to_their_writer(tmp_path):
    (tmp_path / README).write_text("# Mine\n")
    make_model(HEADS[0]).save_pretrained(tmp_path)
    assert text_of(tmp_path) == "# Mine\n"
    make_model(HEADS[0]).save_pretrained(tmp_path / ".aside")
    assert (tmp_path / ".aside" / "config.json").is_file() and not (tmp_path / ".aside" / README).exists()


def test_a_card_that_cannot_be_written_costs_no_weights(tmp_path, caplog):
    (tmp_path / "card.yaml").write_text("license: [")
    with caplog.at_level(logging.WARNING):
        make_model(HEADS[0]).save_pretrained(tmp_path)
    assert "The card was not written" in caplog.text and str(tmp_path / "card.yaml") in caplog.text
    assert (tmp_path / "model.safetensors").is_file() and not (tmp_path / README).exists()


@pytest.mark.parametrize("seed", [0, 1])
def test_no_card_says_of_other_weights_what_a_run_recorded(seed, tmp_path):
    folder = save(tmp_path / "decoder", "decoder", logged=log())
    recorded = record(weights=weights_stamp(folder))
    (folder / "trivium_run.json").write_text(json.dumps(recorded))
    write_card(folder)
    before = text_of(folder)
    assert "1,234" in before and "assets/loss.png" in before
    make_model(next(head for head in LM_HEADS if head.family == "decoder"), seed=seed).save_pretrained(folder)
    if seed == 0:  # the same weights once more
        assert text_of(folder) == before
    else:
        assert "1,234" not in text_of(folder) and "assets/loss.png" not in text_of(folder)
        assert "*Not known: no record of a training run lies beside the weights.*" in text_of(folder)


@pytest.mark.parametrize("size", [1, BLOCK, BLOCK * BLOCKS - 1, BLOCK * BLOCKS + 7, 3 * BLOCK * BLOCKS])
def test_the_stamp_of_weights_is_theirs_alone(size, tmp_path):
    path = tmp_path / "model.safetensors"
    assert weights_stamp(tmp_path) is None
    stamps = []
    for content in (b"a" * size, b"b" * size, b"b" + b"a" * (size - 1) + b"b", b"a" * (size + 1), b"a" * size):
        path.write_bytes(content)
        stamps.append(weights_stamp(tmp_path))
    assert len(set(stamps)) == 4 and stamps[0] == stamps[-1]


@pytest.mark.parametrize("text", [STOCK, f"---\ntags: [a]\n---\n{TRAINERS} You should ... -->\n# run\n"])
def test_cards_that_transformers_generated_are_no_ones_hand(text, tmp_path):
    folder = save(tmp_path / "decoder")
    (folder / README).write_text(text)
    assert not is_by_hand(folder / README)
    filled = text.replace("[More Information Needed]", "Ada", 1).replace(TRAINERS, "<!--")
    (folder / README).write_text(filled)
    assert is_by_hand(folder / README)
