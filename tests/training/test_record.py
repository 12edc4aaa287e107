"""What a run writes of itself, and the cards that come of it with every save."""

import json
from types import SimpleNamespace

import datasets
import pytest
import yaml
from huggingface_hub import ModelCard

from trivium.model_cards.card import is_by_hand
from trivium.model_cards.metadata import check_metadata
from trivium.training import pretrain as verb
from trivium.training.arguments import PretrainArguments, PretrainTrainingArguments, parse
from trivium.training.data.held_out import Texts
from trivium.training.record import data_record, kind_of, recipe_of
from trivium.training.verbs import run

FAST = (
    "--max_steps 4 --per_device_train_batch_size 2 --max_length 32 --max_held_out_blocks 3 --disable_tqdm true".split()
)
SHAPE = "--model.hidden_size 32 --model.num_hidden_layers 1 --model.num_attention_heads 2".split()
OFTEN = "--save_steps 2 --logging_steps 1 --eval_strategy steps --eval_steps 2".split()


@pytest.fixture
def argv(data_file, tokenizer_folders, tmp_path):
    def arguments(family, *more):
        where = ["--data", str(data_file), "--output_dir", str(tmp_path / "out")]
        return ["--family", family, *where, "--tokenizer", str(tokenizer_folders[family]), *FAST, *SHAPE, *more]

    return arguments


@pytest.mark.parametrize("family", ["encoder", "decoder", "encoder-decoder"])
def test_every_save_has_a_true_card(family, argv, tmp_path, documents):
    (tmp_path / "card.yaml").write_text("license: mit\nlanguage: [en, ja]\ncontact: Ada\n")
    secret = "hf_" + "a1B2" * 8
    assert verb.main(argv(family, *OFTEN, "--card", str(tmp_path / "card.yaml"), "--hub_token", secret)) == 0
    out = tmp_path / "out"
    measured = json.loads((out / "trivium_run.json").read_text())["metrics"]
    for folder, steps in ((out / "checkpoint-2", 2), (out / "checkpoint-4", 4), (out, 4)):
        card, text = ModelCard.load(folder / "README.md"), (folder / "README.md").read_text()
        check_metadata(card.data.to_dict())
        assert (card.data.license, card.data.language) == ("mit", ["en", "ja"]) and "**Contact.** Ada" in text
        assert f"| Steps | {steps} |" in text and ("after 2 of 4 steps" in text) == (steps == 2)
        assert f"{measured['parameters']:,} parameters in float32" in text
        assert (folder / "assets" / "loss.png").is_file() and not is_by_hand(folder / "README.md")
        assert not any(
            secret in path.read_text() for path in folder.rglob("*") if path.suffix in (".md", ".json", ".yaml")
        )
    values = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert values["bits_per_byte"] == pytest.approx(measured["held_out_bits_per_byte_after"], abs=1e-4)
    assert f"| Tokens read | {measured['tokens']:,} |" in text and "--hub_token REDACTED" in text
    (source,) = json.loads((out / "trivium_run.json").read_text())["data"]
    assert source["documents"] + source["held_out_documents"] == len(documents)
    assert source["bytes"] + source["held_out_bytes"] == sum(len(text.encode()) for text in documents)


def test_what_a_hand_wrote_survives_training_and_answers_do_too(argv, tmp_path, caplog):
    assert verb.main(argv("decoder", "--save_strategy", "no")) == 0
    readme = tmp_path / "out" / "README.md"
    readme.write_text("# Mine\n")
    (tmp_path / "out" / "card.yaml").write_text("license: mit\n")
    assert verb.main(argv("decoder", "--save_strategy", "no", "--fresh", "true")) == 0
    assert readme.read_text() == "# Mine\n" and "by hand" in caplog.text
    readme.unlink()
    assert verb.main(argv("decoder", "--save_strategy", "no", "--fresh", "true")) == 0
    assert ModelCard.load(readme).data.license == "mit"


def test_wrong_answers_are_said_before_anything_is_trained(argv, tmp_path, capsys):
    (tmp_path / "card.yaml").write_text("license: MIT\n")
    assert run(verb.main, argv("decoder", "--card", str(tmp_path / "card.yaml"))) == 2
    assert "did you mean 'mit'?" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_the_recipe_of_the_card_trains_the_same(argv, tmp_path):
    more = ["--learning_rate", "5e-5", "--weight_decay", "0", "--muon", "true", "--lr_scheduler_type", "linear"]
    given = parse(argv("decoder", *more), (PretrainArguments, PretrainTrainingArguments))
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_of(*given)))
    again = parse([str(path), "--output_dir", given[1].output_dir], (PretrainArguments, PretrainTrainingArguments))
    assert again[0] == given[0]
    one, other = (vars(training) | {"disable_tqdm": None, "logging_dir": None} for training in (given[1], again[1]))
    assert {name for name in one if str(one[name]) != str(other[name])} <= {"deepspeed_plugin", "distributed_state"}
    assert recipe_of(*given)["learning_rate"] == 5e-5  # transformers' default, but not ours


def test_pairs_and_streams_are_recorded_too():
    pairs = datasets.Dataset.from_dict({"source": ["ab", "é"], "target": ["x", "真"]})
    args = PretrainArguments(family="decoder", data=["a/b"])
    (found,) = data_record(args, {"data": Texts(pairs, pairs.select([1]))}, SimpleNamespace(num_tokens=7))
    assert (found["documents"], found["bytes"], found["held_out_bytes"], found["tokens"]) == (2, 8, 5, 7)
    stream = Texts(pairs.to_iterable_dataset(), pairs)
    (found,) = data_record(args, {"data": stream}, SimpleNamespace())
    assert found["documents"] is found["bytes"] is found["tokens"] is None and found["kind"] == "hub"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (["python-docs"], "python-docs"),
        (["org/texts"], "hub"),
        (["a.jsonl"], "files"),
        (["x/*.txt"], "files"),
        (["/"], "files"),
    ],
)
def test_where_text_comes_from(data, kind):
    assert kind_of(data) == kind


def test_the_card_of_transformers_is_not_written_over_ours(argv, tmp_path, monkeypatch):
    trainers = []
    real = verb.make_trainer
    monkeypatch.setattr(verb, "make_trainer", lambda *args: trainers.append(real(*args)) or trainers[0])
    assert verb.main(argv("decoder", "--save_strategy", "no")) == 0
    before = (tmp_path / "out" / "README.md").read_text()
    trainers[0][0].create_model_card(model_name="x", tags=["y"])
    assert (tmp_path / "out" / "README.md").read_text() == before
