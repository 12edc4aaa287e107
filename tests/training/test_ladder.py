import json
import os

import pytest

import trivium
from trivium.training import ladder as verb
from trivium.training.scaling_law import ScalingLaw
from trivium.training.verbs import run

FAST = "--per_device_train_batch_size 1 --max_length 16 --max_held_out_blocks 4 --disable_tqdm true --save_strategy no"
SHAPE = "--model.hidden_size 32 --model.num_hidden_layers 2 --model.num_attention_heads 4"


@pytest.fixture
def argv(data_file, tokenizer_folders, tmp_path):
    def arguments(*more):
        fixed = ["--family", "decoder", "--data", str(data_file), "--output_dir", str(tmp_path / "out")]
        tokenizer = ["--tokenizer", str(tokenizer_folders["decoder"])]
        return [*fixed, *tokenizer, *FAST.split(), *SHAPE.split(), "--muon", "true", *more]

    return arguments


def runs_of(law, sizes=(1e9, 1e10, 1e11, 1e12)):
    return [
        {"size": f"{i}x1", "parameters": 10**i, "tokens": 100, "compute": compute, "measured": float(law(compute))}
        for i, compute in enumerate(sizes, 1)
    ]


def test_what_a_known_law_says_beyond_its_runs_is_found():
    law = ScalingLaw(0.9, 300.0, 0.25)
    result = verb.extrapolate(runs_of(law), "ratio")
    assert [row["compute"] for row in result["beyond"]] == [1e13, 1e14]
    for row in result["beyond"]:
        assert row["law"] == pytest.approx(law(row["compute"]), rel=0.01)
        assert row["range"][0] - 0.01 < row["law"] < row["range"][1] + 0.01
        assert row["parameters"] / 1e4 == pytest.approx(row["tokens"] / 100, rel=0.01)  # compute goes into both alike
    assert verb.extrapolate(runs_of(law), "equal")["beyond"][0]["tokens"] == 100
    for row in result["runs"]:  # each is told by the others
        assert row["range"][0] == pytest.approx(row["measured"], rel=0.02)


def test_the_report_says_what_is_not_known_and_what_looks_wrong():
    law = ScalingLaw(0.9, 300.0, 0.25)
    good = verb.report(verb.extrapolate(runs_of(law), "ratio"))
    assert "10 x compute" in good and "trust none" not in good and "Three runs" not in good
    assert "Three runs fit" in verb.report(verb.extrapolate(runs_of(law)[:3], "ratio"))
    runs = runs_of(law)
    runs[-1]["measured"] = 9.0
    assert "trust none" in verb.report(verb.extrapolate(runs, "ratio"))


def test_sizes_keep_the_kind_of_model():
    base = trivium.TriviumDecoderConfig(
        hidden_size=128, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, sliding_window=8,
        layer_types=["sliding_attention"] * 3 + ["full_attention"],
    )  # fmt: skip
    assert list(dict.fromkeys(verb.default_sizes(base))) == ["32x1", "64x2", "96x3", "128x4"]
    whole = trivium.TriviumDecoderConfig(sliding_window=8, **verb.scale(base, "128x4"))
    assert whole.to_dict() == base.to_dict() | {"transformers_version": whole.to_dict()["transformers_version"]}
    for size in ("32x1", "96x3", "50x2", "512x12"):
        shape = verb.scale(base, size)
        config = trivium.TriviumDecoderConfig(sliding_window=8, **shape)  # what does not fit is refused here
        assert config.layer_types[-1] == "full_attention" and config.head_dim == base.head_dim
        assert config.num_hidden_layers == 1 or config.layer_types[0] == "sliding_attention"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--tokens", "0"], "`tokens` must be positive, not 0."),
        (["--tokens", "500"], "steps for the size"),
        (["--tokens", "1e5", "--sizes", "8x1", "16x1"], "a law needs 3 sizes or more, not 2"),
        (["--tokens", "1e5", "--sizes", "8x1", "16x1", "big"], "the size 'big' is not understood"),
        (["--tokens", "1e5", "--sizes", "8x0", "16x1", "16x2"], "the size '8x0' is not understood"),
        (["--tokens", "1e5", "--model_name_or_path", "x"], "leave model_name_or_path out"),
    ],
)
def test_silly_ladders_are_refused_in_one_sentence_before_anything_is_written(more, sentence, argv, tmp_path, capsys):
    assert run(verb.main, argv(*more)) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_budget_is_shared_as_asked(argv):
    seen = {}
    for split in ("ratio", "equal"):
        ladder, args, training = verb.parse(
            argv("--tokens", "1e5", "--split", split),
            (verb.LadderArguments, verb.PretrainArguments, verb.PretrainTrainingArguments),
        )
        seen[split] = verb.plan(ladder, args, training)
        assert sum(rung.tokens for rung in seen[split]) == pytest.approx(1e5)
    assert len({rung.tokens for rung in seen["equal"]}) == 1
    assert len({round(rung.tokens / rung.parameters, 6) for rung in seen["ratio"]}) == 1
    assert [rung.parameters for rung in seen["ratio"]] == sorted(rung.parameters for rung in seen["ratio"])


def test_three_sizes_are_trained_fitted_and_not_trained_again(argv, tmp_path, capsys):
    arguments = argv("--tokens", "3000", "--sizes", "8x1", "16x1", "32x2", "--split", "equal")
    assert verb.main(arguments) == 0
    folder = tmp_path / "out"
    result = json.loads((folder / "ladder.json").read_text())
    assert [run["size"] for run in result["runs"]] == ["8x1", "16x1", "32x2"]
    assert all(run["measured"] > 0.5 and 900 < run["tokens"] < 1200 for run in result["runs"])
    compute = [run["compute"] for run in result["runs"]]
    assert compute == sorted(compute) and compute[0] > 0
    assert (folder / "ladder.md").read_text().strip() in capsys.readouterr().out
    assert set(os.listdir(folder)) <= {"8x1", "16x1", "32x2", "ladder.json", "ladder.md", "ladder.png"}
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/model.safetensors")}
    assert verb.main(arguments) == 0
    assert before == {path: path.stat().st_mtime_ns for path in folder.glob("*/model.safetensors")} and len(before) == 3
    assert json.loads((folder / "ladder.json").read_text()) == result


def test_the_plot_is_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    verb.draw(verb.extrapolate(runs_of(ScalingLaw(0.9, 300.0, 0.25)), "ratio"), tmp_path / "ladder.png")
    assert (tmp_path / "ladder.png").read_bytes().startswith(b"\x89PNG")
