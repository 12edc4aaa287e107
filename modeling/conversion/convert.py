"""Models of transformers as ours, and ours as theirs: the same weights under other names, the same numbers."""

import copy
import logging as python_logging
import re
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from ...configuration.errors import InputError
from ..decoder import TriviumDecoderForCausalLM
from ..stack import TriviumPreTrainedModel
from .fields import lost_fields, read_config, tokens_of, write_config
from .origin import Origin, State, read_state, write_state
from .origins import ORIGINS, check_rope, check_source, class_for, find_origin

logger = logging.get_logger(__name__)
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass
class Report:
    """What a conversion did beside renaming.

    Args:
        source: the class and `model_type` converted from.
        new: weights that the source did not have and that were drawn at random.
        dropped: weights of heads that the source has and the model does not.
        notes: sentences on what else changed.
    """

    source: str
    new: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """The report in words."""
        said = list(self.notes)
        if self.new:
            said.append(f"new, drawn at random, to be trained: {', '.join(self.new)}.")
        if self.dropped:
            said.append(f"left out, since the model has no place for it: {', '.join(self.dropped)}.")
        return said


def from_transformers(
    source: str | Path | PreTrainedModel, model_class: type | None = None, **kwargs: Any
) -> TriviumPreTrainedModel:
    """A model of transformers, or a checkpoint of one, as ours.

    Args:
        source: the model; or a folder or name that `from_pretrained` takes. Family, head and configuration follow from
            it.
        model_class: our class to make, if not the one that the source is; a head that the source does not have is new.
        kwargs: for `from_pretrained`, such as `dtype`, `revision`, `gguf_file` or, for a new head, `num_labels`.

    Returns:
        Our model, in evaluation mode, with weights of its own. What was new or left out is logged.

    Raises:
        InputError: the source cannot be read, is of no kind that we have, or has other weights than its kind.
    """
    model, report = convert(source, model_class, **kwargs)
    for sentence in report.sentences():
        logger.warning(f"{report.source}: {sentence}")
    return model


def convert(
    source: str | Path | PreTrainedModel,
    model_class: type | None = None,
    config: PreTrainedConfig | None = None,
    keep: Callable[[PreTrainedModel], None] | None = None,
    **kwargs: Any,
) -> tuple[TriviumPreTrainedModel, Report]:
    """As `from_transformers`, with the report.

    Args:
        config: theirs, if it was read before: from a GGUF file that takes long.
        keep: called with their model, for whoever wants to compare; the weights are shared where they can be.
    """
    if isinstance(source, TriviumPreTrainedModel):
        raise InputError(f"a {type(source).__name__} is a model of Trivium already.")
    if isinstance(source, PreTrainedModel) and model_class is None and not kwargs:
        theirs, report = source, Report(f"{type(source).__name__} ({source.config.model_type})")
    elif isinstance(source, str | Path | PreTrainedModel):
        theirs, report = _load(source, model_class, config, kwargs)
    else:
        raise InputError(f"a {type(source).__name__} is no model of transformers, no folder and no Hub name.")
    origin = find_origin(theirs.config.model_type)
    check_source(origin, theirs.config, type(theirs).__name__)
    ours = origin.heads[type(theirs).__name__]
    state = theirs.state_dict()
    config = read_config(origin, theirs.config, ours, state, _is_tied(theirs))
    for name, token in tokens_of(theirs.config).items():
        if token is None and getattr(theirs.config, name, None) is not None:
            report.notes.append(f"`{name}` {getattr(theirs.config, name)} is no token of the vocabulary: left out.")
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in ours(config).state_dict().items()}
    heads = config.num_attention_heads
    weights = read_state(origin, state, shapes, heads, f"{theirs.base_model_prefix}.")
    if isinstance(source, PreTrainedModel):
        weights = {name: tensor.clone() for name, tensor in weights.items()}
    if keep is not None:
        keep(theirs)
    return _finish(ours, config, weights, theirs), report


def to_transformers(model: TriviumPreTrainedModel, model_type: str | None = None) -> PreTrainedModel:
    """One of our models as one of transformers: what it was converted from, or whatever computes the same.

    Args:
        model: ours.
        model_type: of transformers, to choose where several would do.

    Raises:
        InputError: transformers has nothing that computes this, with what would be lost in what comes nearest.
    """
    if not isinstance(model, TriviumPreTrainedModel):
        raise InputError(f"a {type(model).__name__} is no model of Trivium.")
    problems = []
    for origin in _candidates(model, model_type):
        name = class_for(origin, type(model))
        if name is None:
            continue
        try:
            return _write(origin, model, name)
        except InputError as error:
            problems.append(str(error).rstrip("."))
    # What comes nearest has the least to lose.
    nearest = min(problems, key=len, default=f"it has nothing like a {type(model).__name__}")
    raise InputError(f"transformers has no {model_type or 'model'} that computes this one: {nearest}.")


