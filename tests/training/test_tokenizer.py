import pytest
from transformers import AutoTokenizer

from trivium.training import tokenizer as verb
from trivium.training.verbs import run


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "unigram"])
def test_trains_reports_and_saves(algorithm, data_file, tmp_path, capsys):
    folder = tmp_path / "tokenizer"
    argv = ["--family", "encoder", "--data", str(data_file), "--vocab_size", "1000", "--algorithm", algorithm]
    assert (
        verb.main([*argv, "--output_dir", str(folder), "--model_max_length", "128", "--held_out_fraction", "0.2"]) == 0
    )
    said = capsys.readouterr().out
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert f"vocabulary      {len(tokenizer):,}\n" in said and "bytes per token " in said and "|[SEP]\n" in said
    assert tokenizer.model_max_length == 128 and len(tokenizer) % 64 == 0
    assert tokenizer("for x in y")["input_ids"][0] == tokenizer.cls_token_id


def test_bytes_per_token_is_that_of_the_held_out_text(tokenizers, documents):
    import datasets

    held_out = datasets.Dataset.from_dict({"text": documents[:3]})
    tokenizer = tokenizers["decoder"]
    tokens = sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in documents[:3])
    expected = sum(len(text.encode()) for text in documents[:3]) / tokens
    assert f"bytes per token {expected:.2f}\n" in verb.report(tokenizer, held_out)
    assert f"3 documents, {tokens:,} tokens" in verb.report(tokenizer, held_out)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--family", "decodr"], "invalid choice: 'decodr'"),
        (["--vocab_size", "10"], "vocab_size=10 is too small"),
        (["--vocab_size", "-1"], "must be a positive whole number"),
        (["--data", "gone.txt"], "'gone.txt' does not exist"),
        (["--algoritm", "bpe"], "did you mean 'algorithm'?"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(more, sentence, data_file, tmp_path, capsys):
    folder = tmp_path / "tokenizer"
    argv = ["--family", "decoder", "--data", str(data_file), "--output_dir", str(folder), *more]
    assert run(verb.main, argv) == 2
    assert sentence in capsys.readouterr().err and not folder.exists()
