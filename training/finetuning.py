"""The trainer of `trivium finetune`, which measures what a model answers, example by example."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch.utils.data import Dataset

from ..configuration.errors import InputError
from .lora import new_heads
from .tasks.examples import Examples
from .tasks.task import Row, Task
from .trainer import TriviumTrainer

POOL, TOGETHER = 4096, 64


class ShuffledExamples(Dataset):
    """Features to train on, for ever, in an order of its own in each pass.

    Item `n` is found without those before it, so that a run goes on at any of them, on any number of processes. Of
    every `POOL` features in a random order those of about one length come together, `TOGETHER` at a time, and these in
    a random order again, so that little is padded.

    Args:
        features: what a task makes of examples.
        seed: of the order; `None` = as they come.
    """

    def __init__(self, features: Sequence[Row], seed: int | None = 0):
        self.features, self.seed = features, seed
        self._latest: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))
        self._lengths = np.array([sum(map(_size, feature.values())) for feature in features])

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> Row:
        number, place = divmod(index, len(self))
        return self.features[int(self._order(number)[place])]

    def state_dict(self, rows_read: int) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"rows": rows_read, "length": len(self)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises `InputError` if there were more or fewer examples when `state` was taken."""
        if state.get("length") != len(self):
            raise InputError(
                f"the checkpoint was trained on {state.get('length')} features, but there are {len(self)}."
            )

    def _order(self, number: int) -> np.ndarray:
        if self._latest[0] != number:
            self._latest = number, np.arange(len(self)) if self.seed is None else self._shuffled(number)
        return self._latest[1]

    def _shuffled(self, number: int) -> np.ndarray:
        generator = np.random.default_rng([self.seed or 0, number])
        order = generator.permutation(len(self))
        groups = []
        for start in range(0, len(order), POOL):
            pool = order[start : start + POOL]
            pool = pool[np.argsort(self._lengths[pool], kind="stable")]
            groups += [pool[first : first + TOGETHER] for first in range(0, len(pool), TOGETHER)]
        return np.concatenate([groups[place] for place in generator.permutation(len(groups))])


def _size(value: Any) -> int:
    """How many numbers there are in lists of lists of them."""
    return sum(map(_size, value)) if isinstance(value, list) else 1


class Measured:
    """Examples to measure on, and what a task makes of them."""

    def __init__(self, examples: Examples, features: Sequence[Row]):
        self.examples, self.features = examples, features

    def __len__(self) -> int:
        return len(self.examples)


@contextmanager
def frozen_weights_cast(model: torch.nn.Module) -> Iterator[None]:
    """Puts in the place of frozen projections what autocast makes of them, as long as it lasts; else nothing.

    Autocast keeps what it has cast of weights that are trained, but casts frozen ones, beside an adapter all of them,
    at every call: with each token that is written.
    """
    kept = []
    for module in model.modules():
        device = module.weight.device.type if isinstance(module, torch.nn.Linear) else "meta"
        if device == "meta" or not torch.is_autocast_enabled(device):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if (
                not parameter.requires_grad
                and parameter.dtype == torch.float32
                and type(parameter) is torch.nn.Parameter
            ):
                kept.append((module, name, parameter))
                narrow = parameter.detach().to(torch.get_autocast_dtype(device))
                setattr(module, name, torch.nn.Parameter(narrow, requires_grad=False))
    try:
        yield
    finally:
        for module, name, parameter in kept:
            setattr(module, name, parameter)


class FinetuneTrainer(TriviumTrainer):
    """Beside what `Trainer` takes, the `task`. `eval_dataset` is [`Measured`].

    `evaluate` reports the loss, the mean over all that is learnt, and how good the answers are; neither depends on the
    batch size or the number of processes. Answers that are written take long: they are measured when `answers` is set.
    """

    def __init__(self, *args: Any, task: Task, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.task = task
        self.answers_too = task.best != "loss"

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """As in [`TriviumTrainer`]; a head with a learning rate of its own is in groups of its own."""
        is_new, rate = self.optimizer is None, self.args.head_learning_rate
        optimizer = super().create_optimizer(model)
        if is_new and rate is not None:
            whole = self.accelerator.unwrap_model(self.model)
            whole = whole.get_base_model() if hasattr(whole, "get_base_model") else whole  # beneath an adapter
            head = {id(p) for name in new_heads(whole) for p in getattr(whole, name).parameters()}
            for group in list(optimizer.param_groups):
                own = [parameter for parameter in group["params"] if id(parameter) in head]
                group["params"] = [parameter for parameter in group["params"] if id(parameter) not in head]
                if own:
                    optimizer.add_param_group(group | {"params": own, "lr": rate})
        return optimizer

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The task's own loss where the model has none for it."""
        if type(self.task).loss is Task.loss or return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        return self.task.loss(model, inputs, num_items_in_batch)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Loss and metrics of the task, with a prefix before their names."""
        measured: Measured = self.eval_dataset if eval_dataset is None else eval_dataset
        with self.throughput.paused():
            metrics = {"loss": self.measure_loss(measured.features)}
            if self.answers_too:
                metrics |= self.task.measure(self.predict_rows(list(measured.examples)), list(measured.examples))
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    @torch.no_grad()
    def measure_loss(self, features: Sequence[Row]) -> float:
        """The mean loss over all that these features teach."""
        process, processes = self._evaluation_share()
        own, size = range(process, len(features), processes), self.args.per_device_eval_batch_size
        sums = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        model = self.model
        model.eval()
        for start in range(0, len(own), size):
            batch = self.data_collator([features[number] for number in own[start : start + size]])
            items = self.task.items(batch)
            batch = self._prepare_inputs(batch)
            with self.compute_loss_context_manager():
                loss = self.task.loss(model, batch)
            sums += torch.tensor([loss.double().item() * items, items], dtype=torch.float64, device=self.args.device)
        total, count = (sums if processes == 1 else self.sum_over_processes(sums)).tolist()
        return total / max(count, 1)

    def predict_rows(self, rows: Sequence[Row]) -> list[Row]:
        """The model's answers to rows, in their order, in every process."""
        process, processes = self._evaluation_share()
        numbers = range(process, len(rows), processes)
        self.model.eval()
        with self.compute_loss_context_manager() or nullcontext(), frozen_weights_cast(self.model):
            own = self.task.predict(self.model, [rows[n] for n in numbers], self.args.per_device_eval_batch_size)
        if processes == 1:
            return own
        everyone = gather_object(list(zip(numbers, own, strict=True)))
        return [answer for _, answer in sorted(everyone, key=lambda pair: pair[0])]

    def _evaluation_share(self) -> tuple[int, int]:
        """The share of this process; processes that hold parts of one model must all see everything."""
        apart = self.is_fsdp_enabled or self.is_deepspeed_enabled
        return (0, 1) if apart else self._share()
