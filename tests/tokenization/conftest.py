"""One small tokenizer for each family and algorithm, trained once."""

import pydoc_data.topics

import pytest
from transformers import PreTrainedTokenizerFast

from trivium.tokenization import train_tokenizer

FAMILIES = ["encoder", "decoder", "encoder-decoder"]
ALGORITHMS = ["bpe", "wordpiece", "unigram"]


@pytest.fixture(scope="session")
def corpus() -> list[str]:
    """Real English text with code in it."""
    return [text for _, text in sorted(pydoc_data.topics.topics.items())][:20]


@pytest.fixture(scope="session")
def tokenizers(corpus) -> dict[tuple[str, str], PreTrainedTokenizerFast]:
    """Tokenizers by (family, algorithm), not for changing."""
    return {
        (family, algorithm): train_tokenizer(corpus, family, algorithm, 1000, 128, show_progress=False)
        for family in FAMILIES
        for algorithm in ALGORITHMS
    }


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    """Each family."""
    return request.param


@pytest.fixture(params=ALGORITHMS)
def algorithm(request) -> str:
    """Each algorithm."""
    return request.param


@pytest.fixture
def tokenizer(tokenizers, family, algorithm) -> PreTrainedTokenizerFast:
    """Each of the nine tokenizers."""
    return tokenizers[family, algorithm]
