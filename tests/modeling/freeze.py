"""Makes the checkpoints that later versions must still load, each with what it computed when it was made.

    python -m tests.modeling.freeze

One archive for each family and version, `frozen/decoder-0.1.0.zip`: the folder that `save_pretrained` wrote, and in it
`expected.safetensors` with inputs and logits. Those of a version that was released are never made again.
"""

import tempfile
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.families import HEADS, draw_texts, make_model, padded
from trivium.configuration.version import __version__

FROZEN = Path(__file__).with_name("frozen")
EXPECTED = "expected.safetensors"
EPOCH = (1980, 1, 1, 0, 0, 0)  # so that the same content gives the same archive


@torch.no_grad()
def freeze(folder: Path) -> None:
    """Writes an archive for each family into `folder`."""
    for head in (head for head in HEADS if head.task == "lm"):
        model = make_model(head)
        batch = padded(draw_texts(head, model.config))
        with tempfile.TemporaryDirectory() as checkpoint:
            model.save_pretrained(checkpoint)
            expected = {f"input.{name}": tensor.contiguous() for name, tensor in batch.items()}
            save_file(expected | {"logits": model(**batch).logits}, Path(checkpoint) / EXPECTED)
            with zipfile.ZipFile(folder / f"{head.family}-{__version__}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                for path in sorted(Path(checkpoint).iterdir()):
                    archive.writestr(zipfile.ZipInfo(path.name, EPOCH), path.read_bytes(), zipfile.ZIP_DEFLATED)


def thaw(archive: Path, folder: Path) -> None:
    """Unpacks a frozen checkpoint."""
    with zipfile.ZipFile(archive) as content:
        content.extractall(folder)


@torch.no_grad()
def largest_difference(model: torch.nn.Module, folder: Path) -> float:
    """Between what a loaded checkpoint computes and what it did when it was made."""
    expected = load_file(folder / EXPECTED)
    inputs = {name.removeprefix("input."): x for name, x in expected.items() if name.startswith("input.")}
    return float((model(**inputs).logits - expected["logits"]).abs().max())


if __name__ == "__main__":
    FROZEN.mkdir(exist_ok=True)
    freeze(FROZEN)
