"""The three ways of choosing pieces, each trained by the `tokenizers` library and made reproducible.

Every function takes an iterable of texts, the special tokens (ids 0, 1, ...), the unknown token, the size of the
vocabulary and whether to show progress, and returns a `tokenizers.Tokenizer` without template. The vocabulary comes out
larger than asked where special tokens and alphabet alone are.
"""

import json
import operator
from collections.abc import Callable, Iterable
from itertools import chain

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

MIN_FREQUENCY = 2  # a pair seen once is an accident of the corpus, not a piece of the language


def byte_level_bpe(
    texts: Iterable[str], special: list[AddedToken], unk_token: str, vocab_size: int, show_progress: bool
) -> Tokenizer:
    """Byte pair encoding over UTF-8 bytes (Radford et al., 2019): lossless, nothing is ever unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        min_frequency=MIN_FREQUENCY,
        show_progress=show_progress,
    )
    _train(tokenizer, texts, trainer)
    return tokenizer


def wordpiece(
    texts: Iterable[str], special: list[AddedToken], unk_token: str, vocab_size: int, show_progress: bool
) -> Tokenizer:
    """WordPiece (Devlin et al., 2019), cased: words, punctuation marks and Han characters, longest match first.

    The library's WordPiece trainer numbers the "##" alphabet in hash order and so breaks ties differently in every
    run. Its plain BPE does not: train that on words that begin with "▁", then rename ("▁the" to "the", "ing" to
    "##ing"). Each character is kept both as the first of a word and as a later one.
    """
    words = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Split(Regex(r"\p{Han}"), behavior="isolated")]
    )
    marked = Tokenizer(models.BPE())
    marked.normalizer = _normalizer()
    marked.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.Metaspace(split=False)])
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, min_frequency=MIN_FREQUENCY, show_progress=show_progress)
    _train(marked, texts, trainer)

    pieces = [piece for piece, _ in sorted(marked.get_vocab().items(), key=operator.itemgetter(1)) if piece != "▁"]
    alphabet = [piece for piece in pieces if len(piece) == 1]
    needed = [str(token) for token in special] + alphabet + [f"##{character}" for character in alphabet]
    learnt = (piece[1:] if piece.startswith("▁") else f"##{piece}" for piece in pieces)
    kept = list(dict.fromkeys(chain(needed, learnt)))[: max(vocab_size, len(needed))]
    vocabulary = {piece: index for index, piece in enumerate(kept)}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token=unk_token))
    tokenizer.normalizer = _normalizer()
    tokenizer.pre_tokenizer = words
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    return tokenizer


def unigram(
    texts: Iterable[str], special: list[AddedToken], unk_token: str, vocab_size: int, show_progress: bool
) -> Tokenizer:
    """The unigram language model (Kudo, 2018), cased: "▁" stands for a space and begins every text.

    The library's trainer sums in hash order, which shows in the last digits of the scores, and gives characters
    without weight a ladder of scores, 1e-4 apart, also in hash order. Scores are rounded and that ladder is flattened.
    (Two pieces that tie at the cut could still take each other's place; no corpus has been seen to do it.)
    """
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = _normalizer()
    # The bracket that opens a special token stands alone: no piece of plain text can then equal a special token.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Split(Regex(r"[<\[]"), behavior="isolated")]
    )
    tokenizer.decoder = decoders.Metaspace()
    names = [str(token) for token in special]
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=names, unk_token=unk_token, show_progress=show_progress
    )
    _train(tokenizer, texts, trainer)

    learnt = json.loads(tokenizer.to_str())["model"]["vocab"][len(names) :]
    lowest = min((score for _, score in learnt), default=0.0)
    ladder_top = lowest + 1e-4 * sum(len(piece) == 1 for piece, _ in learnt)
    scores = {piece: lowest if len(piece) == 1 and score < ladder_top else score for piece, score in learnt}
    ranked = sorted(((piece, round(score, 6)) for piece, score in scores.items()), key=lambda item: (-item[1], item[0]))
    tokenizer.model = models.Unigram([(name, 0.0) for name in names] + ranked, unk_id=names.index(unk_token))
    return tokenizer


ALGORITHMS: dict[str, Callable[..., Tokenizer]] = {"bpe": byte_level_bpe, "wordpiece": wordpiece, "unigram": unigram}


def _train(tokenizer: Tokenizer, texts: Iterable[str], trainer: trainers.Trainer) -> None:
    """Train on the texts as they come, never holding them all."""
    tokenizer.train_from_iterator(texts, trainer, length=operator.length_hint(texts) or None)


def _normalizer() -> normalizers.Normalizer:
    """NFKC, one space for any run of whitespace (or of "▁", which means a space), none at either end."""
    return normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"[\s▁]+"), " "), normalizers.Strip()])
