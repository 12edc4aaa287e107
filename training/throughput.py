"""How fast a run reads and how much of the machine it uses: tokens a second and model FLOPs utilisation (MFU)."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import torch

from .model_flops import config_of, count_work, price_work, reading_inputs

# Dense products of 16-bit numbers with sums in float32, as the makers' data sheets say, without sparsity. The name that
# a device gives itself has the key among its words; the longest such key counts.
PEAK_FLOPS = {
    "A10": 125e12,
    "A100": 312e12,
    "A10G": 70e12,
    "A30": 165e12,
    "A40": 149.7e12,
    "A800": 312e12,
    "B200": 2250e12,
    "B300": 2250e12,
    "GB200": 2500e12,
    "GB300": 2500e12,
    "GH200": 989e12,
    "H100": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H20": 148e12,
    "H200": 989e12,
    "H200 NVL": 835e12,
    "H800": 989e12,
    "L4": 121e12,
    "L40": 181e12,
    "L40S": 362e12,
    "MI300X": 1307e12,
    "MI325X": 1307e12,
    "RTX 3090": 71e12,
    "RTX 4090": 165.2e12,
    "RTX 5090": 209.5e12,
    "RTX 6000 Ada": 364.2e12,
    "RTX A6000": 154.8e12,
}
UNLIKE = ("Laptop", "MIG")  # parts and relatives of a GPU of that name, which do less
MEASURING_SECONDS = 0.2
Sum = Callable[[torch.Tensor], torch.Tensor]


@cache
def peak_flops(device: torch.device, dtype: torch.dtype = torch.bfloat16) -> tuple[float, str]:
    """The most floating point operations a second that the device can do in products of `dtype`.

    Returns:
        The number, and whether it is "known" (16-bit numbers on a GPU of [`PEAK_FLOPS`]) or "measured" on a large
        product, once in a process. A measured one is what the libraries reach, somewhat less than a maker's figure.
    """
    if device.type == "cuda" and dtype in (torch.bfloat16, torch.float16):
        peak = known_peak(torch.cuda.get_device_name(device))
        if peak is not None:
            return peak, "known"
    return measured_peak(device, dtype), "measured"


def known_peak(name: str) -> float | None:
    """The peak of a GPU by the name that it gives itself ("NVIDIA H100 80GB HBM3"), or `None`."""
    words = f" {name.replace('-', ' ')} "
    found = [key for key in PEAK_FLOPS if f" {key} " in words]
    if not found or any(f" {word} " in words for word in UNLIKE):
        return None
    return PEAK_FLOPS[max(found, key=len)]


def measured_peak(device: torch.device, dtype: torch.dtype, seconds: float = MEASURING_SECONDS) -> float:
    """The best of the square products, 2048 wide on a CPU and 8192 elsewhere, that fit into `seconds`."""
    size = 2048 if device.type == "cpu" else 8192
    matrix = torch.ones(size, size, device=device, dtype=dtype)
    times: list[float] = []
    while len(times) < 3 or sum(times[1:]) < seconds:  # the first is for loading libraries
        started = time.perf_counter()
        (matrix @ matrix)[0, 0].item()  # waits for the device
        times.append(time.perf_counter() - started)
    return 2 * size**3 / min(times)


def compiled_graphs() -> int:
    """How many graphs `torch.compile` has compiled in this process."""
    dynamo: Any = sys.modules.get("torch._dynamo.utils")  # imported by whoever compiles
    return dynamo.counters["stats"]["unique_graphs"] if dynamo else 0


class Totals(NamedTuple):
    """What has been read since training began.

    Attributes:
        tokens, positions: that are no padding, and all.
        flops: the model's floating point operations.
    """

    tokens: int
    positions: int
    flops: int


class Throughput:
    """Counts what a run reads; reports tokens a second, model FLOPs utilisation, padding and recompilations.

    Tokens are those that the model reads, without padding; of an encoder-decoder those of both sides. The counts stay
    on the device of the model, so that only a report waits for it.

    Args:
        model: what is trained. Of one that is not ours the utilisation is left out.
        device, dtype: where and in which numbers its products are computed.
        together: how many processes compute each batch together, of which `reduce` counts one.

    Attributes:
        peak: what the device can do, and how that is known; see [`peak_flops`].
    """

    def __init__(
        self, model: torch.nn.Module, device: torch.device, dtype: torch.dtype = torch.float32, together: int = 1
    ):
        self.config = config_of(model)
        self._writes = getattr(model, "get_output_embeddings", lambda: None)() is not None
        self.prices = price_work(self.config)
        self.peak = peak_flops(device, dtype) if self.prices else None
        self._together = together
        self._names = ("tokens", "positions", *self.prices)
        self._counts = torch.zeros(len(self._names), dtype=torch.int64, device=device)
        self._earlier = Totals(0, 0, 0)
        self._reported = Totals(0, 0, 0)
        self._reported_seconds = 0.0
        self._all_peaks = 0.0
        self._batches = 0
        self._graphs = 0  # compiled before anything was compiled again
        self._seconds = 0.0  # of the stretches that are over
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """Since the first batch, pauses not counted, in this process."""
        return self._seconds + (0.0 if self._since is None else time.perf_counter() - self._since)

    def add(self, inputs: dict[str, Any]) -> None:
        """Counts a micro-batch, before the model gets it."""
        self._batches += 1
        if self._batches == 1:
            self._since = time.perf_counter()
        if self._batches == 2:  # the first has been through the model and back
            self._graphs = compiled_graphs()
        work = count_work(self.config, inputs if self._writes else reading_inputs(self.config, inputs))
        self._counts += torch.stack([work[name] for name in self._names]).to(self._counts.device)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The time and the compilations within (evaluations, saves) are not those of training."""
        if self._since is None:  # not begun, or paused already
            yield
            return
        self._seconds, self._since, graphs = self.seconds, None, compiled_graphs()
        try:
            yield
        finally:
            self._since = time.perf_counter()
            self._graphs += compiled_graphs() - graphs

    def totals(self, reduce: Sum) -> Totals:
        """What all processes have read, before a resumed checkpoint too; every process must call it."""
        counts = dict(zip(self._names, reduce(self._counts).tolist(), strict=True))
        flops = sum(price * counts[name] for name, price in self.prices.items())
        own = Totals(counts["tokens"], counts["positions"], flops)
        return Totals(*map(sum, zip(self._earlier, own, strict=True)))

    def report(self, reduce: Sum) -> dict[str, float]:
        """What to log, of the time since the last report; every process must call it.

        Args:
            reduce: gives the sum of a tensor over all processes, as `accelerator.reduce(tensor, "sum")`.

        Returns:
            `tokens_per_second` of all processes; `mfu`, the share of all devices' peak that the model's floating point
            operations come to; `tokens_seen` in all; `waste`, the share of positions that are padding;
            `recompilations` in this process since the first batch, if `torch.compile` is used.
        """
        totals = self.totals(reduce)  # waits for the device
        seconds = self.seconds - self._reported_seconds
        tokens, positions, flops = (now - before for now, before in zip(totals, self._reported, strict=True))
        self._reported, self._reported_seconds = totals, self.seconds
        report: dict[str, float] = {"tokens_seen": totals.tokens}
        if positions:
            report["tokens_per_second"] = round(tokens / seconds, 1)
            report["waste"] = round(1 - tokens / positions, 4)
        if self.peak is not None and positions:
            peak = torch.tensor(self.peak[0] * self._together, device=self._counts.device)
            self._all_peaks = self._all_peaks or reduce(peak).item()
            report["mfu"] = round(flops / seconds / self._all_peaks, 4)
        if compiled_graphs():
            report["recompilations"] = compiled_graphs() - self._graphs if self._batches > 1 else 0
        return report

    def state_dict(self, reduce: Sum) -> dict[str, int]:
        """What a checkpoint keeps, of all processes; every process must call it."""
        return self.totals(reduce)._asdict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on counting from a checkpoint."""
        self._earlier = self._reported = Totals(**state)
