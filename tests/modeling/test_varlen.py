"""Our backend for flattened batches against attention with an explicit mask, and its operator for `torch.compile`."""

from itertools import pairwise

import pytest
import torch

from trivium.modeling import narrow, rectangles, varlen
from trivium.modeling.rules import Rule

OPTIONS = {
    "plain": {},
    "bidirectional": dict(causal=False),
    "window": dict(window=2),
    "bidirectional window": dict(causal=False, window=1),
    "softcap": dict(softcap=1.5),
    "bias": dict(biased=True),
    "grouped": dict(groups=2),
    "all": dict(window=3, softcap=1.5, biased=True, groups=1),
}
LENGTHS = {"ragged": (3, 1, 5), "equal": (4, 4), "mixed": (3, 5, 3, 1, 5), "one": (6,), "empty": (3, 0, 2)}
LONG = {"of three rectangles": (40, 3, 33, 70, 2), "of even lengths": (32, 32)}
PLAIN = [option for option, given in OPTIONS.items() if not {"softcap", "biased"} & set(given)]


@pytest.fixture(autouse=True)
def no_plan_of_another_test():
    for held in (rectangles.make_plan, rectangles._usual_bias):
        held.cache_clear()
    yield
    for held in (rectangles.make_plan, rectangles._usual_bias):
        held.cache_clear()


def make_arguments(option: str, lengths: str, cross: bool = False):
    """The operator's arguments, in float64 and asking for gradients."""
    torch.manual_seed(0)
    given = dict(causal=not cross, window=0, softcap=0.0, biased=False, groups=4) | OPTIONS[option]
    if cross:
        given |= dict(causal=False, window=0)
    sizes = (LENGTHS | LONG)[lengths]
    other = tuple(size + 1 for size in sizes) if cross else sizes
    query_ids, key_ids = (torch.arange(len(s)).repeat_interleave(torch.tensor(s))[None] for s in (sizes, other))
    shapes = [(sum(sizes), 4, 3), (sum(other), given["groups"], 3), (sum(other), given["groups"], 3)]
    tensors = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    longest = max(*sizes, *other)
    bias = torch.randn(1, 4, longest, longest, dtype=torch.float64, requires_grad=True) if given["biased"] else None
    return (*tensors, query_ids, key_ids, bias, 0.4, given["causal"], given["window"], given["softcap"])


def reference(query, key, value, query_ids, key_ids, bias, scaling, causal, window, softcap):
    """Every token against every other, then masked."""
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    scores = torch.einsum("qhd,khd->hqk", query, key) * scaling
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    rows, columns = ((ids[0][:, None] == ids[0][None]).tril().sum(1) - 1 for ids in (query_ids, key_ids))
    if bias is not None:
        scores = scores + bias[0][:, rows][:, :, columns]
    step = rows[:, None] - columns[None]
    seen = query_ids[0][:, None] == key_ids[0][None]
    if causal:
        seen = seen & (step >= 0) & ((step < window) | (window == 0))
    elif window:
        seen = seen & (step.abs() <= window)
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -torch.inf).softmax(-1), value)


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("option", OPTIONS)
def test_the_operator_and_its_gradients(option, lengths, cross):
    arguments = make_arguments(option, lengths, cross)
    leaves = [x for x in arguments if isinstance(x, torch.Tensor) and x.requires_grad]
    expected = reference(*arguments)
    found = varlen.attend_documents(*arguments)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    wanted = torch.autograd.grad(expected.sin().sum(), leaves)
    torch.testing.assert_close(torch.autograd.grad(found.sin().sum(), leaves), wanted, rtol=0, atol=1e-11)


@pytest.mark.parametrize("start", [0, 4000, rectangles.START])
@pytest.mark.parametrize("longest", [0, 40 * 40, narrow.LONGEST])
@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("lengths", [name for name in LENGTHS | LONG if name != "empty"])
@pytest.mark.parametrize("option", PLAIN)
def test_documents_in_rectangles(option, lengths, cross, longest, start, monkeypatch):
    """None filled up and all by torch's kernel, some, and all filled up; a rectangle for each length, some, and one."""
    monkeypatch.setattr(narrow, "LONGEST", longest)
    monkeypatch.setattr(rectangles, "START", start)
    *tensors, query_ids, key_ids, _, scaling, causal, window, _ = arguments = make_arguments(option, lengths, cross)
    counts = tuple(torch.bincount(ids.flatten()).tolist() for ids in (query_ids, key_ids))
    rule = Rule(scaling, causal, window or None)
    expected, inputs = reference(*arguments), [x.detach() for x in tensors]
    found = rectangles.attend_rectangles(*inputs, counts, rule)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    grad = torch.randn_like(found)
    grads = rectangles.rectangles_backward(grad, *inputs, counts, rule)
    torch.testing.assert_close(grads, torch.autograd.grad(expected, tensors, grad), rtol=0, atol=1e-11)


