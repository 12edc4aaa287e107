"""Muon for the matrices inside the blocks and AdamW for everything else, as one optimizer."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor, Replicate

BATCH_ELEMENTS = 2**22  # so many numbers are orthogonalised at a time: many small matrices, or one large


def orthogonalize(matrices: torch.Tensor, coefficients: tuple[float, float, float], steps: int) -> torch.Tensor:
    """The orthogonal matrix nearest to each of `matrices` (N, m, n), roughly: singular values come out in 0.7 to 1.2.

    Newton-Schulz iterations with a quintic polynomial (Jordan et al., 2024).
    """
    a, b, c = coefficients
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x if wide else x.mT


def iteration_dtype(device: torch.device) -> torch.dtype:
    """bfloat16, which suffices, but on a CPU without instructions for it float32: emulation is several times slower."""
    if device.type != "cpu":
        return torch.bfloat16
    native = any(has is True and "bf16" in name for name, has in torch.cpu.get_capabilities().items())
    return torch.bfloat16 if native else torch.float32


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself, or, of one that is spread over processes, all of it in each of them."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def laid_out_as(parameter: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """`tensor`, which every process has whole, spread over the processes as `parameter` is, if it is."""
    if not isinstance(parameter, DTensor):
        return tensor
    everywhere = [Replicate()] * parameter.device_mesh.ndim
    copies = DTensor.from_local(tensor, parameter.device_mesh, everywhere, run_check=False)
    return copies.redistribute(placements=parameter.placements)


class Muon(torch.optim.Muon):
    """torch's Muon with matrices of one shape taken together, in the precision that the device is fast in.

    Of matrices that FSDP2 or tensor parallelism has taken apart every process gathers the directions, some at a time,
    orthogonalises them whole and keeps its own part of the update; gradients and momentum stay apart.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update; momentum by Nesterov, decoupled weight decay, sizes as AdamW's (Liu et al., 2025)."""
        for group in self.param_groups:
            for parameters in _alike(group["params"]):
                directions = torch.stack([whole(self._direction(parameter, group)) for parameter in parameters])
                directions = directions.to(iteration_dtype(directions.device))
                updates = orthogonalize(directions, group["ns_coefficients"], group["ns_steps"])
                scale = 0.2 * max(directions.shape[1:]) ** 0.5
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(laid_out_as(parameter, update.to(parameter.dtype)), alpha=-group["lr"] * scale)

    def _direction(self, parameter: nn.Parameter, group: dict[str, Any]) -> torch.Tensor:
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        return gradient.lerp(momentum, group["momentum"])


def _alike(parameters: list[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Those that have gradients, in lists of one shape, dtype and device of at most BATCH_ELEMENTS or one parameter."""
    kinds = defaultdict(list)
    for parameter in parameters:
        if parameter.grad is not None:
            kinds[parameter.shape, parameter.dtype, parameter.device].append(parameter)
    for alike in kinds.values():
        count = max(1, BATCH_ELEMENTS // max(1, alike[0].numel()))
        for start in range(0, len(alike), count):
            yield alike[start : start + count]


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
        step_by_mesh(self.adamw)
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


def step_by_mesh(optimizer: torch.optim.Optimizer) -> None:
    """Lets a step take the parameters of each group apart that are spread from those that are not.

    Kernels that update many tensors at once refuse the two together. The groups themselves, which schedules and
    checkpoints know, stay as they are.
    """
    groups: list[list[dict[str, Any]]] = []

    def take_apart(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        groups.append(optimizer.param_groups)
        optimizer.param_groups = [part for group in optimizer.param_groups for part in _by_mesh(group)]

    def put_together(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        optimizer.param_groups = groups.pop()

    optimizer.register_step_pre_hook(take_apart)
    optimizer.register_step_post_hook(put_together)


def _by_mesh(group: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The group, once for each device mesh that its parameters are spread over and once for those that are not."""
    parts = defaultdict(list)
    for parameter in group["params"]:
        parts[parameter.device_mesh if isinstance(parameter, DTensor) else None].append(parameter)
    return (group | {"params": parameters} for parameters in parts.values())


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
