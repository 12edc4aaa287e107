"""Stopping when asked: SIGTERM, which schedulers send before they take a machine away, saves a checkpoint first."""

import signal
import threading
from types import TracebackType
from typing import Any

STOPPED = 128 + signal.SIGTERM


class Stopped(SystemExit):
    """Raised after the checkpoint is whole; the exit code is that of a process which SIGTERM ended.

    Args:
        step: the last step, which was saved.
    """

    def __init__(self, step: int):
        super().__init__(STOPPED)
        self.step = step

    def __str__(self) -> str:
        return f"stopped after step {self.step} as SIGTERM asked; the same command goes on from there"


class StopSignal:
    """While open, SIGTERM only sets `asked`; but not outside the main thread, where Python forbids that."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = True
