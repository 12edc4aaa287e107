"""Every parameter is initialised, with the statistics that the configuration says, and seeds reproduce it."""

import math

import pytest
import torch
from torch import nn
from transformers import initialization as init

from tests.families import CASES, HEADS, LM_HEADS, case_name, make_config, make_model
from trivium.modeling.normalization import TriviumRMSNorm

WIDE = dict(hidden_size=128, intermediate_size=256, vocab_size=512)


def expected_statistics(model, std: float) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of every parameter, by the kind of module that owns it."""
    expected = {}
    for prefix, module in model.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            key = f"{prefix}.{name}" if prefix else name
            norm = isinstance(module, (nn.LayerNorm, TriviumRMSNorm))
            if name == "bias":
                expected[key] = (0.0, 0.0)
            elif norm:
                expected[key] = (0.0 if getattr(module, "unit_offset", False) else 1.0, 0.0)
            else:
                expected[key] = (0.0, std)
    return expected


@pytest.mark.parametrize("std", [0.02, 0.1])
@pytest.mark.parametrize("head", HEADS, ids=str)
@pytest.mark.parametrize("variant", ["bert", "sandwich", "sliding-relative"])
def test_statistics(head, variant, std):
    torch.manual_seed(0)
    model = head.model(make_config(head.family, variant, initializer_range=std, **WIDE))
    expected = expected_statistics(model, std)
    for name, parameter in model.named_parameters():
        mean, deviation = expected[name]
        assert torch.isfinite(parameter).all()
        if not deviation:
            assert (parameter == mean).all(), name
            continue
        error = 5 * deviation / math.sqrt(parameter.numel())
        assert abs(parameter.mean().item() - mean) < error, name
        assert abs(parameter.std().item() - deviation) < error, name
        assert parameter.abs().max() < 6 * deviation
        assert len(parameter.unique()) > 0.9 * parameter.numel(), name


@pytest.mark.parametrize(("head", "variant"), CASES, ids=case_name)
def test_no_parameter_keeps_what_lay_in_memory(head, variant):
    """Built without memory and filled with NaN, then initialised."""
    config = make_config(head.family, variant)
    with init.no_init_weights(), torch.device("meta"):
        model = head.model(config)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.fill_(math.nan)
    model.init_weights()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        assert torch.isfinite(tensor).all(), name


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_seeds_reproduce(head):
    config = make_config(head.family, "bert")
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(head.model(config).state_dict())
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])
    matrices = [name for name, tensor in drawn[0].items() if tensor.ndim > 1]
    assert not any(torch.equal(drawn[0][name], drawn[2][name]) for name in matrices)


@pytest.mark.parametrize("head", LM_HEADS, ids=str)
def test_what_a_checkpoint_lacks_is_initialised(head):
    """Any weight may be missing, also one deep inside."""
    model = make_model(head, "bert", tie_word_embeddings=False)
    torch.manual_seed(0)
    names = [name for name in model.state_dict() if "layers.1." not in name]
    for missing in names[:: 3 if head.family == "encoder_decoder" else 1]:
        state = {name: tensor for name, tensor in model.state_dict().items() if name != missing}
        if head.family == "encoder_decoder" and "embed_tokens" in missing:
            continue  # shared: the other name still has it
        loaded = head.model.from_pretrained(None, config=model.config, state_dict=state)
        mean, deviation = expected_statistics(model, 0.02)[missing]
        found = loaded.get_parameter(missing)
        assert torch.isfinite(found).all(), missing
        assert (found == mean).all() if not deviation else 0.01 < found.std() < 0.03, missing
