import dataclasses
import json

import pytest
import yaml

from trivium.configuration import InputError
from trivium.training.arguments import RECIPES, PretrainArguments, PretrainTrainingArguments, parse, read_recipe
from trivium.training.objectives.choice import choose_objective
from trivium.training.pretrain import FAMILIES

TYPES = (PretrainArguments, PretrainTrainingArguments)
NEEDED = ["--family", "decoder", "--data", "python-docs"]


def recipe(tmp_path, content):
    path = tmp_path / "recipe.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


def test_the_command_line_wins_over_the_recipe_and_the_recipe_over_the_defaults(tmp_path):
    path = recipe(
        tmp_path,
        "family: decoder\ndata: [a.txt, b.txt]\nlearning_rate: 3e-4\nmax_steps: 7\nbf16: false\nmuon: true\n"
        "lr_scheduler_type: warmup_stable_decay\nlr_scheduler_kwargs: {num_decay_steps: 3}\ntext_column: null\n"
        "model:\n  hidden_size: 64\n  num_hidden_layers: 2\n  layer_types: [full_attention, full_attention]\n",
    )
    args, training = parse(
        [
            "--config",
            path,
            "--max_steps",
            "30",
            "--save_steps=5",
            "--model.hidden_size",
            "128",
            "--model.norm=layernorm",
        ],
        TYPES,
    )
    assert args.data == ["a.txt", "b.txt"] and args.text_column == "text" and args.max_length == 512
    assert args.model == {
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "layer_types": ["full_attention", "full_attention"],
        "norm": "layernorm",
    }
    assert training.learning_rate == 3e-4 and training.max_steps == 30 and training.save_steps == 5
    assert training.muon is True and training.bf16 is False and training.weight_decay == 0.1
    assert training.lr_scheduler_kwargs == {"num_decay_steps": 3}


def test_a_recipe_may_come_first_without_its_flag(tmp_path):
    args, training = parse([recipe(tmp_path, "family: decoder\ndata: python-docs"), "--max_steps", "3"], TYPES)
    assert args.family == "decoder" and args.data == ["python-docs"] and training.max_steps == 3


def test_nested_fields_reach_the_sides_of_an_encoder_decoder():
    args, _ = parse([*NEEDED, "--model.encoder.num_hidden_layers", "3", "--model.decoder.sliding_window=8"], TYPES)
    assert args.model == {"encoder": {"num_hidden_layers": 3}, "decoder": {"sliding_window": 8}}


@pytest.mark.parametrize("kind", TYPES)
def test_every_field_can_be_given_in_a_recipe(tmp_path, kind):
    """Each field, at its default or at some value of its type, is understood and arrives."""
    given = {"family": "decoder", "data": ["python-docs"], "output_dir": str(tmp_path)}
    for field in dataclasses.fields(kind):
        if not field.init or field.name in given or field.default in (None, "", dataclasses.MISSING):
            continue
        given[field.name] = field.default
    args, training = parse(["--config", recipe(tmp_path, json.loads(json.dumps(given, default=str)))], TYPES)
    arrived = dataclasses.asdict(args) if kind is PretrainArguments else training.to_dict()
    for name, value in given.items():
        if name in arrived and name not in ("report_to", "debug", "use_cpu", "dataloader_pin_memory"):
            assert arrived[name] == value or str(arrived[name]) == str(value), name


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("family: decoder\nlerning_rate: 1", "there is no field 'lerning_rate'; did you mean 'learning_rate'?"),
        ("family: decoder\nxyzzy: 1", "there is no field 'xyzzy'; --help lists them all."),
        ("- a\n- b", "is no recipe: it must be a mapping"),
        ("a: [1", "is not YAML"),
        ("max_steps: many", "argument --max_steps/--max-steps: invalid int value: 'many'"),
        ("lr_scheduler_type: circle", "circle is not a valid SchedulerType"),
        ("model: big", "`model` must map fields"),
        ("max_length: [1, 2]", "a value too many?"),
    ],
)
def test_bad_recipes(tmp_path, content, sentence):
    with pytest.raises(InputError) as error:
        parse([*NEEDED, "--config", recipe(tmp_path, content)], TYPES)
    assert sentence in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--family", "decodr", "--data", "x"], "invalid choice: 'decodr'"),
        (["--data", "x"], "the following arguments are required: --family"),
        ([*NEEDED, "--lerning_rate", "1"], "'--lerning_rate' is not understood; did you mean 'learning_rate'?"),
        ([*NEEDED, "--learning-rte=1"], "did you mean 'learning_rate'?"),
        ([*NEEDED, "--max", "3"], "is not understood"),
        ([*NEEDED, "--model.hidden_size"], "'--model.hidden_size' needs a value"),
        (
            [*NEEDED, "--config", "nowhere.yaml"],
            "the recipe 'nowhere.yaml' does not exist; the package brings addresses, ",
        ),
        ([*NEEDED, "--eval_strategy", "steps", "--eval_steps", "0", "--logging_steps", "0"], "eval"),
    ],
)
def test_bad_command_lines(argv, sentence):
    with pytest.raises(InputError) as error:
        parse(argv, TYPES)
    assert sentence in str(error.value)


def test_help_tells_what_the_fields_are(capsys):
    with pytest.raises(SystemExit) as stop:
        parse(["--help"], TYPES, prog="trivium pretrain")
    shown = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0
    assert "usage: trivium pretrain" in shown and "share of the tokens to predict" in shown and "--config" in shown


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("size", ["tiny", "small"])
def test_the_recipes_of_the_package_are_sound(family, size):
    name = f"{family}-{size}"
    args, training = parse(["--config", name], TYPES)
    assert args.family == family and training.output_dir == f"out/{name}"
    block, longest = choose_objective(args).lengths(args)
    config = FAMILIES[family][0](vocab_size=args.vocab_size, **args.model)
    assert longest <= (config.encoder if config.is_encoder_decoder else config).max_position_embeddings
    assert block >= 16 and read_recipe(str(RECIPES / f"{name}.yaml")) == read_recipe(name)
    comments = [line for line in (RECIPES / f"{name}.yaml").read_text().splitlines() if "#" in line]
    assert len(comments) >= 5, "recipes are there to be learnt from"
