"""`transformers.Trainer` with saves that are whole or not there, exact resuming, and bad steps left out."""

import json
import logging
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DynamoBackend
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_callback import ExportableState, TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..configuration.errors import InputError
from ..model_cards.answers import ANSWERS
from ..model_cards.card import README, is_by_hand, write_card
from ..model_cards.plots import PICTURE
from ..model_cards.weights import weights_stamp
from .checkpoints import RUN_FILE, TRAINER_STATE, appearing, keep_latest, read_run_state, write_run_state
from .data.loading import Place, StepBatches
from .deepspeed_steps import judge_each_step
from .guard import SpikeGuard
from .objectives.batches import let_sizes_vary
from .objectives.randomness import EpochCallback
from .optimizer import MuonAdamW
from .schedules import Cooldown, schedule_arguments
from .sharded import full_state_dict, prepare_for_sharding
from .stopping import StopSignal
from .tensor_parallel import keep_whole, load_parts, make_adamw, spread_if_asked
from .throughput import Throughput

ASKED_FOR = ("initial_lr", "weight_decay", "betas", "eps")  # settings of an optimizer that a resumed run may change

logger = logging.getLogger(__name__)


class TriviumTrainer(Trainer):
    """What training from scratch and fine-tuning share.

    - Datasets with a `load_state_dict` ([`PackedDataset`], [`Mixture`], [`StreamedDataset`], [`ShuffledExamples`]) are
      read in their own order, step by step, whatever the number of processes; a resumed run goes on with the next row
      and reads nothing twice. Other datasets are read as `Trainer` does.
    - A step whose loss or gradient is no number, or whose loss is a spike, is left out and said; see [`SpikeGuard`].
      Ten in a row end the run.
    - SIGTERM saves a checkpoint and ends training; `stopped` then says so.
    - `args.muon` trains the matrices with Muon; see [`MuonAdamW`].
    - The saved config keeps the model's own `use_cache`, which `Trainer` sets to its own.
    - A checkpoint appears whole, with what `settings` and `record` say of the run, or not at all.
    - Whatever is saved has a card, made of `record` and of `answers`; see [`write_card`](../model_cards/card.py).
    """

    optimizer: torch.optim.Optimizer | None
    lr_scheduler: Any
    control: Any

    def __init__(self, *args: Any, settings: dict[str, Any] | None = None, **kwargs: Any):
        model = kwargs.get("model") or (args[0] if args else None)
        self._use_cache = getattr(model.config, "use_cache", None) if model else None
        asked, training_args = 0, kwargs.get("args") or args[1]
        self._own_order = hasattr(kwargs.get("train_dataset"), "load_state_dict")
        if self._own_order:
            # `Trainer` refuses a stream without a last step before it has said how many processes there are.
            asked, training_args.max_steps = training_args.max_steps, max(training_args.max_steps, 1)
        only_model = training_args.save_only_model
        self._is_spread = model is not None and spread_if_asked(model, training_args)
        training_args.save_only_model |= self._is_spread  # `Trainer` does not know how to save the optimizer; we do
        super().__init__(*args, **kwargs)
        self.args.save_only_model = only_model
        self.settings = settings or {}
        self.record: dict[str, Any] = {}
        self.answers: dict[str, Any] = {}
        self.guard = SpikeGuard(getattr(self.args, "spike_threshold", None))
        dtype = torch.bfloat16 if self.args.bf16 else torch.float16 if self.args.fp16 else torch.float32
        self.throughput = Throughput(self.model, self.args.device, dtype, self._together())
        self.stopped = False
        self.tracked_as: str | None = None
        self._last_saved: str | None = None
        self._stop = StopSignal()
        self._start = Place(0, 0)
        self._cooldown: Cooldown | None = None
        self._step_loss = self._step_grad_norm = 0.0
        self._ended_pass = False
        if self._own_order:
            self.args.ignore_data_skip = True  # nothing needs to be skipped: reading begins at the right row
            self._asked_steps = asked
            self.args.max_steps = self._last_step()
        self.add_callback(_Steps(self))
        if not self._own_order:
            self.add_callback(EpochCallback)

    def _share(self) -> tuple[int, int]:
        """Which share of the data this process reads, of how many; processes that split one model read the same."""
        together = self._together()
        return self.args.process_index // together, self.args.world_size // together

    def _together(self) -> int:
        return self.get_tp_size() * self.get_cp_size() * self.get_sp_size()

    def _loader(self, dataset: Any, batches: Any) -> DataLoader:
        # A stream is read in its order, which several workers would each have to do for all.
        workers = 0 if getattr(dataset, "in_order", False) else self.args.dataloader_num_workers
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=self.data_collator,
            num_workers=workers,
            prefetch_factor=self.args.dataloader_prefetch_factor if workers else None,
            pin_memory=self.args.dataloader_pin_memory and torch.cuda.is_available(),
            generator=torch.Generator(),  # of its own, so that dropout is the same whether or not a run was resumed
        )

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """As in `Trainer`; of several sizes a model is compiled once, unless the collator has `one_size` only."""
        inputs = super()._prepare_inputs(inputs)
        varies = not getattr(self.data_collator, "one_size", False)
        if varies and self.accelerator.state.dynamo_plugin.backend != DynamoBackend.NO:
            let_sizes_vary(inputs)
        return inputs

    def sum_over_processes(self, x: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all processes, of those that split one model the first; every one must call it."""
        first = self.args.process_index % self._together() == 0
        return self.accelerator.reduce(x if first else torch.zeros_like(x), "sum")

    def call_model_init(self, trial: Any = None) -> Any:
        """As in `Trainer`; notes the model's own `use_cache`."""
        model = super().call_model_init(trial)
        self._use_cache = getattr(model.config, "use_cache", None)
        return model

    def train(self, resume_from_checkpoint: str | None = None, *args: Any, **kwargs: Any) -> Any:
        """As `Trainer.train`; goes on exactly where `resume_from_checkpoint` was saved."""
        if hasattr(self.train_dataset, "set_epoch"):
            self.train_dataset.set_epoch(0)  # whoever read it before
        if resume_from_checkpoint:
            self.args.eval_on_start = False  # this is not the start
        if resume_from_checkpoint and self._own_order:
            self._restore(Path(resume_from_checkpoint))
        with self._stop:
            return super().train(resume_from_checkpoint, *args, **kwargs)

    def _restore(self, checkpoint: Path) -> None:
        """What `Trainer` does not restore: the place in the data, the guard's memory, a cooldown."""
        state = read_run_state(checkpoint)
        self._last_saved = str(checkpoint)
        self.train_dataset.load_state_dict(state["data"])
        self._start = Place(state["step"], state["data"]["rows"])
        self.guard.load_state_dict(state["guard"])
        self.throughput.load_state_dict(state["work"])
        steps = getattr(self.args, "cooldown_steps", None)
        if state["cooldown"]:
            self._cooldown = Cooldown(**state["cooldown"])
            if steps != self._cooldown.steps:
                raise InputError(
                    f"'{checkpoint}' lies in a cooldown of {self._cooldown.steps} steps, after which a run is over: go "
                    "on from the checkpoint that the cooldown began with, in another output_dir."
                )
        elif steps:
            self._cooldown = Cooldown(state["step"], steps, state["learning_rate_factor"])
        self.args.max_steps = self._last_step()
        if self._cooldown:
            self.args.max_steps = self._cooldown.start + self._cooldown.steps
        if self.args.max_steps < state["step"]:
            raise InputError(f"'{checkpoint}' is past the {self.args.max_steps} steps asked for: raise max_steps.")

    def _last_step(self) -> int:
        """The step that was asked for, or at which the tokens or the passes over the data have been read, in full."""
        if self._asked_steps > 0:
            return self._asked_steps
        tokens = getattr(self.args, "max_tokens", None)
        try:
            passes = 0 if tokens else int(self.args.num_train_epochs * len(self.train_dataset))
        except TypeError:
            raise InputError("the end of a stream is not known: say max_steps or max_tokens.") from None
        # From where the run is: the steps before may have read another number of rows each.
        rows = -(-int(tokens) // self.train_dataset.length) if tokens else passes
        left = math.ceil((rows - self._start.row) / self._batches().rows_per_step)
        return max(1, self._start.step + max(left, 0))

    def _batches(self) -> StepBatches:
        process, processes = self._share()
        accumulation = self.args.gradient_accumulation_steps
        size = self._train_batch_size
        return StepBatches(self._start, self.args.max_steps, size, accumulation, process, processes)

    def get_train_dataloader(self) -> DataLoader:
        """The rows of this process from where the run is; see [`StepBatches`]."""
        if not self._own_order:
            return super().get_train_dataloader()
        return self._loader(self.train_dataset, self._batches())

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """`Trainer`'s own optimizer, or Muon with AdamW; raises `InputError` where Muon would see parts of matrices."""
        if self.optimizer is not None:
            return super().create_optimizer(model)
        prepare_for_sharding(self.accelerator, self.model)
        if getattr(self.args, "muon", False):
            if self.is_deepspeed_enabled or (self.is_fsdp_enabled and not self.accelerator.is_fsdp2):
                raise InputError("muon needs whole matrices, which DeepSpeed and FSDP1 take apart: use FSDP2 or AdamW.")
            self.optimizer = MuonAdamW(
                self.model if model is None else model,
                lr=self.args.learning_rate,
                betas=(self.args.adam_beta1, self.args.adam_beta2),
                eps=self.args.adam_epsilon,
                weight_decay=self.args.weight_decay,
            )
        elif self._is_spread:
            kind, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            decayed = self.get_decay_parameter_names(self.model)
            self.optimizer = make_adamw(self.model, decayed, self.args.weight_decay, kind, settings)
        if self._is_spread:
            assert self.optimizer is not None
            keep_whole(self.optimizer)
        return super().create_optimizer(model)

    def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
        """The matrices that are no embeddings; `Trainer` tells norms by their names, of which ours are not all."""
        embeddings = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
        return [name for name, p in model.named_parameters() if p.ndim > 1 and id(p) not in embeddings]

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """As in `Trainer`, but what this run asks for stays: a checkpoint holds the settings of the run before too."""
        assert self.optimizer is not None
        asked = [{name: group[name] for name in ASKED_FOR if name in group} for group in self.optimizer.param_groups]
        highest = getattr(self.lr_scheduler, "base_lrs", None)
        if checkpoint is not None and self._is_spread:
            load_parts(Path(checkpoint), self.optimizer, self.lr_scheduler)
        else:
            super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None or self.is_deepspeed_enabled:
            return
        for group, settings in zip(self.optimizer.param_groups, asked, strict=True):
            if group.get("initial_lr") and "initial_lr" in settings:
                group["lr"] *= settings["initial_lr"] / group["initial_lr"]
            group |= settings
        self.lr_scheduler.base_lrs = highest
        self.lr_scheduler._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """`Trainer`'s own schedule, or the end of one; see [`Cooldown`]."""
        if self._cooldown and self.lr_scheduler is None:
            self.lr_scheduler = self._cooldown.schedule(optimizer or self.optimizer)  # type: ignore[arg-type]
        kind, given = str(getattr(self.args.lr_scheduler_type, "value", self.args.lr_scheduler_type)), self.args
        self.args.lr_scheduler_kwargs = schedule_arguments(
            kind, given.lr_scheduler_kwargs, getattr(given, "decay_steps", 0.2), num_training_steps
        )
        return super().create_scheduler(num_training_steps, optimizer)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As in `Trainer`; counts what is read, and adds up the loss of the step, which the guard judges."""
        self.throughput.add(kwargs["inputs"] if "inputs" in kwargs else args[1])
        loss = super().training_step(*args, **kwargs)
        self._step_loss = self._step_loss + loss
        return loss

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        self._step_grad_norm = super()._get_grad_norm(model, grad_norm)
        return self._step_grad_norm

    def judge_step(self) -> None:
        """Before each step of the optimizer: takes the gradients away if the guard finds the step bad."""
        loss, self._step_loss = self._step_loss, 0.0
        if self.is_deepspeed_enabled:
            return  # the step has been made or left out by now; see [`JudgedSteps`]
        if not self.is_good_step(loss, self._step_grad_norm):
            assert self.optimizer is not None
            self.optimizer.zero_grad(set_to_none=True)  # parameters without gradients are left as they are

    def is_good_step(self, loss: Any, grad_norm: Any) -> bool:
        """What the guard says of the next step, which is the same in all processes; each must ask once.

        Raises:
            InputError: this was the tenth bad step in a row.
        """
        loss, grad_norm = self._agreed(loss, grad_norm)
        if self.accelerator.mixed_precision == "fp16":
            return True  # float16 tries scales out, and leaves out by itself what overflows
        reason = self.guard.verdict(loss, grad_norm)
        if reason is None:
            return True
        if self.args.should_log:
            logger.warning("step %d is left out: %s.", self.state.global_step + 1, reason)
        if self.guard.gives_up:
            good = self._last_saved or "none was saved"
            raise InputError(
                f"ten steps in a row were left out, the last, {self.state.global_step + 1}, because {reason}. The last "
                f"good checkpoint: {good}; lower the learning rate, or look at the data."
            )
        return False

    def _agreed(self, loss: Any, grad_norm: Any) -> tuple[float, float]:
        """The loss of the step over all processes and its gradient's norm; notes whether any was asked to stop."""
        grad_norm = grad_norm.full_tensor() if hasattr(grad_norm, "full_tensor") else grad_norm
        values = torch.tensor([float(loss), float(grad_norm or 0.0), float(self._stop.asked)], device=self.args.device)
        if self.args.world_size > 1:
            values = self.accelerator.reduce(values, "mean")
        loss, grad_norm, asked = values.tolist()
        self.stopped = asked > 0
        return loss, grad_norm

    def count_step(self) -> None:
        """After each step: how far through the data the run is, what is due at the end of a pass, whether to stop."""
        if self._own_order:
            passes, self.state.epoch = (
                int(self._passes(self.state.global_step - 1)),
                self._passes(self.state.global_step),
            )
            self._ended_pass = int(self.state.epoch) > passes
            if self._ended_pass:
                self.control.should_log |= self.args.logging_strategy == "epoch"
                self.control.should_evaluate |= self.args.eval_strategy == "epoch"
                self.control.should_save |= self.args.save_strategy == "epoch"
        if self.stopped:
            self.control.should_save = self.control.should_training_stop = True

    def _passes(self, step: int) -> float:
        """How often the data has been read after so many steps; of a stream, which has no length, in whole numbers."""
        try:
            return self._batches().place(step).row / len(self.train_dataset)
        except TypeError:
            return float(self.train_dataset.epoch)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds to what `Trainer` logs of training the speed since the last time, and how many steps were left out."""
        if "loss" in logs:
            logs |= self.throughput.report(self.sum_over_processes)
            if self.guard.skipped:
                logs["skipped_steps"] = self.guard.skipped
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """None: [`Throughput`] counts them."""
        return 0

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As `Trainer.save_model`, but whole weights under every engine."""
        if not (self.is_fsdp_enabled or self.is_deepspeed_enabled or self._is_spread):
            super().save_model(output_dir, _internal_call)
            return
        self._save(output_dir or self.args.output_dir, full_state_dict(self.accelerator, self.model_wrapped))
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        with self._own_use_cache():
            super()._save(output_dir, state_dict)

    @contextmanager
    def _own_use_cache(self) -> Iterator[None]:
        config = self.accelerator.unwrap_model(self.model, keep_torch_compile=False).config
        in_training = config.use_cache
        if self._use_cache is None:
            del config.use_cache  # encoders have none
        else:
            config.use_cache = self._use_cache
        try:
            yield
        finally:
            config.use_cache = in_training

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self._is_spread and self.optimizer is not None and not self.args.should_save:
            self.optimizer.state_dict()  # which the process that saves it cannot gather alone
        super()._save_optimizer_and_scheduler(output_dir)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        tied = set(model.all_tied_weights_keys)  # stored once, under the other name
        load_result.missing_keys[:] = [name for name in load_result.missing_keys if name not in tied]
        super()._issue_warnings_after_load(load_result)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """What `Trainer` saves, and where the run is in its data; written aside, then moved into place."""
        run = Path(self._get_output_dir(trial))
        folder = run / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        main, wait = self.args.should_save, self.accelerator.wait_for_everyone
        work = self.throughput.state_dict(self.sum_over_processes)
        self.state.total_flos = work["flops"]
        with self.throughput.paused(), appearing(folder, main, wait) as aside:
            self.save_model(str(aside), _internal_call=True)
            if not self.args.save_only_model:
                self._save_optimizer_and_scheduler(str(aside))
                self._save_scaler(str(aside))
                self._save_rng_state(str(aside))
            wait()
            self._name_best(run)
            if main:
                self._save_state(aside, work)
                self.write_card(aside, folder)
        self._last_saved = str(folder)
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(folder))
        if main:
            keep_latest(run, self.args.save_total_limit, self.state.best_model_checkpoint)

    def write_card(self, folder: Path, place: Path) -> None:
        """Writes the card of what was saved in `folder`, which goes to `place`; a run's, if written by hand, stays."""
        try:
            write_card(folder, place, self.answers, overwrite=place.name.startswith(PREFIX_CHECKPOINT_DIR))
        except InputError as error:
            logger.warning("The card was not written: %s", error)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Ours in place of `Trainer`'s, which would be written over it."""
        if self.is_world_process_zero():
            self.write_card(Path(self.args.output_dir), Path(self.args.output_dir))

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """As in `Trainer`, which copies the weights into the run's folder and pushes that; with their card and code."""
        folder, run = Path(checkpoint_folder), Path(self.args.output_dir)
        if self.args.should_save:
            card = [] if is_by_hand(run / README) else [folder / README, folder / ANSWERS, folder / PICTURE]
            for path in (*folder.glob("*.py"), *card):
                if path.is_file():
                    (run / path.relative_to(folder)).parent.mkdir(exist_ok=True)
                    shutil.copy(path, run / path.relative_to(folder))
        super()._push_from_checkpoint(checkpoint_folder)

    def _name_best(self, run: Path) -> None:
        """Notes where the best checkpoint is, in every process: each loads it at the end."""
        best = self.state.best_global_step
        folder = run / f"{PREFIX_CHECKPOINT_DIR}-{best}"
        if best and (best == self.state.global_step or folder.is_dir()):
            self.state.best_model_checkpoint = str(folder)

    def _save_state(self, aside: Path, work: dict[str, int]) -> None:
        step = self.state.global_step
        for part in [*self.callback_handler.callbacks, self.control]:
            if isinstance(part, ExportableState):
                self.state.stateful_callbacks[type(part).__name__] = part.state()
        self.state.save_to_json(str(aside / TRAINER_STATE))
        if self.record:
            record = self.record | {"weights": weights_stamp(aside), "seconds": round(self.throughput.seconds, 2)}
            (aside / RUN_FILE).write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")
        if self._own_order:
            write_run_state(
                aside,
                {
                    "step": step,
                    "data": self.train_dataset.state_dict(self._batches().place(step).row),
                    "guard": self.guard.state_dict(),
                    "work": work,
                    "cooldown": self._cooldown and vars(self._cooldown),
                    "learning_rate_factor": self.lr_scheduler.get_last_lr()[0] / (self.lr_scheduler.base_lrs[0] or 1.0),
                    "settings": self.settings,
                    "tracked_as": self.tracked_as,
                },
            )


class _Steps(TrainerCallback):
    """Calls the trainer where `Trainer` itself only calls callbacks."""

    def __init__(self, trainer: TriviumTrainer):
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        state.compute_steps(args, state.max_steps)  # how often to log and save is as asked, not as in the checkpoint
        if self.trainer.is_deepspeed_enabled:
            judge_each_step(self.trainer.accelerator, self.trainer.is_good_step)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.judge_step()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.count_step()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """What `Trainer` takes for the end of an epoch is that of the run."""
        if self.trainer.stopped or self.trainer._ended_pass:  # nobody waits for it, or it was just done
            control.should_log = control.should_evaluate = control.should_save = False
