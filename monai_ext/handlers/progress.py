# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from ignite.engine import Events
from monai.engines import Workflow
from tqdm.auto import tqdm

__all__ = ["TrainingProgress"]


class TrainingProgress:
    """One progress bar over the whole training: loss, learning rate, validation metric, and the time left.

    Args:
        optimizer: its first group's learning rate is shown.
        evaluator: the validation engine; its key metric is shown, with the best so far.
        smoothing: weight of the newest loss in the running mean.
    """

    def __init__(self, optimizer: Any, evaluator: Workflow | None = None, smoothing: float = 0.05) -> None:
        self.optimizer = optimizer
        self.evaluator = evaluator
        self.smoothing = smoothing
        self.loss: float | None = None
        self.bar: tqdm | None = None

    def attach(self, engine: Workflow) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._describe)
        engine.add_event_handler(Events.COMPLETED | Events.TERMINATE, self._close)

    def _open(self, engine: Workflow) -> None:
        if self.bar is None:  # here and not at the start: a resumed training knows its iteration only now
            total = engine.state.max_epochs * engine.state.epoch_length
            self.bar = tqdm(total=total, initial=engine.state.iteration, desc="training", unit="step", mininterval=1.0)

    def _step(self, engine: Workflow) -> None:
        output = engine.state.output
        loss = float((output[0] if isinstance(output, list) else output)["loss"])
        self.loss = loss if self.loss is None else self.loss + self.smoothing * (loss - self.loss)
        if self.bar is not None:
            self.bar.update()
            self._describe(engine)

    def _describe(self, engine: Workflow) -> None:
        if self.bar is None:
            return
        values = {"epoch": f"{engine.state.epoch}/{engine.state.max_epochs}", "loss": f"{self.loss:.3f}"}
        values["lr"] = f"{self.optimizer.param_groups[0]['lr']:.1e}"
        validation = None if self.evaluator is None else self.evaluator.state
        if validation is not None and validation.key_metric_name in validation.metrics:
            value = validation.metrics[validation.key_metric_name]
            values[validation.key_metric_name] = f"{value:.3f} (best {validation.best_metric:.3f})"
        self.bar.set_postfix(values, refresh=False)

    def _close(self, engine: Workflow) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
