"""Vocabulary, reproducibility, streaming, bad input, saving and loading."""

import json
import os
import subprocess
import sys

import pytest
from transformers import AutoTokenizer

from trivium.configuration.errors import InputError
from trivium.tokenization import save_tokenizer, train_tokenizer

ALPHABET = "".join(map(chr, range(97, 200)))
LOAD = """
import json, sys
sys.modules["trivium"] = None  # importing it fails
from transformers import AutoTokenizer
texts, *folders = sys.argv[1:]
for folder in folders:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(*json.loads(texts), truncation=True).input_ids
    print(json.dumps([
        type(tokenizer).__module__.split(".")[0], len(tokenizer), tokenizer.vocab_size, tokenizer.model_max_length,
        tokenizer.padding_side, tokenizer.model_input_names, tokenizer.special_tokens_map,
        tokenizer.extra_special_tokens, tokenizer.chat_template, ids, tokenizer.decode(ids),
    ]))
"""


def fillers(tokenizer) -> list[int]:
    return [index for token, index in tokenizer.get_vocab().items() if token.startswith("[unused ")]


def test_vocabulary_is_a_multiple_of_64(tokenizer):
    assert len(tokenizer) == tokenizer.vocab_size == 1024  # 1000 rounded up, all of it from the corpus
    assert sorted(tokenizer.get_vocab().values()) == list(range(1024))
    assert not fillers(tokenizer)


def test_fillers_match_no_text(family, algorithm):
    """A corpus too small for the vocabulary: it is filled up, and the fillers' own names are text like any other."""
    text = "[unused 300] a name, the names [unused 301]. "
    tokenizer = train_tokenizer([text * 3], family, algorithm, 5000, show_progress=False)
    filled = fillers(tokenizer)
    assert 0 < len(filled) < 64 and len(tokenizer) % 64 == 0 and len(tokenizer) < 5000
    assert max(filled) == len(tokenizer) - 1
    names = " ".join(tokenizer.convert_ids_to_tokens(filled))
    ids = tokenizer(names + text + names.replace(" ", "")).input_ids
    assert not set(ids) & set(filled)
    assert not set(filled) & (set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder))


def test_corpus_full_of_special_tokens(family, algorithm):
    """However often their literals occur, no learnt piece is a special token: as text they stay text."""
    literals = "<s> </s> <pad> [MASK] [PAD] <|eos|> <|im_end|> <extra_id_0> <unk>"
    tokenizer = train_tokenizer([literals] * 50, family, algorithm, 640, show_progress=False)
    ids = tokenizer(literals, add_special_tokens=False, split_special_tokens=True).input_ids
    assert not set(ids) & set(tokenizer.all_special_ids)
    assert "".join(tokenizer.decode(ids).split()) == "".join(literals.split())
    assert set(tokenizer(literals, add_special_tokens=False).input_ids) & set(tokenizer.all_special_ids)


def test_same_corpus_same_file(corpus, algorithm):
    """Byte for byte, although the library's hash tables differ within and between processes."""
    files = {
        train_tokenizer(iter(corpus[:8]), "encoder", algorithm, 700, show_progress=False).backend_tokenizer.to_str()
        for _ in range(4)
    }
    assert len(files) == 1


def test_every_character_of_the_corpus_is_known(algorithm):
    """Also at the other end of a word than where the corpus has it."""
    tokenizer = train_tokenizer(["éa bø ça", "日本語 x"], "encoder", algorithm, 512, show_progress=False)
    assert tokenizer.unk_token_id not in tokenizer("aé øb xç bx 語本").input_ids


