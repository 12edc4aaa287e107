import json
import math

import numpy as np
import pytest

from trivium.configuration import InputError
from trivium.training.guard import NEEDED, TOO_MANY, SpikeGuard


def losses(count, seed=0):
    return (2 + 0.1 * np.random.default_rng(seed).standard_normal(count)).tolist()


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1), (math.inf, 1), (2.0, math.nan), (2.0, math.inf)])
def test_what_is_no_number_is_left_out_from_the_first_step_on(loss, norm):
    guard = SpikeGuard(None)
    assert "is nan" in guard.verdict(loss, norm) or "is inf" in guard.verdict(loss, norm)
    assert guard.verdict(2.0, 1.0) is None and guard.skipped >= 1


def test_a_spike_is_what_lies_far_above_the_last_losses_and_only_then():
    guard = SpikeGuard(6.0)
    for loss in losses(NEEDED - 1):
        assert guard.verdict(loss, 1.0) is None
    assert guard.verdict(50.0, 1.0) is None  # too early to tell
    guard = SpikeGuard(6.0)
    assert not [loss for loss in losses(2000) if guard.verdict(loss, 1.0)]
    mean, deviation = np.mean(guard.losses), np.std(guard.losses)
    assert guard.verdict(mean + 6.1 * deviation, 1.0) and guard.verdict(mean + 5.9 * deviation, 1.0) is None
    assert guard.verdict(mean - 100, 1.0) is None
    assert SpikeGuard(None).verdict(1e9, 1.0) is None


def test_a_spike_is_not_remembered_so_the_next_one_is_found_too():
    guard = SpikeGuard(6.0)
    for loss in losses(100):
        guard.verdict(loss, 1.0)
    for number in range(1, TOO_MANY + 1):
        assert not guard.gives_up and guard.verdict(9.0, 1.0)
        assert guard.in_a_row == guard.skipped == number
    assert guard.gives_up
    guard.verdict(2.0, 1.0)
    assert not guard.gives_up and guard.skipped == TOO_MANY


def test_its_memory_survives_a_checkpoint():
    one, other = SpikeGuard(6.0), SpikeGuard(6.0)
    for loss in [*losses(50), 9.0]:
        one.verdict(loss, 1.0)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert other.state_dict() == one.state_dict() and other.verdict(9.0, 1.0)


def test_thresholds_are_positive():
    with pytest.raises(InputError, match="`spike_threshold` must be above 0, or none, not -1"):
        SpikeGuard(-1)
