"""Train a tokenizer for one of the three families.

    trivium tokenizer --family decoder --data "texts/*.txt" --vocab_size 8192 --output_dir out/tokenizer

What it leaves is a stock tokenizer that `AutoTokenizer.from_pretrained` loads without trivium.
"""

import dataclasses
import sys
from collections.abc import Iterator
from typing import Any, Literal

import datasets

from ..tokenization import save_tokenizer, token_byte_lengths, train_tokenizer
from .arguments import DataArguments, parse
from .data.sources import read_texts
from .verbs import run

SAMPLE_CHARACTERS = 160


@dataclasses.dataclass(kw_only=True)
class TokenizerArguments(DataArguments):
    """What to train a tokenizer on, and of which kind."""

    _argument_group_name = "tokenizer"

    family: Literal["encoder", "decoder", "encoder-decoder"] = dataclasses.field(
        metadata={"help": "whose special tokens and templates it has"}
    )
    output_dir: str = dataclasses.field(metadata={"help": "folder for the tokenizer"})
    algorithm: Literal["bpe", "wordpiece", "unigram"] = dataclasses.field(
        default="bpe", metadata={"help": "bpe works on bytes and loses nothing; the others normalize"}
    )
    vocab_size: int = dataclasses.field(
        default=32_768, metadata={"help": "size of the vocabulary, rounded up to a multiple of 64"}
    )
    model_max_length: int | None = dataclasses.field(
        default=None, metadata={"help": "tokens that the model will take; where truncation cuts"}
    )


def main(argv: list[str] | None = None) -> int:
    """`trivium tokenizer`: returns 0; raises `InputError` for whatever the user can mend."""
    (args,) = parse(
        sys.argv[1:] if argv is None else argv,
        (TokenizerArguments,),
        prog="trivium tokenizer",
        description=(__doc__ or "").partition("\n")[0],
    )
    texts = read_texts(args)
    tokenizer = train_tokenizer(
        documents(texts.train), args.family, args.algorithm, args.vocab_size, model_max_length=args.model_max_length
    )
    save_tokenizer(tokenizer, args.output_dir)
    print(report(tokenizer, texts.held_out))
    print(f"Saved to {args.output_dir}: AutoTokenizer.from_pretrained('{args.output_dir}') loads it.")
    return 0


def documents(dataset: datasets.Dataset) -> Iterator[str]:
    """The texts of a dataset, one after the other."""
    for batch in dataset.iter(batch_size=1000):
        yield from batch["text"]


def report(tokenizer: Any, held_out: datasets.Dataset) -> str:
    """A short table about a tokenizer, measured on text that it was not trained on, and how it splits a sample."""
    lengths = token_byte_lengths(tokenizer)
    tokens = covered = longest = 0
    for text in documents(held_out):
        ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
        tokens += len(ids)
        covered += sum(lengths[token] for token in ids)
        longest = max(longest, len(ids))
    sample = " ".join(next(documents(held_out)).split())[:SAMPLE_CHARACTERS]
    pieces = (tokenizer.decode([token]) for token in tokenizer(sample)["input_ids"])
    rows = {
        "vocabulary": f"{len(tokenizer):,}",
        "held-out text": f"{len(held_out):,} documents, {tokens:,} tokens, the longest {longest:,}",
        "bytes per token": f"{covered / max(tokens, 1):.2f}",
        "sample": "|".join(pieces),
    }
    return "\n".join(f"{name:16}{value}" for name, value in rows.items())


if __name__ == "__main__":
    raise SystemExit(run(main))
