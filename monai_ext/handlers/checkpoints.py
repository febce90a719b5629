# SPDX-License-Identifier: Apache-2.0
"""Two checkpoints: ``last`` to go on from, ``best`` to use."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.engines import Workflow
from torch.nn.parallel import DistributedDataParallel

from monai_ext.utils import replacing

__all__ = ["LastCheckpoint", "SaveWeights"]

logger = logging.getLogger(__name__)


class LastCheckpoint:
    """Write everything a training needs to go on, after an epoch; with ``resume`` go on from it.

    Saved are the ``state_dict`` of each object, the engine's epoch and iteration, its AMP scaler, the random states of
    Python, NumPy and PyTorch, and the evaluator's best metric, as tensors and plain values only, so that loading runs
    no code (``weights_only``). The file is replaced in one step: a run killed while writing keeps the previous one.

    Attach it after the handlers that change what it saves (schedule, validation).

    Args:
        path: the checkpoint file.
        objects: name -> anything with ``state_dict`` and ``load_state_dict``.
        evaluator: the validation engine, whose best metric is kept.
        resume: load ``path`` when the training starts.
        min_seconds: epochs that end sooner after the latest checkpoint are not saved, but for the last one: writing
            weights and moments can take longer than a short epoch.

    Raises:
        FileNotFoundError: with ``resume``, if there is no ``path``.
        ValueError: if the checkpoint is of another network or training; says what does not fit.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        objects: Mapping[str, Any],
        evaluator: Workflow | None = None,
        resume: bool = False,
        min_seconds: float = 0.0,
    ) -> None:
        self.path = Path(path)
        self.min_seconds = min_seconds
        self.latest = float("-inf")
        self.objects = dict(objects)
        self.evaluator = evaluator
        self.resume = resume
        if resume and not self.path.is_file():
            raise FileNotFoundError(
                f"monai_ext: {self.path}: no checkpoint to resume from. Leave --resume out to start."
            )

    def attach(self, engine: Workflow) -> None:
        if self.resume:
            engine.add_event_handler(Events.STARTED, self.load)
        if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def save(self, engine: Workflow) -> None:
        if time.monotonic() - self.latest < self.min_seconds and engine.state.epoch < engine.state.max_epochs:
            return
        state = {
            "objects": {name: _inner(item).state_dict() for name, item in self.objects.items()},
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "scaler": None if engine.scaler is None else engine.scaler.state_dict(),
            "random": _random_state(),
            "best": None if self.evaluator is None else _best(self.evaluator),
        }
        with replacing(self.path) as temporary:
            torch.save(state, temporary)
        self.latest = time.monotonic()

    def load(self, engine: Workflow) -> None:
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or set(state.get("objects", ())) != set(self.objects):
            raise ValueError(f"monai_ext: {self.path}: no checkpoint of this training (expected {list(self.objects)}).")
        for name, item in self.objects.items():
            try:
                _inner(item).load_state_dict(state["objects"][name])
            except (RuntimeError, ValueError, KeyError) as e:
                raise ValueError(f"monai_ext: {self.path}: its {name} does not fit this training: {e}") from e
        engine.state.epoch = state["epoch"]
        engine.state.iteration = state["iteration"]
        if engine.state.epoch >= engine.state.max_epochs:
            logger.info("monai_ext: %s: all %d epochs are done already.", self.path, engine.state.epoch)
        if state["scaler"] is not None and engine.scaler is not None:
            engine.scaler.load_state_dict(state["scaler"])
        if state["best"] is not None and self.evaluator is not None:
            self.evaluator.state.best_metric, self.evaluator.state.best_metric_epoch = state["best"]
        _set_random_state(state["random"])
        logger.info("monai_ext: resumed from %s after epoch %d", self.path, engine.state.epoch)


class SaveWeights:
    """Write the network's ``state_dict``, as every MONAI tool expects it: ``models/model.pt`` of a bundle.

    Attached to an evaluator it keeps the epoch with the best key metric; attached to a trainer, the latest epoch.

    Args:
        path: the weights file, replaced in one step.
        network: the network.
    """

    def __init__(self, path: str | os.PathLike, network: torch.nn.Module) -> None:
        self.path = Path(path)
        self.network = network

    def attach(self, engine: Workflow) -> None:
        if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Workflow) -> None:
        if engine.state.key_metric_name and engine.state.best_metric_epoch != engine.state.epoch:
            return
        with replacing(self.path) as temporary:
            torch.save(_inner(self.network).state_dict(), temporary)


def _inner(item: Any) -> Any:
    """The network inside ``DistributedDataParallel``: one process and many write the same files."""
    return item.module if isinstance(item, DistributedDataParallel) else item


def _best(evaluator: Workflow) -> tuple[float, int]:
    return float(evaluator.state.best_metric), int(evaluator.state.best_metric_epoch)


def _random_state() -> dict[str, Any]:
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    state = {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def _set_random_state(state: Mapping[str, Any]) -> None:
    random.setstate(state["python"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
