import json
import math
import os
import subprocess
import sys

import pytest
import torch
from transformers import BertConfig, LlamaConfig, LlamaForCausalLM

import trivium
from trivium.modeling.conversion import from_transformers
from trivium.tokenization import special_token_ids, token_byte_lengths
from trivium.training import evaluate as verb
from trivium.training.evaluate import EvaluateArguments, evaluate
from trivium.training.verbs import run

MODELS = {
    "encoder": (trivium.TriviumEncoderConfig, trivium.TriviumEncoderForMaskedLM),
    "decoder": (trivium.TriviumDecoderConfig, trivium.TriviumDecoderForCausalLM),
    "encoder-decoder": (trivium.TriviumEncoderDecoderConfig, trivium.TriviumEncoderDecoderForConditionalGeneration),
}
SHAPE = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=128)
LENGTH = 48


def save(model, tokenizer, folder, pretraining=None):
    with torch.no_grad():  # far from uniform, so that an error in the weighting shows
        for parameter in model.parameters():
            parameter.mul_(5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if pretraining:
        (folder / "trivium_run.json").write_text(json.dumps({"pretraining": pretraining}))
    return str(folder)


@pytest.fixture(scope="module")
def checkpoints(tokenizers, tmp_path_factory):
    """A checkpoint of each family with the record that pretraining leaves."""
    folders = {}
    for family, (config_class, model_class) in MODELS.items():
        tokenizer = tokenizers[family]
        torch.manual_seed(0)
        model = model_class(config_class(vocab_size=len(tokenizer), **SHAPE, **special_token_ids(tokenizer)))
        folder = tmp_path_factory.mktemp("checkpoint") / family
        settings = dict(family=family, max_length=LENGTH, noise_density=0.3, mlm_probability=0.4, tokenizer="gone")
        settings |= dict(model={"hidden_size": 32}, of_a_later_version=1)
        folders[family] = save(model, tokenizer, folder, settings)
    return folders


@pytest.fixture(scope="module")
def files(documents, tmp_path_factory):
    """Two files of documents: some longer than a row, some of one token."""
    folder = tmp_path_factory.mktemp("texts")
    paths = []
    for name, texts in (("a", [documents[0][:700], *documents[-3:]]), ("b", [documents[3][:300], documents[5][:150]])):
        paths.append(folder / f"{name}.jsonl")
        paths[-1].write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return [str(path) for path in paths]


def numbers(row):
    """What is measured, but for the perplexity, whose errors are those of the loss many times over."""
    return {name: value for name, value in row.items() if name not in ("data", "perplexity")}


def texts_of(path):
    return [json.loads(line)["text"] for line in open(path, encoding="utf-8")]


@pytest.mark.parametrize("family", list(MODELS))
def test_the_figures_do_not_depend_on_the_batch_size(family, checkpoints, files):
    results = [
        evaluate(EvaluateArguments(model=checkpoints[family], data=files, batch_size=size)) for size in (1, 2, 8)
    ]
    for result in results[1:]:
        for row, expected in zip([*result.rows, result.total], [*results[0].rows, results[0].total], strict=True):
            assert numbers(row) == pytest.approx(numbers(expected), rel=1e-6)
    total = results[0].total
    assert [row["data"] for row in results[0].rows] == files and total["documents"] == 6
    for name in ("predicted_tokens", "predicted_bytes"):
        assert total[name] == sum(row[name] for row in results[0].rows) > 20
    bits = sum(row["bits_per_byte"] * row["predicted_bytes"] for row in results[0].rows)
    assert total["bits_per_byte"] == pytest.approx(bits / total["predicted_bytes"], rel=1e-9)


def test_a_decoder_is_measured_as_a_slow_loop_over_documents_measures_the_stock_model(files, tokenizers, tmp_path):
    tokenizer = tokenizers["decoder"]
    torch.manual_seed(0)
    stock = LlamaForCausalLM(
        LlamaConfig(vocab_size=len(tokenizer), intermediate_size=48, **SHAPE, **special_token_ids(tokenizer))
    ).eval()
    with torch.no_grad():
        for parameter in stock.parameters():
            parameter.mul_(3)
    ours = from_transformers(stock)
    ours.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    result = evaluate(EvaluateArguments(model=str(tmp_path), data=files[:1], max_length=LENGTH))
    lengths = token_byte_lengths(tokenizer)
    nats = tokens = covered = 0
    for text in texts_of(files[0]):
        ids = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        for start in range(0, len(ids) - 1, LENGTH - 1):  # a token is read twice, none is predicted twice
            piece = torch.tensor(ids[start : start + LENGTH])
            with torch.no_grad():
                log_probabilities = stock.double()(input_ids=piece[None]).logits[0].log_softmax(-1)
            for place, token in enumerate(piece[1:].tolist()):
                if lengths[token]:
                    nats -= log_probabilities[place, token].item()
                    tokens += 1
                    covered += lengths[token]
    (row,) = result.rows
    assert covered == sum(len(text.encode()) for text in texts_of(files[0]))
    assert (row["predicted_tokens"], row["predicted_bytes"]) == (tokens, covered)
    assert row["loss"] == pytest.approx(nats / tokens, rel=1e-6)
    assert row["bits_per_byte"] == pytest.approx(nats / math.log(2) / covered, rel=1e-6)
    assert row["perplexity"] == pytest.approx(math.exp(nats / tokens), rel=1e-5)


def test_the_record_says_how_and_the_arguments_win(checkpoints, files):
    args = EvaluateArguments(model=checkpoints["encoder"], data=files[1:])
    training = verb.pretraining_of(args)
    assert (training.family, training.objective, training.max_length) == ("encoder", "masked", LENGTH)
    assert training.mlm_probability == 0.4 and training.tokenizer is None and training.shape == {}
    given = EvaluateArguments(model=checkpoints["encoder"], data=files[1:], max_length=100, objective="next-sentence")
    assert (verb.pretraining_of(given).objective, verb.pretraining_of(given).max_length) == ("masked", 100)
    # More masked of the same text makes more to predict: the share is the record's.
    masked = evaluate(args).total["predicted_tokens"]
    tokenizer = verb.choose_tokenizer(training, None, {}, None)
    tokens = sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts_of(files[1]))
    assert masked == pytest.approx(0.4 * tokens, rel=0.1)


