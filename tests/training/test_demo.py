import json

import pytest

from trivium.training import demo
from trivium.training.verbs import run


@pytest.mark.slow
def test_the_demonstration_trains_loads_and_shows_all_three(tmp_path, capsys):
    """A few steps instead of hundreds; everything else as `make demo` does it."""
    assert demo.main(["--output_dir", str(tmp_path), "--max_steps", "3"]) == 0
    said = capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text())
    assert [row["family"] for row in results["families"]] == list(results["samples"]) == list(demo.FAMILIES)
    assert results["samples"]["encoder"].count("%") == 3
    assert results["samples"]["decoder"].startswith("The import statement")
    assert (tmp_path / "results.md").read_text().strip() in said
    for row in results["families"]:
        assert row["held_out_bits_per_byte_after"] < row["held_out_bits_per_byte_before"]


def test_the_table_lines_up():
    row = dict.fromkeys(demo.COLUMNS, 1.25) | {"family": "encoder", "parameters": 1_017_216, "tokens": 3}
    lines = demo.markdown([row], {"encoder": "a sample"}).splitlines()
    assert len({len(line) for line in lines[:3]}) == 1
    assert lines[0].startswith("| family  | parameters |") and "1,017,216" in lines[2] and "1.250" in lines[2]
    assert lines[-1] == "- encoder: a sample" and "never down a column" in lines[4]


@pytest.mark.slow
def test_checkpoints_that_do_not_load_are_an_error(tmp_path, capsys):
    def main(argv):
        demo.show(tmp_path)

    assert run(main, []) == 2
    assert "do not load in a new process" in capsys.readouterr().err
