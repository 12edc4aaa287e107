"""Muon for the matrices inside the blocks and AdamW for everything else, as one optimizer."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def orthogonalize(matrix: torch.Tensor, coefficients: tuple[float, float, float], steps: int) -> torch.Tensor:
    """The orthogonal matrix nearest to `matrix` (m, n), roughly: its singular values come out between 0.7 and 1.2.

    Newton-Schulz iterations with a quintic polynomial (Jordan et al., 2024).
    """
    a, b, c = coefficients
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.T
        polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.addmm(x, polynomial, x, beta=a)
    return x if wide else x.T


class Muon(torch.optim.Muon):
    """torch's Muon, but in float32 on a CPU: it iterates in bfloat16, which most CPUs emulate, 25 times slower."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update; momentum by Nesterov, decoupled weight decay, sizes as AdamW's (Liu et al., 2025)."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                momentum = state["momentum_buffer"].lerp_(parameter.grad, 1 - group["momentum"])
                direction = parameter.grad.lerp(momentum, group["momentum"])
                direction = direction.float() if parameter.device.type == "cpu" else direction.bfloat16()
                update = orthogonalize(direction, group["ns_coefficients"], group["ns_steps"])
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                scale = 0.2 * max(parameter.shape) ** 0.5
                parameter.add_(update.to(parameter.dtype), alpha=-group["lr"] * scale)


class MuonAdamW(torch.optim.Optimizer):
    """Orthogonalised momentum for matrices (Muon; Jordan et al., 2024), AdamW for embeddings, heads, norms and biases.

    Both follow one learning rate, at which Muon's updates are as large as AdamW's (Liu et al., 2025); only matrices
    decay. Whoever handles it sees one optimizer: parameter groups, state and checkpoints are those of both.

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
        self.muon = Muon(matrices, lr=lr, weight_decay=weight_decay)
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
    find_head = getattr(model, "get_output_embeddings", None)
    head = find_head() if find_head is not None else None
    outer |= {id(head.weight)} if head is not None else set()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim == 2 and id(parameter) not in outer]
    inside = {id(parameter) for parameter in matrices}
    return matrices, [parameter for parameter in trained if id(parameter) not in inside]
