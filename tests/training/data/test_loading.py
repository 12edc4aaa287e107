import pytest

from trivium.training.data.loading import Place, StepBatches


@pytest.mark.parametrize("start", [Place(0, 0), Place(3, 100)])
@pytest.mark.parametrize(
    ("size", "accumulation", "processes"), [(12, 1, 1), (3, 4, 1), (3, 2, 2), (1, 4, 3), (2, 1, 6)]
)
def test_a_step_reads_the_same_rows_however_it_is_divided(start, size, accumulation, processes):
    shares = [StepBatches(start, 7, size, accumulation, process, processes) for process in range(processes)]
    batches = [list(share) for share in shares]
    for number, step in enumerate(range(start.step, 7)):
        own = slice(number * accumulation, (number + 1) * accumulation)
        rows = [row for share in batches for batch in share[own] for row in batch]
        first = start.row + number * 12
        assert sorted(rows) == list(range(first, first + 12))
        assert shares[0].place(step) == Place(step, first)
    assert all(len(batch) == size for share in batches for batch in share)
    assert all(len(share) == 7 * accumulation for share in shares)


def test_a_run_that_is_resumed_reads_what_is_left():
    whole = list(StepBatches(Place(0, 0), 10, 2, 2))
    start = StepBatches(Place(0, 0), 10, 2, 2).place(6)
    assert list(StepBatches(start, 10, 2, 2)) == whole[12:]
    assert list(StepBatches(start, 10, 4, 1)) == [a + b for a, b in zip(whole[12::2], whole[13::2], strict=True)]
    assert list(StepBatches(Place(10, 40), 10, 2, 2)) == []
