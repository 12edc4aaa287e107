"""Turn a checkpoint of transformers into one of Trivium's, or one of Trivium's into one of transformers.

    trivium convert FROM TO                       a folder, a Hub name, or a GGUF file -> ours
    trivium convert FROM TO --to transformers     ours -> theirs

Weights keep their values and their dtype. Both models are asked about the same random tokens before anything is
written, and nothing is unless they agree. Tokenizer and generation defaults come along; the card names the source.
"""

import argparse
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from . import modeling
from .architectures import count
from .configuration.errors import InputError
from .model_cards.converted import agreement, write_card
from .modeling import AUTO_CLASSES, MODEL_CLASSES
from .modeling.conversion import (
    TOLERANCE,
    Report,
    convert,
    find_origin,
    largest_difference,
    read_foreign_config,
    to_transformers,
)
from .registration import CONFIG_CLASSES
from .training.checkpoints import check_output_dir, replacing
from .training.verbs import run

OUR_TYPES = [config.model_type for config in CONFIG_CLASSES]
HALF = (torch.float16, torch.bfloat16)
SMALL = 2 * 10**9  # parameters that most machines hold twice in float32
# What rounding when the weights were read can come to: transformers rounds Gemma's scale of the embeddings to bfloat16,
# and leaves a part of T5 in float32.
ROUNDED = 0.02
# What `--head` is called, and the Auto class whose models have it.
HEADS = {
    "base": "AutoModel",
    "pretraining": "AutoModelForPreTraining",
    "masked-lm": "AutoModelForMaskedLM",
    "causal-lm": "AutoModelForCausalLM",
    "seq2seq-lm": "AutoModelForSeq2SeqLM",
    "sequence-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "multiple-choice": "AutoModelForMultipleChoice",
    "next-sentence": "AutoModelForNextSentencePrediction",
}


def main(argv: list[str] | None = None) -> int:
    """`trivium convert`: returns 0; raises `InputError` for whatever the user can mend."""
    parser = argparse.ArgumentParser(
        prog="trivium convert", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="FROM", help="folder, Hub name or .gguf file")
    parser.add_argument("target", metavar="TO", type=Path, help="folder to write; a checkpoint in it is replaced")
    parser.add_argument("--to", choices=("trivium", "transformers"), default="trivium", help="default: trivium")
    parser.add_argument("--head", choices=HEADS, help="model to make, if not the one that FROM names; may be new")
    parser.add_argument("--model_type", help="with --to transformers: which architecture, where several would do")
    parser.add_argument(
        "--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto", help="of weights"
    )
    parser.add_argument("--revision", help="branch, tag or commit of a Hub name")
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if args.target.exists() and Path(args.source).resolve() == args.target.resolve():
        raise InputError(f"'{args.source}' would be overwritten: choose another folder to write to.")
    where = {"revision": args.revision} if args.revision else {}
    source, file = args.source, Path(args.source)
    if file.suffix == ".gguf" and file.is_file():
        import_module("gguf")  # which transformers needs to read it
        source, where = str(file.parent), where | {"gguf_file": file.name}
    make = _to_transformers if args.to == "transformers" else _to_trivium
    theirs, ours, report = make(source, args, where)
    difference = _verify(theirs, ours)
    made = theirs if args.to == "transformers" else ours
    _save(made, source, where, args, report, difference)
    return 0


def _to_trivium(source: str, args: argparse.Namespace, where: dict) -> tuple[PreTrainedModel, PreTrainedModel, Report]:
    if args.model_type is not None:
        raise InputError("--model_type chooses what to make of a checkpoint of Trivium: add --to transformers.")
    config = read_foreign_config(source, **where)
    if config.model_type in OUR_TYPES:
        raise InputError(f"'{source}' is a checkpoint of Trivium already: to go the other way add --to transformers.")
    wanted = _class_with(args.head, config) if args.head is not None else None
    kept: list[PreTrainedModel] = []
    ours, report = convert(source, wanted, config=config, keep=kept.append, dtype=args.dtype, **where)
    return kept[0], ours, report


