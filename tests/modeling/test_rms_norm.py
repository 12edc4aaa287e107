"""RMSNorm by LayerNorm's kernel is the formula, once and twice differentiated, and under the transforms of torch."""

import pytest
import torch

from trivium.modeling.normalization import TriviumRMSNorm
from trivium.modeling.rms_norm import divide, rms_norm

EPS = 1e-3


def formula(x, weight):
    return weight * divide(x, EPS)


def found(x, weight):
    return rms_norm(x, weight, EPS)


def draw(*shape, dtype=torch.float64):
    torch.manual_seed(0)
    x, weight = torch.randn(*shape, dtype=dtype), torch.randn(shape[-1], dtype=dtype)
    return (2 * x).requires_grad_(), weight.requires_grad_()


@pytest.mark.parametrize("shape", [(16,), (7, 16), (3, 5, 1), (2, 3, 4, 64), (0, 16), (3, 700, 256)], ids=str)
def test_output_and_gradients_are_those_of_the_formula(shape):
    inputs = draw(*shape)
    expected, output = formula(*inputs), found(*inputs)
    assert torch.equal(output, expected)
    wanted, grads = (torch.autograd.grad(y.sin().sum(), inputs) for y in (expected, output))
    torch.testing.assert_close(grads, wanted, rtol=1e-11, atol=1e-11)


def test_of_a_transposed_tensor_and_a_transposed_gradient():
    x, weight = draw(3, 4, 5, 16)
    turned = x.transpose(1, 2)
    wanted, grads = (
        torch.autograd.grad(f(turned, weight).transpose(0, 1).sin().sum(), (x, weight)) for f in (formula, found)
    )
    torch.testing.assert_close(grads, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("frozen", [0, 1])
def test_what_is_frozen_has_no_gradient(frozen):
    inputs = list(draw(5, 16))
    inputs[frozen] = inputs[frozen].detach()
    (wanted,), (grad,) = (torch.autograd.grad(f(*inputs).sin().sum(), inputs[1 - frozen]) for f in (formula, found))
    torch.testing.assert_close(grad, wanted, rtol=1e-12, atol=1e-12)


def test_differentiated_twice():
    inputs = draw(4, 6)
    assert torch.autograd.gradcheck(found, inputs)
    assert torch.autograd.gradgradcheck(found, inputs)


@pytest.mark.parametrize("transform", ["gradients of each example", "jacobian"])
def test_under_the_transforms_of_torch(transform):
    x, weight = (one.detach() for one in draw(4, 6))
    if transform == "jacobian":
        wanted, got = (torch.func.jacrev(lambda w, f=f: f(x, w).sin())(weight) for f in (formula, found))
    else:
        each = (torch.func.grad(lambda w, row, f=f: f(row, w).sin().sum()) for f in (formula, found))
        wanted, got = (torch.vmap(one, in_dims=(None, 0))(weight, x[:, None]) for one in each)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_a_backward_pass_under_autocast_is_as_exact():
    """Where products are in half precision, the sum that this gradient has is not."""
    inputs = draw(9, 256, dtype=torch.float32)
    exact = [one.detach().double().requires_grad_() for one in inputs]
    wanted = torch.autograd.grad(formula(*exact).sin().sum(), exact)
    with torch.autocast("cpu", torch.bfloat16):
        grads = torch.autograd.grad(found(*inputs).sin().sum(), inputs)
    torch.testing.assert_close([one.double() for one in grads], list(wanted), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("unit_offset", [False, True])
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("inputs", [torch.float32, torch.bfloat16, torch.float64])
def test_the_dtype_is_that_of_the_stock_norms(inputs, weights, unit_offset):
    """Those of Llama, and of Gemma where the weight is stored as its distance from one."""
    from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    torch.manual_seed(0)
    stock = (Gemma2RMSNorm if unit_offset else LlamaRMSNorm)(32, eps=EPS).to(weights)
    norm = TriviumRMSNorm(32, EPS, unit_offset).to(weights)
    stock.weight.data = norm.weight.data = torch.randn(32).to(weights)
    x = torch.randn(5, 32).to(inputs)
    expected, output = stock(x), norm(x)
    wide = inputs == torch.float64  # which they compute in float32
    assert output.dtype == (torch.float64 if wide else expected.dtype)
    loose = inputs == torch.bfloat16 and weights == torch.float32 and not unit_offset  # they round before they multiply
    torch.testing.assert_close(output, expected.to(output.dtype), rtol=1e-2 if loose else 1e-5, atol=1e-6)
