"""Typed arguments from a recipe (YAML) and the command line: a recipe is a command line written down."""

import dataclasses
import difflib
import json
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_type_hints

import torch
import yaml
from transformers import HfArgumentParser, TrainingArguments

from ..configuration.errors import InputError

RECIPES = Path(__file__).parent / "recipes"


def setting(default: Any, help: str) -> Any:
    """A field of a dataclass with what `--help` says of it."""
    return dataclasses.field(default=default, metadata={"help": help})


@dataclasses.dataclass(kw_only=True)
class DataArguments:
    """Which text to read, as [`load_texts`] takes it."""

    _argument_group_name = "data"

    data: list[str] = dataclasses.field(
        metadata={
            "help": "a Hub dataset, files (.txt .jsonl .json .csv .parquet .arrow; globs too), or python-docs: "
            "Python's own documentation, which is on every machine"
        }
    )
    text_column: str = setting("text", "column that holds the text")
    data_config: str | None = setting(None, "configuration of the Hub dataset")
    data_split: str = setting("train", "split of the Hub dataset to train on")
    held_out_fraction: float = setting(0.02, "share of the documents to measure on, where there is no validation split")
    streaming: bool = setting(False, "read the training text as it is needed and keep no copy of it")
    skip_bad: bool = setting(False, "leave out what cannot be read of local files, and count it")


@dataclasses.dataclass(kw_only=True)
class PretrainArguments(DataArguments):
    """What to pretrain, on which text; how to train is in [`PretrainTrainingArguments`].

    Raises:
        InputError: `model` is no mapping.
    """

    _argument_group_name = "data, tokenizer and model"

    data: list[str] | None = dataclasses.field(  # type: ignore[assignment]
        default=None, metadata=DataArguments.__dataclass_fields__["data"].metadata
    )
    mixture: dict[str, Any] | str | None = dataclasses.field(
        default=None,
        metadata={
            "help": "several sources instead of `data`: by name, the fields of one (data, text_column, ...) and its "
            "weight, its share of the tokens; --mixture.NAME.weight 2"
        },
    )
    packing: Literal["best-fit", "wrapped"] = setting(
        "best-fit", "how documents fill rows: kept whole where they fit, or laid end to end and cut"
    )
    family: Literal["encoder", "decoder", "encoder-decoder"] = dataclasses.field(
        metadata={"help": "encoder (BERT-like), decoder (GPT-like) or encoder-decoder (T5-like)"}
    )
    max_held_out_blocks: int | None = setting(512, "measure on at most so many blocks of max_length tokens")

    objective: str | None = setting(
        None,
        "what to predict, by default the first. encoder: masked, next-sentence (BERT's two tasks); decoder: causal, "
        "fill-in-the-middle, prefix, pairs; encoder-decoder: span-corruption (T5), denoising (BART), ul2, prefix, "
        "pairs",
    )
    max_length: int = setting(512, "tokens per row of text; of the encoder's input for an encoder-decoder")
    max_target_length: int | None = setting(
        None, "pairs: tokens per row of targets; by default max_length, or with pad_to_fixed_size what fits the data"
    )
    pad_to_fixed_size: bool = setting(
        False,
        "ul2, and pairs of an encoder-decoder: fill batches up to one size, for compilers of static shapes; a third of "
        "ul2's positions is then padding, of pairs some percent",
    )
    target_column: str = setting("target", "pairs: column of the text to write; text_column is what is read")
    mlm_probability: float = setting(0.3, "masked, next-sentence: share of the tokens to predict; BERT's is 0.15")
    mask_scheme: Literal["mask", "80-10-10"] = setting("mask", "masked, next-sentence: 80-10-10 is BERT's mixture")
    whole_word: bool = setting(False, "masked, next-sentence: hide all tokens of a word or none")
    noise_density: float = setting(0.15, "span-corruption: share of the tokens to predict")
    mean_span_length: float = setting(3.0, "span-corruption, denoising: tokens per span")
    noises: list[str] = dataclasses.field(
        default_factory=lambda: ["text-infilling", "sentence-permutation"],
        metadata={
            "help": "denoising: of text-infilling, sentence-permutation, token-masking, token-deletion, "
            "document-rotation"
        },
    )
    mask_ratio: float = setting(0.3, "denoising: share of the tokens to hide")
    fim_rate: float = setting(0.5, "fill-in-the-middle: share of the documents to rearrange")
    fim_spm_rate: float = setting(0.5, "fill-in-the-middle: of these, the share with the suffix first")

    tokenizer: str | None = setting(None, "folder or Hub name of a tokenizer; by default one is trained on the data")
    tokenizer_algorithm: Literal["bpe", "wordpiece", "unigram"] = setting("bpe", "of the tokenizer to train")
    vocab_size: int = setting(32_768, "of the tokenizer to train")

    model_name_or_path: str | None = setting(None, "checkpoint of the same family to go on from")
    architecture: str | None = setting(
        None, "one that `trivium architectures` lists, for a new model; `model` changes it"
    )
    model: dict[str, Any] | str | None = dataclasses.field(
        default=None,
        metadata={
            "help": "shape of a new model: any field of its configuration, as a mapping or one by one: "
            "--model.hidden_size 128"
        },
    )

    def __post_init__(self) -> None:
        self.model = mapping("model", self.model, "fields of the configuration to values")
        self.mixture = mapping("mixture", self.mixture, "names to the fields of a source")
        if (self.data is None) == (self.mixture is None):
            raise InputError("give `data`, or `mixture` for several sources (and not both).")
        if self.max_held_out_blocks is not None and self.max_held_out_blocks < 1:
            raise InputError(f"`max_held_out_blocks` must be at least 1, not {self.max_held_out_blocks}.")

    @property
    def sources(self) -> dict[str, tuple[DataArguments, float | None]]:
        """By name, the arguments and the weight of each source; of `data` alone, one named "data"."""
        if self.mixture is None:
            fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(DataArguments)}
            return {"data": (DataArguments(**fields), None)}
        shared = {name: getattr(self, name) for name in SHARED}
        return {str(name): _source(name, fields, shared) for name, fields in self.mixture.items()}  # type: ignore[union-attr]

    @property
    def shape(self) -> dict[str, Any]:
        """The fields of the configuration that were given."""
        return dict(self.model or {})  # type: ignore[arg-type]


