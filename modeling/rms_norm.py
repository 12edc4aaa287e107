"""RMSNorm whose gradient on a CPU is one kernel's, in place of a tensor for every step of the formula.

LayerNorm subtracts the mean before it divides, and torch has a kernel for its gradient which takes mean and divisor as
they were found. Told that the mean is zero it gives RMSNorm's, less what flows through the mean, which is added back.
That takes about half of the time (`python -m benchmarks.norms`). A compiler makes such a kernel of the formula itself.
"""

from typing import Any

import torch


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Of x (..., D) and weight (D,), both float32 or both float64 -> (..., D)."""
    learns = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    compiles = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if learns and not compiles and x.device.type == "cpu":
        return _RMSNorm.apply(x, weight, eps)
    return weight * divide(x, eps)


def divide(x: torch.Tensor, eps: float) -> torch.Tensor:
    """(..., D) by the root of its mean square."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)


def _reciprocal(x: torch.Tensor, eps: float) -> torch.Tensor:
    """(..., 1), the reciprocal of the root mean square, in one pass."""
    lengths = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return lengths.square().div(x.shape[-1]).add(eps).rsqrt()


class _RMSNorm(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        return weight * divide(x, eps)  # the very bits that are there when nothing is to be differentiated

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
        x, weight, ctx.eps = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        x, weight = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad[:2])
        if torch.is_grad_enabled():  # whoever differentiates twice does it through the formula
            return *_differentiate_formula(grad, x, weight, ctx.eps), None
        grad, divisor = grad.contiguous(), _reciprocal(x, ctx.eps)
        x_grad, weight_grad, _ = torch.ops.aten.native_layer_norm_backward(
            grad, x, [x.shape[-1]], torch.zeros_like(divisor), divisor, weight, None, [*wanted, False]
        )
        if wanted[0]:
            x_grad += torch.mv(grad.view(-1, x.shape[-1]), weight).view_as(divisor) * divisor / x.shape[-1]
        return x_grad, weight_grad, None


def _differentiate_formula(
    grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of x and weight from that of the output, which can be differentiated again."""
    divisor = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
    normed, flowing = x * divisor, grad * weight
    x_grad = divisor * (flowing - normed * (flowing * normed).mean(-1, keepdim=True))
    return x_grad, (grad * normed).reshape(-1, x.shape[-1]).sum(0)
