"""Muon for the matrices inside the blocks and AdamW for everything else, as one optimizer."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class MuonAdamW(torch.optim.Optimizer):
    """Orthogonalised momentum for matrices (Muon; Jordan et al., 2024), AdamW for embeddings, heads, norms and biases.

    Both follow one learning rate and one weight decay: Muon's updates are scaled to the size of AdamW's (Liu et al.,
    2025). Only matrices decay. Whoever handles it sees one optimizer: parameter groups, schedulers, state and
    checkpoints are those of both.

    Args:
        model: its parameters that require gradients are trained.
        lr, betas, eps, weight_decay: as in AdamW.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
    ):
        matrices, others = split_parameters(model)
        self.muon = torch.optim.Muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self.adamw = torch.optim.AdamW(others, lr=lr, betas=betas, eps=eps, weight_decay=0.0)
        super().__init__([*self.muon.param_groups, *self.adamw.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Lets the two parts work on the groups and the state of the whole."""
        self.muon.param_groups, self.adamw.param_groups = self.param_groups[:1], self.param_groups[1:]
        self.muon.state = self.adamw.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of all parameters; returns what `closure`, if given, computes first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.muon.step()
        self.adamw.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores groups and state."""
        super().load_state_dict(state_dict)
        self._share()


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The matrices that turn hidden states into hidden states, and all other parameters that are trained."""
    outer = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    outer |= {id(head.weight)} if head is not None else set()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim == 2 and id(parameter) not in outer]
    inside = {id(parameter) for parameter in matrices}
    return matrices, [parameter for parameter in trained if id(parameter) not in inside]
