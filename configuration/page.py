"""What a page of the history of transformers says: one architecture, its paper, its fields and its published sizes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Fields = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """A published size of an architecture.

    Args:
        parameters: how many our model counts at that size.
        published: what the source says, in its own rounding ("110M").
        fields: what differs from the page.
        remark: why our count does not round to what is published, where it does not.
    """

    parameters: int
    published: str
    fields: Fields
    remark: str = ""


@dataclass(frozen=True)
class Page:
    """An architecture.

    Args:
        family: of ours.
        year, paper, url: of the publication.
        particular: what sets it apart, in one line.
        reference: the classes of transformers that compute the same.
        model_type: of these in transformers.
        source: where the parameter counts are published.
        counted: what the published counts count: the stack alone, or with its language-modeling head.
        fields: of the configuration, where they differ from its defaults. A function of the other fields stands for
            a value that follows from them.
        sizes: by name.
    """

    family: Literal["encoder", "decoder", "encoder-decoder"]
    year: int
    paper: str
    url: str
    particular: str
    reference: str
    model_type: str
    source: str
    counted: Literal["stack", "language model"]
    fields: Fields
    sizes: dict[str, Size]


def repeat(*kinds: str) -> Callable[[Fields], list[str]]:
    """Layer types that repeat, as many as there are layers."""
    return lambda fields: [kinds[layer % len(kinds)] for layer in range(fields["num_hidden_layers"])]


def root_of_width(fields: Fields) -> float:
    """The square root of the hidden size."""
    return fields["hidden_size"] ** 0.5


def inverse_root_of_width(fields: Fields) -> float:
    """One over the square root of the hidden size."""
    return fields["hidden_size"] ** -0.5


# What the models of 2017 to 2020 have in common: LayerNorm, a plain feed-forward, biases everywhere.
CLASSIC: Fields = dict(
    norm="layernorm",
    norm_bias=True,
    norm_eps=1e-5,
    gated_mlp=False,
    attention_bias=True,
    attention_output_bias=True,
    mlp_bias=True,
    qk_norm=False,
)
# What Llama made common: RMSNorm before each sublayer, a gated feed-forward, RoPE (the default), no biases.
MODERN: Fields = dict(norm="rmsnorm", norm_placement="pre", gated_mlp=True, hidden_act="silu", qk_norm=False)
