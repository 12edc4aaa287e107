"""What a run writes down of itself, so that its card can tell: data, settings, machine, versions."""

import dataclasses
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from transformers import TrainingArguments

from ..configuration.version import __version__
from ..model_cards.text import redact
from .arguments import DataArguments, PretrainArguments, PretrainTrainingArguments, RunArguments
from .data.mixture import Mixture
from .data.readers import KINDS, suffix
from .data.sources import EMBEDDED_CORPUS, Texts
from .finetune_arguments import FinetuneArguments, FinetuneTrainingArguments

# What a recipe for others leaves out: what follows from the machine or from other settings, what is of this folder
# only, and where to report to.
OWN = frozenset(
    "use_cpu dataloader_pin_memory fresh resume_from_checkpoint card output_dir run_name report_to disable_tqdm "
    "push_to_hub hub_model_id hub_revision hub_private_repo hub_strategy ignore_data_skip accelerator_config "
    "debug do_eval local_rank ddp_backend parallelism_config".split()
)
PYTHON_DOCS = {"languages": ["en"], "license": "Python Software Foundation License"}


def run_record(
    args: PretrainArguments, training_args: PretrainTrainingArguments, command: str | None = None
) -> dict[str, Any]:
    """Every setting that is not the default, the recipe, versions and machine; with secrets left out."""
    return {"pretraining": dataclasses.asdict(args), **_circumstances(args, training_args, command)}


def finetune_record(
    args: FinetuneArguments,
    training_args: FinetuneTrainingArguments,
    counts: dict[str, int],
    command: str | None = None,
) -> dict[str, Any]:
    """The same of fine-tuning, with how many examples there were."""
    held_out = sum(counts.get(split, 0) for split in ("validation", "test"))
    data = {"name": "data", "data": args.data, "kind": kind_of(args.data), "config": args.data_config, "split": "train"}
    return {
        "finetuning": dataclasses.asdict(args) | {"examples": counts},
        "data": [data | {"documents": counts.get("train"), "held_out_documents": held_out}],
        **_circumstances(args, training_args, command),
    }


def _circumstances(args: Any, training_args: RunArguments, command: str | None) -> dict[str, Any]:
    return {
        "training": changed_settings(training_args),
        "command": command and redact(command),
        "recipe": recipe_of(args, training_args),
        "versions": versions(),
        "machine": {"processor": processor(), "processes": training_args.world_size, "system": platform.platform()},
    }


def versions() -> dict[str, str]:
    """Of what computes."""
    return {
        "trivium": __version__,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def now() -> str:
    """The time, in the one form in which times are compared as text."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def processor() -> str:
    """What computes in each process."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    threads = torch.get_num_threads()
    return f"CPU ({cpu_name()}), {threads} thread{'s' if threads != 1 else ''}"


def cpu_name() -> str:
    """The processor's name, where the system tells it; else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def changed_settings(training_args: TrainingArguments) -> dict[str, Any]:
    """The settings that are not transformers' defaults, without those that are empty both ways and without secrets.

    Compared with the fields' defaults: a second `TrainingArguments` would reset the state of the running processes.
    """
    defaults = _defaults(TrainingArguments)
    return {
        name: value
        for name, value in training_args.to_dict().items()
        if value != (default := defaults.get(name)) and (value or default) and not name.endswith("_token")
    }


def recipe_of(args: Any, training_args: RunArguments) -> dict[str, Any]:
    """The fields of a recipe that trains the same: those that are not as the verb has them anyway."""
    recipe: dict[str, Any] = {}
    values = (dataclasses.asdict(args), training_args.to_dict())
    for kind, given in zip((type(args), type(training_args)), values, strict=True):
        defaults = _defaults(kind)
        names = [field.name for field in dataclasses.fields(kind) if field.init and field.name in given]
        recipe |= {
            name: given[name] for name in names if given[name] != defaults[name] and (given[name] or defaults[name])
        }
    return {name: value for name, value in recipe.items() if name not in OWN and not name.endswith("_token")}


def data_record(args: PretrainArguments, sources: dict[str, Texts], rows: Any) -> list[dict[str, Any]]:
    """Of each source what it is, how many documents, bytes and tokens it has, its languages and licence if known."""
    packed = rows.sources if isinstance(rows, Mixture) else dict.fromkeys(sources, rows)
    return [
        {"name": name, **_describe(source, sources[name]), "tokens": getattr(packed[name], "num_tokens", None)}
        | ({"weight": rows.shares[name]} if isinstance(rows, Mixture) else {})
        for name, (source, _) in args.sources.items()
    ]


def kind_of(data: list[str]) -> str:
    """python-docs, hub, or files (a folder too)."""
    if data == [EMBEDDED_CORPUS]:
        return EMBEDDED_CORPUS
    name = data[0]
    local = Path(name).exists() or suffix(name) in KINDS or any(sign in name for sign in "*?[")
    return "hub" if len(data) == 1 and not local else "files"


def _describe(source: DataArguments, texts: Texts) -> dict[str, Any]:
    kind = kind_of(source.data)
    info = getattr(texts.train, "info", None)
    return {
        "data": source.data,
        "kind": kind,
        "config": source.data_config,
        "split": source.data_split if kind == "hub" else None,
        **_count(texts.train),
        **{f"held_out_{name}": count for name, count in _count(texts.held_out).items()},
        **(PYTHON_DOCS if kind == EMBEDDED_CORPUS else {"license": getattr(info, "license", None) or None}),
    }


def _count(documents: datasets.Dataset | datasets.IterableDataset) -> dict[str, int | None]:
    """Documents and their bytes; neither is known of a stream."""
    if isinstance(documents, datasets.IterableDataset):
        return {"documents": None, "bytes": None}
    batches = documents.with_format("arrow").iter(10_000)
    return {"documents": len(documents), "bytes": sum(_bytes(table.itercolumns()) for table in batches)}


def _bytes(columns: Iterable[Any]) -> int:
    import pyarrow.compute

    return sum(pyarrow.compute.sum(pyarrow.compute.binary_length(column)).as_py() or 0 for column in columns)


def _defaults(kind: type) -> dict[str, Any]:
    return {
        field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        for field in dataclasses.fields(kind)
    }
