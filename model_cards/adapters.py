"""What an adapter of PEFT says of itself: its method, the model that it is put on, and what it is for."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import transformers
from huggingface_hub import snapshot_download

from ..configuration.errors import InputError
from .contents import read_json
from .tensors import Tensor, read_tensors
from .vocabulary import HUB_NAME

ADAPTER_CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
# What PEFT calls the tasks that it wraps a model for.
TASKS = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "FEATURE_EXTRACTION": "AutoModel",
}
# Names of methods in their papers, where they are not those of PEFT.
METHODS = {
    "ADALORA": "AdaLoRA",
    "ADAPTION_PROMPT": "LLaMA-Adapter",
    "FOURIERFT": "FourierFT",
    "IA3": "(IA)³",
    "LN_TUNING": "tuning of the norms",
    "LOHA": "LoHa",
    "LOKR": "LoKr",
    "LORA": "LoRA",
    "MULTITASK_PROMPT_TUNING": "multitask prompt tuning",
    "PREFIX_TUNING": "prefix tuning",
    "PROMPT_TUNING": "prompt tuning",
    "P_TUNING": "P-tuning",
    "VBLORA": "VB-LoRA",
    "VERA": "VeRA",
    "XLORA": "X-LoRA",
}
# What is no part of a layer, as learnt prompts: PEFT puts it on a model, transformers' `from_pretrained` does not.
APART = "ADAPTION_PROMPT CARTRIDGE CPT MULTITASK_PROMPT_TUNING PREFIX_TUNING PROMPT_TUNING P_TUNING SHADOW".split()
INSIDE = "base_model.model."  # what PEFT writes in front of a parameter's name
CLASSIFIER = re.compile(r"\.(score|classifier(\.out_proj)?)\.weight$")


class Base(NamedTuple):
    """The model that an adapter is put on.

    Attributes:
        name: as the adapter names it; empty if it does not.
        folder: where it lies on this machine; `None` = nowhere.
        on_hub: whether it is named by its name on the Hub, and not by a folder, which others have not.
    """

    name: str
    folder: str | None
    on_hub: bool


@dataclass(frozen=True)
class Adapter:
    """An adapter of PEFT.

    Attributes:
        folder: where its files are.
        place: where they lie or will lie.
    """

    folder: Path
    place: Path

    @cached_property
    def fields(self) -> dict[str, Any]:
        """What its configuration says."""
        return read_json(self.folder / ADAPTER_CONFIG)

    @cached_property
    def base(self) -> Base:
        """The model that it is put on."""
        return find_base(self.folder)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Its weights, by name."""
        return read_tensors(self.folder, WEIGHTS, self.place)

    @property
    def method(self) -> str:
        """How it changes the model, under the name that people know."""
        kind = str(self.fields.get("peft_type") or "an unnamed method")
        name = "DoRA" if self.fields.get("use_dora") else METHODS.get(kind, kind)
        return f"rank-stabilised {name}" if self.fields.get("use_rslora") else name

    @property
    def is_apart(self) -> bool:
        """Whether it lies in front of the layers or beside them, and not inside."""
        return self.fields.get("peft_type") in APART

    @property
    def auto(self) -> str | None:
        """The Auto class of its task, if it names one."""
        return TASKS.get(str(self.fields.get("task_type")))

    @property
    def tags(self) -> list[str]:
        """What the Hub lists it under, as PEFT says it."""
        return [*(["lora"] if self.fields.get("peft_type") == "LORA" else []), "transformers"]

    @property
    def labels(self) -> int | None:
        """How many classes its classifier tells apart, which it says by the size of that alone; `None` without one."""
        if self.fields.get("task_type") not in ("SEQ_CLS", "TOKEN_CLS"):
            return None
        return next((tensor.shape[0] for name, tensor in self.tensors.items() if CLASSIFIER.search(name)), None)

    def class_of(self, config: Any) -> str:
        """The class that the adapter is put on; empty if nothing tells.

        Args:
            config: the base model's configuration, `None` where that is not known.
        """
        named = self.fields.get("auto_mapping")
        if isinstance(named, dict) and named.get("base_model_class"):
            return str(named["base_model_class"])
        if config is None:
            return ""
        made = self.auto and _class_in(self.auto, config)
        if not made or (self.auto == "AutoModel" and self._is_inside_of(made.base_model_prefix)):
            return str((config.architectures or [""])[0])
        return str(made.__name__)

    def _is_inside_of(self, prefix: str) -> bool:
        """Whether what it changes is inside of a model with a head: PEFT has no task for masked language models."""
        return bool(prefix) and any(name.startswith(f"{INSIDE}{prefix}.") for name in self.tensors)


def read_adapter(folder: Path, place: Path) -> Adapter | None:
    """The adapter in a folder; `None` if it holds none, or a whole model as well.

    Raises:
        InputError: its configuration is broken or names no base model, or its weights are missing.
    """
    if not (folder / ADAPTER_CONFIG).is_file() or (folder / "config.json").is_file():
        return None
    adapter = Adapter(folder, place)
    if not adapter.base.name:
        raise InputError(
            f"'{place / ADAPTER_CONFIG}' names no base model: write its name on the Hub, or its folder, into "
            "base_model_name_or_path."
        )
    if not (folder / WEIGHTS).is_file():
        raise InputError(f"'{place}' holds the configuration of an adapter and no {WEIGHTS}: save the adapter again.")
    return adapter


def find_base(folder: Path) -> Base:
    """The model that the adapter in `folder` is put on, looked for on this machine; nothing is fetched.

    A folder may be named as it is seen from here, or from a folder that the adapter lies in.
    """
    named = read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    name = named if isinstance(named, str) else ""
    if not name:
        return Base("", None, False)
    if Path(name).is_dir():
        return Base(name, str(Path(name).resolve()), False)
    if HUB_NAME.fullmatch(name) and (cached := _in_cache(name)):
        return Base(name, cached, True)
    around = next((above / name for above in folder.absolute().parents if (above / name).is_dir()), None)
    return Base(name, str(around.resolve()) if around else None, around is None and bool(HUB_NAME.fullmatch(name)))


def _class_in(auto: str, config: Any) -> Any:
    """What an Auto class makes of a configuration, `None` if nothing."""
    made = getattr(transformers, auto)._model_mapping.get(type(config), None)
    return made[0] if isinstance(made, list | tuple) else made


def _in_cache(name: str) -> str | None:
    try:
        return snapshot_download(name, local_files_only=True)
    except (OSError, ValueError):  # it is not there, or no name
        return None
