"""What was saved once keeps loading: with the code it carries, with ours, under the oldest and newest transformers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from tests.modeling.freeze import EXPECTED, FROZEN, freeze, largest_difference, thaw
from trivium.configuration.version import OLDEST_TRANSFORMERS, TESTED_TRANSFORMERS, __version__

ARCHIVES = sorted(FROZEN.glob("*.zip"))
AUTO = {"encoder": AutoModelForMaskedLM, "decoder": AutoModelForCausalLM, "encoder_decoder": AutoModelForSeq2SeqLM}
TORCH = {OLDEST_TRANSFORMERS: "2.11.0", TESTED_TRANSFORMERS: "2.13.0"}
TOLERANCE = 1e-5
# Without the package, and without the tests, whose imports are the package's.
LOAD = """
import sys
from pathlib import Path
import torch, transformers
from safetensors.torch import load_file
for folder in sorted(Path(sys.argv[1]).iterdir()):
    auto = {{"encoder": "AutoModelForMaskedLM", "decoder": "AutoModelForCausalLM"}}
    kind = getattr(transformers, auto.get(folder.name.partition("-")[0], "AutoModelForSeq2SeqLM"))
    model = kind.from_pretrained(folder, trust_remote_code=True).eval()
    expected = load_file(folder / "{expected}")
    inputs = {{name.removeprefix("input."): x for name, x in expected.items() if name.startswith("input.")}}
    with torch.no_grad():
        difference = (model(**inputs).logits - expected["logits"]).abs().max().item()
    print(folder.name, transformers.__version__, torch.__version__, difference)
    assert difference < {tolerance}
"""


def load_elsewhere(python: str, folder: Path, home: Path) -> list[str]:
    script = home / "load.py"
    script.write_text(LOAD.format(expected=EXPECTED, tolerance=TOLERANCE), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HOME": str(home / "home"), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(
        [python, str(script), str(folder)], capture_output=True, text=True, cwd=home, env=environment, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


@pytest.fixture
def thawed(tmp_path):
    for archive in ARCHIVES:
        thaw(archive, tmp_path / "checkpoints" / archive.stem)
    return tmp_path / "checkpoints"


def test_there_is_one_of_each_family_and_of_this_version():
    names = {archive.stem.rpartition("-")[0] for archive in ARCHIVES}
    assert names == set(AUTO)
    assert {f"{family}-{__version__}" for family in AUTO} <= {archive.stem for archive in ARCHIVES}


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive.stem)
def test_the_package_computes_what_was_computed_then(archive, tmp_path):
    thaw(archive, tmp_path)
    model = AUTO[archive.stem.rpartition("-")[0]].from_pretrained(tmp_path)
    assert type(model).__module__.startswith("trivium.")
    assert largest_difference(model, tmp_path) < TOLERANCE


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("transformers", TORCH)
def test_its_own_code_does_too_in_a_fresh_environment(transformers, thawed, tmp_path):
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = str(environment / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, f"torch=={TORCH[transformers]}", "numpy"], check=True)
    subprocess.run([*pip, f"transformers=={transformers}.*"], check=True)
    lines = load_elsewhere(python, thawed, tmp_path)
    assert len(lines) == len(ARCHIVES) and all(f" {transformers}." in line for line in lines)


def test_what_is_frozen_is_what_is_saved(tmp_path):
    """A checkpoint frozen now loads and agrees: the test itself can fail."""
    freeze(tmp_path)
    (archive,) = tmp_path.glob(f"decoder-{__version__}.zip")
    thaw(archive, tmp_path / "decoder")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "decoder")
    assert largest_difference(model, tmp_path / "decoder") == 0
    model.get_input_embeddings().weight.data.mul_(1.001)
    assert largest_difference(model, tmp_path / "decoder") > TOLERANCE
