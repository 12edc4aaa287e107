"""The code that a checkpoint carries, so that it also loads where Trivium is not installed.

A saved configuration has beside it the modules that its models need: the files of this package, flattened into one
folder (`modeling/attention.py` becomes `modeling_attention.py`) with their relative imports rewritten, and one module
that all entries of `auto_map` name. transformers copies code one level deep, and gives each module that `auto_map`
names a package of its own: of two such modules the classes would be strangers.

A copy that was loaded from a checkpoint copies itself.
"""

import ast
import os
import tempfile
import zlib
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from transformers.configuration_utils import PreTrainedConfig
from transformers.utils import logging

from .adapters import tell_peft
from .errors import InputError
from .pipelines import Task, custom_pipelines, tasks_of
from .version import __version__, find_mismatch

SHIM = "modeling_trivium"
HERE = Path(__file__).resolve()
INSTALLED = HERE.stem == "bundle"  # and not a copy in a checkpoint
ROOT = HERE.parent.parent if INSTALLED else HERE.parent
HEADER = '''"""Trivium {version}: what `auto_map` in config.json names. Apache License 2.0."""

from .configuration_version import require_transformers

require_transformers()

'''

# A model loads without its pipelines, whatever becomes of those in transformers.
GETATTR = '''

def __getattr__(name):
    """The pipelines, imported when they are asked for."""
{pipelines}    raise AttributeError(f"module {{__name__!r}} has no attribute {{name!r}}")
'''
logger = logging.get_logger(__name__)


def own_name(name: str) -> str:
    """`name`, or in a copy that came with a checkpoint one that no other copy has.

    torch's operators and transformers' attention backends are registered by name, once for all copies in a process.
    """
    return name if INSTALLED else f"{name}_{zlib.crc32(__name__.encode()):08x}"


class SelfContainedConfig(PreTrainedConfig):
    """A configuration that is saved with the code of its models, and knows the versions that saved it.

    Attributes:
        auto_classes: the Auto classes of transformers, and for each the model's class in this family.
        trivium_version, torch_version: of whoever saved it.
    """

    auto_classes: ClassVar[dict[str, str]] = {}

    # Not annotated: these are no fields of a model.
    trivium_version = None
    torch_version = None

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any) -> None:
        """As in transformers, with the code beside it; see [`write_code`]."""
        self.auto_map = {
            auto: f"{SHIM}.{name}" for auto, name in {"AutoConfig": type(self).__name__, **self.auto_classes}.items()
        }
        self.trivium_version, self.torch_version = __version__, metadata.version("torch")
        write_code(Path(save_directory), type(self))
        super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in transformers; says what may be wrong where other versions wrote it."""
        mismatch = find_mismatch(config_dict.get("trivium_version"), config_dict.get("transformers_version"))
        if mismatch:
            logger.warning_once(mismatch)
        if INSTALLED and config_dict.get("custom_pipelines"):  # ours are registered, and need nobody's trust
            given = config_dict["custom_pipelines"].items()
            others = {task: how for task, how in given if not how["impl"].startswith(f"{SHIM}.")}
            config_dict = config_dict | {"custom_pipelines": others}
        try:
            return super().from_dict(config_dict, **kwargs)
        except InputError as error:
            raise InputError(f"{str(error).rstrip('.')}; {mismatch}") if mismatch else error from None

    def to_dict(self) -> dict[str, Any]:
        """As in transformers, with the pipelines of the heads that `architectures` names.

        PEFT asks a model for this right before it looks up what to adapt of such a model.
        """
        tell_peft(self.model_type)
        fields = super().to_dict()
        pipelines = custom_pipelines(tasks_of(self.auto_classes, fields.get("architectures") or []), SHIM)
        if pipelines:
            fields["custom_pipelines"] = (fields.get("custom_pipelines") or {}) | pipelines
        return fields

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoConfig") -> None:
        """Does nothing: what transformers would copy is one file."""

    def _get_files_timestamps(self, working_dir: str | os.PathLike) -> dict[str, float]:
        """Without the code, which was written before: whatever is here is not pushed as it was there already."""
        code = bundle(type(self))
        return {name: time for name, time in super()._get_files_timestamps(working_dir).items() if name not in code}


def write_code(folder: Path, config_class: type[SelfContainedConfig]) -> None:
    """Writes the modules that the models of a configuration need into `folder`, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in bundle(config_class).items():
        path = folder / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        handle, aside = tempfile.mkstemp(suffix=".tmp", dir=folder)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(aside, 0o644)
        os.replace(aside, path)


def bundle(config_class: type[SelfContainedConfig]) -> dict[str, str]:
    """The text of every module that a checkpoint of this configuration carries, by file name."""
    if not INSTALLED:
        return {path.name: path.read_text(encoding="utf-8") for path in _closure([ROOT / f"{SHIM}.py"])}
    family = ROOT / "modeling" / f"{config_class.model_type.removeprefix('trivium_')}.py"
    names = sorted(set(config_class.auto_classes.values()))
    imports = {HERE.with_name("families.py"): [config_class.__name__], family: names}
    lines = [f"from .{_flat(path)} import {', '.join(wanted)}" for path, wanted in imports.items()]
    exported = [config_class.__name__, *names]
    shim = HEADER.format(version=__version__) + "\n".join(lines) + f"\n\n__all__ = {exported!r}\n"
    pipelines = {task.pipeline: _pipeline_path(task) for task in tasks_of(config_class.auto_classes).values()}
    shim += GETATTR.format(pipelines="".join(_import_lazily(_flat(path), name) for name, path in pipelines.items()))
    carried = [*imports, *pipelines.values(), HERE.with_name("version.py")]
    code = {f"{_flat(path)}.py": _flattened(path) for path in _closure(carried)}
    return {f"{SHIM}.py": shim, **code}


def _pipeline_path(task: Task) -> Path:
    return ROOT / "modeling" / "pipelines" / f"{task.module}.py"


def _import_lazily(module: str, name: str) -> str:
    return f'    if name == "{name}":\n        from .{module} import {name}\n\n        return {name}\n'


def _closure(paths: list[Path]) -> list[Path]:
    """The modules, and those that they import relatively, and so on."""
    found: dict[Path, None] = {}
    waiting = list(paths)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found[path] = None
            waiting += [target for _, target in _relative_imports(path)]
    return sorted(found)


@cache
def _relative_imports(path: Path) -> list[tuple[ast.ImportFrom, Path]]:
    """Every `from .module import name`, at any depth, and the file of its module."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    found = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.level]
    return [(node, path.parents[node.level - 1].joinpath(*node.module.split(".")).with_suffix(".py")) for node in found]


@cache
def _flattened(path: Path) -> str:
    """A module's text with its relative imports as they are among the flattened ones."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for node, target in _relative_imports(path):
        line = lines[node.lineno - 1]
        lines[node.lineno - 1] = line.replace(
            f"from {'.' * node.level}{node.module} import", f"from .{_flat(target)} import"
        )
    return "".join(lines)


def _flat(path: Path) -> str:
    """The name of a flattened module."""
    return "_".join(path.relative_to(ROOT).with_suffix("").parts)