def mapping(name: str, value: Any, what: str) -> dict[str, Any] | None:
    """The mapping that a field holds, given as one or as YAML; raises `InputError` if it is none."""
    value = yaml.safe_load(value) if isinstance(value, str) else value
    if value is not None and not isinstance(value, dict):
        raise InputError(f"`{name}` must map {what}, not be {value!r}.")
    return value


# Of the fields of a source, those that it takes from the run unless it says otherwise; and the types of all.
SHARED = ("text_column", "held_out_fraction", "streaming", "skip_bad")
KINDS: dict[str, tuple[type, ...]] = {
    "text_column": (str,),
    "data_config": (str, type(None)),
    "data_split": (str,),
    "held_out_fraction": (float, int),
    "streaming": (bool,),
    "skip_bad": (bool,),
}


def _source(name: str, fields: Any, shared: dict[str, Any]) -> tuple[DataArguments, float | None]:
    known = {field.name for field in dataclasses.fields(DataArguments)} | {"weight"}
    given = dict(fields) if isinstance(fields, dict) else {"data": fields}
    for field in given:
        if field not in known:
            raise InputError(f"source '{name}' of the mixture: there is no field '{field}'; {_nearest(field, known)}")
    if "data" not in given:
        raise InputError(f"source '{name}' of the mixture has no `data`.")
    weight = given.pop("weight", None)
    data = given.pop("data")
    for field, value in given.items():
        if not isinstance(value, KINDS[field]) or (isinstance(value, bool) and bool not in KINDS[field]):
            raise InputError(f"source '{name}' of the mixture: `{field}` is not understood: {value!r}.")
    return DataArguments(data=[data] if isinstance(data, str) else data, **shared | given), weight


