"""What of a checkpoint's folder goes to the Hub, and what never does."""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from ..configuration.errors import InputError

PICKLES = "pickles, which can run code when they are read"
# The first pattern that is found in a path, or in a folder's with a slash behind it, says why it stays here.
LEFT_OUT = {
    "may hold a secret": r"(?i)(^|[/._-])(env|token|secrets?|credentials?|passwords?|api[_-]?keys?|netrc)([._-]|/?$)"
    r"|\.(pem|key)$",
    "hidden": r"(^|/)\.",
    "checkpoints of the run": r"^checkpoint-\d+/",
    PICKLES: r"\.(bin|pt|pth|pkl|pickle|ckpt|joblib|npy|npz|distcp)$",
    "state of the training": r"^(trainer_state|trivium_\w+)\.json$",
}
FOLDERS = r"(assets|additional_chat_templates|\d+_\w+)/"
PART = re.compile(
    rf"({FOLDERS})?[^/]+\.(safetensors|json|md|jinja|model|tiktoken|png|jpg|svg)"
    r"|[^/]+\.py|(vocab|merges)\.txt|(LICENSE|NOTICE)(\.txt)?"
)
OTHER = "no part of a checkpoint"
SECRET = re.compile(
    rb"\bhf_[A-Za-z0-9]{20,}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{30,}|\bAKIA[A-Z0-9]{16}\b"
    rb"|\bsk-[A-Za-z0-9_-]{32,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)


@dataclass(frozen=True)
class Contents:
    """The files of `folder` that are uploaded, with their sizes in bytes, and for each other path why it is not."""

    folder: Path
    files: dict[str, int]
    left_out: dict[str, str]

    @property
    def size(self) -> int:
        """Of all files together, in bytes."""
        return sum(self.files.values())

    @property
    def is_adapter(self) -> bool:
        """Whether it holds an adapter of PEFT, which needs a base model."""
        return "adapter_config.json" in self.files

    @property
    def has_tokenizer(self) -> bool:
        """Whether a tokenizer lies beside the weights."""
        return "tokenizer_config.json" in self.files

    def sentences(self) -> list[str]:
        """What stays here, a line for each reason."""
        return [
            f"left out, {reason}: {some(path for path, _ in paths)}"
            for reason, paths in groupby(sorted(self.left_out.items(), key=lambda item: item[1]), lambda item: item[1])
        ]


def survey(folder: Path) -> Contents:
    """Which files of a checkpoint are uploaded.

    Raises:
        InputError: there is no checkpoint with weights in safetensors, a file lies elsewhere, or it holds a secret.
    """
    if not folder.is_dir():
        raise InputError(f"'{folder}' is no folder: name the one that the model was saved to.")
    files, left_out = {}, {}
    for place, folders, names in os.walk(folder):
        inside = Path(place).relative_to(folder)
        for name in sorted(folders):
            path = (inside / name).as_posix()
            if why := _why_not(f"{path}/"):
                folders.remove(name)
                left_out[f"{path}/"] = why
            else:
                _check_link(folder, path)
        for name in names:
            path = (inside / name).as_posix()
            if why := _why_not(path):
                left_out[path] = why
            else:
                _check_link(folder, path)
                files[path] = (folder / path).stat().st_size
    contents = Contents(folder, dict(sorted(files.items())), left_out)
    _check_parts(contents)
    _check_secrets(contents)
    return contents


def is_stale(path: str) -> bool:
    """Whether a file that the Hub has and the folder has not is of the kinds that change how a checkpoint loads.

    Such are parts of a checkpoint, and pickles in their place; other people's additions stay.
    """
    kept = path.upper().startswith(("LICENSE", "NOTICE"))
    return not kept and (_why_not(path) is None or ("/" not in path and bool(re.search(LEFT_OUT[PICKLES], path))))


def read_json(path: Path) -> dict[str, Any]:
    """What a file holds; `InputError` if it is broken."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise InputError(f"'{path}' is broken: save the model again.") from None


def some(names: Iterable[str], most: int = 5) -> str:
    """The first of them, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _why_not(path: str) -> str | None:
    why = next((reason for reason, pattern in LEFT_OUT.items() if re.search(pattern, path)), None)
    wanted = re.fullmatch(FOLDERS, path) if path.endswith("/") else PART.fullmatch(path)
    return why or (None if wanted else OTHER)


def _check_link(folder: Path, path: str) -> None:
    target = (folder / path).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise InputError(f"'{folder / path}' is a link out of the folder: put the file itself there.")
    if not target.exists():
        raise InputError(f"'{folder / path}' is a link to nothing: put the file itself there.")


def _check_parts(contents: Contents) -> None:
    folder, files = contents.folder, contents.files
    if not {"config.json", "adapter_config.json"} & files.keys():
        raise InputError(f"'{folder}' holds no config.json: name the folder that a model was saved to.")
    if not any(name.endswith(".safetensors") for name in files):
        pickled = some(name for name in contents.left_out if name.endswith((".bin", ".pt", ".pth", ".ckpt")))
        found = f"but {pickled}: pickles are never uploaded, so" if pickled else ":"
        raise InputError(f"'{folder}' holds no weights in safetensors{found} load the model and save it again.")
    for name in files:
        if name.endswith(".safetensors.index.json"):
            shards = set(read_json(folder / name).get("weight_map", {}).values())
            if missing := sorted(shards - files.keys()):
                raise InputError(f"'{folder}' lacks {some(missing)}, which {name} names: save the model again.")


def _check_secrets(contents: Contents) -> None:
    for name in contents.files:
        if not name.endswith(".safetensors") and SECRET.search((contents.folder / name).read_bytes()):
            raise InputError(f"'{contents.folder / name}' holds what looks like an access token: take it out first.")
