"""The benchmarks run, at toy sizes; what they measure there means nothing."""

import dataclasses
import json

import pytest
import torch

from benchmarks import floors, inference, linear_cross_entropy, memory, muon, report, startup, training
from benchmarks.contenders import CONTENDERS, FAMILIES, FLATTENED, OURS, SHAPES, build, stock
from benchmarks.data import TEXTS, Corpus

NAMED = [(family, name) for family, names in CONTENDERS.items() for name in names]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_layout_holds_the_same_tokens(family, text):
    layouts, tokens = Corpus(family, text, vocabulary=512, max_documents=30).batches(rows=3, length=48, count=2)
    if text == "full rows":
        assert {*layouts} == {"full"}
        assert all(batch["input_ids"].shape == (3, 48) for batch in layouts["full"])
        labels = sum((batch["labels"] != -100).sum() for batch in layouts["full"])
        assert tokens == 2 * 3 * 48 + (labels if family == "encoder-decoder" else 0)
        return
    masks = {fed: [batch["attention_mask"].bool() for batch in layouts[fed]] for fed in ("padded", "grouped")}
    for mask, padded, flat in zip(masks["padded"], layouts["padded"], layouts["flattened"], strict=True):
        assert torch.equal(padded["input_ids"][mask], flat["input_ids"][0])
        assert (flat["position_ids"] == 0).sum() == 3
    read = {
        fed: [batch["input_ids"][mask] for mask, batch in zip(masks[fed], layouts[fed], strict=True)] for fed in masks
    }
    assert torch.equal(*(torch.cat(read[fed]).sort().values for fed in masks))
    written = sum((batch["labels"] != -100).sum() for batch in layouts["padded"]) if family == "encoder-decoder" else 0
    assert tokens == sum(mask.sum() for mask in masks["padded"]) + written
    assert sum(mask.numel() for mask in masks["grouped"]) <= sum(mask.numel() for mask in masks["padded"])


@pytest.mark.parametrize("family", FAMILIES)
def test_contenders_are_of_one_size(family):
    sizes = {
        name: sum(p.numel() for p in build(name, family, SHAPES["5m"], 48).parameters()) for name in CONTENDERS[family]
    }
    assert all(size == pytest.approx(sizes[OURS], rel=0.06) for size in sizes.values()), sizes


@pytest.mark.parametrize("family, name", NAMED)
def test_padding_and_flattening_change_no_loss(family, name):
    layouts, _ = Corpus(family, "pages", vocabulary=512, max_documents=30).batches(rows=3, length=48, count=1)
    torch.manual_seed(0)
    model = build(name, family, SHAPES["toy"], 48)
    for parameter in model.parameters():  # fresh models may predict the same whatever they read
        torch.nn.init.normal_(parameter, std=0.2)
    expected = model(**layouts["padded"][0]).loss
    shuffled = {key: value.flip(0) for key, value in layouts["padded"][0].items()}
    torch.testing.assert_close(model(**shuffled).loss, expected, atol=2e-5, rtol=0)
    filler = torch.randint(3, 500, shuffled["input_ids"].shape)
    filled = shuffled["input_ids"].where(shuffled["attention_mask"].bool(), filler)
    torch.testing.assert_close(model(**shuffled | {"input_ids": filled}).loss, expected, atol=2e-5, rtol=0)
    if name in FLATTENED:
        torch.testing.assert_close(model(**layouts["flattened"][0]).loss, expected, atol=2e-5, rtol=0)


def test_training_is_measured_and_written_down(tmp_path):
    page = tmp_path / "performance.md"
    page.write_text("before\n<!-- training on cpu -->\nold\n<!-- /training on cpu -->\nafter\n")
    choice = ["--family", "decoder", "--text", "docstrings", "full rows", "--repetitions", "2"]
    training.main(["--quick", *choice, "--output", str(tmp_path), "--write", str(page)])
    first, second = json.loads((tmp_path / "training-cpu.json").read_text())["cases"]
    assert [(*entry["way"].values(),) for entry in first["ways"]] == training.ways("decoder", "docstrings", ["eager"])
    assert {entry["way"]["model"] for entry in second["ways"]} == {*CONTENDERS["decoder"]}
    assert all(len(entry["tokens_per_second"]) == 2 for one in (first, second) for entry in one["ways"])
    text = page.read_text()
    assert text.startswith("before") and text.endswith("after\n") and "old" not in text
    assert "| decoder | docstrings | fp32 | stock as it is used |" in text
    assert (tmp_path / "performance" / "training-cpu.png").stat().st_size > 1000


def test_ours_is_compared_with_the_fastest():
    def entry(model, fed, mode, *speeds):
        return {"way": {"model": model, "fed": fed, "mode": mode}, "tokens_per_second": [*speeds]}

    ways = [entry(OURS, "flattened", "eager", 10, 20), entry(OURS, "flattened", "compiled", 30, 40)]
    ways += [entry("Llama", "padded", "eager", 5, 10), entry("GPT-2", "padded", "eager", 6, 4)]
    ways += [entry("GPT-2", "grouped", "compiled", 20, 20), entry("plain torch", "grouped", "eager", 40, 40)]
    case = {"size": "toy", "family": "decoder", "text": "pages", "dtype": "fp32", "device": "cpu", "length": 8}
    rows = training.summary_of({"case": case, "ways": ways})
    assert [row[-1] for row in rows] == ["**5.00** (4.00-6.00)", "**1.75** (1.50-2.00)", "**0.88** (0.75-1.00)"]
    assert [row[4] for row in rows] == [
        "Llama, padded, eager",
        "GPT-2, grouped, compiled",
        "plain torch, grouped, eager",
    ]


