"""What all metrics share: checks of what comes in, and where evaluate keeps it until a result is asked for."""

import inspect
import itertools
import os
import shutil
import socket
import tempfile
import uuid
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import datasets
import evaluate

from ...configuration.errors import InputError
from .choice import require

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_made = itertools.count()  # metrics that this process shares with others


class Metric(evaluate.Metric):
    """A metric of evaluate that checks what it is given and shares its files with no other run.

    Examples wait on disk, in Arrow, until `compute`; metrics of one process each have a temporary folder of their own.
    Over several processes, `compute` gives the result on process 0 and `None` on the others; each of them must call
    it, also one that has added nothing. They meet in files named after where the processes of the launch meet
    (`MASTER_ADDR`, `MASTER_PORT`), so all must make their metrics in the same order; or give an `experiment_id`.

    A subclass says what one prediction and one reference are stored as, makes a batch into that, and scores all.

    Args:
        num_process, process_id: how many processes add examples, and which one this is, from 0.
        experiment_id: the same in all processes of a run, and in no other run.
        cache_dir: the folder to keep examples in, which all processes must see; what is given here is not removed.
        timeout: seconds that a process waits for the others.
        others: further arguments of `evaluate.Metric`, such as `keep_in_memory`.

    Attributes:
        prediction, reference: the feature of datasets that one of each is stored as.
        libraries: what must be installed.

    Raises:
        InputError: an unknown argument, a missing library, or several processes that have no name in common.
    """

    prediction: ClassVar[Any]
    reference: ClassVar[Any]
    libraries: ClassVar[Sequence[str]] = ()

    # What evaluate keeps of a round.
    file_paths: list[str] | None
    filelocks: list[Any] | None
    filelock: Any
    cache_file_name: str | None

    def __init__(
        self,
        *,
        num_process: int = 1,
        process_id: int = 0,
        experiment_id: str | None = None,
        cache_dir: str | Path | None = None,
        timeout: float = 1800,
        **others: Any,
    ):
        # evaluate swallows what it does not know.
        for setting in others.keys() - inspect.signature(evaluate.Metric.__init__).parameters.keys():
            raise InputError(f"{type(self).__name__} has no setting '{setting}'.")
        for library in self.libraries:
            require(library)
        name, folder, own = _place(num_process, experiment_id, cache_dir)
        if own and process_id == 0:
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        super().__init__(
            num_process=num_process,
            process_id=process_id,
            experiment_id=name,
            cache_dir=str(folder),
            timeout=timeout,
            **others,
        )
        self._run = name
        self._begin_round(0)

    def prepare(self, predictions: Any, references: Any) -> tuple[Any, Any]:
        """A batch as it is stored, two sequences, from lists, numpy or torch; raises `InputError` for others."""
        raise NotImplementedError

    def score(self, predictions: list[Any], references: list[Any]) -> dict[str, Any]:
        """The result over all examples, of which there is at least one."""
        raise NotImplementedError

    def add_batch(self, *, predictions: Any = None, references: Any = None) -> None:
        """Adds examples; raises `InputError` for what cannot be scored, and then adds none of them."""
        predictions, references = self.prepare(predictions, references)
        if len(predictions) != len(references):
            raise InputError(f"There are {len(predictions)} predictions for {len(references)} references.")
        super().add_batch(predictions=predictions, references=references)

    def add(
        self, *, prediction: Any = None, reference: Any = None, predictions: Any = None, references: Any = None
    ) -> None:
        """Adds one example; `evaluate.combine` names its parts in the plural here too."""
        prediction = predictions if prediction is None else prediction
        reference = references if reference is None else reference
        self.add_batch(
            predictions=None if prediction is None else [prediction],
            references=None if reference is None else [reference],
        )

    def compute(self, *, predictions: Any = None, references: Any = None, **unknown: Any) -> dict[str, Any] | None:
        """The result over all examples added since the last one, and those given here.

        Returns:
            The scores by name; `None` on processes other than 0.

        Raises:
            InputError: no examples, or some that cannot be scored.
        """
        if unknown:
            raise InputError(f"Settings such as '{min(unknown)}' are given when {type(self).__name__} is made.")
        if predictions is not None or references is not None:
            self.add_batch(predictions=predictions, references=references)
        elif self.writer is None:  # the other processes wait for this one all the same
            self.add_batch(predictions=[], references=[])
        try:
            return super().compute()
        finally:
            self._discard()
            self._begin_round(self._round + 1)

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": self.prediction, "references": self.reference})
        return evaluate.MetricInfo(description=inspect.getdoc(type(self)) or "", citation="", features=features)

    def _compute(self, *, predictions: Any, references: Any) -> dict[str, Any]:
        if len(predictions) == 0:
            raise InputError(f"{type(self).__name__} has nothing to measure: there are no predictions.")
        return self.score(list(predictions), list(references))

    def _discard(self) -> None:
        """Lets go of examples, files and locks; evaluate does so only where all went well."""
        self.writer = self.data = self.buf_writer = None
        for path in filter(None, [*(self.file_paths or []), self.cache_file_name]):
            Path(path).unlink(missing_ok=True)
        for lock in [*reversed(self.filelocks or []), self.filelock, self.rendez_vous_lock]:
            if lock is not None:
                lock.release()
        self.file_paths = self.filelocks = self.filelock = self.cache_file_name = None

    def _begin_round(self, number: int) -> None:
        """Process 0 still reads the files of one round when others may write those of the next: never the same."""
        self._round = number
        self._module_info.experiment_id = f"{self._run}-{number % 2}"


def _place(num_process: int, experiment_id: str | None, cache_dir: str | Path | None) -> tuple[str, Path, bool]:
    """The name and the folder of a metric's files, and whether the folder goes when the metric does."""
    if num_process == 1:
        return experiment_id or uuid.uuid4().hex, Path(cache_dir or tempfile.mkdtemp(prefix="trivium-")), not cache_dir
    shared = Path(cache_dir or evaluate.config.HF_METRICS_CACHE)
    if experiment_id:
        return experiment_id, shared, False
    name = f"{_meeting_place()}-{next(_made)}"
    return name, shared / name, True


def _meeting_place() -> str:
    """A name that the processes of one launch have in common and no other launch on their machines has."""
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if not address or not port:
        raise InputError(
            "A metric over several processes needs an `experiment_id` that is the same in all of them and in no other "
            "run, because no launcher has set MASTER_ADDR and MASTER_PORT."
        )
    return f"{socket.gethostname() if address in LOOPBACK else address}-{port}"
