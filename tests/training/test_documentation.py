"""The script in docs/finetuning.md runs as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.training.finetuned import write_base, write_data

PAGE = Path(__file__).resolve().parents[2] / "docs" / "finetuning.md"


def test_the_script_with_the_stock_trainer_runs(tokenizers, tmp_path):
    (script,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert 25 < script.count("\n") < 40
    write_base(tmp_path / "out" / "encoder", "encoder", tokenizers["encoder"])
    write_data(tmp_path / "data" / "sentiment", "text-classification")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "eval_accuracy" in done.stdout and re.search(r"'label': '(kind|unkind|none)'", done.stdout)