def test_texts_are_streamed(algorithm):
    """No more than a few texts of an iterator are held at any time."""

    class Text(str):
        alive = most = 0

        def __init__(self, _):
            Text.alive += 1
            Text.most = max(Text.most, Text.alive)

        def __del__(self):
            Text.alive -= 1

    texts = (Text(f"text number {index} of many") for index in range(5000))
    train_tokenizer(texts, "decoder", algorithm, 512, show_progress=False)
    assert 0 < Text.most < 1000


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"family": "decodr"}, "family='decodr' is unknown: did you mean 'decoder'?"),
        ({"family": "bert"}, "choose one of encoder, decoder, encoder-decoder"),
        ({"algorithm": "word-piece"}, "did you mean 'wordpiece'?"),
        ({"algorithm": None}, "choose one of bpe, wordpiece, unigram"),
        ({"vocab_size": 0}, "vocab_size=0 must be a positive whole number"),
        ({"vocab_size": 1e4}, "vocab_size=10000.0 must be"),
        ({"model_max_length": True}, "model_max_length=True must be"),
        ({"texts": []}, "There is no text"),
        ({"texts": iter(["", " \n\t"])}, "There is no text"),
        ({"texts": "one long string"}, "texts is a str"),
        ({"texts": 3}, "texts is a int"),
        ({"texts": ["a", None]}, "Text number 2 is a NoneType"),
        ({"texts": [{"text": "a"}]}, "Text number 1 is a dict"),
        ({"texts": ["a\ud800"]}, "half of a surrogate pair"),
        ({"vocab_size": 256}, "vocab_size=256 is too small: 5 special tokens and the alphabet"),
        ({"vocab_size": 64, "algorithm": "wordpiece"}, "vocab_size=64 is too small"),
        ({"texts": [ALPHABET[:40]], "vocab_size": 64, "algorithm": "wordpiece"}, "vocab_size=64 is too small"),
        ({"vocab_size": 64, "algorithm": "unigram"}, "vocab_size=64 is too small"),
    ],
)
def test_bad_input(arguments, sentence):
    defaults = {"texts": [ALPHABET], "family": "encoder", "show_progress": False}
    with pytest.raises(InputError) as error:
        train_tokenizer(**{**defaults, **arguments})
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_errors_of_the_corpus_are_not_hidden(algorithm):
    def texts():
        yield "some text"
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        train_tokenizer(texts(), "encoder", algorithm, 512, show_progress=False)


def test_loads_without_trivium(tokenizers, tmp_path):
    """In a process without this package, without trust, with nobody at the keyboard; alone or in a checkpoint."""
    texts = ["is used to [MASK] <extra_id_3> over " * 50, "and  the\nother"]
    folders, expected = [], []
    for (family, algorithm), tokenizer in tokenizers.items():
        folders.append(tmp_path / f"{family}-{algorithm}")
        save_tokenizer(tokenizer, folders[-1])
        if algorithm == "bpe":
            (folders[-1] / "config.json").write_text(json.dumps({"model_type": f"trivium_{family}"}))
        ids = tokenizer(*texts, truncation=True).input_ids
        assert len(ids) == 128
        facts = ["transformers", 1024, 1024, 128, "right", ["input_ids", "attention_mask"]]
        facts += [tokenizer.special_tokens_map, tokenizer.extra_special_tokens, tokenizer.chat_template]
        expected.append([*facts, ids, tokenizer.decode(ids)])
    run = subprocess.run(
        [sys.executable, "-c", LOAD, json.dumps(texts), *folders],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert [json.loads(line) for line in run.stdout.splitlines()] == expected


def test_saving_again_changes_nothing(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path / "first")
    save_tokenizer(AutoTokenizer.from_pretrained(tmp_path / "first"), tmp_path / "second")
    first, second = ((tmp_path / name / "tokenizer.json").read_bytes() for name in ("first", "second"))
    assert first == second


def test_failed_save_leaves_the_old_tokenizer(tokenizers, tmp_path, monkeypatch):
    save_tokenizer(tokenizers["decoder", "bpe"], tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    other = tokenizers["encoder", "bpe"]

    def half(folder, **_):
        with open(os.path.join(folder, "tokenizer_config.json"), "w") as file:
            file.write("{")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(other, "save_pretrained", half)
    with pytest.raises(InputError, match="No space left on device"):
        save_tokenizer(other, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_saving_replaces_all_of_the_old_tokenizer(tokenizers, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    save_tokenizer(tokenizers["decoder", "bpe"], tmp_path)
    save_tokenizer(tokenizers["encoder", "bpe"], tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template is None
    assert sorted(os.listdir(tmp_path)) == ["model.safetensors", "tokenizer.json", "tokenizer_config.json"]


def test_saving_to_a_file_is_refused(tokenizers, tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(InputError, match="file"):
        save_tokenizer(tokenizers["decoder", "bpe"], tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"
