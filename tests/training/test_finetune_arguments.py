"""Recipes of fine-tuning say what there is, and what cannot be is said at once."""

import pytest

from trivium.configuration import InputError
from trivium.training.arguments import RECIPES, parse, read_recipe
from trivium.training.corpora.catalogue import CORPORA
from trivium.training.finetune_arguments import NESTED, FinetuneArguments, FinetuneTrainingArguments
from trivium.training.tasks.table import TASKS, roles_of

TYPES = (FinetuneArguments, FinetuneTrainingArguments)
NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml") if "task" in read_recipe(path.stem))


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_fits_its_task_and_its_data(name, tmp_path):
    args, training = parse(["--config", name, "--output_dir", str(tmp_path)], TYPES, nested=NESTED)
    (data,) = args.data
    corpus = CORPORA[data.removeprefix("data/")]
    needed = {role for role, required in roles_of(TASKS[args.task]).items() if required}
    assert needed <= set(corpus.columns) and name == data.removeprefix("data/")
    assert training.load_best_model_at_end and training.asked_metric is None


def test_every_set_to_train_on_has_a_recipe():
    assert set(NAMES) == CORPORA.keys() - {"similarity", "translation-descriptions"}


@pytest.mark.parametrize(
    "given, said",
    [
        (["--max_length", "0"], "`max_length` must be at least 1, not 0."),
        (["--held_out_fraction", "1"], "`held_out_fraction` must lie between 0 and 1, not 1.0."),
        (["--columns", "text"], "`columns` must map the task's columns to those of the data, not be 'text'."),
        (["--lora_config", "[8]"], "`lora_config` must map fields of peft.LoraConfig to values, not be [8]."),
        (["--config_overrides", "1"], "`config_overrides` must map fields of the model to values, not be 1."),
        (["--head_learning_rate", "0"], "`head_learning_rate` must be above 0, not 0.0."),
        (["--head_learning_rate", "1", "--muon", "true"], "`head_learning_rate` is that of AdamW: leave `muon` out."),
        (["--laera", "true"], "'--laera' is not understood; did you mean 'lora'?"),
    ],
)
def test_what_cannot_be_is_said(given, said, tmp_path):
    with pytest.raises(InputError) as error:
        parse(["--config", "sentiment", "--output_dir", str(tmp_path), *given], TYPES, nested=NESTED)
    assert str(error.value) == said


def test_an_adapter_is_asked_for_by_its_configuration_alone(tmp_path):
    (args, _) = parse(
        ["sentiment", "--lora_config.r", "4", "--output_dir", str(tmp_path)], TYPES, nested=("lora_config",)
    )
    assert args.lora and args.lora_config == {"r": 4}


def test_mappings_inside_mappings_are_said_one_by_one(tmp_path):
    given = ["--config_overrides.attention_dropout", "0", "--config_overrides.decoder.hidden_dropout=0.1"]
    (args, _) = parse(["sentiment", *given, "--output_dir", str(tmp_path)], TYPES, nested=NESTED)
    assert args.config_overrides == {"attention_dropout": 0, "decoder": {"hidden_dropout": 0.1}}
