import copy

import torch
from torch import nn

from trivium.training.optimizer import MuonAdamW, split_parameters


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


def test_equals_the_two_optimizers_side_by_side():
    together, apart = small(), small()
    optimizer = MuonAdamW(together, lr=0.01, weight_decay=0.1)
    matrices, others = split_parameters(apart)
    both = [
        torch.optim.Muon(matrices, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
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