@pytest.mark.parametrize("start", [0, 3000, 20_000, 2**17])
@pytest.mark.parametrize("cross", [False, True])
def test_no_other_way_to_cut_costs_less(cross, start, monkeypatch):
    """Of all 2 ** (n - 1) ways to cut documents in the order of their lengths."""
    monkeypatch.setattr(rectangles, "START", start)
    monkeypatch.setattr(narrow, "LONGEST", 300 * 300)
    queries = torch.randint(1, 400, (9,), generator=torch.Generator().manual_seed(start)).tolist()
    keys = [length // 3 + 7 for length in queries] if cross else queries
    found = rectangles._gather(tuple(queries), tuple(keys), 2)
    assert sorted(number for numbers in found.values() for number in numbers) == list(range(9))

    def cost(runs: list[list[int]]) -> float:
        total = 0
        for run in runs:
            sizes = {narrow.even(queries[number], keys[number]) for number in run}
            rows, columns = (max(side) for side in zip(*sizes, strict=True))
            total += start + 2 * len(run) * rows * columns
            total += 0 if len(sizes) == 1 or narrow.is_short(rows, columns) else 1e12
        return total

    order, ways = sorted(range(9), key=lambda number: keys[number]), []
    for cuts in range(2**8):
        edges = [0, *(place + 1 for place in range(8) if cuts >> place & 1), 9]
        ways.append(cost([order[first:last] for first, last in pairwise(edges)]))
    assert cost(list(found.values())) == min(ways)


@pytest.mark.parametrize("causal", [False, True])
def test_what_is_not_a_number_stays_in_its_document(causal):
    """Though others are in the same rectangle."""
    lengths, rule = ([3, 5, 2],) * 2, Rule(0.5, causal)
    query, key, value, grad = torch.randn(4, 10, 2, 4)
    clean = rectangles.attend_rectangles(query, key, value, lengths, rule)
    clean_grads = rectangles.rectangles_backward(grad, query, key, value, lengths, rule)
    for x in (query, key, value):
        x[3:8] = torch.nan
    found = rectangles.attend_rectangles(query, key, value, lengths, rule)
    grads = rectangles.rectangles_backward(grad, query, key, value, lengths, rule)
    others = torch.tensor([0, 1, 2, 8, 9])
    for x, wanted in zip((found, *grads), (clean, *clean_grads), strict=True):
        assert x[3:8].isnan().any()
        torch.testing.assert_close(x[others], wanted[others], rtol=0, atol=0)


@pytest.mark.parametrize("causal", [False, True])
def test_another_default_device(causal):
    lengths, rule = ([3, 5, 2],) * 2, Rule(0.5, causal)
    query, key, value, grad = torch.randn(4, 10, 2, 4)
    with torch.device("meta"):
        found = rectangles.attend_rectangles(query, key, value, lengths, rule)
        grads = rectangles.rectangles_backward(grad, query, key, value, lengths, rule)
    assert all(x.device.type == "cpu" for x in (found, *grads))


@pytest.mark.parametrize("option", ["plain", "all"])
def test_the_operator_keeps_the_rules_of_torch(option):
    """Schema, shapes without data, and gradients under tracing, as `torch.library` checks them."""
    torch.library.opcheck(varlen.attend_documents, make_arguments(option, "ragged"))


@pytest.mark.parametrize("longest", [0, narrow.LONGEST])
@pytest.mark.parametrize("lengths", ["mixed", "empty"])
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype, option, lengths, longest, monkeypatch):
    monkeypatch.setattr(narrow, "LONGEST", longest)
    arguments = make_arguments(option, lengths)
    half = [x.detach().to(dtype).requires_grad_() if torch.is_tensor(x) and x.requires_grad else x for x in arguments]
    wide = [x.detach().double().requires_grad_() if torch.is_tensor(x) and x.requires_grad else x for x in half]
    found, expected = varlen.attend_documents(*half), reference(*wide)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=0.05)
    leaves, exact = ([x for x in given if torch.is_tensor(x) and x.requires_grad] for given in (half, wide))
    grads = torch.autograd.grad(found.float().sum(), leaves)
    wanted = torch.autograd.grad(expected.sum(), exact)
    for grad, want in zip(grads, wanted, strict=True):
        assert grad.dtype == dtype
        torch.testing.assert_close(grad.double(), want, rtol=0, atol=0.1)
