"""A small tokenizer of every family and algorithm, trained on text with much that is not English."""

from pydoc_data.topics import topics

import pytest

from trivium.tokenization import train_tokenizer

FAMILIES = ("encoder", "decoder", "encoder_decoder")
UNICODE = "Ünïcödé: naïve cafe\u0301s in Zürich. 真っ白な雪 👩‍👩‍👧 🇫🇷 and\n\n हिन्दी में\ttabs; don't!"


@pytest.fixture(scope="session")
def tokenizers():
    """Tokenizers by (family, algorithm), not for changing."""
    texts = [topics[name][:3000] for name in sorted(topics)[:12]] + [UNICODE] * 3
    return {
        (family, algorithm): train_tokenizer(
            texts, family.replace("_", "-"), algorithm, vocab_size=768, model_max_length=128, show_progress=False
        )
        for family in FAMILIES
        for algorithm in ("bpe", "wordpiece", "unigram")
    }