def test_without_a_record_the_defaults_of_the_family_hold(checkpoints, files, tokenizers, tmp_path):
    model = trivium.TriviumDecoderForCausalLM.from_pretrained(checkpoints["decoder"])
    folder = save(model, tokenizers["decoder"], tmp_path / "bare")
    assert verb.pretraining_of(EvaluateArguments(model=folder, data=files)).objective == "causal"
    with pytest.raises(trivium.configuration.InputError, match="more than the model's 128 positions"):
        evaluate(EvaluateArguments(model=folder, data=files))


def test_half_precision_is_close(checkpoints, files):
    narrow, wide = (
        evaluate(EvaluateArguments(model=checkpoints["decoder"], data=files[:1], dtype=dtype)).total
        for dtype in ("bfloat16", "float32")
    )
    assert narrow["bits_per_byte"] == pytest.approx(wide["bits_per_byte"], rel=0.05)
    assert narrow["bits_per_byte"] != wide["bits_per_byte"]


def test_a_table_and_a_file_of_one_line(checkpoints, files, tmp_path, capsys):
    target = tmp_path / "results.json"
    argv = ["--model", checkpoints["decoder"], "--data", *files, "--json", str(target), "--batch_size", "2"]
    assert verb.main(argv) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].split("|")[1].strip() == "data" and len(said) == 7
    assert said[4].startswith("| total") and "causal, 48 tokens at a time, float32" in said[-1]
    (line,) = target.read_text().splitlines()
    result = json.loads(line)
    assert f"{result['total']['bits_per_byte']:.4f}" in said[4]
    assert result["rows"][0]["data"] == files[0] and result["settings"]["model"] == checkpoints["decoder"]
    assert os.listdir(tmp_path) == ["results.json"]


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    target = tmp_path / "results.json"
    target.write_text("old")

    def fail(*paths):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        verb.write_whole(target, "new")
    assert target.read_text() == "old" and os.listdir(tmp_path) == ["results.json"]


def test_a_file_in_no_folder_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(trivium.configuration.InputError, match="cannot be written: No such file"):
        verb.write_whole(tmp_path / "gone" / "results.json", "new")


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--model", "no/where"], "the checkpoint 'no/where' cannot be read"),
        (["--data", "gone.txt"], "'gone.txt' does not exist."),
        (["--objective", "pairs"], "not measured here: say --objective causal or fill-in-the-middle"),
        (["--objective", "masked"], "the objective 'masked' does not fit the family 'decoder'"),
        (["--max_length", "1000"], "more than the model's 128 positions"),
        (["--batch_size", "0"], "`batch_size` must be at least 1"),
        (["--json", "no/where/results.json"], "there is no folder 'no/where' for `json`"),
        (["--text_column", "body"], "has no column 'body'"),
    ],
)
def test_bad_input_is_one_sentence(more, sentence, checkpoints, files, capsys):
    assert run(verb.main, ["--model", checkpoints["decoder"], "--data", files[0], *more]) == 2
    assert sentence in capsys.readouterr().err


def test_foreign_checkpoints_and_broken_records_are_told_the_way_out(files, checkpoints, tmp_path, tokenizers, capsys):
    BertConfig().save_pretrained(tmp_path / "bert")
    assert run(verb.main, ["--model", str(tmp_path / "bert"), "--data", files[0]]) == 2
    assert (
        "is a bert checkpoint, not one of Trivium's: `trivium convert` may make one of it." in capsys.readouterr().err
    )
    model = trivium.TriviumDecoderForCausalLM.from_pretrained(checkpoints["decoder"])
    folder = save(model, tokenizers["decoder"], tmp_path / "broken", {})
    (tmp_path / "broken" / "trivium_run.json").write_text("{")
    assert run(verb.main, ["--model", folder, "--data", files[0]]) == 2
    assert "is broken: delete it to measure by the family's defaults" in capsys.readouterr().err


def test_a_file_of_one_short_document_is_measured_whole(checkpoints, tmp_path):
    path = tmp_path / "one.txt"
    path.write_text("A single line.\n")
    row = evaluate(EvaluateArguments(model=checkpoints["decoder"], data=[str(path)])).rows[0]
    assert row["documents"] == 1 and row["predicted_bytes"] == len("A single line.\n")


@pytest.mark.slow
@pytest.mark.parametrize("family", list(MODELS))
def test_two_processes_measure_what_one_does(family, checkpoints, files, tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    argv = ["--model", checkpoints[family], "--data", *files, "--json", str(tmp_path / "two.json"), "--batch_size", "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, "-m", "trivium.training.evaluate", *argv]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("bits per byte") == 1
    two, one = (
        json.loads((tmp_path / "two.json").read_text()),
        evaluate(EvaluateArguments(model=checkpoints[family], data=files)),
    )
    assert numbers(two["total"]) == pytest.approx(numbers(one.total), rel=1e-6)
