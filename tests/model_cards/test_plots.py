import sys

import pytest

from tests.model_cards.folders import log, record, save
from trivium.model_cards.card import write_card
from trivium.model_cards.plots import PICTURE, Curves, curves, draw


def test_curves_are_what_was_logged_one_value_a_step():
    logged = [{"step": 2, "loss": 3.0}, {"step": 1, "loss": 4.0}, {"step": 2, "loss": 2.5}, {"step": 2, "loss": "nan"}]
    logged += [{"step": 0, "eval_loss": 5}, {"step": 2, "learning_rate": 1e-3}, {"loss": 9.0}]
    assert curves(logged) == Curves([(1, 4.0), (2, 2.5)], [(0, 5.0)], [(2, 1e-3)])
    assert curves([]) == Curves([], [], [])


def test_a_picture_is_drawn_once_and_again_when_the_curves_change(tmp_path):
    pytest.importorskip("matplotlib")
    found = curves(log())
    assert draw(found, tmp_path) is None
    path = tmp_path / PICTURE
    first, time = path.read_bytes(), path.stat().st_mtime_ns
    assert first.startswith(b"\x89PNG") and [one.name for one in path.parent.iterdir()] == ["loss.png"]
    assert draw(found, tmp_path) is None and path.stat().st_mtime_ns == time
    assert draw(curves(log(18)), tmp_path) is None and path.read_bytes() != first
    path.unlink()
    assert draw(found, tmp_path) is None and path.read_bytes() == first


def test_without_matplotlib_there_is_no_picture_and_the_card_tells_the_curves(tmp_path, monkeypatch):
    folder = save(tmp_path / "model", recorded=record(), logged=log())
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    (folder / PICTURE).parent.mkdir()
    (folder / PICTURE).write_bytes(b"of other curves")
    card = write_card(folder)
    text = card.path.read_text()
    assert "loss.png" not in text and not (folder / PICTURE).exists()
    assert (
        "By what was logged: training loss 4.8 at step 2, 3 at step 20; held-out loss 5 at step 0, 4.5 at step 20."
        in text
    )
    assert any("matplotlib is not installed" in clause for clause in card.missing)


def test_the_picture_has_words_for_those_who_cannot_see_it(tmp_path):
    pytest.importorskip("matplotlib")
    text = write_card(save(tmp_path / "model", recorded=record(), logged=log())).path.read_text()
    assert "![Curves of the run: training loss 4.8 at step 2, 3 at step 20; held-out loss" in text


@pytest.mark.parametrize("logged", [[], [{"step": 1, "loss": 2.0}]])
def test_too_little_for_curves_is_no_picture(tmp_path, logged):
    assert "too little" in draw(curves(logged), tmp_path) and not (tmp_path / "assets").exists()
