"""Which rows each process reads in each step, by arithmetic."""

from collections.abc import Iterator
from typing import NamedTuple

from torch.utils.data import Sampler


class Place(NamedTuple):
    """Where a run is in its data.

    Attributes:
        step: optimizer steps taken.
        row: rows read by all processes in these steps.
    """

    step: int
    row: int


class StepBatches(Sampler[list[int]]):
    """The row numbers of one process's micro-batches.

    A step reads the next rows of the run, as many as all processes' micro-batches hold, whoever reads which: so steps
    read the same rows whatever the number of processes and micro-batches, if only they come to as many rows.

    Args:
        start: from where on.
        steps: the last step.
        size: rows per micro-batch.
        accumulation: micro-batches per process and step.
        process, processes: which process this is, of how many.
    """

    def __init__(self, start: Place, steps: int, size: int, accumulation: int, process: int = 0, processes: int = 1):
        self.start, self.steps, self.size, self.accumulation = start, steps, size, accumulation
        self.process, self.processes = process, processes

    @property
    def rows_per_step(self) -> int:
        """Rows that all processes read in a step."""
        return self.size * self.accumulation * self.processes

    def place(self, step: int) -> Place:
        """Where the run is after so many steps."""
        return Place(step, self.start.row + (step - self.start.step) * self.rows_per_step)

    def __len__(self) -> int:
        return self.steps * self.accumulation  # of the whole run: what `Trainer` calls an epoch

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start.step, self.steps):
            first = self.place(step).row
            for number in range(self.accumulation):
                row = first + (number * self.processes + self.process) * self.size
                yield list(range(row, row + self.size))
