"""Put the parts of a checkpoint that FSDP or DeepSpeed saved together into one that AutoModel loads.

    trivium consolidate out/decoder/checkpoint-200 out/whole

`trivium pretrain` leaves whole weights in every checkpoint already, and this says so. It is for checkpoints of other
trainers, for saves that lack them, and with --parts for float32 weights out of DeepSpeed, which saves whole ones in the
precision that it computes in. It runs in one process, without a GPU, and needs memory for the weights once (FSDP) or
about three times (DeepSpeed).
"""

import argparse
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed.checkpoint as distributed_checkpoint
from torch.distributed.checkpoint.api import CheckpointException
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedModel

from .. import modeling
from ..configuration.errors import InputError
from ..model_cards.card import card_beside
from ..modeling import MODEL_CLASSES
from .checkpoints import check_output_dir, checkpoints_in, model_type_of, replacing
from .sharded import FSDP_PARTS, FSDP_WHOLE, WHOLE, ZERO_PARTS
from .verbs import run


def main(argv: list[str] | None = None) -> int:
    """`trivium consolidate`: returns 0; raises `InputError` for whatever the user can mend."""
    parser = argparse.ArgumentParser(
        prog="trivium consolidate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="a folder checkpoint-N of a run")
    parser.add_argument(
        "output",
        metavar="OUTPUT",
        type=Path,
        help="folder to write; may be CHECKPOINT; replaces what model is in it",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FOLDER",
        help="where config.json and tokenizer lie; default: CHECKPOINT or above",
    )
    parser.add_argument("--parts", action="store_true", help="read the parts though whole weights lie beside them")
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    consolidate(args.checkpoint, args.output, args.config, args.parts)
    print(f"Saved to {args.output}: AutoModel.from_pretrained('{args.output}') loads it.")
    return 0


def consolidate(checkpoint: Path, output: Path, config: Path | None = None, parts: bool = False) -> None:
    """Writes the weights of `checkpoint` with configuration and tokenizer into `output`, wholly or not at all.

    Args:
        checkpoint: a folder that holds `pytorch_model_fsdp_0`, `pytorch_model_fsdp.bin` or `global_step...`.
        output: the folder to write.
        config: the folder with config.json and tokenizer; `None` = the checkpoint or the one that it lies in.
        parts: read the parts though the checkpoint holds whole weights too.

    Raises:
        InputError: there is nothing to put together, it was not saved to its end, or no model of ours is described.
    """
    load = find_parts(checkpoint, parts)
    described = find_description(checkpoint, config)
    model = new_model(described)
    check_output_dir(output, model.config.model_type)
    try:
        load(model, checkpoint)
    except (CheckpointException, OSError, RuntimeError, EOFError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"'{checkpoint}' cannot be put together, broken or of another shape than {described}/config.json: {reason}"
        ) from error
    tokenizer = AutoTokenizer.from_pretrained(described) if any(described.glob("tokenizer*")) else None
    with replacing(output, is_main=True, wait=lambda: None) as folder:
        model.save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        card_beside(folder, output)


def find_parts(checkpoint: Path, parts: bool) -> Callable[[PreTrainedModel, Path], None]:
    """What loads the weights in parts that `checkpoint` holds; raises `InputError` if there are none to load."""
    if not checkpoint.is_dir():
        raise InputError(f"the checkpoint '{checkpoint}' does not exist.")
    load = next((load for pattern, load in LOADERS.items() if any(checkpoint.glob(pattern))), None)
    if any((checkpoint / name).is_file() for name in WHOLE) and not (parts and load):
        way_out = "; --parts reads its parts all the same" if load else ""
        raise InputError(f"'{checkpoint}' is whole already, AutoModel.from_pretrained loads it{way_out}.")
    if load is None:
        below = checkpoints_in(checkpoint)
        way_out = f"give one of those in it, for example {below[-1].name}" if below else "give a checkpoint-N folder"
        raise InputError(f"'{checkpoint}' holds no weights that FSDP or DeepSpeed saved: {way_out}.")
    return load


def find_description(checkpoint: Path, config: Path | None) -> Path:
    """The folder that says what model the weights are of: `config`, the checkpoint, or the folder that it lies in."""
    folders = [config] if config is not None else [checkpoint, checkpoint.resolve().parent]
    for folder in folders:
        if model_type_of(folder) is not None:
            return folder
    where = " nor ".join(f"'{folder}'" for folder in folders)
    raise InputError(f"there is no config.json in {where}: name the folder that has it with --config.")


def new_model(folder: Path) -> PreTrainedModel:
    """A model in float32 as config.json in `folder` describes it; raises `InputError` if it is none of ours."""
    config = AutoConfig.from_pretrained(folder)
    name = (config.architectures or [""])[0]
    if name not in (model.__name__ for model in MODEL_CLASSES):
        raise InputError(f"'{folder}/config.json' names no model class of Trivium: '{name}'.")
    model: PreTrainedModel = getattr(modeling, name)(config)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model


def _load_distributed(model: PreTrainedModel, checkpoint: Path) -> None:
    """FSDP's parts, which torch's distributed checkpointing wrote; its `.metadata` is written last."""
    folder = checkpoint / FSDP_PARTS
    if not (folder / ".metadata").is_file():
        raise InputError(f"'{folder}' lacks .metadata: its save was interrupted, so take an earlier checkpoint.")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*intent is to load in a single process")
        distributed_checkpoint.load({"model": model.state_dict()}, checkpoint_id=folder, no_dist=True)


def _load_one_file(model: PreTrainedModel, checkpoint: Path) -> None:
    """FSDP's FULL_STATE_DICT."""
    model.load_state_dict(torch.load(checkpoint / FSDP_WHOLE, map_location="cpu", weights_only=True))


def _load_zero(model: PreTrainedModel, checkpoint: Path) -> None:
    """DeepSpeed's parts: the float32 weights that its optimizer keeps."""
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    weights = get_fp32_state_dict_from_zero_checkpoint(str(checkpoint))
    missing, unexpected = model.load_state_dict(weights, strict=False)
    wrong = set(missing) - set(model.all_tied_weights_keys) | set(unexpected)
    if wrong:
        raise RuntimeError(f"{sorted(wrong)[0]} is on one side only")


LOADERS = {FSDP_PARTS: _load_distributed, FSDP_WHOLE: _load_one_file, ZERO_PARTS: _load_zero}

if __name__ == "__main__":
    raise SystemExit(run(main))
