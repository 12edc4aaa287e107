"""Bad steps left out under DeepSpeed, where one call makes the backward pass and the step of the optimizer."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils.deepspeed import DeepSpeedEngineWrapper

Judge = Callable[[torch.Tensor, Any], bool]


def judge_each_step(accelerator: Accelerator, judge: Judge) -> None:
    """Lets `judge` decide on each step of the DeepSpeed engine that `accelerator.prepare` made; see [`JudgedSteps`]."""
    accelerator.deepspeed_engine_wrapped = JudgedSteps(accelerator.deepspeed_engine_wrapped.engine, judge)


class JudgedSteps(DeepSpeedEngineWrapper):
    """What `accelerate` calls backward and step of a DeepSpeed engine through; leaves out the steps found bad.

    ZeRO knows the norm of the gradient only within its step, before it calls the optimizer inside of it. There `judge`
    is asked, once a step and in every process, and if the step is bad that optimizer is not called: moments, counts and
    master weights stay to the bit, ZeRO copies the same weights again and lets go of the gradients, and the learning
    rate moves on as it does without DeepSpeed.

    Args:
        engine: a `DeepSpeedEngine` of any ZeRO stage. At stage 0 the norm is not known, and `judge` sees 0.
        judge: takes the loss of the step, summed over its micro-batches, and the norm of its gradient; says whether to
            make the step. What it raises ends the run.
    """

    def __init__(self, engine: Any, judge: Judge):
        super().__init__(engine)
        self._judge = judge
        self._loss: Any = 0.0
        self._good: bool | None = None
        zero = engine.optimizer
        inside = (getattr(zero, "optimizer", zero), getattr(zero, "backup_optimizer", None))  # the latter: offloading
        for optimizer in inside:
            if optimizer is not None:
                optimizer.step = self._unless_bad(optimizer.step)

    def backward(self, loss: torch.Tensor, sync_gradients: bool = True, **kwargs: Any) -> None:
        """As in `accelerate`: the backward pass, and after the last micro-batch of a step the step, if it is good."""
        self._loss = self._loss + loss.detach()
        super().backward(loss, sync_gradients, **kwargs)
        if not sync_gradients:
            return
        if self._good is None:  # no optimizer was called: the gradient is no number, which ZeRO sees by itself
            self._ask()
            self._move_on()
        self._loss, self._good = 0.0, None

    def _unless_bad(self, step: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(step)  # with the marks that schedulers leave on it
        def judged(*args: Any, **kwargs: Any) -> Any:
            return step(*args, **kwargs) if self._ask() else None

        return judged

    def _ask(self) -> bool:
        """The verdict on this step; ZeRO calls its optimizer for one group of parameters after the other."""
        if self._good is None:
            self._good = self._judge(self._loss, getattr(self.engine.optimizer, "_global_grad_norm", None))
        return self._good

    def _move_on(self) -> None:
        """Moves the learning rate, which stands still after a step that ZeRO itself has left out."""
        if self.engine.lr_scheduler is not None:
            self.engine.lr_scheduler.step()
        self.engine.optimizer.overflow = False  # or `accelerate` would hold its schedule back
