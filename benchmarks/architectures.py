"""Write docs/architectures.md: paper, fields and parameters of each architecture, and how near its reference it is.

    python -m benchmarks.architectures --write docs/architectures.md

A small model of each, with every parameter drawn at random, is turned into every class of transformers that it has, and
both are asked about the same random tokens in float32.
"""

import argparse
import math
from pathlib import Path

import torch
import transformers
from transformers.utils import logging

from trivium.architectures import show
from trivium.configuration.architectures import CONFIG_CLASSES, PAGES, architecture, build, describe
from trivium.configuration.page import Page
from trivium.modeling.conversion import ORIGINS, largest_difference, to_transformers

from . import report

SMALL = dict(vocab_size=512, hidden_size=64, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4)
SMALL |= dict(max_position_embeddings=64)
# Where the page has them at all.
OPTIONAL = dict(sliding_window=4, head_dim=16, num_key_value_heads=2)
INTRODUCTION = """# The architectures

Each is a page of configuration beside its paper: `trivium.architecture("gpt2")` builds one, with any field changed that
you name, `trivium architectures` lists them all and `trivium architectures bert-base gpt2` shows what tells two apart.
The fields below are those that are not the defaults of the class.

The largest difference is that between a small model of the architecture, with every parameter drawn at random, and the
same weights in each class of transformers named beside it: the largest of all outputs' differences, relative to the
largest output, in float32. That hidden states, losses, gradients and generated tokens agree too, to 1e-9 in float64,
is tested in `tests/modeling/conversion/`.

{where}
"""


def main(arguments: list[str] | None = None) -> None:
    """Measures and writes, or prints, the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="file to write; by default the page is printed")
    options = parser.parse_args(arguments)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    differences = {id(page): measure(page) for page in PAGES}
    text = document(differences, report.describe(report.machine()))
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    else:
        print(text)


def measure(page: Page) -> dict[str, float]:
    """The largest difference for each class of transformers that a small model of `page` can become."""
    origin = ORIGINS[page.model_type]
    differences = {}
    for name, ours in origin.heads.items():
        model = small_model(page, ours)
        theirs = to_transformers(model, page.model_type)
        if type(theirs) is getattr(transformers, name):
            differences[name] = largest_difference(theirs, model)
    return differences


def small_model(page: Page, cls: type) -> torch.nn.Module:
    """A small model of the architecture, every parameter drawn at random."""
    torch.manual_seed(0)
    name = next(iter(page.sizes))
    full = architecture(name)
    side = getattr(full, "decoder", full)
    grouped = side.num_key_value_heads != side.num_attention_heads
    wanted = dict(sliding_window=side.sliding_window, head_dim=page.sizes[name].fields.get("head_dim"))
    changes = SMALL | {key: OPTIONAL[key] for key, value in wanted.items() if value is not None}
    changes |= dict(num_key_value_heads=OPTIONAL["num_key_value_heads"] if grouped else None)
    if page.fields.get("decoder_start_token_id", 0) >= SMALL["vocab_size"]:
        changes |= dict(decoder_start_token_id=0, pad_token_id=0)
    changes |= ORIGINS[page.model_type].changes
    model = cls(build(page, page.sizes[name].fields, changes, config_class=cls.config_class))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
            else:
                parameter.copy_(torch.randn_like(parameter) / math.sqrt(min(parameter.shape)))
    return model.eval()


def document(differences: dict[int, dict[str, float]], where: str) -> str:
    """The page of all pages, the oldest architecture first."""
    return "\n".join([INTRODUCTION.format(where=where), *(entry(page, differences) for page in PAGES)])


def entry(page: Page, differences: dict[int, dict[str, float]]) -> str:
    """One architecture: paper, fields, sizes, differences."""
    first = next(iter(page.sizes))
    fields = [f"{name} = {show(value)}" for name, value in describe(architecture(first)).items()]
    sizes = [[f"`{name}`", f"{size.parameters:,}", size.published, size.remark] for name, size in page.sizes.items()]
    measured = [[f"`{name}`", agreement(value)] for name, value in differences[id(page)].items()]
    worst = max(differences[id(page)].values())
    lines = [
        f"## {', '.join(page.sizes)}",
        f"[{page.paper}]({page.url}), {page.year}. {page.particular[0].upper()}{page.particular[1:]}.",
        f"`{first}`, a `{CONFIG_CLASSES[page.family].__name__}`:",
        "```\n" + "\n".join(fields) + "\n```",
        report.table(["size", f"parameters ({page.counted})", "published", "remark"], sizes),
        f"Published: {page.source}. Reference: {page.reference}.",
        f"Largest difference: {agreement(worst)}.",
        report.table(["class", "largest difference"], measured),
    ]
    return "\n\n".join(lines) + "\n"


def agreement(difference: float) -> str:
    """A difference, or that there is none."""
    return f"{difference:.1e}" if difference else "none"


if __name__ == "__main__":
    main()
