"""The YAML at the head of a card: made of facts and answers, and checked without asking the Hub."""

from typing import Any

from huggingface_hub import ModelCardData

from ..configuration.errors import InputError
from .answers import Answers
from .facts import Facts
from .results import eval_results, results
from .text import line
from .usage import head_of
from .vocabulary import (
    DATASET_NAME,
    HUB_NAME,
    check_language,
    check_license,
    check_name,
    check_pipeline_tag,
    check_relation,
)

CONVERSION = "trivium_conversion"  # where a card keeps what nothing else in the folder says
LIBRARIES = ("transformers", "peft")
CO2 = ("emissions", "source", "training_type", "geographical_location", "hardware_used")


def make_metadata(facts: Facts, answers: Answers, conversion: dict[str, Any], name: str) -> ModelCardData:
    """What is known, and no more; see [`check_metadata`]."""
    base, relation = base_model(facts, answers, conversion)
    task = answers.get("pipeline_tag") or head_of(facts).task
    found = results(facts) if task else []
    kept: dict[str, Any] = {CONVERSION: conversion} if conversion else {}
    tags = facts.adapter.tags if facts.adapter else []
    data = ModelCardData(
        license=answers.get("license") or conversion.get("license"),
        license_name=_line(answers.get("license_name")),
        license_link=_line(answers.get("license_link")),
        language=answers.get("language") or languages(facts),
        library_name="peft" if facts.adapter else "transformers",
        pipeline_tag=task,
        tags=["trivium"] * facts.is_ours + tags + [line(tag) for tag in answers.get("tags", [])] or None,
        base_model=base,
        base_model_relation=relation,
        datasets=answers.get("datasets") or datasets(facts) or None,
        metrics=list(dict.fromkeys(result.metric for result in found)) or None,
        model_name=line(name) if found else None,
        eval_results=eval_results(found, task) if found and task else None,
        co2_eq_emissions=emissions(facts),
        **kept,
    )
    check_metadata(data.to_dict())
    return data


def base_model(facts: Facts, answers: Answers, conversion: dict[str, Any]) -> tuple[str | None, str | None]:
    """The model on the Hub that this one was made of, and how; of the Hub's words for that one must do.

    A conversion only has another form, for which the Hub says `quantized`, whatever the numbers' precision.
    """
    source = answers.get("base_model") or conversion.get("base_model")
    if facts.adapter:
        source = source or (facts.adapter.base.name if facts.adapter.base.on_hub else None)
    else:
        source = source or facts.start
    if not source or not HUB_NAME.fullmatch(str(source)):
        return None, None
    relation = "adapter" if facts.adapter else "quantized" if conversion else "finetune"
    return source, answers.get("base_model_relation") or relation


def languages(facts: Facts) -> list[str] | None:
    """The languages of the training text, if those of every source are on record."""
    sources = facts.record.get("data") or []
    known = [source.get("languages") for source in sources]
    return sorted({code for codes in known for code in codes}) if known and all(known) else None


def datasets(facts: Facts) -> list[str]:
    """The data sets on the Hub that it was trained on."""
    sources = [source for source in facts.record.get("data") or [] if source.get("kind") == "hub"]
    return [name for source in sources for name in source.get("data") or [] if DATASET_NAME.fullmatch(str(name))]


def emissions(facts: Facts) -> dict[str, Any] | None:
    """The block `co2_eq_emissions`, in grams, if they were measured."""
    measured = (facts.record.get("emissions") or {}).get("co2_eq_emissions")
    if not isinstance(measured, dict) or not isinstance(measured.get("emissions"), float | int):
        return None
    return {name: value if name == "emissions" else line(value) for name, value in measured.items() if name in CO2}


def check_metadata(data: dict[str, Any]) -> None:
    """Raises `InputError` for the first thing that the Hub would refuse or misread; asks nobody."""
    checks = {
        "license": check_license,
        "language": check_language,
        "pipeline_tag": check_pipeline_tag,
        "base_model_relation": check_relation,
        "base_model": check_name,
        "datasets": lambda name: check_name(name, DATASET_NAME, "org/data-set"),
    }
    for name, check in checks.items():
        value = data.get(name)
        for part in value if isinstance(value, list) else [] if value is None else [value]:
            check(part)
    _check_license_name(data)
    if data.get("base_model_relation") and not data.get("base_model"):
        raise InputError("`base_model_relation` says how the model came from its `base_model`: name that too.")
    if data.get("library_name") not in LIBRARIES:
        raise InputError(f"`library_name` must be {' or '.join(LIBRARIES)}, not {data.get('library_name')!r}.")
    tags = data.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) and tag for tag in tags):
        raise InputError(f"`tags` must be a list of words, not {tags!r}.")
    _check_emissions(data.get("co2_eq_emissions"))
    _check_model_index(data)


def _check_license_name(data: dict[str, Any]) -> None:
    if data.get("license") == "other" and not data.get("license_name"):
        raise InputError("the license 'other' needs a license_name, and a license_link where it can be read.")
    if data.get("license") != "other" and (data.get("license_name") or data.get("license_link")):
        raise InputError("license_name and license_link are for the license 'other': leave them out, or set that.")


def _check_emissions(block: Any) -> None:
    if block is None:
        return
    grams = block.get("emissions") if isinstance(block, dict) else None
    if not isinstance(grams, int | float) or isinstance(grams, bool) or not 0 <= grams < float("inf"):
        raise InputError(f"`co2_eq_emissions` must hold `emissions` in grams, not {block!r}.")
    if unknown := set(block) - set(CO2):
        raise InputError(f"`co2_eq_emissions` has no field '{min(unknown)}': it may hold {', '.join(CO2)}.")


def _check_model_index(data: dict[str, Any]) -> None:
    """What the Hub asks for is there, and reading the metadata gives what was written."""
    try:
        again = ModelCardData(**data).to_dict()
        values = [
            metric["value"]
            for model in data.get("model-index", [])
            for result in model["results"]
            for metric in result["metrics"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"`model-index` is not understood: {error}") from None
    if again != data or not all(isinstance(value, int | float | str) for value in values):
        raise InputError("`model-index` does not say the same when it is read again: values must be numbers.")


def _line(value: str | None) -> str | None:
    return None if value is None else line(value)
