# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator
from monai.handlers import ValidationHandler
from monai.utils import CommonKeys

from monai_ext.handlers.processes import any_process

__all__ = ["ValidateEpochs"]

logger = logging.getLogger(__name__)


class ValidateEpochs(ValidationHandler):
    """Validate every ``interval`` epochs, and after the last one.

    If the labels of all validation cases are empty, a warning says so before the first step: no metric can choose an
    epoch then, and :class:`SaveWeights` keeps the last.

    Args:
        interval: epochs, or iterations if not ``epoch_level``.
        validator: the validation engine.
        epoch_level: see MONAI's ``ValidationHandler``.
        exec_at_start: see MONAI's ``ValidationHandler``.

    Raises:
        ValueError: if ``interval`` is not positive.
    """

    def __init__(
        self, interval: int, validator: Evaluator | None = None, epoch_level: bool = True, exec_at_start: bool = False
    ) -> None:
        if interval < 1:
            raise ValueError(f"monai_ext: --val_interval {interval}: expected 1 or more epochs to the next validation.")
        super().__init__(interval, validator, epoch_level, exec_at_start)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.look_at_labels)
        super().attach(engine)
        if self.epoch_level:
            engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=self._left_out), self)

    def _left_out(self, engine: Engine, epoch: int) -> bool:
        return epoch == engine.state.max_epochs and epoch % self.interval != 0

    def look_at_labels(self, engine: Engine) -> None:
        """Say if no validation case has anything labelled; reads cases up to the first that has."""
        loader: Any = None if self.validator is None else self.validator.data_loader
        cases = getattr(loader, "dataset", loader)
        labelled = cases is None or any(_labelled(cases[index]) for index in range(len(cases)))
        if not any_process(labelled):
            logger.warning(
                "monai_ext: the labels of all %d validation cases are empty: no metric can choose an epoch by them. "
                "The model of the last epoch is kept; give other validation cases to have the best.",
                len(cases),
            )


def _labelled(case: Any) -> bool:
    """Whether a case has foreground, or no label by which one could know."""
    label = case.get(CommonKeys.LABEL) if isinstance(case, dict) else None
    return label is None or bool((torch.as_tensor(label) > 0).any())
