import pytest
import torch

from trivium.configuration import InputError
from trivium.training.schedules import Cooldown, schedule_arguments


def test_a_cooldown_falls_from_where_it_starts_to_nothing_as_one_minus_the_root():
    cooldown = Cooldown(100, 16, 0.5)
    assert [cooldown(step) for step in (100, 104, 116, 130)] == [0.5, 0.25, 0.0, 0.0]


def test_a_cooldown_goes_on_from_the_state_of_another_schedule():
    def optimizer():
        return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)

    before = torch.optim.lr_scheduler.LambdaLR(optimizer(), lambda step: 0.5)
    for _ in range(10):
        before.step()
    cooled = Cooldown(10, 4, 0.5).schedule(optimizer())
    cooled.load_state_dict(before.state_dict())
    rates = []
    for _ in range(4):
        rates += cooled.get_last_lr()
        cooled.step()
    assert rates == pytest.approx([1.0, 0.5, 1 - 0.5**0.5, 1 - 0.75**0.5]) and cooled.get_last_lr() == [0.0]


@pytest.mark.parametrize(("decay", "steps"), [(0.2, 20), (30, 30), (0, 0), (1, 1)])
def test_warmup_stable_decay_is_told_when_to_decay(decay, steps):
    assert schedule_arguments("warmup_stable_decay", None, decay, 100) == {
        "num_decay_steps": steps,
        "decay_type": "1-sqrt",
    }
    given = {"num_decay_steps": 7, "min_lr_ratio": 0.1}
    assert schedule_arguments("warmup_stable_decay", given, decay, 100) == given | {"decay_type": "1-sqrt"}
    assert schedule_arguments("cosine", None, decay, 100) == {}


@pytest.mark.parametrize("decay", [-0.1, 101])
def test_a_decay_longer_than_the_run_is_refused(decay):
    with pytest.raises(InputError, match="must lie between 0 and the 100 steps of the run"):
        schedule_arguments("warmup_stable_decay", None, decay, 100)
