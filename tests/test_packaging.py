"""The package is the same whether it is installed as a wheel or not installed at all."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PARTS = ["configuration", "model_cards", "modeling", "tokenization", "training"]

# Imports the package in a fresh process from one place only: an editable install would hide what is missing there.
PROBE = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
sys.path.insert(0, {place!r})
import trivium
from importlib import import_module
for part in {parts!r}:
    print(import_module("trivium." + part).__file__)
print(trivium.__file__, trivium.__version__, issubclass(trivium.TriviumDecoderConfig, trivium.TriviumConfig))
"""


def imported_from(place: Path, elsewhere: Path) -> list[str]:
    """The files that the parts are imported from by a process that runs in the folder `elsewhere`."""
    probe = PROBE.format(place=str(place), parts=PARTS)
    run = subprocess.run([sys.executable, "-c", probe], cwd=elsewhere, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def sources() -> set[str]:
    """Every file that belongs into the wheel, as a path inside the package."""
    inside = {path.relative_to(ROOT).as_posix() for path in (ROOT / "trivium").rglob("*.py")} | {"trivium/py.typed"}
    for part in PARTS:
        for pattern in ("*.py", "recipes/*.yaml", "launch/*.yaml", "*.jinja", "*.txt", "demo/card.yaml"):
            inside |= {f"trivium/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / part).rglob(pattern)}
    return inside


def test_a_source_tree_works_from_any_folder(tmp_path):
    for line in imported_from(ROOT, tmp_path):
        assert line.startswith(str(ROOT))


@pytest.mark.slow
def test_a_wheel_holds_every_module_recipe_and_launch_file(tmp_path):
    tree, wheels, site = tmp_path / "tree", tmp_path / "wheels", tmp_path / "site"
    for folder in ["trivium", *PARTS]:
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(wheels)]
    subprocess.run([*build, str(tree)], check=True, capture_output=True)
    with zipfile.ZipFile(next(wheels.glob("trivium-*.whl"))) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
        wheel.extractall(site)
    assert packed == sources()
    for line in imported_from(site, tmp_path):
        assert line.startswith(str(site))
