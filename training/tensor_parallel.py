"""Tensor parallelism: the matrices of one model spread over the processes, which then read the same rows.

What is spread how is said by the plans of the configurations (Megatron-LM; Shoeybi et al., 2019); transformers does it.
The state dictionaries of a spread model that are loaded, and those of its optimizer, are whole: its checkpoints are
those of any other run.
"""

import os
import re
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate.utils import DistributedType
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import TrainingArguments
from transformers.distributed import DistributedConfig
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from ..configuration.errors import InputError
from .optimizer import laid_out_as, step_by_mesh, whole

PARTIAL = "replicated_with_grad_allreduce"  # in a plan: whole weights, whose gradients come in a part a process
SHARED_OUT = ("num_attention_heads", "num_key_value_heads", "intermediate_size")
PER_HEAD = ("alibi", "relative")  # position encodings with numbers for every head, which nobody spreads


def tensor_parallel_size(args: TrainingArguments) -> int:
    """How many processes are to share each row, as `accelerate launch` or `args.parallelism_config` say."""
    given = getattr(args, "parallelism_config", None)
    return given.tp_size if given is not None else int(os.environ.get("PARALLELISM_CONFIG_TP_SIZE", 1))


def spread_if_asked(model: Any, args: TrainingArguments) -> bool:
    """Spreads a new or loaded model as `accelerate launch` or `args` say; returns whether they ask for it.

    Args:
        model: whole, and the same in every process.

    Raises:
        InputError: an engine, a number of processes or a model that this cannot be done with.
    """
    size = tensor_parallel_size(args)
    if size == 1:
        return False
    check_processes(size, args)
    check_divides(model.config, size)
    spread(model, size, args.device)
    return True


def check_processes(size: int, args: TrainingArguments) -> None:
    """Raises `InputError` if not all processes share one model, or if an engine besides would take it apart."""
    for engine in ("FSDP", "DeepSpeed"):
        if os.environ.get(f"ACCELERATE_USE_{engine.upper()}") == "true":
            raise InputError(
                f"tensor parallelism does not go with {engine}: leave one of the two out of the launch file."
            )
    if size != args.world_size:
        raise InputError(
            f"parallelism_config_tp_size is {size}, but there are {args.world_size} processes: set both to the same "
            "number, over which one model is spread."
        )
    if args.distributed_state.distributed_type == DistributedType.MULTI_CPU:
        raise InputError("accelerate runs tensor parallelism on GPUs alone: leave parallelism_config_tp_size out.")


def check_divides(config: Any, size: int) -> None:
    """Raises `InputError` if a stack of the model has something that `size` processes cannot share evenly."""
    for stack in [getattr(config, name) for name in config.sub_configs] or [config]:
        for name in SHARED_OUT:
            if getattr(stack, name) % size:
                raise InputError(
                    f"`{name}` is {getattr(stack, name)}, which {size} processes cannot share evenly: choose a "
                    "parallelism_config_tp_size that divides it."
                )
        if stack.position_encoding in PER_HEAD:
            raise InputError(
                f"position_encoding '{stack.position_encoding}' has numbers for every head, which tensor parallelism "
                "does not spread: choose another, or start with ddp.yaml or fsdp2.yaml."
            )


def spread(model: Any, size: int, device: torch.device) -> None:
    """Leaves in each of `size` processes, which are all, its part of the matrices, on its device.

    The gradients of weights that stay whole come out whole, too, also when they are accumulated, for which the hooks of
    transformers 5.23 add up what was added up before.
    """
    asked, _, mesh = model.prepare_distribute_model(DistributedConfig(tp_size=size, tp_plan="auto"))
    partial = {name for name, style in model.tp_plan.items() if style == PARTIAL}
    model.tp_plan = {name: style for name, style in model.tp_plan.items() if name not in partial}
    untie(model)  # transformers looks the matrices of a plan up by their names
    model.maybe_distribute_model(model, asked, mesh)
    model.tie_weights()
    for parameter in model.parameters():
        if isinstance(parameter, DTensor):
            parameter.data = parameter.data.clone()  # a part alone, not a view of the whole
    model.to(device)
    for name, module in model.named_modules():
        if re.sub(r"\.\d+\b", ".*", name) in partial:
            for parameter in module.parameters():
                parameter.register_hook(total)
    model.register_load_state_dict_pre_hook(take_parts)


