"""What the facts come to, as rows of tables and as sentences."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from .facts import Facts
from .text import Markdown, code, escape, number
from .vocabulary import DATASET_NAME, language_name

FAMILIES = {
    "encoder": "an encoder (as BERT: it reads a text from both sides)",
    "decoder": "a decoder (as GPT: it reads from the beginning and writes on)",
    "encoder-decoder": "an encoder-decoder (as T5: it reads one text and writes another)",
}
# What each objective asks of a model, and what the first of each family is.
OBJECTIVES = {
    "masked": "restore hidden tokens ({mlm_probability:.0%}) from the text on both sides of them",
    "next-sentence": "restore hidden tokens ({mlm_probability:.0%}), and tell whether two texts belong together",
    "causal": "predict each token from those before it",
    "fill-in-the-middle": "predict each token from those before it, in {fim_rate:.0%} of the documents the middle last",
    "prefix": "go on with a text whose beginning it reads from both sides",
    "pairs": "write one text, given another",
    "span-corruption": "write what was cut out of a text ({noise_density:.0%}, {mean_span_length:g} tokens a span)",
    "denoising": "restore a text that was damaged by {noises}",
    "ul2": "restore and continue texts by the mixture of tasks of UL2",
}
# The same of tasks to fine-tune for.
TASKS = {
    "text-classification": "say which of several labels a text has",
    "multi-label-classification": "say which labels a text has, none or several",
    "regression": "give a text a number",
    "token-classification": "label the words of a text",
    "question-answering": "find the answer to a question in a text, or that there is none",
    "multiple-choice": "choose the text that goes with another",
    "text-embedding": "give texts that belong together vectors that are near each other",
    "text-to-text": "write one text, given another",
    "instruction-following": "answer what somebody said",
}
FIRST = {"encoder": "masked", "decoder": "causal", "encoder-decoder": "span-corruption"}
NORMS = {"rmsnorm": "RMSNorm", "layernorm": "LayerNorm"}
PLACEMENTS = {
    "pre": "before each sublayer",
    "post": "after each sublayer",
    "sandwich": "before and after each sublayer",
}
POSITIONS = {
    "rope": "rotary (RoPE)",
    "learned": "learned",
    "sinusoidal": "sinusoidal",
    "relative": "relative, in buckets (T5)",
    "alibi": "ALiBi",
    "none": "none",
}


def family_of(facts: Facts) -> str | None:
    """encoder, decoder or encoder-decoder; `None` for a model that is not ours."""
    return facts.config.model_type.removeprefix("trivium_").replace("_", "-") if facts.is_ours else None


def objective_of(facts: Facts) -> tuple[str, str] | None:
    """The objective's name, and what it asks of the model; `None` if no training is on record."""
    if not facts.settings:
        return None
    if "task" in facts.settings:
        return facts.settings["task"], TASKS.get(facts.settings["task"], "")
    name = facts.settings.get("objective") or FIRST.get(facts.settings.get("family", ""), "")
    settings = facts.settings | {"noises": " and ".join(facts.settings.get("noises") or [])}
    try:
        return name, OBJECTIVES[name].format(**settings)
    except (KeyError, ValueError, TypeError):  # of another version of Trivium
        return name, ""


def architecture(facts: Facts) -> tuple[list[str], list[list[Any]]]:
    """Head and rows of the table of the shape, with a column for each side of an encoder-decoder."""
    config = facts.config
    two = facts.is_ours and config.is_encoder_decoder
    sides = {"encoder": config.encoder, "decoder": config.decoder} if two else {"": config}
    if two and facts.model_class.endswith("ForTokenClassification"):
        del sides["decoder"]  # it labels what its encoder reads
    rows = [[name, *(_cell(show, side) for side in sides.values())] for name, show in SHAPE.items()]
    return ["", *sides], [row for row in rows if any(cell != "" for cell in row[1:])]


