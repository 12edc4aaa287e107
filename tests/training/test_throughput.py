import sys
import time

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import trivium
from tests.families import HEADS, draw_texts, make_model, padded
from trivium.training import throughput as module
from trivium.training.model_flops import model_flops
from trivium.training.throughput import Throughput, known_peak, measured_peak, peak_flops

CPU = torch.device("cpu")
PEAK = 1e9


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on only when told, and a device of a known peak."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(time, "perf_counter", lambda: Clock.now)
    monkeypatch.setattr(module, "peak_flops", lambda device, dtype: (PEAK, "known"))
    monkeypatch.setattr(module, "compiled_graphs", lambda: 0)  # whatever other tests compiled in this process
    return Clock


@pytest.fixture
def model():
    torch.manual_seed(0)
    return trivium.TriviumDecoderForCausalLM(
        trivium.TriviumDecoderConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    )


def batch(real=6, length=8):
    mask = (torch.arange(length) < real).long()[None]
    ids = torch.arange(1, length + 1)[None] * mask
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.where(mask.bool(), ids, -100)}


def alone(tensor):
    return tensor.clone()


def test_a_report_is_of_the_time_since_the_last_one(model, clock):
    speed = Throughput(model, CPU)
    clock.now += 50  # loading data is not training
    for _ in range(3):
        speed.add(batch(real=6))
        clock.now += 2
    first = speed.report(alone)
    assert first["tokens_seen"] == 18 and first["tokens_per_second"] == 3 and first["waste"] == 0.25
    assert first["mfu"] == pytest.approx(3 * model_flops(model, batch(real=6)) / 6 / PEAK, abs=1e-4)
    for _ in range(4):
        speed.add(batch(real=8))
        clock.now += 1
    second = speed.report(alone)
    assert second["tokens_seen"] == 50 and second["tokens_per_second"] == 8 and second["waste"] == 0
    assert second["mfu"] == pytest.approx(model_flops(model, batch(real=8)) / PEAK, abs=1e-4) != first["mfu"]
    assert speed.report(alone) == {"tokens_seen": 50}  # nothing since then


def test_pauses_do_not_count_however_they_are_nested_or_end(model, clock):
    speed = Throughput(model, CPU)
    with speed.paused():  # before training
        clock.now += 10
    speed.add(batch())
    clock.now += 3
    with pytest.raises(KeyError), speed.paused(), speed.paused():
        clock.now += 30
        raise KeyError
    clock.now += 1
    assert speed.seconds == 4 and speed.report(alone)["tokens_per_second"] == 1.5


def test_processes_are_added_and_measured_against_all_their_devices(model, clock):
    speed = Throughput(model, CPU)
    speed.add(batch())
    clock.now += 2
    one = speed.report(alone)
    both = Throughput(model, CPU)
    both.add(batch())
    clock.now += 2
    two = both.report(lambda tensor: 2 * tensor)
    assert two["tokens_seen"] == 12 and two["tokens_per_second"] == 2 * one["tokens_per_second"]
    assert two["mfu"] == one["mfu"] > 0 and two["waste"] == one["waste"]


def test_processes_that_compute_one_batch_together_count_it_once_against_all_their_devices(model, clock):
    reports = []
    for together in (1, 2):
        speed = Throughput(model, CPU, together=together)
        speed.add(batch())
        clock.now += 2
        reports.append(speed.report(alone))
    one, two = reports
    assert two["tokens_seen"] == one["tokens_seen"] and two["tokens_per_second"] == one["tokens_per_second"]
    assert two["mfu"] == pytest.approx(one["mfu"] / 2, abs=1e-4)


def test_counting_goes_on_after_resuming(model, clock):
    whole = Throughput(model, CPU)
    for _ in range(5):
        whole.add(batch())
        clock.now += 1
    part = Throughput(model, CPU)
    part.add(batch())
    clock.now += 1
    part.report(alone)
    part.add(batch())
    state = part.state_dict(alone)  # also what no report has seen
    resumed = Throughput(model, CPU)
    resumed.load_state_dict(state)
    for _ in range(3):
        resumed.add(batch())
        clock.now += 1
    report = resumed.report(alone)
    assert report["tokens_seen"] == 30 and report["tokens_per_second"] == 6
    assert resumed.state_dict(alone) == whole.state_dict(alone)
    assert whole.totals(alone).flops == 5 * model_flops(model, batch())


def test_an_encoder_decoder_reads_both_sides(clock):
    config = trivium.TriviumEncoderDecoderConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    speed = Throughput(trivium.TriviumEncoderDecoderForConditionalGeneration(config), CPU)
    speed.add({"input_ids": torch.ones(2, 8, dtype=torch.int64), "labels": torch.ones(2, 3, dtype=torch.int64)})
    clock.now += 2
    assert speed.report(alone)["tokens_per_second"] == 11


def test_a_stock_model_has_no_utilisation(clock):
    shape = dict(vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    speed = Throughput(LlamaForCausalLM(LlamaConfig(**shape)), CPU)
    speed.add(batch())
    clock.now += 1
    assert speed.report(alone).keys() == {"tokens_seen", "tokens_per_second", "waste"}


def test_what_is_compiled_again_in_training_is_counted(model):
    torch._dynamo.reset()
    sys.modules["torch._dynamo.utils"].counters.clear()
    speed, layer = Throughput(model, CPU), torch.nn.Linear(4, 4)
    speed.add(batch())
    assert "recompilations" not in speed.report(alone)
    compiled = torch.compile(layer, backend="eager", dynamic=False)
    compiled(torch.ones(1, 4))
    assert speed.report(alone)["recompilations"] == 0  # the first time is no repetition
    for size in (2, 2, 3):
        speed.add(batch())
        compiled(torch.ones(size, 4))
    with speed.paused():
        compiled(torch.ones(4, 4))
    assert speed.report(alone)["recompilations"] == 2


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA H200 NVL", 835e12),
        ("NVIDIA B200", 2250e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA GeForce RTX 4090", 165.2e12),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("AMD Instinct MI300X", 1307e12),
        ("Quadro of tomorrow", None),
    ],
)
def test_gpus_are_known_by_their_names(name, peak):
    assert known_peak(name) == peak


def test_a_processor_is_measured():
    peak, how = peak_flops(CPU, torch.float32)
    assert how == "measured" and 1e9 < peak < 1e14
    assert measured_peak(CPU, torch.float32, seconds=0) > 1e9


def test_counting_is_cheap(model):
    speed, rows = Throughput(model, CPU), batch(8000, 8192)
    started = time.perf_counter()
    for _ in range(10):
        speed.add(rows)
    assert (time.perf_counter() - started) / 10 < 0.02


@pytest.mark.parametrize(
    "head", [head for head in HEADS if head.task in ("sequence", "tokens", "answer", "choice")], ids=str
)
def test_a_model_that_does_not_write_has_no_vocabulary_to_pay_for(head):
    model = make_model(head)
    batch = padded(draw_texts(head, model.config, labels=True))
    batch = {name: value for name, value in batch.items() if not name.startswith("decoder_")}
    tokens = int(batch["attention_mask"].sum())
    if head.task == "choice":
        batch = {name: value.unflatten(0, (2, 2)) for name, value in batch.items() if name != "labels"}
    counter = Throughput(model, torch.device("cpu"))
    counter.add(batch)
    counts = dict(zip(counter._names, counter._counts.tolist(), strict=True))
    sides = 2 if head.family == "encoder_decoder" and head.has_base else 1
    assert counts["tokens"] == sides * tokens and counts["labels"] == 0
    assert all(counts[name] == tokens for name in counts if name.endswith("coder_tokens"))
