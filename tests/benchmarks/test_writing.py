"""The two ways to attend while writing agree, and are measured."""

import json

import pytest

from benchmarks import writing


@pytest.mark.parametrize("lengths", ["equal", "different"])
def test_both_ways_say_the_same(lengths):
    case = writing.Case(4, 4, 32, 400, lengths)
    first, second = (step().double() for step in writing.make_steps(case).values())
    assert (first - second).norm() < 0.01 * first.norm()


def test_writing_is_measured(tmp_path):
    writing.main(["--quick", "--repetitions", "2", "--output", str(tmp_path)])
    entries = json.loads((tmp_path / "writing-cpu.json").read_text())["entries"]
    assert [entry["lengths"] for entry in entries] == ["equal", "different"]
    for entry in entries:
        assert list(entry["seconds"]) == list(writing.WAYS)
        assert all(len(seconds) == 2 for seconds in entry["seconds"].values())