def _cell(show: Callable[[Any], Any], side: Any) -> Any:
    shown = show(side)
    return "" if shown is None else number(shown)


def _field(name: str) -> Callable[[Any], Any]:
    return lambda config: getattr(config, name, None)


def _heads(config: Any) -> str | None:
    heads, groups = getattr(config, "num_attention_heads", None), getattr(config, "num_key_value_heads", None)
    if heads is None:
        return None
    of = f", each {config.head_dim} wide" if getattr(config, "head_dim", None) else ""
    return f"{heads}{of}" + (f"; {groups} for keys and values" if groups not in (None, heads) else "")


def _attention(config: Any) -> str | None:
    counts = Counter(getattr(config, "layer_types", None) or [])
    if not counts:
        return None
    window = getattr(config, "sliding_window", None)
    causal = not getattr(config, "model_type", "").endswith("_encoder")
    near = f"the last {window} tokens" if causal else f"{window} tokens to either side"
    words = {"full_attention": "all tokens" if not causal else "all tokens before", "sliding_attention": near}
    return ", ".join(f"{count} layer{'s' * (count > 1)}: {words.get(kind, kind)}" for kind, count in counts.items())


def _feed_forward(config: Any) -> str | None:
    size = getattr(config, "intermediate_size", None)
    if size is None:
        return None
    gated = ", gated" if getattr(config, "gated_mlp", False) else ""
    return f"{number(size)}{gated}, {getattr(config, 'hidden_act', '')}"


def _positions(config: Any) -> str | None:
    kind = getattr(config, "position_encoding", None)
    return POSITIONS.get(str(kind), kind)


def _norm(config: Any) -> str | None:
    if not hasattr(config, "norm_placement"):
        return None
    also = ", and of queries and keys" if config.qk_norm else ""
    return f"{NORMS.get(config.norm, config.norm)} {PLACEMENTS.get(config.norm_placement, '')}{also}"


def _tied(config: Any) -> str | None:
    tied = getattr(config, "tie_word_embeddings", None)
    return None if tied is None else "shared" if tied else "separate"


SHAPE: dict[str, Callable[[Any], Any]] = {
    "Layers": _field("num_hidden_layers"),
    "Hidden size": _field("hidden_size"),
    "Attention heads": _heads,
    "Attention": _attention,
    "Feed-forward size": _feed_forward,
    "Positions": _positions,
    "Most tokens at once": _field("max_position_embeddings"),
    "Normalization": _norm,
    "Vocabulary": _field("vocab_size"),
    "Input and output embeddings": _tied,
}


def training_data(facts: Facts) -> list[list[Any]]:
    """A row for each source: what it is, its share, its size, what was held out, languages and licence."""
    return [_source(source) for source in facts.record.get("data") or []]


def _source(source: dict[str, Any]) -> list[Any]:
    languages = ", ".join(language_name(one) for one in source.get("languages") or []) or "not recorded"
    return [
        source_name(source),
        _known(source.get("weight")),
        _amount(source.get("documents"), source.get("bytes")),
        _known(source.get("tokens")),
        _amount(source.get("held_out_documents"), source.get("held_out_bytes")),
        languages,
        source.get("license") or "not recorded",
    ]


def source_name(source: dict[str, Any]) -> Markdown:
    """What a source is called: a link for a data set of the Hub."""
    names = [str(name) for name in source.get("data") or []]
    if source.get("kind") == "hub" and len(names) == 1 and DATASET_NAME.fullmatch(names[0]):
        config = f", {source['config']}" if source.get("config") else ""
        split = f" ({source.get('split', 'train')}{config})"
        return Markdown(f"[{escape(names[0])}](https://huggingface.co/datasets/{names[0]}){escape(split)}")
    if source.get("kind") == "python-docs":
        return Markdown(f"{code('python-docs')}: the documentation that Python carries")
    return Markdown(", ".join(code(name) for name in names))


