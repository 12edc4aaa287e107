"""Every kind of tokenizer: three algorithms for each family, and a WordPiece that lowercases and strips accents."""

import pytest
from tokenizers import normalizers

from trivium.tokenization import train_tokenizer

ALGORITHMS = ("bpe", "wordpiece", "unigram")
KINDS = [(family, algorithm) for family in ("encoder", "decoder", "encoder-decoder") for algorithm in ALGORITHMS]
KINDS += [("encoder", "uncased")]


@pytest.fixture(scope="session")
def every_tokenizer(documents):
    """By family and algorithm."""
    found = {
        kind: train_tokenizer(documents, *kind, vocab_size=512, show_progress=False)
        for kind in KINDS
        if kind[1] != "uncased"
    }
    uncased = train_tokenizer(map(str.lower, documents), "encoder", "wordpiece", vocab_size=512, show_progress=False)
    uncased.backend_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    return found | {("encoder", "uncased"): uncased}


@pytest.fixture(params=KINDS, ids="-".join)
def kind(request, every_tokenizer):
    """A family and a tokenizer for it."""
    return request.param[0], every_tokenizer[request.param]
