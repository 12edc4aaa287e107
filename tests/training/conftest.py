"""A little real text, and a tokenizer of each family trained on it, made once for all tests of training."""

import json
from pydoc_data.topics import topics

import datasets
import pytest

from trivium.tokenization import train_tokenizer

FAMILIES = ("encoder", "decoder", "encoder-decoder")


@pytest.fixture(scope="session", autouse=True)
def dataset_cache(tmp_path_factory):
    """Keeps what `datasets` caches out of the user's home."""
    kept = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets")
    datasets.disable_progress_bars()
    yield
    datasets.config.HF_DATASETS_CACHE = kept


@pytest.fixture(scope="session")
def documents():
    """Real documents of very different lengths, an accented and an Asian one among them."""
    texts = [topics[name] for name in sorted(topics)[:24]]
    return [*texts, "Ünïcödé: naïve café.", "真っ白な雪", "x"]


@pytest.fixture(scope="session")
def data_file(documents, tmp_path_factory):
    """The documents as JSON lines."""
    path = tmp_path_factory.mktemp("data") / "topics.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tokenizers(documents):
    """A small byte-level tokenizer for each family."""
    return {family: train_tokenizer(documents, family, vocab_size=512, show_progress=False) for family in FAMILIES}


@pytest.fixture(scope="session")
def tokenizer_folders(tokenizers, tmp_path_factory):
    """The same, saved."""
    folders = {family: tmp_path_factory.mktemp("tokenizer") / family for family in FAMILIES}
    for family, folder in folders.items():
        tokenizers[family].save_pretrained(folder)
    return folders