def _write(origin: Origin, model: TriviumPreTrainedModel, name: str) -> PreTrainedModel:
    """`model` as their class `name`, or `InputError` if it would not be the same."""
    theirs = getattr(transformers, name)
    check_rope(origin, model.config, name)
    try:
        config = write_config(origin, model.config)
        check_source(origin, config, name)
        with torch.device("meta"):
            empty = theirs(config)
    except InputError:
        raise
    except Exception as error:  # whatever their validation raises, it means that their model cannot be this one
        raise InputError(f"{origin.model_type} cannot be so: {_reason(error)}") from None
    keys, prefix = list(empty.state_dict()), f"{theirs.base_model_prefix}."
    back = read_config(origin, config, type(model), {}, model.config.tie_word_embeddings)
    lost = lost_fields(origin, model.config, back)
    if lost:
        raise InputError(f"as {origin.model_type} it would lose {', '.join(lost)}")
    state = write_state(origin, model.state_dict(), keys, model.config.num_attention_heads, prefix)
    return _finish(theirs, config, {key: tensor.clone() for key, tensor in state.items()}, model)


def _finish(cls: Any, config: PreTrainedConfig, weights: State, source: PreTrainedModel) -> Any:
    """A model of `cls` with these weights and the source's dtype, generation defaults and name."""
    options = dict(config=config, state_dict=weights, dtype=source.dtype, output_loading_info=True)
    options |= {} if issubclass(cls, TriviumPreTrainedModel) else _attention_for(config)
    with _quiet():
        model, info = cls.from_pretrained(None, **options)
    missing = [key for key in info["missing_keys"] if key in weights]  # others are computed, as Marian's positions are
    wrong = [*missing, *info["unexpected_keys"], *info["mismatched_keys"]]
    if wrong:
        raise InputError(f"the weights do not fit {cls.__name__}: {', '.join(map(str, wrong[:5]))}.")
    if model.can_generate() and source.can_generate():
        model.generation_config = GenerationConfig.from_dict(source.generation_config.to_dict())
    model.config.name_or_path = source.config.name_or_path
    return model.eval()


def read_foreign_config(source: str, **kwargs: Any) -> PreTrainedConfig:
    """The configuration in a folder, under a Hub name or in a GGUF file; `InputError` if there is none."""
    where = {name: kwargs[name] for name in ("gguf_file", "revision", "token", "subfolder") if name in kwargs}
    folder = Path(source, where.get("subfolder", ""))
    if folder.is_file():
        raise InputError(f"'{source}' is a file: give the folder that it lies in (and `gguf_file`, if it is one).")
    if not folder.is_dir() and not HUB_NAME.fullmatch(source):
        raise InputError(f"'{source}' does not exist, and it cannot be a name on the Hub.")
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise InputError(f"'{source}' holds an adapter: merge it into its model (`merge_and_unload`), and save that.")
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False, **where)
    except Exception as error:  # the readers of JSON and GGUF and the checks of a configuration share no class
        raise InputError(f"{_called(source, kwargs)} cannot be read by transformers: {_reason(error)}.") from error


def _called(source: str | Path, kwargs: dict) -> str:
    return f"'{Path(source, kwargs['gguf_file'])}'" if "gguf_file" in kwargs else f"'{source}'"


def _load(
    source: str | Path | PreTrainedModel, model_class: type | None, config: PreTrainedConfig | None, kwargs: dict
) -> tuple[PreTrainedModel, Report]:
    """Their model, of the class that becomes `model_class`, and what its loading has to say."""
    if isinstance(source, PreTrainedModel):
        called, config, names = f"the {type(source).__name__}", copy.deepcopy(source.config), [type(source).__name__]
        stored = {key: tensor for key, tensor in source.state_dict().items() if key not in source.all_tied_weights_keys}
        where: dict[str, Any] = dict(config=config, state_dict=stored, dtype=source.dtype)
    else:
        called, config = _called(source, kwargs), config or read_foreign_config(str(source), **kwargs)
        names = config.architectures or []
        where = dict(config=config) if "gguf_file" in kwargs else {}
    origin = find_origin(config.model_type)
    if "gguf_file" in kwargs:
        names = names or [class_for(origin, TriviumDecoderForCausalLM) or ""]  # such files do not say what they hold
    name = _class_name(origin, names, model_class, called)
    check_source(origin, config, name)
    cls, other = getattr(transformers, name), getattr(transformers, (names or [name])[0], None)
    if other is not None and other.base_model_prefix != cls.base_model_prefix:  # as in Llama's question answering
        where["key_mapping"] = {f"^{other.base_model_prefix}\\.": f"{cls.base_model_prefix}."}
    options = _attention_for(config) | where | kwargs | dict(output_loading_info=True, ignore_mismatched_sizes=True)
    try:
        with _quiet(bars=True):
            theirs, info = cls.from_pretrained(None if "state_dict" in where else source, **options)
    except Exception as error:  # what a broken file raises depends on who reads it: safetensors, pickle, GGUF, ...
        raise InputError(f"{called} cannot be loaded as {name}: {_reason(error)}.") from error
    report = Report(f"{(names or [name])[0]} ({origin.model_type})")
    _check_loaded(report, origin, theirs, info, called, kwargs.get("ignore_mismatched_sizes", False))
    return theirs, report


