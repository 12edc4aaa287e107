import copy

import pytest
import torch
from torch import nn
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from trivium.training import optimizer as optimizer_module
from trivium.training.optimizer import Muon, MuonAdamW, orthogonalize, split_parameters


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.block = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 11, bias=False)

    def get_output_embeddings(self):
        return self.head

    def forward(self, ids):
        return self.head(self.norm(self.block(self.embed(ids))))


def train(model, optimizer, steps):
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    for step in range(steps):
        ids = (torch.arange(7) + step) % 11
        nn.functional.cross_entropy(model(ids), (ids + 1) % 11).backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()


def small():
    torch.manual_seed(0)
    return Small()


def test_only_the_matrices_between_hidden_states_are_muons():
    model = small()
    matrices, others = split_parameters(model)
    assert [id(matrix) for matrix in matrices] == [id(model.block.weight)]
    assert len(others) == 5
    model.block.weight.requires_grad_(False)
    assert split_parameters(model)[0] == []


@pytest.mark.parametrize("shape", [(8, 8), (8, 40), (64, 16)])
def test_orthogonalized_matrices_keep_their_directions_and_lose_their_sizes(shape):
    torch.manual_seed(0)
    matrices = torch.randn(3, *shape)
    results = orthogonalize(matrices, (3.4445, -4.7750, 2.0315), 5)
    for matrix, result in zip(matrices, results, strict=True):
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        sizes = left.T @ result @ right.T
        torch.testing.assert_close(sizes, sizes.diag().diag(), rtol=0, atol=1e-4)
        assert result.shape == shape and sizes.diag().min() > 0.3 and sizes.diag().max() < 1.25


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch", [1, 300, 2**22])
def test_muon_is_torchs_but_for_the_precision(batch, dtype, monkeypatch):
    """However many matrices it takes at a time; one of them has no gradient at first."""
    monkeypatch.setattr(optimizer_module, "BATCH_ELEMENTS", batch)
    monkeypatch.setattr(optimizer_module, "iteration_dtype", lambda device: dtype)
    shapes = [(8, 16), (16, 8), (8, 16), (8, 16), (4, 4), (8, 16)]
    ours, theirs = (
        [nn.Parameter(torch.linspace(-1, size, 16 * 8)[: m * n].view(m, n)) for size, (m, n) in enumerate(shapes, 1)]
        for _ in range(2)
    )
    arguments = dict(lr=0.02, weight_decay=0.1)
    optimizers = [Muon(ours, **arguments), torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", **arguments)]
    for step in range(5):
        for number, shape in enumerate(shapes):
            gradient = torch.randn(shape, generator=torch.Generator().manual_seed(10 * step + number))
            for parameters in (ours, theirs):
                parameters[number].grad = None if step == 0 and number == 2 else gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=4e-3)
    states = [optimizer.state_dict()["state"] for optimizer in optimizers]
    for number in range(len(shapes)):
        torch.testing.assert_close(*(state[number]["momentum_buffer"] for state in states))


@pytest.fixture
def mesh(tmp_path):
    """One process that distributes tensors to itself; `test_distributed.py` has two."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield torch.distributed.init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("dimension", [0, 1])
def test_matrices_that_are_taken_apart_are_updated_as_whole_ones(mesh, dimension):
    torch.manual_seed(0)
    whole = [nn.Parameter(torch.randn(shape)) for shape in ((8, 16), (8, 16), (6, 5))]
    parts = [nn.Parameter(distribute_tensor(one.detach().clone(), mesh, [Shard(dimension)])) for one in whole]
    optimizers = [Muon(parameters, lr=0.02) for parameters in (whole, parts)]
    for _ in range(3):
        for one, part in zip(whole, parts, strict=True):
            one.grad = torch.randn(one.shape)
            part.grad = distribute_tensor(one.grad, mesh, [Shard(dimension)])
        for optimizer in optimizers:
            optimizer.step()
    for one, part in zip(whole, parts, strict=True):
        assert isinstance(optimizers[1].state[part]["momentum_buffer"], DTensor)
        assert part.placements == (Shard(dimension),)
        torch.testing.assert_close(part.full_tensor(), one, rtol=0, atol=0)


def test_equals_the_two_optimizers_side_by_side():
    together, apart = small(), small()
    optimizer = MuonAdamW(together, lr=0.01, weight_decay=0.1)
    matrices, others = split_parameters(apart)
    both = [
        Muon(matrices, lr=0.01, weight_decay=0.1),
        torch.optim.AdamW(others, lr=0.01, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    for step in range(4):
        for group in [*optimizer.param_groups, *both[0].param_groups, *both[1].param_groups]:
            group["lr"] = 0.01 / (1 + step)  # what a scheduler does
        for model, optimizers in ((together, [optimizer]), (apart, both)):
            ids = (torch.arange(7) + step) % 11
            nn.functional.cross_entropy(model(ids), (ids + 1) % 11).backward()
            for one in optimizers:
                one.step()
                one.zero_grad()
    for left, right in zip(together.parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0)


def test_a_restored_optimizer_goes_on_as_if_nothing_had_happened():
    model = small()
    optimizer = MuonAdamW(model, lr=0.01)
    train(model, optimizer, 3)
    saved = {name: value.clone() for name, value in model.state_dict().items()}
    state = copy.deepcopy(optimizer.state_dict())
    other = small()
    other.load_state_dict(saved)
    restored = MuonAdamW(other, lr=0.5)
    restored.load_state_dict(state)
    train(model, optimizer, 3)
    train(other, restored, 3)
    for left, right in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"avx512_f": True, "amx_bf16": True}, torch.bfloat16),
        ({"avx512_f": True, "avx512_bf16": False, "cpu_name": "bf16"}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_muon_iterates_in_what_the_cpu_is_fast_in(capabilities, dtype, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert optimizer_module.iteration_dtype(torch.device("cpu")) == dtype
    assert optimizer_module.iteration_dtype(torch.device("cuda")) == torch.bfloat16
