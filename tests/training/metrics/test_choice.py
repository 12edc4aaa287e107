import re
import sys

import evaluate
import pytest

from trivium.configuration import InputError
from trivium.training.metrics import METRICS, load
from trivium.training.metrics.choice import require


@pytest.mark.parametrize("name", METRICS)
def test_every_name_gives_a_metric_of_evaluate(name):
    metric = load(name, experiment_id="mine")
    assert isinstance(metric, evaluate.Metric) and type(metric).__name__ == METRICS[name][1]
    assert metric.description.splitlines()[0] in type(metric).__doc__


def test_an_unknown_name_is_answered_with_those_that_there_are():
    with pytest.raises(InputError, match=r"There is no metric 'acuracy'; did you mean 'accuracy'.*recall_at_k.*rouge"):
        load("acuracy")


@pytest.mark.parametrize("library", ["evaluate", "sklearn"])
def test_a_missing_library_is_said_in_one_sentence(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    sentence = f'{library} is not installed; get it with: pip install "trivium[finetune]"'
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}$"):
        load("f1")


def test_a_folder_of_the_name_of_a_library_is_not_taken_for_it(tmp_path, monkeypatch):
    (tmp_path / "left_behind").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    require("json")
    with pytest.raises(InputError, match="left_behind is not installed"):
        require("left_behind")