def test_a_floor_counts_what_is_neither_product_nor_view():
    a, b = torch.ones(8, 16), torch.ones(16, 4)
    with floors.Traffic() as traffic:
        (a.exp() @ b).view(-1)
    assert traffic.operations == 3
    assert traffic.bytes_moved == 2 * 8 * 16 * 4


def test_the_rest_of_a_step_is_what_the_profiler_does_not_explain():
    kinds = {"products": [0.2, 0.3], "attention": [0.1, 0.1], "optimizer": [0.0, 0.1]}
    ours = floors.Measured(training.Way(OURS, "flattened", "eager"), 10, 400, 1000, [1.0, 2.0], kinds)
    stock = floors.Measured(training.Way("Llama", "padded", "eager"), 8, 400, 2000, [3.0, 3.0], kinds)
    case = training.Case("toy", "decoder", "pages", "fp32", "cpu", 8)
    assert ours.milliseconds(2)["rest"] == pytest.approx(1e3 * (1.5 - 0.25 - 0.1 - 0.05) / 2)
    rates = {"products": 1e4, "copies": 1e3}
    ((*_, ours_takes, stock_takes, ratio, of_products, at_best),) = floors.summary_of(case, [ours, stock], rates, 2)
    assert (ours_takes, stock_takes, ratio) == ("750", "1,500", "2.00")
    assert float(of_products) == pytest.approx(3 / (0.25 + 0.1), abs=0.01)
    assert float(at_best) == pytest.approx(3 / (0.1 + 0.4 + 0.1 + 0.05), abs=0.01)
    compiled = dataclasses.replace(ours, operations=None, bytes_moved=None)
    ((*_, same, nothing),) = floors.summary_of(case, [compiled, stock], rates, 2)
    assert (same, nothing) == (of_products, "")
    assert floors.rows_of(case, [compiled], rates, 2)[0][-2:] == ["", ""]


def test_operations_of_products_in_place_are_those_of_others():
    out, left, right = torch.zeros(3, 4, 5), torch.ones(3, 4, 6), torch.ones(3, 6, 5)
    with torch.profiler.profile(record_shapes=True, with_flops=True) as profile:
        for _ in range(2):
            torch.baddbmm(out, left, right)
            out.baddbmm_(left, right)
    counted = {event.key: floors._operations_of(event) for event in profile.key_averages(group_by_input_shape=True)}
    assert counted["aten::baddbmm_"] == counted["aten::baddbmm"] == 2 * 2 * 3 * 4 * 6 * 5


def test_floors_are_measured(tmp_path):
    floors.main(["--quick", "--family", "decoder", "--repetitions", "1", "--output", str(tmp_path)])
    cases = json.loads((tmp_path / "floors.json").read_text())["cases"]
    assert [one["case"]["text"] for one in cases] == ["docstrings", "full rows"]
    for one in cases:
        assert all(rate > 0 for rate in one["rates"].values())
        for way in one["ways"]:
            assert way["flops"] > 0 and way["bytes_moved"] > 0
            assert way["kinds"]["products"][0] > 0 and way["seconds"][0] > 0


@pytest.mark.slow
def test_memory_is_measured_in_a_process_of_its_own(tmp_path):
    choice = ["--family", "encoder-decoder", "--text", "docstrings", "--repetitions", "1", "--output", str(tmp_path)]
    memory.main(["--quick", *choice])
    (entry,) = json.loads((tmp_path / "memory-cpu.json").read_text())["entries"]
    assert [*dict.fromkeys(way[0] for way, _ in entry["megabytes"])] == [*CONTENDERS["encoder-decoder"]]
    assert all(megabytes > 0 for _, megabytes in entry["megabytes"])


@pytest.mark.parametrize("family", FAMILIES)
def test_inference_is_measured_on_what_all_read(family, tmp_path):
    texts = [torch.arange(3, 3 + length) for length in (5, 2, 9)]
    rows, flat = inference.padded(texts, family), inference.flattened(texts)
    assert torch.equal(torch.cat(texts), flat["input_ids"][0]) and (flat["position_ids"] == 0).sum() == 3
    assert torch.equal(rows["input_ids"][rows["attention_mask"].bool()], flat["input_ids"][0])
    inference.main(["--quick", "--family", family, "--repetitions", "2", "--output", str(tmp_path)])
    entries = json.loads((tmp_path / "inference-cpu.json").read_text())["entries"]
    assert [entry["work"] for entry in entries] == [*inference.WORK[family]]
    for entry in entries:
        assert [way["model"] for way in entry["ways"]] == [OURS, *stock(family)]
        assert all(len(way["tokens_per_second"]) == 2 for way in entry["ways"])