# What an order of rows of our own leaves nothing to do for, and what it is unless it is set.
WITHOUT_EFFECT = {"auto_find_batch_size": False, "dataloader_drop_last": False, "train_sampling_strategy": "random"}


@dataclasses.dataclass
class RunArguments(TrainingArguments):
    """`transformers.TrainingArguments` as every verb that trains has them."""

    _argument_group_name = "training (transformers.TrainingArguments)"

    fresh: bool = setting(False, "start over: delete what an earlier run left in output_dir")
    spike_threshold: float | None = setting(
        6.0, "leave out a step whose loss lies so many standard deviations above the last 128; inf: never"
    )
    muon: bool = setting(False, "train the matrices inside the blocks with Muon, the rest with AdamW")
    emissions_country: str | None = setting(
        None, "estimate energy and carbon with codecarbon; where the electricity is from, as FRA or USA"
    )
    card: str | None = setting(
        None, "YAML file with what only you know of the model (license, intended_use, ...), for its card"
    )
    report_to: list[str] = dataclasses.field(
        default_factory=lambda: ["none"],
        metadata={"help": "where to log to: tensorboard, trackio, wandb, ...; all that are installed; or none"},
    )
    disable_tqdm: bool | None = setting(False, "no progress bars")
    remove_unused_columns: bool = setting(False, "drop what the model does not take before the collator can use it")

    def __post_init__(self) -> None:
        if not torch.accelerator.is_available():
            self.use_cpu = True
            self.dataloader_pin_memory = False
        for name, value in WITHOUT_EFFECT.items():
            if getattr(self, name, value) != value:
                raise InputError(f"`{name}` has no effect: rows are read in an order of their own.")
        if self.save_only_model:
            raise InputError("`save_only_model` would leave checkpoints that no run can go on from: leave it out.")
        super().__post_init__()


@dataclasses.dataclass
class PretrainTrainingArguments(RunArguments):
    """[`RunArguments`] with defaults for pretraining small models from scratch."""

    _argument_group_name = "training (transformers.TrainingArguments)"

    output_dir: str | None = setting("out/pretrain", "folder for the checkpoint at the end and those in between")
    num_train_epochs: float = setting(1.0, "passes over the training text")
    learning_rate: float = setting(1e-3, "the highest learning rate")
    lr_scheduler_type: str = setting("cosine", "how the learning rate falls: cosine, linear, warmup_stable_decay, ...")
    warmup_steps: float = setting(0.05, "steps of linear warmup; below 1, a share of all steps")
    weight_decay: float = setting(0.1, "of everything but norms, biases and embeddings")
    max_tokens: float | None = setting(
        None, "train until so many tokens of text have been read, instead of num_train_epochs"
    )
    decay_steps: float = setting(0.2, "of warmup_stable_decay: the last steps; below 1, a share of all steps")
    cooldown_steps: int | None = setting(
        None, "go on from resume_from_checkpoint, let the learning rate fall to 0 in so many steps, and end"
    )
    adam_beta2: float = setting(0.95, "beta2 of AdamW")
    logging_steps: float = setting(50, "log every so many steps; below 1, a share of all steps")
    save_total_limit: int | None = setting(2, "how many of the checkpoints in between to keep")
    eval_on_start: bool = setting(True, "measure the held-out loss before training too")

    def __post_init__(self) -> None:
        for name in ("max_tokens", "cooldown_steps"):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise InputError(f"`{name}` must be above 0, not {value:g}.")
        super().__post_init__()


