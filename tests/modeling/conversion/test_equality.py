"""Every class of transformers that we convert, and ours made of its weights, compute the same numbers."""

from contextlib import nullcontext

import pytest
import torch

from tests.references import CASES, FullPrecision, case_id, draw_batch, widen
from trivium.modeling.conversion import from_transformers, to_transformers
from trivium.modeling.conversion.origin import read_state
from trivium.modeling.conversion.origins import ORIGINS

TENSORS = (
    "logits",
    "prediction_logits",
    "seq_relationship_logits",
    "start_logits",
    "end_logits",
    "last_hidden_state",
    "pooler_output",
    "encoder_last_hidden_state",
)
STATES = ("hidden_states", "encoder_hidden_states", "decoder_hidden_states")
# Absolute, relative to the largest number: of the outputs, and of the gradients.
CLOSE = {torch.float64: (0.0, 1e-9), torch.float32: (1e-5, 1e-4)}


def assert_close(found: torch.Tensor, expected: torch.Tensor, what: str, zero: float = 0.0) -> None:
    """Equal within the tolerance; what is smaller than `zero` is nothing."""
    absolute, relative = CLOSE[expected.dtype]
    assert found.shape == expected.shape, what
    worst = (found - expected).abs().max().item()
    assert worst <= max(zero, absolute + relative * expected.abs().max().item()), f"{what}: {worst}"


def real(tensor: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """What stands at real tokens, if the tensor has something for each token."""
    if mask is not None and mask.ndim == 3 and len(tensor) == mask.shape[0] * mask.shape[1]:  # choices
        mask = mask.flatten(0, 1)
    return tensor[mask.bool()] if mask is not None and tensor.shape[: mask.ndim] == mask.shape else tensor


def run(model, batch):
    """The outputs and a loss whose gradient reaches all that the outputs depend on."""
    outputs = (
        model(**batch, output_hidden_states=True, use_cache=False)
        if has_cache(model)
        else model(**batch, output_hidden_states=True)
    )
    loss = outputs.get("loss")
    if loss is None:
        mask = batch.get("attention_mask")
        loss = sum(real(outputs[name], mask).square().mean() for name in TENSORS if outputs.get(name) is not None)
    return outputs, loss


def has_cache(model) -> bool:
    return "use_cache" in type(model).forward.__code__.co_varnames


def gradients(model) -> dict[str, torch.Tensor]:
    """By the names of the weights, tied ones under each of theirs; zeros where none came, NaN where none can."""
    state = model.state_dict(keep_vars=True)
    return {
        name: torch.full_like(tensor, 0.0 if tensor.requires_grad else torch.nan)
        if tensor.grad is None
        else tensor.grad
        for name, tensor in state.items()
    }


@pytest.mark.parametrize("padded", [False, True], ids=["unpadded", "padded"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("reference", "name"), CASES, ids=case_id)
def test_outputs_and_gradients_are_those_of_the_reference(reference, name, dtype, padded):
    theirs = reference.model(name)
    ours = from_transformers(theirs)
    if dtype == torch.float64:
        theirs, ours = widen(theirs), widen(ours)
    batch = draw_batch(theirs, padded)
    with FullPrecision() if dtype == torch.float64 else nullcontext():
        expected, their_loss = run(theirs, batch)
        found, our_loss = run(ours, batch)
        their_loss.backward()
        our_loss.backward()
    mask = batch.get("attention_mask")
    compared = [key for key in TENSORS if expected.get(key) is not None]
    assert compared
    for key in compared:
        assert_close(real(found[key], mask), real(expected[key], mask), key)
    for key in STATES:
        if expected.get(key) is not None:
            assert len(found[key]) == len(expected[key])
            for layer, (mine, other) in enumerate(zip(found[key], expected[key], strict=True)):
                assert_close(real(mine, mask), real(other, mask), f"{key} {layer}")
    assert_close(our_loss, their_loss, "loss")
    shapes = {key: tensor.shape for key, tensor in ours.state_dict().items()}
    heads, prefix = ours.config.num_attention_heads, f"{theirs.base_model_prefix}."
    their_gradients = read_state(ORIGINS[reference.model_type], gradients(theirs), shapes, heads, prefix)
    our_gradients = gradients(ours)
    # A bias on the keys moves all scores of a query alike, so its gradient is zero but for rounding.
    # BART's bias on the logits is no parameter.
    their_gradients = {key: gradient for key, gradient in their_gradients.items() if not gradient.isnan().any()}
    largest = max(gradient.abs().max().item() for gradient in their_gradients.values())
    for key, gradient in their_gradients.items():
        assert_close(our_gradients[key], gradient, key, zero=100 * torch.finfo(dtype).eps * largest)


@pytest.mark.parametrize(("reference", "name"), CASES, ids=case_id)
def test_the_way_back_is_exact(reference, name):
    theirs = reference.model(name)
    back = to_transformers(from_transformers(theirs))
    assert type(back) is type(theirs)
    expected, found = theirs.state_dict(), back.state_dict()
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(found[key], tensor), key
    before, after = essence(theirs.config), essence(back.config)
    assert {key: after.get(key) for key in before} == before


def essence(config) -> dict:
    """The fields of a configuration but those that we do not keep, or that say the same in other words."""
    fields = config.to_dict()
    for side in ("encoder", "decoder"):
        if side in fields:
            fields |= {f"{side}.{key}": value for key, value in fields.pop(side).items()}
    loose = {"architectures", "dtype", "_name_or_path", "transformers_version", "forced_eos_token_id", "qa_dropout"}
    loose |= {"attention_types", "classifier_dropout", "use_cache", "is_decoder", "initializer_range"}
    if fields.get("intermediate_size", 0) is None:
        fields["intermediate_size"] = 4 * config.hidden_size
    return {key: value for key, value in fields.items() if key.rpartition(".")[2] not in loose}


WRITERS = ("ForCausalLM", "LMHeadModel", "MTModel", "ConditionalGeneration")
GENERATIVE = [(reference, name) for reference, name in CASES if reference.generates and name.endswith(WRITERS)]


@pytest.mark.parametrize("beams", [1, 3], ids=["greedy", "beam"])
@pytest.mark.parametrize(("reference", "name"), GENERATIVE, ids=case_id)
def test_the_same_tokens_are_generated(reference, name, beams):
    theirs = reference.model(name)
    ours = from_transformers(theirs)
    theirs, ours = widen(theirs), widen(ours)
    batch = draw_batch(theirs, padded=theirs.config.is_encoder_decoder)
    batch = {key: batch[key] for key in ("input_ids", "attention_mask") if key in batch}
    options = dict(max_new_tokens=12, do_sample=False, num_beams=beams)
    with torch.no_grad(), FullPrecision():
        assert torch.equal(ours.generate(**batch, **options), theirs.generate(**batch, **options))