def untie(model: Any) -> None:
    """Gives each tied weight a parameter of its own on the same numbers; `tie_weights` undoes it."""
    for name in model.all_tied_weights_keys:
        module, _, leaf = name.rpartition(".")
        tied = model.get_parameter(name)
        model.get_submodule(module).register_parameter(leaf, nn.Parameter(tied.detach(), tied.requires_grad))


def total(gradient: torch.Tensor) -> torch.Tensor:
    """The sum of a gradient over all processes."""
    gradient = gradient.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(gradient)
    return gradient


def take_parts(model: nn.Module, state_dict: dict[str, torch.Tensor], *_: Any) -> None:
    """Before `model` loads a state dictionary of whole weights: lays them out as its own are."""
    for name, weight in model.state_dict().items():
        if name in state_dict:
            state_dict[name] = part_for(weight, state_dict[name])


def part_for(parameter: torch.Tensor, value: Any) -> Any:
    """`value`, which every process has whole, laid out as `parameter`, if it has one number for each of its."""
    of_all = isinstance(parameter, DTensor) and getattr(value, "shape", None) == parameter.shape
    return laid_out_as(parameter, value).clone() if of_all and not isinstance(value, DTensor) else value


def make_adamw(
    model: nn.Module, decayed: list[str], weight_decay: float, kind: type, settings: dict[str, Any]
) -> torch.optim.Optimizer:
    """AdamW on the parameter groups of a whole model, which `Trainer` would take apart for a spread one.

    Args:
        decayed: names of the parameters that decay.
        kind, settings: of the optimizer that was asked for.

    Raises:
        InputError: that is another one.
    """
    if kind is not torch.optim.AdamW:
        raise InputError(f"tensor parallelism trains with Muon or AdamW, not with {kind.__name__}: leave optim out.")
    groups: list[dict[str, Any]] = [{"params": [], "weight_decay": decay} for decay in (weight_decay, 0.0)]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[name not in decayed]["params"].append(parameter)
    optimizer = torch.optim.AdamW(groups, **settings)
    step_by_mesh(optimizer)
    return optimizer


def keep_whole(optimizer: torch.optim.Optimizer) -> None:
    """Makes the state dictionaries of an optimizer whole, those that it gives as well as those that it takes.

    Every process must ask for one that any asks for; only the first gets the numbers, on the CPU.
    """
    optimizer.register_state_dict_post_hook(_gather)
    optimizer.register_load_state_dict_pre_hook(_take_parts)


def _gather(optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    first = dist.get_rank() == 0
    states: dict[Any, dict[str, Any]] = {}
    for key, state in state_dict["state"].items():
        gathered = ((name, whole(value)) for name, value in state.items())
        states[key] = {name: value.cpu() if torch.is_tensor(value) else value for name, value in gathered if first}
    return state_dict | {"state": states}


def _take_parts(optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    keys = (key for group in state_dict["param_groups"] for key in group["params"])
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    belongs = dict(zip(keys, parameters, strict=False))  # torch says what is wrong with other groups
    states = {
        key: {name: part_for(belongs[key], value) for name, value in state.items()} if key in belongs else state
        for key, state in state_dict["state"].items()
    }
    return state_dict | {"state": states}


def load_parts(checkpoint: Path, optimizer: Any, schedule: Any) -> None:
    """Loads what a checkpoint has of an optimizer that [`keep_whole`] knows, and its schedule.

    `Trainer` would put the whole of it on every device first.
    """
    for part, name in ((optimizer, OPTIMIZER_NAME), (schedule, SCHEDULER_NAME)):
        if (checkpoint / name).is_file():
            part.load_state_dict(torch.load(checkpoint / name, map_location="cpu", mmap=True, weights_only=True))
