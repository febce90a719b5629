# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from typing import Any

from ignite.engine import Events
from monai.engines import Workflow
from monai.utils import CommonKeys

__all__ = ["StopOnBadLoss"]


class StopOnBadLoss:
    """End a training whose loss is no number any more, with the names of the cases, before a checkpoint is spoilt.

    Attach it before the handlers that save.

    Raises:
        ValueError: during the run, on a loss that is NaN or infinite.
    """

    def attach(self, engine: Workflow) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Workflow) -> None:
        output: Any = engine.state.output
        loss = float((output[0] if isinstance(output, list) else output)[CommonKeys.LOSS])
        if math.isfinite(loss):
            return
        batch: Any = engine.state.batch  # MONAI's trainer has taken it apart into its samples by now
        cases = [str(sample["case_id"]) for sample in batch if isinstance(sample, dict) and "case_id" in sample]
        raise ValueError(
            f"monai_ext: the loss is {loss} in epoch {engine.state.epoch}, step {engine.state.iteration}; cases of the "
            f"batch: {', '.join(cases) or 'unknown'}. The last checkpoint is kept. Look at these cases (python -m "
            "monai_ext datasets check), or lower --learning_rate and go on with --resume true."
        )
