# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch.nn as nn
from ignite.engine import Engine, Events

__all__ = ["FreezeUntil"]


class FreezeUntil:
    """Keep a part of the network as it is for the first epochs, as QTSeg does with its pre-trained encoder.

    Parameters get no gradient; running statistics of normalisation move all the same, as in the authors' training.

    Args:
        module: the part.
        epoch: the first epoch, counted from 1, in which it trains.
    """

    def __init__(self, module: nn.Module, epoch: int) -> None:
        self.module = module
        self.epoch = epoch

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self)  # every epoch, so that a resumed training is right too

    def __call__(self, engine: Engine) -> None:
        self.module.requires_grad_(engine.state.epoch >= self.epoch)
