"""What is refused, and the optimizers; that spread models train as whole ones do is held by `test_distributed.py`."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from accelerate.utils import DistributedType
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from tests.families import LM_HEADS, make_model
from trivium.configuration import InputError
from trivium.training.tensor_parallel import check_divides, keep_whole, make_adamw, spread_if_asked


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


@pytest.fixture
def mixed():
    """Two modules of equal weights: one whole, and one whose matrix is spread over one process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    torch.manual_seed(0)
    whole, spread = torch.nn.Linear(6, 4), torch.nn.Linear(6, 4)
    spread.load_state_dict(whole.state_dict())
    matrix = distribute_tensor(spread.weight.detach(), init_device_mesh("cpu", (1,)), [Shard(0)])
    spread.weight = torch.nn.Parameter(matrix)
    yield whole, spread
    dist.destroy_process_group()


def learn(module, optimizer, steps=3):
    for step in range(steps):
        for name, parameter in module.named_parameters():
            gradient = torch.full(parameter.shape, step + len(name) - 4.5)
            spread = isinstance(parameter, DTensor)
            parameter.grad = distribute_tensor(gradient, parameter.device_mesh, [Shard(0)]) if spread else gradient
        optimizer.step()


@pytest.mark.parametrize("kernels", ["foreach", "fused"])
def test_kernels_of_many_tensors_never_see_spread_ones_beside_whole_ones(kernels, mixed):
    settings = {"lr": 0.1, kernels: True}
    whole, spread = (make_adamw(module, ["bias"], 0.0, torch.optim.AdamW, settings) for module in mixed)
    for module, optimizer in zip(mixed, (whole, spread), strict=True):
        optimizer.param_groups[0]["params"].append(optimizer.param_groups[1]["params"].pop())
        groups = optimizer.param_groups
        learn(module, optimizer)
        assert optimizer.param_groups is groups and len(groups[0]["params"]) == 2
    torch.testing.assert_close(mixed[1].weight.full_tensor(), mixed[0].weight)
    torch.testing.assert_close(mixed[1].bias, mixed[0].bias)
    plain = torch.optim.AdamW(mixed[1].parameters(), **settings)
    with pytest.raises(RuntimeError, match=r"mixed torch\.Tensor and DTensor"):
        plain.step()


def test_the_state_of_a_spread_optimizer_is_that_of_a_whole_one(mixed):
    whole, spread = (make_adamw(module, ["weight"], 0.1, torch.optim.AdamW, {"lr": 0.1}) for module in mixed)
    keep_whole(spread)
    learn(mixed[0], whole)
    spread.load_state_dict(whole.state_dict())
    average = spread.state[mixed[1].weight]["exp_avg"]
    assert isinstance(average, DTensor) and average.placements == (Shard(0),)
    saved, expected = spread.state_dict(), whole.state_dict()
    assert saved["param_groups"] == expected["param_groups"]
    for key, state in expected["state"].items():
        for name, value in state.items():
            assert not isinstance(saved["state"][key][name], DTensor)
            torch.testing.assert_close(saved["state"][key][name], value, rtol=0, atol=0)
    assert isinstance(spread.state[mixed[1].weight]["exp_avg"], DTensor), "what is saved is a copy"