def parse(
    argv: Sequence[str],
    dataclass_types: Iterable[type],
    *,
    nested: Sequence[str] = ("model", "mixture"),
    **parser_arguments: Any,
) -> tuple[Any, ...]:
    """Fills dataclasses from `--config RECIPE` (or just `RECIPE`, first) and the other arguments, which win.

    A recipe is the path of a YAML file, or the name of one that comes with the package (`decoder-tiny`). Its fields are
    those of the dataclasses. The fields `nested` hold mappings; `--model.hidden_size 128` sets an entry of one.

    Raises:
        InputError: a recipe that is not there or no mapping, a field that does not exist (with the nearest that does),
            a value of the wrong type, a combination that `TrainingArguments` refuses.
    """
    usage = "%(prog)s [RECIPE] [--FIELD VALUE ...]"
    optional = {
        name for kind in dataclass_types for name, hint in get_type_hints(kind).items() if type(None) in get_args(hint)
    }
    parser = _Parser(dataclass_types, allow_abbrev=False, usage=usage, **parser_arguments)
    parser.add_argument("--config", metavar="RECIPE", help="YAML file with any of these fields, or a recipe's name")
    names = {field.name for kind in parser.dataclass_types for field in dataclasses.fields(kind) if field.init}
    first = ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config")
    if argv and not argv[0].startswith("-"):
        argv = ["--config", *argv]
    config, rest = first.parse_known_args(argv)
    recipe = read_recipe(config.config) if config.config else {}
    for name in recipe:
        if name not in names:
            raise InputError(f"{config.config}: there is no field '{name}'; {_nearest(name, names)}")
    parser.set_defaults(**{name: None for name, value in recipe.items() if value is None and name in optional})
    for field in nested:
        rest, settings = _take_nested(rest, field)
        if settings:
            under = recipe.get(field)
            recipe[field] = _merged(under if isinstance(under, dict) else {}, settings)
    try:
        *parsed, _, unknown = parser.parse_args_into_dataclasses(
            [*_as_arguments(recipe), *rest], look_for_args_file=False, return_remaining_strings=True
        )
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(" ".join(str(error).split())) from error
    if unknown:
        name = unknown[0].partition("=")[0].lstrip("-").replace("-", "_")
        hint = _nearest(name, names) if unknown[0].startswith("-") else "a value too many?"
        raise InputError(f"'{unknown[0]}' is not understood; {hint}")
    return tuple(parsed)


def read_recipe(recipe: str) -> dict[str, Any]:
    """The fields of a recipe; raises `InputError` if it is not there or not a mapping."""
    path = Path(recipe)
    if not path.is_file() and (RECIPES / f"{recipe}.yaml").is_file():
        path = RECIPES / f"{recipe}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.yaml")))
        raise InputError(f"the recipe '{recipe}' does not exist; the package brings {known}.")
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"'{path}' is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(fields, dict) or not all(isinstance(name, str) for name in fields):
        raise InputError(f"'{path}' is no recipe: it must be a mapping of fields to values.")
    return fields


class _Parser(HfArgumentParser):
    """Says what is wrong in one `InputError` instead of printing its usage and exiting."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message if message.endswith((".", ")")) else f"{message}.")


def _as_arguments(recipe: dict[str, Any]) -> list[str]:
    arguments = []
    for name, value in recipe.items():
        if isinstance(value, list):
            arguments += [f"--{name}", *map(str, value)]
        elif isinstance(value, dict | bool):
            arguments.append(f"--{name}={json.dumps(value)}")
        elif value is not None:
            arguments.append(f"--{name}={value}")
    return arguments


def _take_nested(argv: Sequence[str], nested: str) -> tuple[list[str], dict[str, Any]]:
    """Takes `--model.NAME VALUE` and `--model.NAME=VALUE` out of the arguments; values are read as YAML."""
    rest: list[str] = []
    settings: dict[str, Any] = {}
    waiting = list(argv)
    while waiting:
        argument = waiting.pop(0)
        if not argument.startswith(f"--{nested}."):
            rest.append(argument)
            continue
        name, equals, value = argument.removeprefix(f"--{nested}.").partition("=")
        if not equals:
            if not waiting:
                raise InputError(f"'{argument}' needs a value.")
            value = waiting.pop(0)
        entry = yaml.safe_load(value)
        for part in reversed(name.split(".")):
            entry = {part: entry}
        settings = _merged(settings, entry)
    return rest, settings


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for name, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = _merged(merged[name], value) if both else value
    return merged


def _nearest(name: str, names: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.5)
    return f"did you mean '{nearest[0]}'?" if nearest else "--help lists them all."
