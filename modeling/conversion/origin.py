"""What tells a model of transformers from ours: the names of its fields and of its weights, as tables.

An origin is a `model_type` of transformers. Its weights are renamed by a table with a row per module:

    theirs                      ours                        layout
    h.*.attn.c_attn             layers.*.self_attn.{q,k,v}_proj   conv1d

`*` stands for a number, braces for several of our modules that are one of theirs, `-` for what we compute instead of
storing, a `?` after our name for what we need not have. The rows of the body are relative to the stack on both sides;
those of the heads are whole names.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from ...configuration.errors import InputError
from ...configuration.page import Fields, Page

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Layout:
    """How one of their tensors holds several of ours.

    Args:
        split: (tensor, rows of each of ours, heads) -> ours.
        join: (ours, heads) -> theirs.
    """

    split: Callable[[torch.Tensor, list[int], int], list[torch.Tensor]]
    join: Callable[[list[torch.Tensor], int], torch.Tensor]


def _turn(x: torch.Tensor) -> torch.Tensor:
    return x.t() if x.ndim == 2 else x


LAYOUTS = {
    # One above the other.
    "stacked": Layout(
        lambda x, rows, heads: list(x.split(rows)),
        lambda parts, heads: torch.cat(parts),
    ),
    # The same, stored as (inputs, outputs).
    "conv1d": Layout(
        lambda x, rows, heads: list(_turn(x).split(rows)),
        lambda parts, heads: _turn(torch.cat(parts)),
    ),
    # Rows of q, k and v of the first head, then of the second, ...
    "by-head": Layout(
        lambda x, rows, heads: [part.flatten(0, 1) for part in x.unflatten(0, (heads, len(rows), -1)).unbind(1)],
        lambda parts, heads: torch.stack([part.unflatten(0, (heads, -1)) for part in parts], 1).flatten(0, 2),
    ),
    # A vector as a matrix of one row.
    "row": Layout(lambda x, rows, heads: [x.squeeze(0)], lambda parts, heads: parts[0].unsqueeze(0)),
}


@dataclass(frozen=True)
class Row:
    """One line of a table of renames."""

    pattern: re.Pattern[str]
    targets: tuple[str, ...]
    layout: Layout
    optional: bool

    def find(self, key: str) -> list[str] | None:
        """Our names for their `key` (a weight or a bias), or `None` if the row does not speak of it."""
        match = self.pattern.fullmatch(key)
        if match is None:
            return None
        *numbers, parameter = match.groups(default="")
        return [target.format(*numbers) + parameter for target in self.targets]


def table(*texts: str) -> tuple[Row, ...]:
    """Reads a table of renames, given in one or several pieces."""
    return tuple(_row(*line.split()) for text in texts for line in text.splitlines() if line.strip())


def _row(theirs: str, ours: str, layout: str = "stacked") -> Row:
    pattern = re.compile(re.escape(theirs).replace(r"\*", r"(\d+)") + r"(\.weight|\.bias)?")
    optional = ours.endswith("?")
    return Row(pattern, tuple(_targets(ours.rstrip("?"))), LAYOUTS[layout], optional)


def _targets(ours: str) -> Iterator[str]:
    """`a.*.{q,k}_proj` -> `a.{0}.q_proj`, `a.{0}.k_proj`."""
    if ours == "-":
        return
    before, brace, rest = ours.partition("{")
    choices, _, after = rest.partition("}")
    for choice in choices.split(",") if brace else [""]:
        name, numbers = before + choice + after, 0
        while "*" in name:
            name, numbers = name.replace("*", f"{{{numbers}}}", 1), numbers + 1
        yield name


def _nothing(*_: Any) -> Fields:
    return {}


def _no_objection(*_: Any) -> str | None:
    return None


@dataclass(frozen=True)
class Origin:
    """A `model_type` of transformers.

    Args:
        model_type: theirs.
        page: the architecture; what its fields say and no other argument says holds for all models of this origin.
        fields: our field -> theirs; `encoder.x` and `decoder.x` are fields of a side.
        heads: their class -> ours. The first of theirs for one of ours is what ours becomes.
        body, head: tables of renames.
        changes: to the page.
        read: (their configuration, their weights) -> our fields that no renaming gives.
        write: (our configuration) -> their fields that no renaming gives.
        objection: (their configuration, name of their class) -> what in it we cannot compute.
        free: fields of ours that need not come back as they were.
        rope_per_type: whether `rope_parameters` are given for each type of layer.
    """

    model_type: str
    page: Page
    fields: dict[str, str]
    heads: dict[str, type]
    body: tuple[Row, ...]
    head: tuple[Row, ...] = ()
    changes: Fields = field(default_factory=dict)
    read: Callable[[Any, State], Fields] = _nothing
    write: Callable[[Any], Fields] = _nothing
    objection: Callable[[Any, str], str | None] = _no_objection
    free: frozenset[str] = frozenset()
    rope_per_type: bool = False

    def locate(self, key: str, prefix: str, inner: str) -> tuple[Row, list[str]] | None:
        """The row that speaks of their `key` and our names for it.

        Args:
            prefix: what the names of their stack begin with, where they do.
            inner: what the names of our stack begin with.
        """
        for rows, name, ours in ((self.body, key.removeprefix(prefix), inner), (self.head, key, "")):
            for row in rows:
                found = row.find(name)
                if found is not None:
                    return row, [ours + target for target in found]
        return None

    def part(self, key: str, prefix: str) -> Literal["stack", "head", "computed", "unknown"]:
        """What their `key` is a part of; the pooler counts as a head, as some of their models go without."""
        found = self.locate(key, prefix, "")
        if found is None:
            return "unknown"
        row, names = found
        if row in self.head or (names and names[0].startswith("pooler.")):
            return "head"
        return "stack" if names else "computed"


def read_state(origin: Origin, theirs: State, shapes: dict[str, torch.Size], heads: int, prefix: str) -> State:
    """Our weights from theirs.

    Args:
        theirs: all of them.
        shapes: of all of ours.
        heads: number of attention heads.
        prefix: what the names of their stack begin with, where they do.

    Raises:
        InputError: weights of theirs that ours have no place for, or of ours that theirs do not fill, by name.
    """
    inner = "" if "embed_tokens.weight" in shapes or "encoder.embed_tokens.weight" in shapes else "model."
    filled: State = {}
    unused = []
    for key, tensor in theirs.items():
        found = origin.locate(key, prefix, inner)
        if found is None:
            unused.append(key)
            continue
        row, names = found
        if not all(name in shapes for name in names):
            if not row.optional:
                unused.append(key)
            continue
        parts = row.layout.split(tensor, [shapes[name][0] for name in names], heads) if names else []
        for name, part in zip(names, parts, strict=True):
            if name in filled and not torch.equal(filled[name], part):
                raise InputError(
                    f"'{key}' is one with another weight in a {origin.model_type} of ours, but here their values "
                    "differ: make them equal first."
                )
            filled[name] = part.contiguous()
    missing = [name for name in shapes if name not in filled]
    if unused or missing:
        raise InputError(f"the weights do not fit a {origin.model_type}: " + _listed(unused, missing))
    return filled


def write_state(origin: Origin, ours: State, keys: list[str], heads: int, prefix: str) -> State:
    """Their weights from ours: those of `keys` that are not computed by themselves.

    Raises:
        InputError: as `read_state`.
    """
    inner = "" if "embed_tokens.weight" in ours or "encoder.embed_tokens.weight" in ours else "model."
    filled: State = {}
    missing = []
    used: set[str] = set()
    for key in keys:
        found = origin.locate(key, prefix, inner)
        row, names = found if found is not None else (None, ["?"])
        if row is not None and all(name in ours for name in names):
            if names:
                filled[key] = row.layout.join([ours[name] for name in names], heads).contiguous()
                used.update(names)
        elif row is None or not row.optional:
            missing.append(key)
    unused = [name for name in ours if name not in used]
    if unused or missing:
        raise InputError(f"the weights do not fit a {origin.model_type}: " + _listed(unused, missing))
    return filled


def _listed(unused: list[str], missing: list[str]) -> str:
    """Which keys have no place, and which places have no key, five of each."""
    sentences = []
    for what, keys in (("no place for", unused), ("nothing for", missing)):
        if keys:
            more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
            sentences.append(f"there is {what} {', '.join(keys[:5])}{more}")
    return "; ".join(sentences) + "."
