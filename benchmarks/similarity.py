"""How well the vectors of models tell how alike two words or two news items are, as people rated them.

    trivium fetch similarity
    python -m benchmarks.similarity --models out/minilm out/descriptions --output out/results/similarity

Nothing is trained: the correlation of the cosines of vectors with the ratings, within each subset. What is left has the
form of `trivium compare`, so that `python -m benchmarks.results --runs` shows it beside the baselines.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel

from trivium.training.evaluate import write_whole
from trivium.training.finetune import FAMILY_OF, load_config, load_tokenizer, positions_of
from trivium.training.record import now, processor, versions
from trivium.training.tasks.embedding import TextEmbedding
from trivium.training.tasks.task import Form

from . import baselines

BATCH = 32


def main(arguments: list[str] | None = None) -> None:
    """Measures every model and writes compare.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", required=True, help="checkpoints of Trivium")
    parser.add_argument("--pooling", help="mean, first or last; by default mean, of a decoder last")
    parser.add_argument("--data", type=Path, default=Path("data/similarity"))
    parser.add_argument("--output", type=Path, default=Path("out/results/similarity"))
    options = parser.parse_args(arguments)
    rows = baselines.read(options.data / "test.jsonl")
    if not rows:
        parser.error(f"{options.data} holds no test.jsonl: trivium fetch similarity")
    found = [measure(name, options.pooling, rows) for name in options.models]
    command = f"python -m benchmarks.similarity --models {' '.join(options.models)}"
    result = {
        "command": command + (f" --pooling {options.pooling}" if options.pooling else ""),
        "task": "text-embedding",
        "data": [str(options.data)],
        "metric": "lee spearman",
        "rows": found,
        "ended": now(),
        "machines": [processor()],
        "versions": [versions()],
        "tested": [len(rows)],
    }
    options.output.mkdir(parents=True, exist_ok=True)
    write_whole(options.output / "compare.json", json.dumps(result, indent=2) + "\n")
    for row in found:
        print(row["model"], *(f"{name} {value:.3f}" for name, value in row["mean"].items()), sep="; ")


def measure(name: str, pooling: str | None, rows: baselines.Rows) -> dict[str, Any]:
    """What one model reaches, as a row of a comparison."""
    config = load_config(name)
    task = TextEmbedding(
        load_tokenizer(name), FAMILY_OF[config.model_type], Form(pooling=pooling), positions_of(config)
    )
    model = AutoModel.from_pretrained(name, dtype=torch.float32).eval()
    sides = [task.embed(model, [row[role] for row in rows], BATCH) for role in ("text", "text_pair")]
    cosines = (sides[0] * sides[1]).sum(-1).tolist()
    return {
        "model": name,
        "examples": 0,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "split": "test",
        "seeds": 1,
        "mean": baselines.measure_numbers_within([], rows, cosines),
        "deviation": {},
    }


if __name__ == "__main__":
    main()
