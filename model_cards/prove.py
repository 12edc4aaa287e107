"""Proves that a checkpoint loads elsewhere and computes the same: in clean processes, with Trivium and without it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig

from ..configuration.bundle import SHIM, SelfContainedConfig, bundle
from ..configuration.errors import InputError
from ..configuration.version import __version__
from . import load_and_ask
from .adapters import Adapter
from .contents import Contents, read_json, some
from .converted import agreement
from .load_and_ask import Job, ask, draw_inputs, load

PACKAGE = __name__.partition(".")[0]
ROWS, LENGTH = 2, 32
TOGETHER = 2**31  # bytes of weights up to which two processes hold them at once
# What two versions of a sum may differ by, relative to the largest output. On one machine they should not at all.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
HALF_TOLERANCE = 1e-2
FOREIGN_SETTINGS = ("HF_", "HUGGING", "TRANSFORMERS_")


@dataclass(frozen=True)
class Expected:
    """What a checkpoint computes here, and how it was loaded."""

    job: Job
    inputs: list[dict[str, Any]]
    answer: dict[str, Any]
    dtype: torch.dtype
    architecture: str
    is_ours: bool
    size: int


def examine(contents: Contents, trust: bool = False) -> Expected:
    """Loads a checkpoint and asks it about random tokens, in this process.

    Args:
        contents: the folder and what lies in it.
        trust: code that this version of Trivium did not write may run too.

    Raises:
        InputError: it does not load, lacks weights, or comes with code that nobody trusted.
    """
    folder = str(contents.folder)
    adapter = Adapter(contents.folder, contents.folder) if contents.is_adapter else None
    base = adapter.base.folder if adapter else None
    with _in_one_sentence(f"'{folder}' does not load"):
        config = AutoConfig.from_pretrained(base or folder, trust_remote_code=trust)
    is_ours = isinstance(config, SelfContainedConfig)
    check_code(contents.folder, config, trust)
    if base:
        check_code(Path(base), config, trust)
    auto, labels = _auto_class(contents.folder, adapter, config), adapter.labels if adapter else None
    job = Job(folder, None, auto, contents.has_tokenizer, base, trust, labels=labels)
    with _in_one_sentence(f"'{folder}' does not load as {job.auto}"):
        model, tokenizer = load(job)
    with _in_one_sentence(f"'{folder}' loads, but cannot be asked about random tokens"):
        inputs = draw_inputs(model, model.config, ROWS, _positions(model.config.to_dict()))
        answer = ask(model, tokenizer, inputs)
    job = replace(job, threads=torch.get_num_threads())
    name = type(model).__name__ if base is None else type(model.get_base_model()).__name__
    return Expected(job, inputs, answer, model.dtype, name, is_ours, contents.size)


def check_code(folder: Path, config: Any, trust: bool = False) -> None:
    """Raises `InputError` if the code in a folder is not the one that this version of Trivium writes for `config`.

    A proof runs it. With `trust` that is what somebody wants.
    """
    if trust:
        return
    ours = bundle(type(config)) if isinstance(config, SelfContainedConfig) else {}
    code = {path.name: path.read_bytes() for path in sorted(folder.glob("*.py"))}
    has_config = (folder / "config.json").is_file()  # which an adapter has not, nor has it code
    named = read_json(folder / "config.json").get("auto_map", {}) if has_config else {}
    if has_config and (missing := sorted(ours.keys() - code)):
        raise InputError(
            f"'{folder}' lacks the code that it needs where Trivium is not installed ({some(missing, 1)}): load it and "
            f"save it again with Trivium {__version__}."
        )
    foreign = [name for name, text in code.items() if text != ours.get(name, "").encode()]
    foreign += [str(value) for value in named.values() if not str(value).startswith(f"{SHIM}.")]
    if foreign:
        raise InputError(
            f"'{folder}' carries code that Trivium {__version__} did not write ({some(foreign)}): load it and save it "
            "again, or add --trust-remote-code for the proof to run it."
        )


def prove(expected: Expected, name: str, revision: str | None, home: Path) -> str:
    """Loads a checkpoint in clean processes, with Trivium and without it, and compares what it computes.

    The processes are offline, and no token is in their environment.

    Args:
        expected: what it must compute.
        name: its folder, or its name on the Hub.
        revision: the commit, for a name on the Hub.
        home: what HF_HOME is there; its `hub` holds the checkpoint if it is on the Hub.

    Returns:
        What was proved, for a sentence that begins with what was pushed.

    Raises:
        InputError: it does not load, or computes something else.
    """
    root = str(Path(find_spec(PACKAGE).origin).parent.parent)  # type: ignore[union-attr, arg-type]
    job = replace(expected.job, name=name, revision=revision)
    if expected.is_ours:
        jobs = {
            "with trivium": replace(job, package=root, trust=False, module=f"{PACKAGE}."),
            "without trivium": replace(job, package=None, trust=True, module="transformers_modules."),
        }
    else:
        jobs = {"with transformers alone": job}
    with ThreadPoolExecutor(len(jobs) if expected.size <= TOGETHER else 1) as pool:
        differences = list(pool.map(partial(_prove_one, expected, home), jobs, jobs.values()))
    how = "with and without trivium" if expected.is_ours else next(iter(jobs))
    tokens = sum(len(batch["input_ids"].flatten()) for batch in expected.inputs)
    outputs = agreement(max(differences)).replace("the same to the last bit", "equal bit for bit")
    tokenizer = ", tokenizer too" if job.tokenizer else ""
    return f"loads {how}, outputs {outputs} on {ROWS} x {tokens // ROWS} random tokens{tokenizer}"


def _auto_class(folder: Path, adapter: Adapter | None, config: Any) -> str:
    """The Auto class whose model was saved: that of the first of `architectures`, or of what an adapter is put on."""
    wanted = adapter.class_of(config) if adapter else (config.architectures or [""])[0]
    remote = {value.rpartition(".")[2]: auto for auto, value in (getattr(config, "auto_map", None) or {}).items()}
    if wanted in remote:
        return remote[wanted]
    for auto in dir(transformers):
        mapping = getattr(getattr(transformers, auto), "_model_mapping", {}) if auto.startswith("AutoModel") else {}
        if type(config) in mapping:
            made = mapping[type(config)]
            if wanted in [model.__name__ for model in (made if isinstance(made, (list, tuple)) else [made])]:
                return auto
    raise InputError(f"'{folder}' names no model class in its config.json that Auto classes know: '{wanted}'.")


def _positions(fields: dict[str, Any]) -> int:
    """The least limit on the length of a text that a configuration, or one inside it, sets."""
    here = [value for name, value in fields.items() if name in ("max_position_embeddings", "n_positions") and value]
    inner = [_positions(value) for value in fields.values() if isinstance(value, dict)]
    return min([LENGTH, *here, *inner])


def _prove_one(expected: Expected, home: Path, how: str, job: Job) -> float:
    """The largest relative difference between what is expected and what a process of its own computes."""
    place = home / how.replace(" ", "-")
    place.mkdir(parents=True)
    (place / "job.json").write_text(json.dumps(asdict(job)), encoding="utf-8")
    torch.save(expected.inputs, place / "inputs.pt")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN_SETTINGS)}
    environment |= {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(place / "modules")}
    command = [sys.executable, "-P", load_and_ask.__file__, str(place)]
    ran = subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if ran.returncode:
        raised = [line for line in ran.stderr.splitlines() if re.match(r"[\w.]+: ", line)]
        raise InputError(f"the proof failed: it does not load {how}: {(raised or [f'exit {ran.returncode}'])[-1]}")
    found = torch.load(place / "answer.pt")
    if found["tokens"] != expected.answer["tokens"]:
        raise InputError(f"the proof failed: {how} its tokenizer makes other tokens than here")
    difference = largest_difference(expected.answer, found)
    allowed = TOLERANCE.get(expected.dtype, HALF_TOLERANCE)
    if not difference <= allowed:
        raise InputError(
            f"the proof failed: {how} the outputs are apart by {difference:.1e} of the largest, more than {allowed:.0e}"
        )
    return difference


def largest_difference(expected: dict[str, Any], found: dict[str, Any]) -> float:
    """Between the tensors of two answers, each relative to its largest value; infinite if they are others."""
    tensors = {name: value for name, value in expected.items() if isinstance(value, torch.Tensor)}
    if {name: value.shape for name, value in tensors.items()} != {
        name: value.shape for name, value in found.items() if isinstance(value, torch.Tensor)
    }:
        return float("inf")
    differences = [0.0]
    for name, value in tensors.items():
        if not torch.equal(value, found[name]):
            value, other = value.double(), found[name].double()
            differences.append(((value - other).abs().max() / value.abs().max()).item())
    return torch.tensor(differences).max().item()  # nan if there is one


@contextmanager
def _in_one_sentence(beginning: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError:  # the command line says how to get it
        raise
    except Exception as error:  # a broken file raises whatever its reader does
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{beginning}: {first.rstrip('.')}.") from error
