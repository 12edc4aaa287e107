"""Whether a converted model still says what its source says, on tokens drawn at random."""

import inspect
from typing import Any

import torch
from transformers import PreTrainedModel

OUTPUTS = (
    "logits",
    "prediction_logits",
    "seq_relationship_logits",
    "start_logits",
    "end_logits",
    "last_hidden_state",
    "pooler_output",
)
# How far apart, relative to the largest number, two ways of computing the same may come out.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 0.15, torch.float16: 5e-2}


@torch.no_grad()
def largest_difference(first: PreTrainedModel, second: PreTrainedModel, rows: int = 2, length: int = 12) -> float:
    """The largest difference between what two models say of random tokens, relative to the largest number said.

    It is no number (NaN) if something that they say is none.

    Args:
        first, second: of transformers, of ours, or one of each; with the same head.
        rows, length: of the batch.
    """
    batch = random_batch(first, rows, length)
    expected, found = (model.eval()(**batch) for model in (first, second))
    differences = []
    for name in OUTPUTS:
        if expected.get(name) is not None and found.get(name) is not None:
            largest = expected[name].abs().max().clamp(min=torch.finfo(expected[name].dtype).tiny)
            differences.append((found[name] - expected[name]).abs().max() / largest)
    return torch.stack(differences).max().item()


def random_batch(model: PreTrainedModel, rows: int, length: int) -> dict[str, Any]:
    """Tokens (rows, length) for `model`, for both sides if it has two, and a choice of two texts if it chooses.

    Each text ends in the end-of-sequence token and has no other, which is what BART's and T5's classifiers look for.
    """
    generator = torch.Generator().manual_seed(0)
    end = model.config.eos_token_id
    end = end[0] if isinstance(end, list) else end
    if model.config.pad_token_id is None:  # their classifiers then take one text at a time
        rows = 1
    special = {token for token in (end, model.config.pad_token_id) if token is not None}
    sides = [model.get_encoder(), model.get_decoder()] if model.config.is_encoder_decoder else [model]
    sizes = [side.get_input_embeddings().num_embeddings for side in sides if side is not None]
    common = min(10_000, *sizes)
    plain = torch.tensor([token for token in range(common) if token not in special])

    def draw() -> torch.Tensor:
        ids = plain[torch.randint(len(plain), (rows, length), generator=generator)]
        if end is not None and end < common:
            ids[:, -1] = end
        return ids.to(model.device)

    batch: dict[str, Any] = {"input_ids": draw()}
    if type(model).__name__.endswith("MultipleChoice"):
        batch["input_ids"] = torch.stack([batch["input_ids"], draw()], 1)
    if model.config.is_encoder_decoder and "Classification" not in type(model).__name__:
        batch["decoder_input_ids"] = draw()
    if "use_cache" in inspect.signature(model.forward).parameters:
        batch["use_cache"] = False
    return batch