def _attention_for(config: PreTrainedConfig) -> dict[str, str]:
    """For their models that cap the scores: in some releases their default is an attention that does not."""
    sides = (config, getattr(config, "encoder", None), getattr(config, "decoder", None))
    capped = any(getattr(side, "attn_logit_softcapping", None) for side in sides)
    return dict(attn_implementation="eager") if capped else {}


def _check_loaded(
    report: Report, origin: Origin, theirs: PreTrainedModel, info: dict, called: str, may_change: bool
) -> None:
    """Reports heads that came or went; `InputError` for whatever else the checkpoint lacks or has too many."""
    prefix, name = f"{theirs.base_model_prefix}.", type(theirs).__name__
    mismatched = [key[0] if isinstance(key, tuple) else key for key in info["mismatched_keys"]]
    report.new, lacking = _of_a_head(origin, info["missing_keys"], prefix)
    report.dropped, unknown = _of_a_head(origin, info["unexpected_keys"], prefix)
    resized, misshapen = _of_a_head(origin, mismatched, prefix)
    if report.source.startswith(f"{name} "):  # the head is not new, so the checkpoint should have it
        report.new, lacking = [], sorted(report.new + lacking)
    if may_change:
        report.new += resized
    else:
        misshapen = sorted(resized + misshapen)
    for what, keys in (("lacks", lacking), ("also has", unknown), ("has in another shape", misshapen)):
        if keys:
            more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
            raise InputError(f"{called} is no whole {name}: it {what} {', '.join(keys[:5])}{more}.")


def _class_name(origin: Origin, names: list[str], model_class: type | None, called: str) -> str:
    """Their class that becomes `model_class`, or the first that a configuration names."""
    if model_class is not None:
        name = class_for(origin, model_class)
        if name is None:
            wanted = getattr(model_class, "__name__", repr(model_class))
            raise InputError(f"{origin.model_type} has nothing that would become a {wanted}.")
        return name
    if not names:
        raise InputError(
            f"the configuration of {called} names no model class (`architectures`): say which head you want."
        )
    return names[0]


def _of_a_head(origin: Origin, keys: Iterable[str], prefix: str) -> tuple[list[str], list[str]]:
    """Those that belong to a head, which may come and go, and the others without what we compute."""
    parts = {key: origin.part(key, prefix) for key in sorted(keys)}
    return [key for key in parts if parts[key] == "head"], [key for key in parts if parts[key] in ("stack", "unknown")]


def _candidates(model: TriviumPreTrainedModel, model_type: str | None) -> list[Origin]:
    """The origins to try, the likeliest first."""
    if model_type is not None:
        return [find_origin(model_type)]
    first = getattr(model.config, "origin", None)
    return sorted(ORIGINS.values(), key=lambda origin: origin.model_type != first)


def _is_tied(model: PreTrainedModel) -> bool:
    """Whether the output matrix is the embedding; a configuration does not always know."""
    output = model.get_output_embeddings()
    if output is None:
        return bool(getattr(model.config, "tie_word_embeddings", True))
    inputs = [model.get_input_embeddings()]
    if model.config.is_encoder_decoder:
        inputs.append(getattr(model.get_decoder(), "embed_tokens", inputs[0]))
    return any(output.weight is one.weight for one in inputs)


def _reason(error: Exception) -> str:
    """What an error says, in a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    said = (" ".join(lines[:2]) if lines[0].endswith(":") else lines[0]).rstrip(".")
    return said if isinstance(error, OSError | ValueError | RuntimeError) else f"{type(error).__name__} {said}"


@contextmanager
def _quiet(bars: bool = False):
    """No report on what does not fit or is not tied, which we give ourselves; no bars for what is in memory already."""
    root = python_logging.getLogger("transformers")
    level, had_bars = root.level, logging.is_progress_bar_enabled()
    root.setLevel(python_logging.ERROR)
    if not bars:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        root.setLevel(level)
        if had_bars:
            logging.enable_progress_bar()