@torch.no_grad()
@pytest.mark.parametrize("mode", [mode for mode in inference.WRITING if mode != "eager"])
def test_compiled_models_write_the_same(mode):
    texts, written = [torch.randint(3, 500, (length,)) for length in (9, 4)], []
    report.forget_compiled()
    torch._dynamo.utils.counters.clear()
    for how in ("eager", mode):
        torch.manual_seed(0)
        model = build(OURS, "decoder", SHAPES["toy"], 64).eval()
        written.append(inference.make_work(OURS, "decoder", "write 2", model, texts, 4, how)())
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        assert bool(graphs) is (how == mode)
    assert torch.equal(*written)


def test_a_decoder_reads_the_same_in_either_layout():
    model = build(OURS, "decoder", SHAPES["toy"], 32).eval()
    texts = [torch.randint(3, 500, (length,)) for length in (5, 2, 9)]
    works = (inference.make_work(name, "decoder", "read", model, texts, 1) for name in (OURS, "Llama"))
    flat, rows = (work().flatten(0, 1) for work in works)
    torch.testing.assert_close(flat, rows, atol=1e-5, rtol=0)


def test_ways_to_the_loss_agree_and_are_measured(tmp_path, monkeypatch):
    shape, losses = (40, 96, 8), []
    monkeypatch.setattr(linear_cross_entropy, "chunk_rows", lambda words: 16)
    torch.manual_seed(0)
    hidden, weight, labels = torch.randn(40, 8), torch.randn(96, 8), torch.randint(96, (40,))
    for way in linear_cross_entropy.WAYS.values():
        losses.append(way(hidden.requires_grad_(), weight.requires_grad_(), labels).item())
    assert losses == pytest.approx([losses[0]] * len(losses), rel=1e-5)
    monkeypatch.setattr(linear_cross_entropy, "measure_memory", lambda *case: 1.0)
    monkeypatch.setattr(linear_cross_entropy, "QUICK", {"40 x 96": shape})
    linear_cross_entropy.main(["--quick", "--repetitions", "2", "--output", str(tmp_path)])
    entries = json.loads((tmp_path / "linear-cross-entropy.json").read_text())["entries"]
    assert len(entries) == 2 * len(linear_cross_entropy.WAYS)
    assert all(len(entry["seconds"]) == 2 for entry in entries)


def test_steps_of_muon_are_measured(tmp_path):
    muon.main(["--quick", "--repetitions", "2", "--output", str(tmp_path)])
    entries = json.loads((tmp_path / "muon.json").read_text())["entries"]
    assert [entry["way"] for entry in entries] == list(muon.WAYS)
    assert all(len(entry["seconds"]) == 2 for entry in entries)


@pytest.mark.slow
def test_start_up_is_measured(tmp_path):
    startup.main(["--quick", "--output", str(tmp_path)])
    seconds = json.loads((tmp_path / "startup.json").read_text())["seconds"]
    assert all(len(values) == 1 for values in seconds.values())
    assert seconds["nothing"][0] < seconds["torch"][0] < seconds["trivium"][0]


def test_any_benchmark_can_be_told_another_section(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("".join(f"<!-- {name} -->\n<!-- /{name} -->\n" for name in ("loss on cpu", "loss on cpu, 30m")))
    parser = report.option_parser("A benchmark.", "loss on cpu", repetitions=None)
    for arguments, text in (([], "usual"), (["--section", "loss on cpu, 30m"], "larger")):
        options = parser.parse_args(["--output", str(tmp_path), "--write", str(page), *arguments])
        report.publish(options, "losses", "loss on cpu", {"of": text}, text)
    for name, text in (("loss on cpu", "usual"), ("loss on cpu, 30m", "larger")):
        assert page.read_text().partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name} -->")[0].strip() == text
    found = {path.stem: json.loads(path.read_text())["of"] for path in tmp_path.glob("*.json")}
    assert found == {"losses": "usual", "loss-cpu-30m": "larger"}


def test_a_page_without_the_section_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing here")
    with pytest.raises(SystemExit, match="no section"):
        report.write_section(page, "loss on cpu", "text")
    assert page.read_text() == "nothing here"


@pytest.mark.parametrize(
    "family, name", [(family, name) for family in ("decoder", "encoder-decoder") for name in (OURS, *stock(family))]
)
def test_what_writes_reads_one_token_at_a_time(family, name):
    """After the texts the cache is read, which the configurations, made for training, do without."""
    model = build(name, family, SHAPES["toy"], 64).eval()
    texts, widths = [torch.arange(5, 5 + length) for length in (9, 4)], []
    decoder = model.get_decoder()
    forward = decoder.forward

    def watched(input_ids=None, *args, **kwargs):
        widths.append(input_ids.shape[1])
        return forward(input_ids, *args, **kwargs)

    decoder.forward = watched
    with torch.no_grad():
        written = inference.make_work(name, family, "write 2", model, texts, 4)()
    assert widths == [9 if family == "decoder" else 1, 1, 1, 1]
    assert written.shape == (2, 13 if family == "decoder" else 5)
