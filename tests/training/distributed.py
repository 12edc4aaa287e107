"""Helper of `test_distributed.py`: trains tiny models under the engines of accelerate, in this process or in two.

On a CPU accelerate takes FSDP and DeepSpeed for DDP or for single processes and says nothing. [`pretend_gpus`] makes
it take its branches for GPUs with gloo and CPU tensors, so that a launch file runs as it is but for the precision and
the number of processes. A worker reports what it really ran under, for the tests to check.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import datasets
import numpy as np
import torch
from accelerate.state import DistributedType, PartialState
from accelerate.utils import gather_object
from torch.distributed.fsdp import CPUOffloadPolicy
from torch.distributed.tensor import DTensor
from transformers import AutoTokenizer, TrainingArguments, set_seed, training_args
from transformers.distributed import DistributedConfig

import trivium
from trivium.configuration import InputError
from trivium.training import guard, optimizer
from trivium.training.arguments import PretrainTrainingArguments
from trivium.training.data.packing import PackedDataset
from trivium.training.objectives.causal_lm import CausalLMCollator
from trivium.training.objectives.masked_lm import MaskedLMCollator
from trivium.training.objectives.span_corruption import SpanCorruptionCollator
from trivium.training.optimizer import whole
from trivium.training.pretraining import PretrainTrainer

ROOT = Path(__file__).resolve().parents[2]
VOCAB = 512
SHAPE = dict(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64)
FAMILIES = {
    "encoder": (trivium.TriviumEncoderConfig, trivium.TriviumEncoderForMaskedLM, MaskedLMCollator),
    "decoder": (trivium.TriviumDecoderConfig, trivium.TriviumDecoderForCausalLM, lambda tokenizer: CausalLMCollator()),
    "encoder-decoder": (
        trivium.TriviumEncoderDecoderConfig,
        trivium.TriviumEncoderDecoderForConditionalGeneration,
        SpanCorruptionCollator,
    ),
}


def pretend_gpus() -> None:
    """Lets accelerate believe that the processes of a launcher, which have CPUs and gloo, have GPUs."""
    original = PartialState._prepare_backend

    def prepare(self, cpu=False, sagemaker_dp=False, backend=None):
        if not cpu and "LOCAL_RANK" in os.environ:
            return "gloo", DistributedType.MULTI_GPU
        return original(self, cpu, sagemaker_dp, backend)

    PartialState._prepare_backend = prepare
    CPUOffloadPolicy.__init__.__defaults__ = (False,)  # memory is pinned for a GPU only
    training_args.is_torch_bf16_gpu_available = lambda: True


class Arguments(PretrainTrainingArguments):
    """Without the choice of the CPU where there is nothing else, which the pretence would not survive."""

    __post_init__ = TrainingArguments.__post_init__


def packed_rows(documents: int, length: int = 32, seed: int | None = 0) -> PackedDataset:
    """Rows of documents of very different lengths that count in steps."""
    generator = np.random.default_rng(0)
    draws = [generator.integers((0, 1, 3), (400, 4, 50)) for _ in range(documents)]
    ids = [((start + step * np.arange(size)) % 400 + 8).tolist() for start, step, size in draws]
    features = datasets.Features({"input_ids": datasets.List(datasets.Value("int32"))})
    tokens = datasets.Dataset.from_dict({"input_ids": ids}, features=features)
    return PackedDataset(tokens, length, seed=seed)


def make_trainer(family: str, tokenizer: str, folder: Path, **arguments: Any) -> PretrainTrainer:
    config_class, model_class, collator = FAMILIES[family]
    shape = arguments.pop("shape", {})
    set_seed(0)
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    defaults = dict(
        output_dir=str(folder),
        use_cpu="ACCELERATE_TORCH_DEVICE" not in os.environ,
        disable_tqdm=True,
        eval_on_start=False,
        save_strategy="no",
        logging_steps=1,
        seed=3,
    )
    return PretrainTrainer(
        model=model_class(config_class(**SHAPE | shape)),
        args=Arguments(**defaults | arguments),
        data_collator=collator(loaded),
        train_dataset=packed_rows(60),  # more than one pass
        eval_dataset=packed_rows(12, seed=None),
        processing_class=loaded,
        byte_lengths=[1] * VOCAB,
    )


def run(
    tokenizers: dict[str, str], folder: str, resume: str | None = None, batch: int = 4, **arguments: Any
) -> dict[str, Any]:
    """Trains each family and reports how.

    Args:
        tokenizers: the folder of a tokenizer for each family to train.
        folder: where each family has its output folder.
        resume: name of the checkpoint in there to go on from.
        batch: rows that all processes together take at a time.
        arguments: of training; `shape` holds fields of the models' configurations.

    Returns:
        For each family what [`describe`] says.
    """
    shares = int(os.environ.get("WORLD_SIZE", 1)) // int(os.environ.get("PARALLELISM_CONFIG_TP_SIZE", 1))
    results = {}
    # Rounding to bfloat16 would make differences of the last bit, which every sum over processes has, large.
    with patch.object(optimizer, "iteration_dtype", lambda device: torch.float32):
        for family, tokenizer in tokenizers.items():
            output = Path(folder) / family
            rows = {"per_device_train_batch_size": batch // shares}
            trainer = make_trainer(family, tokenizer, output, **arguments | rows)
            trainer.train(resume_from_checkpoint=str(output / resume) if resume else None)
            trainer.save_model(str(output))
            results[family] = describe(trainer)
    return results


def describe(trainer: PretrainTrainer) -> dict[str, Any]:
    """How a training went and what it ran under."""
    steps = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
    return {
        "losses": [entry["loss"] for entry in steps],
        "norms": [entry["grad_norm"] for entry in steps],
        "held_out": trainer.evaluate()["eval_loss"],
        "tokens": steps[-1]["tokens_seen"],
        "spread": {name: local_shape(parameter) for name, parameter in trainer.model.named_parameters()},
        "processes": trainer.accelerator.num_processes,
        "engine": trainer.accelerator.distributed_type.value,
        "wrapper": type(trainer.model_wrapped).__name__,
    }


def local_shape(parameter: torch.Tensor) -> tuple[int, ...] | None:
    """The shape of what a process has of a parameter that is spread."""
    return tuple(parameter.to_local().shape) if isinstance(parameter, DTensor) else None


def shard_tensors(folder: str, families: list[str]) -> dict[str, Any]:
    """Loads models with their matrices spread over the processes; returns loss and gradients, gathered."""
    results = {}
    for family in families:
        model = FAMILIES[family][1].from_pretrained(
            Path(folder) / family, distributed_config=DistributedConfig(tp_size=2, tp_plan="auto")
        )
        results[family] = gradients(model.train())
    return results


def gradients(model: Any) -> dict[str, Any]:
    """The loss of one batch and the norm of each parameter's gradient."""
    ids = torch.arange(2 * 24).view(2, 24) % 300 + 8
    loss = model(input_ids=ids, labels=ids.flip(1)).loss
    loss.backward()
    norms = {
        name: whole(parameter.grad).norm().item()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    spread = sum(isinstance(parameter, DTensor) for parameter in model.parameters())
    return {"loss": whole(loss).item(), "norms": norms, "spread": spread}


class Poisoned(PretrainTrainer):
    """Does harm to the steps in `poison`, which maps them to kinds, but in the first process only."""

    poison: dict[int, str]

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(*args, **kwargs)
        kind = self.poison.get(self.state.global_step + 1)
        if kind is None or self.args.process_index:
            return loss
        if kind == "gradient":  # of a loss that is in order
            loss.register_hook(lambda gradient: gradient * float("inf"))
        return loss * {"loss": float("nan"), "spike": 1e4, "gradient": 1.0}[kind]


def run_poisoned(
    tokenizer: str, folder: str, poison: dict[str, str], good: int = 3, batch: int = 4, **arguments: Any
) -> dict[str, Any]:
    """Trains a decoder some of whose steps are bad.

    Args:
        tokenizer: the folder of its tokenizer.
        folder: where it has its output folder, `decoder`.
        poison: steps to what is wrong with them; see [`Poisoned`].
        good: after so many good steps a loss may be a spike.
        batch: rows that all processes together take at a time.
        arguments: of training.

    Returns:
        What [`describe`] says, and for each step the learning rate and how many were left out by then; why the run
        ended early, and the steps at which each process ended.
    """
    rows = {"per_device_train_batch_size": batch // int(os.environ.get("WORLD_SIZE", 1))}
    trainer = make_trainer("decoder", tokenizer, Path(folder) / "decoder", **arguments | rows)
    trainer.__class__, trainer.poison = Poisoned, {int(step): kind for step, kind in poison.items()}
    error = None
    with patch.object(guard, "NEEDED", good):
        try:
            trainer.train()
        except InputError as raised:
            error = str(raised)
    steps = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
    return describe(trainer) | {
        "error": error,
        "ended": gather_object([trainer.state.global_step]),
        "skipped": [entry.get("skipped_steps", 0) for entry in steps],
        "learning_rates": [entry["learning_rate"] for entry in steps],
    }


TASKS = {"train": run, "shard_tensors": shard_tensors, "poison": run_poisoned}


def launch(config: str, job: dict[str, Any], processes: int = 2, options: tuple[str, ...] = ()) -> dict[str, Any]:
    """What [`run`] returns in the first of several processes, started with a launch file of the package."""
    result = Path(job["folder"]) / "result.json"
    result.parent.mkdir(parents=True, exist_ok=True)
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    command += ["--config_file", str(ROOT / "training" / "launch" / f"{config}.yaml"), "--main_process_port", "0"]
    command += ["--num_processes", str(processes), "--mixed_precision", "no", *options]
    command += ["-m", "tests.training.distributed", json.dumps(job | {"result": str(result)})]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    if config != "ddp":
        environment |= {"ACCELERATE_TORCH_DEVICE": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return json.loads(result.read_text())


if __name__ == "__main__":
    pretend_gpus()
    job = json.loads(sys.argv[1])
    result = Path(job.pop("result"))
    report = TASKS[job.pop("task", "train")](**job)
    if os.environ["RANK"] == "0":
        result.write_text(json.dumps(report))
    torch.distributed.destroy_process_group()