def _to_transformers(source: str, args: argparse.Namespace, where: dict) -> tuple[PreTrainedModel, Any, Report]:
    config = read_foreign_config(source, **where)
    if config.model_type not in OUR_TYPES:
        raise InputError(f"'{source}' is no checkpoint of Trivium but a {config.model_type}: leave --to out.")
    if args.head is not None:
        raise InputError(
            "--head chooses what to make of a checkpoint of transformers: with --to transformers leave it out."
        )
    name = (config.architectures or [""])[0]
    if name not in (model.__name__ for model in MODEL_CLASSES):
        raise InputError(f"'{source}' names no model class of Trivium in its config.json: '{name}'.")
    ours = getattr(modeling, name).from_pretrained(source, dtype=args.dtype, **where)
    return to_transformers(ours, args.model_type), ours, Report(f"{name} ({config.model_type})")


def _class_with(head: str, config: Any) -> type:
    """Our class with that head that a checkpoint of theirs with `config` can become."""
    candidates = AUTO_CLASSES[HEADS[head]]
    made = set(find_origin(config.model_type).heads.values())
    found = next((model for model in candidates if model in made), None)
    if found is None:
        raise InputError(f"a {config.model_type} has no head '{head}' that Trivium has too.")
    return found


def _verify(theirs: PreTrainedModel, ours: PreTrainedModel) -> float:
    """The largest difference, relative; `InputError` if it is more than rounding."""
    stored = ours.dtype
    if stored in HALF and ours.num_parameters() <= SMALL:  # in float32 rounding hides less, and the way back is exact
        theirs.float(), ours.float()
    difference, allowed = largest_difference(theirs, ours), TOLERANCE[ours.dtype]
    if stored in HALF:
        allowed = max(allowed, ROUNDED)
    theirs.to(stored), ours.to(stored)
    if not difference <= allowed:
        raise InputError(
            f"{type(theirs).__name__} and {type(ours).__name__} disagree by {difference:.1e} of the largest output, "
            f"more than the {allowed:.0e} that rounding explains: nothing was written. Please report this checkpoint."
        )
    return difference


def _save(
    model: PreTrainedModel, source: str, where: dict, args: argparse.Namespace, report: Report, difference: float
) -> None:
    """Writes the checkpoint whole or not at all, and says what was written."""
    check_output_dir(args.target, model.config.model_type)
    tokenizer = _tokenizer_of(source, where)
    if tokenizer is None:
        report.notes.append("no tokenizer was found beside the weights, or none that loads: bring one before use.")
    else:
        for name in ("cls_token_id", "sep_token_id", "mask_token_id"):
            token = getattr(tokenizer, name, None)
            missing = hasattr(model.config, name) and getattr(model.config, name) is None
            if missing and token is not None and token < model.config.vocab_size:
                setattr(model.config, name, token)
    with replacing(args.target, is_main=True, wait=lambda: None) as folder:
        model.save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        write_card(folder, model, args.source, report.source, report.sentences(), difference)
    parameters = count(sum(parameter.numel() for parameter in model.parameters()))
    print(f"{report.source} -> {type(model).__name__}, {parameters} parameters, {model.dtype}")
    print(f"outputs on random tokens: {agreement(difference)}")
    for sentence in report.sentences():
        print(f"note: {sentence}")
    print(f"Saved to {args.target}.")


def _tokenizer_of(source: str, where: dict) -> PreTrainedTokenizerBase | None:
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **where)
    except Exception:  # a broken file raises whatever its reader does
        return None
    # Without any file some classes make a tokenizer that knows its special tokens and at most the space.
    words = tokenizer.get_vocab().keys() - tokenizer.get_added_vocab().keys()
    return tokenizer if len(words) > 1 else None


if __name__ == "__main__":
    raise SystemExit(run(main))
