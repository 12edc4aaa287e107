"""What the library sentence-transformers reads beside a model to make vectors of texts as we do.

The files have the form of its early releases, which later ones read too: tests use what is installed, 6.2 of late.
"""

import json
from pathlib import Path
from typing import Any

MODULES = ("Transformer", "Pooling", "Normalize")
POOLING_MODES = {"mean": "mean_tokens", "first": "cls_token", "last": "lasttoken"}


def write_modules(folder: Path, width: int, pooling: str, max_length: int) -> None:
    """Writes which modules make a vector: the model, the pooling, and what brings it to length 1.

    Args:
        width: of a vector.
        pooling: `mean`, `first` or `last`.
        max_length: tokens of a text, beyond which it is cut.
    """
    paths = ["", *(f"{number}_{name}" for number, name in enumerate(MODULES) if number)]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"}
        for number, (path, name) in enumerate(zip(paths, MODULES, strict=True))
    ]
    modes = {f"pooling_mode_{mode}": name == pooling for name, mode in POOLING_MODES.items()}
    _write(folder / "modules.json", modules)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    _write(folder / "config_sentence_transformers.json", {"similarity_fn_name": "cosine"})
    _write(folder / paths[1] / "config.json", {"word_embedding_dimension": width, **modes})
    _write(folder / paths[2] / "config.json", {})


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
