"""Runs that are stopped by a signal: in this process, in one of its own, in two at once."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import psutil

# A verb, killed before so many of its operations on files that are being saved or deleted.
KILLED_IN_A_SAVE = """
import os, signal, sys
from {module} import main

left = int(sys.argv.pop(1))

def count_down(event, arguments):
    global left
    if not event.startswith(("open", "os.", "shutil.")):
        return
    paths = [os.fspath(each) for each in arguments if isinstance(each, str | os.PathLike)]
    if any(".saving-" in path or ".deleting-" in path for path in paths):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count_down)
main()
"""


def stop_at(monkeypatch, trainer, step, number=signal.SIGTERM):
    """Sends this process a signal in the middle of a step of a trainer, once."""
    real = trainer.training_step

    def training_step(self, *args, **kwargs):
        if self.state.global_step == step - 1:
            os.kill(os.getpid(), number)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(trainer, "training_step", training_step)


@contextmanager
def running(*arguments):
    """Python in a process of its own, of which the lines can be read that it prints; killed if it has not ended."""
    command, environment = [sys.executable, *arguments], os.environ | {"PYTHONUNBUFFERED": "1"}
    output = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with subprocess.Popen(command, env=environment, **output) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_steps(process, count):
    """Waits until a run that logs every step has taken so many."""
    printed = []
    while sum("'grad_norm'" in line for line in printed) < count:
        printed.append(process.stdout.readline())
        assert printed[-1], "".join(printed)


def stop_two_processes(module, arguments, which):
    """Starts a verb in two processes, and sends SIGTERM, as Slurm does to the launcher, or to one of the two."""
    with running(
        "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", module, *arguments
    ) as process:
        wait_for_steps(process, 2)
        workers = [child for child in psutil.Process(process.pid).children() if module in child.cmdline()]
        assert len(workers) == 2
        (psutil.Process(process.pid) if which == "launcher" else workers[1]).terminate()
        said, _ = process.communicate(timeout=120)
    assert process.returncode not in (0, -signal.SIGKILL)
    assert said.count("as SIGTERM asked; the same command goes on from there") == 2
    assert not any(psutil.pid_exists(worker.pid) for worker in workers)
