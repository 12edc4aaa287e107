"""What the card of an adapter says that those of whole models do not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .adapters import ADAPTER_CONFIG, Adapter
from .answers import Answers
from .contents import some
from .facts import Facts
from .sections import FAMILIES, family_of
from .text import Markdown, code, escape, link, number, table
from .usage import BASE, head_of

HOW_TO_MEASURE = Markdown(
    "`trivium evaluate` does it for a language model, once it is merged into its base model (`merge_and_unload`)"
)
NOTHING = (None, "", "none")
MOST = 8  # names of modules that a row shows


def summary(facts: Facts, answers: Answers) -> Markdown:
    """What it is, in a paragraph."""
    adapter = _adapter(facts)
    family = FAMILIES.get(family_of(facts) or "", f"a {facts.config.model_type} model" if facts.base else "")
    loaded = f"loaded as {code(facts.model_class)}" if facts.model_class else ""
    base = ", ".join(filter(None, (base_shown(adapter, answers), loaded, escape(family))))
    return Markdown(f"An adapter of PEFT ({escape(adapter.method)}) for {base}. It has {_size(facts)}.")


def architecture(facts: Facts, base: Markdown | None) -> Markdown:
    """The table of what the adapter is, and that of its base model if it is known."""
    adapter = _adapter(facts)
    rows = {name: show(adapter) for name, show in ROWS.items()} | {"In all": _size(facts)}
    shown = table(("", ""), [(name, cell) for name, cell in rows.items() if cell not in NOTHING])
    if base is None:
        return Markdown(f"{shown}\n\n*The shape of the base model is not known: it is not on this machine.*")
    return Markdown(f"{shown}\n\nThe base model:\n\n{base}")


def notes(facts: Facts, answers: Answers) -> list[Markdown]:
    """What whoever wants to load it elsewhere should know first."""
    if not facts.adapter or facts.adapter.base.on_hub or facts.adapter.is_apart:
        return []
    base = str(answers.get("base_model") or BASE)
    load = code(f"PeftModel.from_pretrained({head_of(facts).auto}.from_pretrained({base!r}), name)")
    return [
        Markdown(
            f"`{ADAPTER_CONFIG}` names the base model by a folder of the machine that it was trained on. Elsewhere, "
            f"{load} puts the adapter on it."
        )
    ]


def missing(facts: Facts, answers: Answers) -> list[str]:
    """What the card cannot say of the base model, and how it could."""
    if not facts.adapter:
        return []
    base, found = facts.adapter.base, []
    if not base.on_hub and "base_model" not in answers:
        found.append(f"base_model: {ADAPTER_CONFIG} names a folder, '{base.name}' (--base_model 'org/model')")
    if not facts.base:
        found.append(f"what the base model is: '{base.name}' is not on this machine")
    if not is_loading_known(facts):
        found.append(f"what it is for: {ADAPTER_CONFIG} names no task_type")
    return found


def is_loading_known(facts: Facts) -> bool:
    """Whether anything tells which class the adapter is put on."""
    return bool(facts.model_class or _adapter(facts).auto)


def base_shown(adapter: Adapter, answers: Answers) -> Markdown:
    """The base model as others can know it: without the folders that lead to it here."""
    if "base_model" in answers or adapter.base.on_hub:
        return link(answers.get("base_model") or adapter.base.name)
    return Markdown(f"a local model, {code(Path(adapter.base.name).name)}")


def _adapter(facts: Facts) -> Adapter:
    assert facts.adapter is not None
    return facts.adapter


def _size(facts: Facts) -> str:
    """Its parameters, and how many that are of the base model's."""
    count, dtype = facts.weights or (0, "")
    text = f"{count:,} parameters in {dtype}"
    if not facts.base or not facts.base.weights:
        return text
    whole = facts.base.weights[0]
    return f"{text}, {100 * count / whole:.3g}% of the {whole:,} of the base model"


def _field(*names: str) -> Callable[[Adapter], Any]:
    """Shows the first of these fields that is there: methods call one thing by several names."""
    return lambda adapter: next(
        (number(adapter.fields[name]) for name in names if isinstance(adapter.fields.get(name), int | float | str)),
        None,
    )


def _modules(name: str) -> Callable[[Adapter], Markdown | None]:
    return lambda adapter: _names(adapter.fields.get(name))


def _names(modules: Any) -> Markdown | None:
    """Names of modules, once each where they are given layer by layer; a pattern as it is."""
    if not isinstance(modules, list):
        return code(modules) if modules else None
    names = sorted({str(name).rpartition(".")[2] for name in modules})
    layers = f" ({len(modules)} modules in all)" if len(names) < len(modules) else ""
    return Markdown(some(map(code, names), MOST) + layers)


def _rank(adapter: Adapter) -> str | None:
    shown, others = _field("target_r", "r")(adapter), adapter.fields.get("rank_pattern")
    return f"{shown}; of {len(others)} modules another" if shown and others and isinstance(others, dict) else shown


def _start(adapter: Adapter) -> str | None:
    """How its weights were drawn, if that has a name of its own; some change the base model too."""
    start = adapter.fields.get("init_lora_weights")
    return start if isinstance(start, str) else None


ROWS: dict[str, Callable[[Adapter], Any]] = {
    "Method": lambda adapter: adapter.method,
    "Rank": _rank,
    "Alpha": _field("lora_alpha", "alpha"),
    "Dropout": _field("lora_dropout", "module_dropout"),
    "Learnt tokens": _field("num_virtual_tokens"),
    "Put into": _modules("target_modules"),
    "Trained whole": _modules("modules_to_save"),
    "Biases trained": _field("bias"),
    "Initialization": _start,
    "Version of PEFT": _field("peft_version"),
}
