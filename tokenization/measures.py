"""What tokens stand for: the text that survives encoding, and the bytes of each token."""

import re

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase

from ..configuration.errors import InputError


def normalized_text(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The text that decoding gives back after encoding, for text without special tokens or unknown characters.

    The text itself for a tokenizer without normalizer (byte-level); otherwise what its normalizer makes of it, and for
    WordPiece, which forgets the spaces around words and punctuation marks, these joined by single spaces.

    Raises:
        InputError: the tokenizer is not one of the `tokenizers` library.
    """
    backend = _backend(tokenizer)
    if backend.normalizer is not None:
        text = backend.normalizer.normalize_str(text)
    if isinstance(backend.model, models.WordPiece):
        text = " ".join(word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text))
    return text


def token_byte_lengths(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The number of UTF-8 bytes of text that each id stands for, for losses in bits per byte.

    Special tokens stand for 0 bytes. With a byte-level tokenizer the lengths of a text's tokens add up to its bytes,
    exactly. With the others (WordPiece, "▁" pieces) the space between two words counts with the second one, so they add
    up to the bytes of `normalized_text` plus one for the first word's space; an unknown token counts 0.

    Returns:
        One length for each id, from 0 to the largest.

    Raises:
        InputError: the tokenizer is not one of the `tokenizers` library.
    """
    backend = _backend(tokenizer)
    vocabulary = backend.get_vocab()
    added = backend.get_added_tokens_decoder()
    special = {index for index, token in added.items() if token.special}
    plain = {token: index for token, index in vocabulary.items() if index not in special}
    decoder = repr(backend.decoder)
    alphabet = set(pre_tokenizers.ByteLevel.alphabet()) if "ByteLevel" in decoder else set()

    lengths = [0] * (max(vocabulary.values()) + 1)
    in_context = []
    for token, index in plain.items():
        if index in added:
            lengths[index] = len(token.encode())
        elif alphabet and alphabet.issuperset(token):
            lengths[index] = len(token)  # one character of this alphabet for each byte
        elif "ByteFallback" in decoder and re.fullmatch("<0x[0-9A-F]{2}>", token):
            lengths[index] = 1
        else:
            in_context.append(index)
    for index, length in zip(in_context, _decoded_lengths(backend, in_context, plain), strict=True):
        lengths[index] = length
    return lengths


def _decoded_lengths(backend: Tokenizer, indices: list[int], plain: dict[str, int]) -> list[int]:
    """Bytes that each id adds between two other tokens: the decoder knows its own marks for spaces and joins."""
    if not indices:
        return []
    anchor = min((index for token, index in plain.items() if token.isalnum()), default=indices[0])
    contexts = [[anchor, anchor], *([anchor, index, anchor] for index in indices)]
    empty, *filled = (len(text.encode()) for text in backend.decode_batch(contexts, skip_special_tokens=False))
    return [length - empty for length in filled]


def _backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise InputError(
            f"{type(tokenizer).__name__} is not built on the tokenizers library: load the tokenizer with AutoTokenizer "
            "from a folder that has a tokenizer.json."
        )
    return backend
