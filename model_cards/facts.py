"""What lies in the folder of a checkpoint: its configuration, its weights, and what training recorded."""

import dataclasses
import json
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import AutoConfig
from transformers.configuration_utils import PreTrainedConfig

from ..configuration import TriviumDecoderConfig, TriviumEncoderConfig, TriviumEncoderDecoderConfig
from ..configuration.errors import InputError
from .adapters import Adapter, read_adapter
from .tensors import read_tensors, total
from .weights import weights_stamp

RUN = "trivium_run.json"  # what a run wrote of itself; with metrics once it is finished
RUN_STATE = "trivium_state.json"  # of a checkpoint: how far it is
TRAINER_STATE = "trainer_state.json"
CONFIGS = {
    config.model_type: config for config in (TriviumDecoderConfig, TriviumEncoderConfig, TriviumEncoderDecoderConfig)
}


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of a checkpoint.

    Attributes:
        folder: where its files are.
        place: where they lie or will lie: a checkpoint is written aside first.
    """

    folder: Path
    place: Path

    @cached_property
    def adapter(self) -> Adapter | None:
        """What an adapter of PEFT says of itself; `None` for a whole model. See [`read_adapter`] for what it raises."""
        return read_adapter(self.folder, self.place)

    @cached_property
    def base(self) -> "Facts | None":
        """The model that an adapter is put on, if it is on this machine."""
        found = self.adapter and self.adapter.base.folder
        return Facts(Path(found), Path(found)) if found and (Path(found) / "config.json").is_file() else None

    @cached_property
    def config(self) -> Any:
        """The configuration; raises `InputError` if there is none or it cannot be read.

        An adapter has that of its base model, or `None` where that is not on this machine.
        """
        if self.adapter:
            return self.base.config if self.base else None
        if not (self.folder / "config.json").is_file():
            raise InputError(f"'{self.place}' holds no config.json: give the folder of a checkpoint.")
        try:
            fields, _ = PreTrainedConfig.get_config_dict(self.folder)
            ours = CONFIGS.get(fields.get("model_type"))
            return (
                ours.from_pretrained(self.folder)
                if ours
                else AutoConfig.from_pretrained(self.folder, trust_remote_code=False)
            )
        except InputError:
            raise
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"'{self.place / 'config.json'}' cannot be read: {' '.join(str(error).split())}") from None

    @property
    def is_ours(self) -> bool:
        """Whether the model is one of Trivium's, and no conversion to one of transformers."""
        return self.config is not None and self.config.model_type in CONFIGS

    @property
    def model_class(self) -> str:
        """The class of the model, as far as the configuration says; of an adapter, the one that it is put on."""
        if self.adapter:
            return self.adapter.class_of(self.config)
        return str((self.config.architectures or [""])[0])

    @cached_property
    def weights(self) -> tuple[int, str] | None:
        """Parameters, and the dtype of most; `None` where there are no safetensors."""
        return total(
            self.adapter.tensors if self.adapter else read_tensors(self.folder, "model*.safetensors", self.place)
        )

    @property
    def finished(self) -> bool:
        """Whether a run of ours ended with this model."""
        return bool(self.metrics)

    @cached_property
    def record(self) -> dict[str, Any]:
        """What the run that made these weights recorded of itself, with its metrics if it is finished, or nothing."""
        record = self._json(RUN)
        return record if self._is_of_these(record) else {}

    @cached_property
    def state(self) -> dict[str, Any]:
        """What `Trainer` recorded: here, in the checkpoint that an adapter lies in, or in the last one of the run."""
        if not self._is_of_these(self._json(RUN)):
            return {}
        if (self.folder / TRAINER_STATE).is_file():
            return self._json(TRAINER_STATE)
        if self.adapter and self.place.absolute().parent.name.startswith("checkpoint-"):
            return read_json(self.place.absolute().parent / TRAINER_STATE)
        steps = {path: path.name.removeprefix("checkpoint-") for path in self.place.glob("checkpoint-*")}
        last = max((path for path in steps if steps[path].isdecimal()), key=lambda path: int(steps[path]), default=None)
        return read_json(last / TRAINER_STATE) if last and (last / TRAINER_STATE).is_file() else {}

    @property
    def log(self) -> list[dict[str, Any]]:
        """What was logged while training, by time."""
        return [entry for entry in self.state.get("log_history") or [] if isinstance(entry, dict)]

    @property
    def metrics(self) -> dict[str, Any]:
        """What a finished run measured."""
        return self.record.get("metrics") or {}

    @property
    def step(self) -> int | None:
        """Steps that the weights were trained for."""
        found = self.metrics.get("steps") if self.finished else self._json(RUN_STATE).get("step")
        return self.state.get("global_step") if found is None else found

    @property
    def tokens(self) -> int | None:
        """Tokens that the model has read."""
        if self.finished:
            return self.metrics.get("tokens")
        return (self._json(RUN_STATE).get("work") or {}).get("tokens")

    @property
    def settings(self) -> dict[str, Any]:
        """What decided what the run learnt."""
        return self.record.get("pretraining") or self.record.get("finetuning") or {}

    @property
    def verb(self) -> str:
        """The verb of the command line that made the model."""
        return "finetune" if "finetuning" in self.record else "pretrain"

    @property
    def start(self) -> str | None:
        """The checkpoint that training went on from, if it did not begin with random weights."""
        if self.verb == "pretrain":
            return self.settings.get("model_name_or_path")
        return None if self.settings.get("from_scratch") else self.settings.get("model")

    @cached_property
    def evaluations(self) -> list[dict[str, Any]]:
        """What `trivium evaluate --json FOLDER/evaluation....json` left, if it is of these weights."""
        found = [read_json(path) for path in sorted(self.place.glob("evaluation*.json"))]
        # Times are compared where both were noted, in one form: text sorts as they do.
        ended = str(self.record.get("ended") or "")
        return [
            entry for entry in found if isinstance(entry.get("rows"), list) and str(entry.get("date") or "~") >= ended
        ]

    @property
    def has_tokenizer(self) -> bool:
        """Whether a tokenizer lies beside the weights."""
        return (self.folder / "tokenizer_config.json").is_file()

    @property
    def has_mask_token(self) -> bool:
        """Whether the tokenizer knows a token to fill in for."""
        return self.has_tokenizer and bool(self._json("tokenizer_config.json").get("mask_token"))

    def _is_of_these(self, record: dict[str, Any]) -> bool:
        """Whether a run's record is of the weights that are here now: another model may have been saved over them."""
        return record.get("weights") in (None, weights_stamp(self.folder))

    def _json(self, name: str) -> dict[str, Any]:
        return read_json(self.folder / name)


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a file, nothing if there is no file; raises `InputError` for a broken one."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"'{path}' is broken: delete it, and the card leaves out what it said.")
    return found
