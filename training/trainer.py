"""`transformers.Trainer` with a held-out loss that is right, and saves that are whole or not there."""

import inspect
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput

from ..configuration.errors import InputError
from .evaluation import HeldOutLoss, only_text
from .objectives.batches import IGNORED
from .objectives.randomness import EpochCallback
from .optimizer import MuonAdamW


class PretrainTrainer(Trainer):
    """Beside what `Trainer` takes, `byte_lengths`: the bytes of text that each token id stands for.

    - `evaluate` weighs tokens, not batches, counts those that stand for text, and reports loss, perplexity and bits per
      byte. The last evaluation's sums stay in `held_out`, the time of all in `evaluation_seconds`. No logits are
      computed where the model can do without them.
    - `args.muon` trains the matrices with Muon; see [`MuonAdamW`].
    - The saved config keeps the model's own `use_cache`, which `Trainer` sets to its own.
    - A checkpoint whose save fails half-way is removed.
    """

    optimizer: torch.optim.Optimizer | None
    control: Any

    def __init__(self, *args: Any, byte_lengths: list[int], **kwargs: Any):
        model = kwargs.get("model") or args[0]
        self._use_cache = getattr(model.config, "use_cache", None)
        super().__init__(*args, **kwargs)
        self.byte_lengths = byte_lengths
        self.held_out = HeldOutLoss(byte_lengths)
        self.evaluation_seconds = 0.0
        self.add_callback(EpochCallback)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """`Trainer`'s own optimizer, or Muon with AdamW; raises `InputError` where Muon would see parts of matrices."""
        if self.optimizer is None and getattr(self.args, "muon", False):
            if self.is_fsdp_enabled or self.is_deepspeed_enabled:
                raise InputError("muon needs whole matrices, which FSDP and DeepSpeed take apart: leave it out there.")
            self.optimizer = MuonAdamW(
                self.model if model is None else model,
                lr=self.args.learning_rate,
                betas=(self.args.adam_beta1, self.args.adam_beta2),
                eps=self.args.adam_epsilon,
                weight_decay=self.args.weight_decay,
            )
        return super().create_optimizer(model)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """The share of this process, without the repeated examples that make shares equal in `accelerate`'s loaders."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        share = range(self.args.process_index, len(dataset), self.args.world_size)
        size = self.args.per_device_eval_batch_size
        batches = [list(share[start : start + size]) for start in range(0, len(share), size)]
        largest_share = -(-len(dataset) // self.args.world_size)
        # A sharded model needs every process in every forward: a process with one batch less repeats one, uncounted.
        batches += [[0]] * (-(-largest_share // size) - len(batches))
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory and torch.cuda.is_available(),
        )

    @torch.no_grad()
    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Sums loss and targets over all batches of all processes; see [`HeldOutLoss`] for the metrics."""
        started = time.perf_counter()
        model = self.model_wrapped
        bare = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        without_logits = (
            {"return_logits": False} if "return_logits" in inspect.signature(bare.forward).parameters else {}
        )
        shifted = LOSS_MAPPING.get(bare.loss_type) is ForCausalLMLoss and not bare.config.is_encoder_decoder
        dataset: Any = dataloader.dataset
        own = len(range(self.args.process_index, len(dataset), self.args.world_size))
        held_out = HeldOutLoss(self.byte_lengths, self.args.device)
        byte_lengths = torch.tensor(self.byte_lengths, device=self.args.device)
        self.callback_handler.eval_dataloader = dataloader
        model.eval()
        for number, batch in enumerate(dataloader):
            batch = self._prepare_inputs(batch)
            batch["labels"] = only_text(batch["labels"], byte_lengths)
            with self.compute_loss_context_manager():
                loss = model(**batch, **without_logits).loss
            if number * self.args.per_device_eval_batch_size < own:
                labels = batch["labels"][..., 1:] if shifted else batch["labels"]
                held_out.add(loss, labels[labels != IGNORED])
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        held_out.reduce(lambda total: self.accelerator.reduce(total, "sum"))
        self.held_out = held_out
        self.evaluation_seconds += time.perf_counter() - started
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in held_out.metrics().items()}
        return EvalLoopOutput(predictions=None, label_ids=None, metrics=metrics, num_samples=len(dataset))

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

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        folder = os.path.join(self._get_output_dir(trial), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        try:
            super()._save_checkpoint(model, trial)
        except BaseException:
            if self.args.should_save:
                shutil.rmtree(folder, ignore_errors=True)
            raise
