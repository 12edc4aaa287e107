"""Models of transformers as ours, and ours as theirs: the same weights under other names, the same numbers."""

import logging as python_logging
from collections.abc import Callable
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
from .origins import ORIGINS, check_source, class_for, find_origin

logger = logging.get_logger(__name__)


@dataclass
class Report:
    """What a conversion did beside renaming.

    Args:
        source: the class and `model_type` converted from.
        new: weights that the source did not have and that were drawn at random.
        dropped: weights of the source that the head asked for does not have.
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
            said.append(f"left out, since the model asked for has no place for it: {', '.join(self.dropped)}.")
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
    if isinstance(source, PreTrainedModel):
        theirs, report = source, Report(f"{type(source).__name__} ({source.config.model_type})")
    else:
        theirs, report = _load(str(source), model_class, config, kwargs)
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
    if theirs is source:
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
    try:
        config = write_config(origin, model.config)
        with torch.device("meta"):
            empty = theirs(config)
    except InputError:
        raise
    except Exception as error:  # whatever their validation raises, it means that their model cannot be this one
        raise InputError(f"{origin.model_type} cannot be so: {_first_line(error)}") from None
    keys, prefix = list(empty.state_dict()), f"{theirs.base_model_prefix}."
    back = read_config(origin, config, type(model), {}, model.config.tie_word_embeddings)
    lost = lost_fields(origin, model.config, back)
    if lost:
        raise InputError(f"as {origin.model_type} it would lose {', '.join(lost)}")
    state = write_state(origin, model.state_dict(), keys, model.config.num_attention_heads, prefix)
    return _finish(theirs, config, {key: tensor.clone() for key, tensor in state.items()}, model)


def _finish(cls: Any, config: PreTrainedConfig, weights: State, source: PreTrainedModel) -> Any:
    """A model of `cls` with these weights and the source's dtype, generation defaults and name."""
    with _quiet():
        model, info = cls.from_pretrained(
            None, config=config, state_dict=weights, dtype=source.dtype, output_loading_info=True
        )
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
    try:
        return AutoConfig.from_pretrained(source, **where)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"'{source}' is no checkpoint that transformers can read: {_first_line(error)}.") from None


def _load(
    source: str, model_class: type | None, config: PreTrainedConfig | None, kwargs: dict
) -> tuple[PreTrainedModel, Report]:
    """Their model from a checkpoint, and what its loading has to say."""
    config = config or read_foreign_config(source, **kwargs)
    origin = find_origin(config.model_type)
    names = config.architectures or []
    if "gguf_file" in kwargs:
        kwargs["config"] = config
        names = names or [class_for(origin, TriviumDecoderForCausalLM) or ""]  # such files do not say what they hold
    if model_class is not None:
        name = class_for(origin, model_class)
        if name is None:
            raise InputError(f"{origin.model_type} has nothing that would become a {model_class.__name__}.")
    elif names:
        name = names[0]
    else:
        raise InputError(f"the configuration of '{source}' names no model class (`architectures`): say which you want.")
    check_source(origin, config, name)
    asked = model_class is not None and names and names[0] != name
    try:
        theirs, info = getattr(transformers, name).from_pretrained(source, output_loading_info=True, **kwargs)
    except (OSError, ValueError) as error:
        raise InputError(f"'{source}' cannot be loaded as {name}: {_first_line(error)}.") from None
    report = Report(f"{name} ({origin.model_type})")
    missing, unexpected = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    prefix = f"{theirs.base_model_prefix}."
    if asked:
        # Heads may come and go; the stack below them may not.
        report.new, missing = _head_keys(missing, prefix, theirs)
        report.dropped, unexpected = _head_keys(unexpected, prefix, theirs)
    mismatched = [str(key[0]) if isinstance(key, tuple) else str(key) for key in info["mismatched_keys"]]
    for what, keys in (("lacks", missing), ("also has", unexpected), ("has in another shape", mismatched)):
        if keys:
            more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
            raise InputError(f"'{source}' is no whole {name}: it {what} {', '.join(keys[:5])}{more}.")
    return theirs, report


def _head_keys(keys: list[str], prefix: str, theirs: PreTrainedModel) -> tuple[list[str], list[str]]:
    """Those that belong to a head, and the others."""
    stack = set(theirs.base_model.state_dict())
    mine = [key for key in keys if key.removeprefix(prefix) not in stack]
    return mine, [key for key in keys if key not in mine]


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


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")


@contextmanager
def _quiet():
    """No bar for weights that are in memory already, and no report on ties that are as they should be."""
    root = python_logging.getLogger("transformers")
    level, bars = root.level, logging.is_progress_bar_enabled()
    root.setLevel(python_logging.ERROR)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        root.setLevel(level)
        if bars:
            logging.enable_progress_bar()
