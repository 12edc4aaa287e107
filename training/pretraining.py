"""The trainer of `trivium pretrain`, which measures held-out text token by token."""

import inspect
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss
from transformers.trainer_utils import EvalLoopOutput

from .evaluation import HeldOutLoss, only_text
from .objectives.batches import IGNORED
from .trainer import TriviumTrainer


class PretrainTrainer(TriviumTrainer):
    """`evaluate` weighs tokens, not batches, whatever their size and the number of processes.

    It counts those that stand for text, and reports loss, perplexity and bits per byte; of several datasets also their
    total. The last sums stay in `held_out`. No logits are computed where the model can do without them.

    Args:
        byte_lengths: the bytes of text that each token id stands for.
    """

    def __init__(self, *args: Any, byte_lengths: list[int], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.byte_lengths = byte_lengths
        self.held_out = HeldOutLoss(byte_lengths)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """The share of this process, without the repeated examples that make shares equal in `accelerate`'s loaders."""
        dataset = self.eval_dataset[eval_dataset] if isinstance(eval_dataset, str) else eval_dataset
        dataset = self.eval_dataset if dataset is None else dataset
        process, processes = self._share()
        share = range(process, len(dataset), processes)
        size = self.args.per_device_eval_batch_size
        batches = [list(share[start : start + size]) for start in range(0, len(share), size)]
        largest_share = -(-len(dataset) // processes)
        # A sharded model needs every process in every forward: a process with one batch less repeats one, uncounted.
        batches += [[0]] * (-(-largest_share // size) - len(batches))
        return self._loader(dataset, batches)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """As `Trainer.evaluate`; of several datasets also reports all of them taken together, under the plain names."""
        datasets = self.eval_dataset if eval_dataset is None else eval_dataset
        if not isinstance(datasets, dict):
            with self.throughput.paused():
                return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        total = HeldOutLoss(self.byte_lengths, self.args.device)
        metrics: dict[str, float] = {}
        for name, dataset in datasets.items():
            metrics |= super().evaluate(dataset, ignore_keys, f"{metric_key_prefix}_{name}")
            total.nats += self.held_out.nats
            total.counts += self.held_out.counts
        self.held_out = total
        together = {f"{metric_key_prefix}_{name}": value for name, value in total.metrics().items()}
        self.log(together)
        return metrics | together

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
        model = self.model_wrapped
        bare = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        without_logits = (
            {"return_logits": False} if "return_logits" in inspect.signature(bare.forward).parameters else {}
        )
        shifted = LOSS_MAPPING.get(bare.loss_type) is ForCausalLMLoss and not bare.config.is_encoder_decoder
        dataset: Any = dataloader.dataset
        process, processes = self._share()
        own = len(range(process, len(dataset), processes))
        held_out = HeldOutLoss(self.byte_lengths, self.args.device)
        byte_lengths = torch.tensor(self.byte_lengths, device=self.args.device)
        self.callback_handler.eval_dataloader = dataloader
        model.eval()
        for number, batch in enumerate(dataloader):
            batch = self._prepare_inputs(batch)
            batch["labels"] = only_text(batch["labels"], byte_lengths)
            batch.pop("next_sentence_label", None)  # its loss has no bytes to be divided by
            with self.compute_loss_context_manager():
                loss = model(**batch, **without_logits).loss
            if number * self.args.per_device_eval_batch_size < own:
                labels = batch["labels"][..., 1:] if shifted else batch["labels"]
                held_out.add(loss, labels[labels != IGNORED])
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        held_out.reduce(self.sum_over_processes)
        self.held_out = held_out
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in held_out.metrics().items()}
        return EvalLoopOutput(predictions=None, label_ids=None, metrics=metrics, num_samples=len(dataset))
