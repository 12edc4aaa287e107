"""What training needs where an engine takes the model apart: FSDP2 or DeepSpeed ZeRO, started through accelerate."""

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn
from torch.distributed.tensor import DTensor

from ..configuration.errors import InputError
from .optimizer import whole

# Where engines keep weights in a checkpoint, as accelerate, transformers and DeepSpeed name it.
FSDP_PARTS = "pytorch_model_fsdp_0"
FSDP_WHOLE = "pytorch_model_fsdp.bin"
ZERO_PARTS = "global_step*"
WHOLE = ("model.safetensors", "model.safetensors.index.json")

IN_BLOCKS = ("hidden_dropout", "attention_dropout", "activation_dropout")


def prepare_for_sharding(accelerator: Accelerator, model: nn.Module) -> None:
    """Makes a model ready for `accelerator.prepare`; to be called before its optimizer is made.

    Raises:
        InputError: FSDP's activation checkpointing of a model with dropout.
    """
    if accelerator.distributed_type == DistributedType.FSDP:
        share_embedding_modules(model)
        if accelerator.state.fsdp_plugin.activation_checkpointing:
            refuse_dropout_drawn_twice(model)
    if accelerator.distributed_type == DistributedType.DEEPSPEED:  # or a save would hold no weights
        settings = accelerator.state.deepspeed_plugin.deepspeed_config["zero_optimization"]
        settings["stage3_gather_16bit_weights_on_model_save"] = True


def share_embedding_modules(model: Any) -> None:
    """Gives both sides of an encoder-decoder one embedding module where they have one table.

    FSDP2 refuses a weight in two modules unless they are sharded together, which accelerate does for those only that
    the model calls its input and output embeddings.
    """
    if getattr(getattr(model, "config", None), "share_embeddings", False):
        model.set_input_embeddings(model.get_input_embeddings())


def refuse_dropout_drawn_twice(model: Any) -> None:
    """Raises `InputError` for dropout in the blocks: accelerate draws it anew when it computes a block again."""
    stacks = [getattr(model.config, name) for name in model.config.sub_configs] or [model.config]
    chosen = {name: getattr(stack, name) for stack in stacks for name in IN_BLOCKS if getattr(stack, name, 0)}
    for name, share in chosen.items():
        raise InputError(
            f"`{name}` is {share}, and fsdp_activation_checkpointing draws it anew in the backward pass, which makes "
            "wrong gradients: turn that off and give --gradient_checkpointing true, which does not."
        )


def full_state_dict(accelerator: Accelerator, model: nn.Module) -> dict[str, torch.Tensor]:
    """All weights, whole and on the CPU, in the first process and nothing in the others; all must call it.

    Weights that are tied come once, under the name that `save_pretrained` keeps: gathered, they are copies, of which it
    would not see that they are one.

    Args:
        model: as `accelerator.prepare` returned it, under any engine.
    """
    weights: dict[str, torch.Tensor] = accelerator.get_state_dict(model) or {}
    tied = accelerator.unwrap_model(model, keep_torch_compile=False).all_tied_weights_keys
    once = {name: weight for name, weight in weights.items() if tied.get(name) not in weights}
    if not any(isinstance(weight, DTensor) for weight in once.values()):
        return once
    gathered = ((name, whole(weight)) for name, weight in once.items())  # what accelerate leaves spread
    return {name: weight.cpu() for name, weight in gathered if accelerator.is_main_process}


def saved_under(checkpoint: Path) -> str:
    """The engine whose files a checkpoint holds: `FSDP`, `FSDP in one file`, `DeepSpeed` or `no engine`."""
    kinds = {FSDP_PARTS: "FSDP", FSDP_WHOLE: "FSDP in one file", ZERO_PARTS: "DeepSpeed"}
    return next((kind for pattern, kind in kinds.items() if any(checkpoint.glob(pattern))), "no engine")


def running_under(accelerator: Accelerator) -> str:
    """The engine of this run, named as [`saved_under`] does; DDP and a single process are none."""
    if accelerator.distributed_type == DistributedType.FSDP:
        in_parts = "SHARDED" in str(accelerator.state.fsdp_plugin.state_dict_type)
        return "FSDP" if in_parts else "FSDP in one file"
    return "DeepSpeed" if accelerator.distributed_type == DistributedType.DEEPSPEED else "no engine"


def check_resumable(checkpoint: Path, accelerator: Accelerator) -> None:
    """Raises `InputError` if this run cannot go on from `checkpoint` because of what it was saved under."""
    saved, runs = saved_under(checkpoint), running_under(accelerator)
    from_weights = f"start from its weights with --model_name_or_path '{checkpoint}'"
    if not any((checkpoint / name).is_file() for name in WHOLE):
        from_weights = "make it whole with `trivium consolidate` and start from its weights with --model_name_or_path"
    if saved != runs:
        raise InputError(
            f"'{checkpoint}' was saved under {saved}, but this run is under {runs}: start it as that one was, or "
            f"{from_weights}."
        )
    if saved == "DeepSpeed":
        processes = len(set(checkpoint.glob(f"{ZERO_PARTS}/*zero_pp_rank_*_optim_states.pt")))
        if processes != accelerator.num_processes:
            raise InputError(
                f"'{checkpoint}' was saved by {processes} processes of DeepSpeed, which cannot go on as "
                f"{accelerator.num_processes}: start {processes}, or {from_weights}."
            )
