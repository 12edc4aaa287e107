"""What is said before a model is spread; that spread models train as whole ones is held by `test_distributed.py`."""

from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType

from tests.families import LM_HEADS, make_model
from trivium.configuration import InputError
from trivium.training.tensor_parallel import check_divides, make_adamw, spread_if_asked


def arguments(processes: int = 2, kind: DistributedType = DistributedType.MULTI_GPU, size: int | None = None):
    """What is asked of `TrainingArguments`."""
    config = None if size is None else SimpleNamespace(tp_size=size)
    state = SimpleNamespace(distributed_type=kind)
    return SimpleNamespace(world_size=processes, distributed_state=state, parallelism_config=config, device="cpu")


@pytest.mark.parametrize("head", LM_HEADS, ids=str)
def test_a_model_stays_whole_unless_it_is_asked_for(head, monkeypatch):
    model = make_model(head)
    weights = dict(model.named_parameters())
    assert not spread_if_asked(model, arguments())
    monkeypatch.setenv("PARALLELISM_CONFIG_TP_SIZE", "1")
    assert not spread_if_asked(model, arguments())
    assert all(weight is weights[name] for name, weight in model.named_parameters())


@pytest.mark.parametrize(
    ("asked", "environment", "reason"),
    [
        (arguments(processes=4), {}, "parallelism_config_tp_size is 2, but there are 4 processes"),
        (arguments(processes=2, size=4), {}, "parallelism_config_tp_size is 4, but there are 2 processes"),
        (arguments(), {"ACCELERATE_USE_FSDP": "true"}, "does not go with FSDP"),
        (arguments(), {"ACCELERATE_USE_DEEPSPEED": "true"}, "does not go with DeepSpeed"),
        (arguments(kind=DistributedType.MULTI_CPU), {}, "on GPUs alone"),
    ],
)
def test_what_cannot_run_is_refused(asked, environment, reason, monkeypatch):
    for name, value in ({"PARALLELISM_CONFIG_TP_SIZE": "2"} | environment).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=reason):
        spread_if_asked(make_model(LM_HEADS[0]), asked)


@pytest.mark.parametrize("head", LM_HEADS, ids=str)
def test_a_model_that_cannot_be_shared_out_evenly_is_refused(head):
    config = make_model(head).config
    check_divides(config, 2)
    with pytest.raises(InputError, match=r"`num_attention_heads` is \d, which 3 processes cannot share evenly"):
        check_divides(config, 3)


@pytest.mark.parametrize("encoding", ["alibi", "relative"])
@pytest.mark.parametrize("head", LM_HEADS, ids=str)
def test_positions_that_know_every_head_are_refused(head, encoding):
    with pytest.raises(InputError, match=f"position_encoding '{encoding}' has numbers for every head"):
        check_divides(make_model(head, position_encoding=encoding).config, 2)


@pytest.mark.parametrize("head", LM_HEADS, ids=str)
def test_two_groups_hold_every_parameter_once_in_order(head):
    model = make_model(head)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed = [name for name in names.values() if name.endswith("proj.weight")]
    groups = make_adamw(model, decayed, 0.1, torch.optim.AdamW, {"lr": 0.5}).param_groups
    assert [(group["weight_decay"], group["lr"]) for group in groups] == [(0.1, 0.5), (0.0, 0.5)]
    first, second = ([names[id(parameter)] for parameter in group["params"]] for group in groups)
    assert first == decayed and second == [name for name in names.values() if name not in decayed]


def test_another_optimizer_is_refused():
    with pytest.raises(InputError, match="Muon or AdamW, not with Adafactor: leave optim out"):
        make_adamw(make_model(LM_HEADS[0]), [], 0.1, torch.optim.Adafactor, {})
