"""Train a tokenizer for one of the three families and save it so that anyone's AutoTokenizer loads it."""

import difflib
import json
import operator
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Tokenizer, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ..configuration.errors import InputError
from .algorithms import ALGORITHMS
from .families import FAMILIES, Family

VOCABULARY_MULTIPLE = 64  # embeddings and heads whose sides are multiples of 64 fill the matrix units


def train_tokenizer(
    texts: Iterable[str],
    family: str,
    algorithm: str = "bpe",
    vocab_size: int = 32_768,
    model_max_length: int | None = None,
    show_progress: bool = True,
) -> PreTrainedTokenizerFast:
    """Train a tokenizer from any iterable of texts, read once and never held as a whole.

    `tokenizer(text)` and `tokenizer(a, b)` give the family's form: "[CLS] A [SEP]" and "[CLS] A [SEP] B [SEP]" for an
    encoder, "<|bos|> A" and "<|bos|> A <|eos|> B" for a decoder (training data appends the last eos itself),
    "A </s>" and "A </s> B </s>" for an encoder-decoder. Token types (0 for A, 1 for B) exist for encoders and come
    with `return_token_type_ids=True`.

    With "bpe", decoding what was encoded gives the text back, whatever it is; with the others, `normalized_text` of it.
    As in every stock tokenizer, the literal of a special token within a text is read as that token; call with
    `split_special_tokens=True` where a text is only text, and the literal is text too.

    Padding goes to the right, as stock tokenizers have it; generate in batches with `padding_side="left"`.

    Args:
        texts: the corpus; the same corpus gives the same tokenizer, byte for byte.
        family: "encoder", "decoder" or "encoder-decoder".
        algorithm: "bpe" (byte-level), "wordpiece" or "unigram".
        vocab_size: the largest vocabulary wanted, rounded up to a multiple of 64. A small corpus gives fewer pieces;
            then tokens that no text gives fill the vocabulary up to the next multiple of 64.
        model_max_length: the longest sequence, in tokens, that the model takes; where `truncation=True` cuts.
        show_progress: show the trainer's progress bars.

    Raises:
        InputError: an unknown family or algorithm, a corpus without text or with something that is not text, a size
            that is not positive, or a vocabulary too small for the special tokens and the alphabet.
    """
    _check_choice("family", family, FAMILIES)
    _check_choice("algorithm", algorithm, ALGORITHMS)
    _check_positive("vocab_size", vocab_size)
    if model_max_length is not None:
        _check_positive("model_max_length", model_max_length)
    form = FAMILIES[family]
    named, extra = form.special_tokens(with_unknown=algorithm != "bpe")
    special = [*named.values(), *extra]
    target = -(-vocab_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
    too_small = InputError(
        f"vocab_size={vocab_size} is too small: {len(special)} special tokens and the alphabet (256 bytes for 'bpe', "
        "every character of the corpus for the others) do not fit; ask for more."
    )
    if algorithm == "bpe" and target < len(special) + 256:  # known before a long corpus is read
        raise too_small
    try:
        backend = ALGORITHMS[algorithm](_Corpus(texts), special, form.unk_token, target, show_progress)
    except Exception as error:  # the library raises nothing narrower
        if "not large enough" in str(error):
            raise too_small from None
        raise
    if backend.get_vocab_size() > target:
        raise too_small
    backend.add_special_tokens(special)
    backend = _with_fillers(backend)
    backend.post_processor = _template(form, backend, algorithm)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **named,
        extra_special_tokens=extra,
        chat_template=form.chat_template,
        model_max_length=model_max_length,
        model_input_names=["input_ids", "attention_mask"],
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: str | os.PathLike) -> None:
    """Save a tokenizer into a folder, whole or not at all: files are written aside and moved in when all are there.

    Raises:
        InputError: the folder cannot be written to (no space, no permission, a file of that name).
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".tokenizer-", dir=folder) as aside:
            tokenizer.save_pretrained(aside)
            if tokenizer.chat_template is None:  # one of an earlier tokenizer would be loaded with this one
                (folder / "chat_template.jinja").unlink(missing_ok=True)
            for file in Path(aside).iterdir():
                os.replace(file, folder / file.name)
    except Exception as error:  # the tokenizers library reports a full disk as a bare Exception
        raise InputError(f"The tokenizer cannot be saved to {folder} ({error}); choose another folder.") from error


class _Corpus:
    """Texts that are checked as they pass; keeps nothing but whether there was anything to read."""

    def __init__(self, texts: Iterable[str]):
        if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
            raise InputError(f"texts is a {type(texts).__name__}: give an iterable of strings, one for each document.")
        self.texts = texts

    def __length_hint__(self) -> int:
        return operator.length_hint(self.texts)

    def __iter__(self) -> Iterator[str]:
        blank = True
        for number, text in enumerate(self.texts, 1):
            if not isinstance(text, str):
                raise InputError(f"Text number {number} is a {type(text).__name__}: give an iterable of strings.")
            try:
                text.encode()
            except UnicodeEncodeError:
                raise InputError(
                    f"Text number {number} holds half of a surrogate pair, which is no character: "
                    "read the file as UTF-8 or with errors='replace'."
                ) from None
            blank = blank and not text.strip()
            yield text
        if blank:
            raise InputError("There is no text to train a tokenizer on: the corpus is empty or blank.")


def _with_fillers(backend: Tokenizer) -> Tokenizer:
    """Fill the vocabulary up to a multiple of 64.

    A filler is an entry of the model, not an added token, and has a space in its name, which no word that reaches the
    model has: encoding never gives it.
    """
    state = json.loads(backend.to_str())
    vocabulary = state["model"]["vocab"]
    size = len(vocabulary)
    for index in range(size, size + -size % VOCABULARY_MULTIPLE):
        if isinstance(vocabulary, dict):
            vocabulary[f"[unused {index}]"] = index
        else:  # Unigram: pieces with scores, the lowest last
            vocabulary.append([f"[unused {index}]", vocabulary[-1][1]])
    return Tokenizer.from_str(json.dumps(state))


def _template(form: Family, backend: Tokenizer, algorithm: str) -> processors.PostProcessor:
    """The post-processor that adds the special tokens of the family's form."""
    used = {part.split(":")[0] for part in form.pair.split() if not part.startswith("$")}
    tokens = [(token, backend.token_to_id(token)) for token in sorted(used)]
    template = processors.TemplateProcessing(single=form.single, pair=form.pair, special_tokens=tokens)
    if algorithm != "bpe":
        return template
    # Offsets leave out the space that a token begins with, as answer spans and entities need them.
    return processors.Sequence([processors.ByteLevel(add_prefix_space=False, trim_offsets=True), template])


def _check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    choices = list(choices)
    if value in choices:
        return
    near = difflib.get_close_matches(str(value), choices, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(choices)}."
    raise InputError(f"{name}={value!r} is unknown: {hint}")


def _check_positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name}={value!r} must be a positive whole number.")
