"""The scripts in docs/finetuning.md run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.finetuned import write_base, write_data

PAGE = Path(__file__).resolve().parents[2] / "docs" / "finetuning.md"
# By trainer: what it begins with, what it learns from, and what it prints.
SCRIPTS = {
    "Trainer": ("encoder", "sentiment", "text-classification", "eval_accuracy", r"'label': '(kind|unkind|none)'"),
    "Seq2SeqTrainer": ("encoder-decoder", "summaries", "text-to-text", "eval_chrf", r"'summary_text': '"),
}


@pytest.mark.parametrize("trainer", SCRIPTS)
def test_the_script_with_a_stock_trainer_runs(trainer, tokenizers, tmp_path):
    family, data, task, metric, answer = SCRIPTS[trainer]
    scripts = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (script,) = [script for script in scripts if f"trainer = {trainer}(" in script]
    assert 25 < script.count("\n") < 55
    write_base(tmp_path / "out" / family, family, tokenizers[family])
    write_data(tmp_path / "data" / data, task)
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert metric in done.stdout and re.search(answer, done.stdout), done.stdout