def _known(value: Any) -> str:
    return "not recorded" if value is None else number(value)


def _amount(documents: int | None, size: int | None) -> str:
    if documents is None:
        return "a stream, not counted"
    return f"{documents:,} documents, {_bytes(size)}" if size is not None else f"{documents:,} documents"


def _bytes(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:,} bytes"


def procedure(facts: Facts) -> list[list[Any]]:
    """Rows of how it was trained, as far as it is on record."""
    machine, versions = facts.record.get("machine") or {}, facts.record.get("versions") or {}
    seconds = facts.metrics.get("seconds", facts.record.get("seconds"))
    since = facts.record.get("resumed_from")
    rows = {
        "Task" if facts.verb == "finetune" else "Objective": _objective(facts),
        "Weights to begin with": _beginning(facts),
        "Parameters trained": _trained(facts),
        "Steps": facts.step,
        "Tokens read": facts.tokens,
        "Rows per step": _batch(facts),
        "Floating point operations": _flops(facts),
        "Learning rate": _learning_rate(facts),
        "Optimizer": _optimizer(facts),
        "Hardware": _hardware(machine),
        "Time in training": None
        if seconds is None
        else duration(seconds) + (f" since step {since:,}" if since else ""),
        "Software": ", ".join(f"{name} {version}" for name, version in versions.items()) or None,
        "Random seed": _setting(facts, "seed"),
    }
    return [[name, number(value)] for name, value in rows.items() if value is not None]


def _objective(facts: Facts) -> str | None:
    found = objective_of(facts)
    return None if found is None else f"{found[0]}: {found[1]}" if found[1] else found[0]


def _beginning(facts: Facts) -> str | None:
    if facts.start:
        return f"those of {facts.start}"
    return "random" if facts.verb == "finetune" else None


def _trained(facts: Facts) -> str | None:
    trained, all_of_them = (facts.metrics.get(name) for name in ("trained_parameters", "parameters"))
    if not trained or not all_of_them or trained == all_of_them:
        return None
    return f"{trained:,} of {all_of_them:,} ({trained / all_of_them:.2%}), with adapters of PEFT"


def _setting(facts: Facts, name: str) -> Any:
    return (facts.record.get("settings") or {}).get(name)


def _batch(facts: Facts) -> str | None:
    rows, length = _setting(facts, "rows_per_step"), facts.settings.get("max_length")
    if not isinstance(rows, int) or not isinstance(length, int):
        return None
    return f"{rows:,} of up to {length:,} tokens" + (
        " for the encoder" if family_of(facts) == "encoder-decoder" else ""
    )


def _flops(facts: Facts) -> str | None:
    flops = facts.metrics.get("flops")
    return f"{flops:.2e}".replace("e+", "e") if flops else None


def _learning_rate(facts: Facts) -> str | None:
    highest, kind = _setting(facts, "learning_rate"), _setting(facts, "lr_scheduler_type")
    if highest is None:
        return None
    warmup = _setting(facts, "warmup_steps") or 0
    first = f"{warmup:.0%} of the steps" if 0 < warmup < 1 else f"{warmup:,.0f} steps"
    head = _setting(facts, "head_learning_rate")
    most = f"{highest:g} at most" + (f", {head:g} of the new head" if head else "")
    return f"{most}, {kind}" + (f" after {first} of warmup" if warmup else "")


def _optimizer(facts: Facts) -> str | None:
    name = _setting(facts, "optim")
    if name is None:
        return None
    name = "Muon for the matrices, AdamW for the rest" if _setting(facts, "muon") else str(name)
    return f"{name}; weight decay {_setting(facts, 'weight_decay')}"


def _hardware(machine: dict[str, Any]) -> str | None:
    if not machine.get("processor"):
        return None
    processes = machine.get("processes") or 1
    return f"{machine['processor']}" + (f", {processes} processes" if processes > 1 else "")


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
