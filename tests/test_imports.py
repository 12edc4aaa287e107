"""Who may import whom, and what may be imported when the package itself is."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")

ALLOWED = {
    "configuration": set(),
    "modeling": {"configuration"},
    "tokenization": {"configuration"},
    "training": {"configuration", "modeling", "tokenization", "model_cards"},
    "model_cards": {"configuration", "modeling"},
    "trivium": {"configuration", "modeling", "tokenization", "training", "model_cards"},
}
VERSION = ("trivium", "__version__")  # set before any part is imported
# Each metric is one of evaluate, which this file therefore cannot do without; it is imported when one is asked for.
NOT_WITHOUT = {"training/metrics/base.py": {"evaluate"}}
OPTIONAL = [
    "accelerate",
    "datasets",
    "evaluate",
    "hypothesis",
    "jsonargparse",
    "matplotlib",
    "peft",
    "tensorboard",
    "trl",
]


def source_files(part: str) -> list[Path]:
    return sorted((ROOT / part).rglob("*.py"))


def imports(tree: ast.Module, module: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line and absolute dotted name of everything that a module imports, anywhere in it.

    `module` is the package that the module lies in, e.g. ("trivium", "modeling").
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, tuple(alias.name.split("."))) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module[: len(module) - node.level + 1] if node.level else ()
            name = (*base, *(node.module.split(".") if node.module else ()))
            yield from ((node.lineno, (*name, alias.name)) for alias in node.names)


def declared(field: str) -> set[str]:
    """Import names of the requirements in a list of pyproject.toml."""
    entries = PROJECT.split(f"\n{field} = [")[1].split("]")[0]
    names = {name.replace("-", "_") for name in re.findall(r'"([\w-]+)', entries)}
    return {"yaml" if name == "pyyaml" else name for name in names}


def package_of(path: Path, part: str) -> tuple[str, ...]:
    inner = path.relative_to(ROOT / part).parent.parts
    return ("trivium", *inner) if part == "trivium" else ("trivium", part, *inner)


def violations(tree: ast.Module, part: str, package: tuple[str, ...]) -> list[str]:
    found = []
    own = set(ALLOWED) - {"trivium"}
    absolute = {
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and not node.level)
    }
    for line, name in imports(tree, package):
        if name[0] in own or (name[0] == "trivium" and line in absolute):
            found.append(f"line {line}: {'.'.join(name)} should be imported relatively")
        elif name[0] == "trivium" and name != VERSION:
            target = name[1] if name[1] in own else "trivium"
            if target != part and target not in ALLOWED[part]:
                found.append(f"line {line}: {part} may not import {'.'.join(name)}")
    return found


@pytest.mark.parametrize("part", ALLOWED)
def test_nothing_imports_back_up(part):
    found = {
        str(path.relative_to(ROOT)): bad
        for path in source_files(part)
        if (bad := violations(ast.parse(path.read_text(encoding="utf-8")), part, package_of(path, part)))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("source", "part", "inner"),
    [
        ("from ..training import data", "modeling", ()),
        ("from .. import training", "modeling", ()),
        ("from ...modeling.block import Block", "configuration", ("deep",)),
        ("def f():\n    from ..tokenization.train import train", "model_cards", ()),
        ("from ..cli import main", "training", ()),
        ("import trivium.configuration", "training", ()),
        ("from trivium.configuration import TriviumConfig", "training", ()),
        ("import modeling", "training", ()),
    ],
)
def test_the_check_sees_a_wrong_import(source, part, inner):
    assert len(violations(ast.parse(source), part, ("trivium", part, *inner))) == 1


class WithoutFunctions(ast.NodeTransformer):
    """Leaves what runs when a module is imported."""

    def visit_FunctionDef(self, node):
        return None

    visit_AsyncFunctionDef = visit_FunctionDef


@pytest.mark.parametrize("part", ALLOWED)
def test_optional_libraries_are_imported_where_they_are_used(part):
    allowed = declared("dependencies") | set(sys.stdlib_module_names) | {"trivium"}
    if part == "training":
        allowed |= declared("train")
    found = []
    for path in source_files(part):
        tree = WithoutFunctions().visit(ast.parse(path.read_text(encoding="utf-8")))
        own = NOT_WITHOUT.get(path.relative_to(ROOT).as_posix(), set())
        found += [
            f"{path.relative_to(ROOT)}, line {line}: {name[0]}"
            for line, name in imports(tree, package_of(path, part))
            if name[0] not in allowed | own
        ]
    assert found == []


def test_the_package_imports_without_any_optional_library():
    blocked = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({OPTIONAL!r}))\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "import trivium\n"
        "print(trivium.__version__)\n"
    )
    run = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_every_folder_with_modules_is_in_the_wheel():
    """`packages` of pyproject.toml is a list by hand: a forgotten sub-package would be missing only from the wheel."""
    listed = PROJECT.split("\npackages = [")[1].split("]")[0]
    for part in ALLOWED:
        for path in source_files(part):
            assert f'"{".".join(package_of(path, part))}"' in listed, (
                f"{path.parent} is not in pyproject.toml's packages"
            )
