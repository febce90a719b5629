# SPDX-License-Identifier: Apache-2.0
"""Two checkpoints: ``last`` to go on from, ``best`` to use."""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Events
from monai.engines import Workflow
from torch.nn.parallel import DistributedDataParallel

from monai_ext.bundle import stamp
from monai_ext.handlers.endings import at_end
from monai_ext.handlers.processes import any_process, of_first_process
from monai_ext.handlers.schedules import differences, options_of, restore_all
from monai_ext.handlers.spending import Spending
from monai_ext.networks.weights import load_strict
from monai_ext.utils import load_tensors, locked, replacing, scratch_folder

__all__ = ["TRAINING_LOCK", "LastCheckpoint", "SaveWeights"]

TRAINING_LOCK = ".monai_ext-training.lock"  # held by the training that writes into a folder

logger = logging.getLogger(__name__)


class LastCheckpoint:
    """Write everything a training needs to go on, after an epoch; with ``resume`` go on from it, exactly.

    Saved are the ``state_dict`` of each object, the engine's epoch and iteration, its AMP scaler, the random states of
    Python, NumPy and PyTorch in every process, and the evaluator's best metric, as tensors and plain values only, so
    that loading runs no code (``weights_only``). A training that is killed at any moment and resumed ends with the
    weights, bit for bit on a CPU, of one that was not. The file is replaced in one step and the one before it stays as
    ``<name>.previous``; if the newer is damaged, the older is taken, the log says so, and it stays until a whole one
    is there. The first is written before the first step, so that a folder that cannot be written to is found out at
    once. While the training runs, no other can write to the folder.

    A resumed training goes on under its own options: learning rate, schedule, decay and number of epochs are those of
    now, as if it had had them from the beginning; what differs from the stopped training is said in the log.

    Ctrl-C, or SIGTERM from a cluster, once: the step is finished, a checkpoint written, and the training ends. Twice:
    it ends at once.

    Attach it after the handlers that change what it saves (schedule, validation).

    What its steps cost so far is in the checkpoint too (``spent``, see :class:`Spending`): a step that is done again
    after a stop counts once.

    Args:
        path: the checkpoint file.
        objects: name -> anything with ``state_dict`` and ``load_state_dict``.
        evaluator: the validation engine, whose best metric is kept.
        resume: load ``path`` when the training starts.
        min_seconds: epochs that end sooner after the latest checkpoint are not saved, but for the last one: writing
            weights and moments can take longer than a short epoch.

    Raises:
        FileNotFoundError: with ``resume``, if there is no ``path``.
        BlockingIOError: if another training uses the folder.
        OSError: if it cannot be written; says where and why.
        ValueError: if the checkpoint is of another network or training, or the engine has no epoch to run; says what
            does not fit.
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
        self.previous = self.path.with_name(f"{self.path.name}.previous")
        self.min_seconds = min_seconds
        self.latest = float("-inf")
        self.objects = dict(objects)
        self.evaluator = evaluator
        self.resume = resume
        self.signals = 0
        self.options: dict[str, Any] = {}
        self.damaged = False  # what lies at path
        self.spending = Spending()
        if resume and not (self.path.is_file() or self.previous.is_file()):
            raise FileNotFoundError(
                f"monai_ext: {self.path}: no checkpoint to resume from. Leave --resume out to start."
            )

    def attach(self, engine: Workflow) -> None:
        epochs = engine.state.max_epochs
        if epochs is None or epochs < 1:
            raise ValueError(f"monai_ext: --epochs {epochs}: expected the number of epochs to train, 1 or more.")
        self.spending.attach(engine)  # a step is counted before it is saved
        engine.add_event_handler(Events.STARTED, self.lock)
        engine.add_event_handler(Events.STARTED, self.note_options)
        engine.add_event_handler(Events.STARTED, self.load if self.resume else self.save_now)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.stop_if_asked)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)
        engine.add_event_handler(Events.STARTED, self.listen)

    def lock(self, engine: Workflow) -> None:
        """Keep the folder for this training until it ends."""
        folder = self.path.parent
        error: OSError | None = None
        if idist.get_rank() == 0:
            remedy = "Wait until that training has ended, or give another --ckpt_dir."
            held = ExitStack()
            try:
                held.enter_context(locked(folder, TRAINING_LOCK, remedy))
            except BlockingIOError as e:
                error = e
            except OSError as e:
                error = _unwritable(self.path, e)
            at_end(engine, held.close)
        if any_process(error is not None):
            raise error or BlockingIOError(f"monai_ext: {folder}: the first process cannot use it, see there.")

    def note_options(self, engine: Workflow) -> None:
        """Take down what this training was started with, before a checkpoint is loaded."""
        self.options = {"epochs": engine.state.max_epochs, "steps of an epoch": engine.state.epoch_length}
        for name, item in self.objects.items():
            self.options |= {f"{name} {key}": value for key, value in options_of(item).items()}

    def listen(self, engine: Workflow) -> None:
        """Take note of Ctrl-C and SIGTERM until the engine ends."""
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may; a server that trains in another has its own ways to stop
        before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def note(number: int, frame: Any) -> None:
            self.signals += 1
            if self.signals > 1:
                signal.signal(number, before[number])
                raise KeyboardInterrupt
            logger.warning("monai_ext: stopping after this step, with a checkpoint. Once more stops at once.")

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        for number in before:
            signal.signal(number, note)
        at_end(engine, restore)

    def stop_if_asked(self, engine: Workflow) -> None:
        """After a signal in any process, end in all of them after the same step."""
        if not any_process(self.signals > 0):
            return
        # the sampler can leave out what the epoch has had; with another one the epoch starts anew
        length, done = engine.state.epoch_length, engine.state.iteration % engine.state.epoch_length
        if done and hasattr(_sampler(engine), "skip"):
            self._write(engine, engine.state.epoch - 1)
        elif not done:
            self.signals = 1  # the epoch's end, with its schedule and validation, saves
            return
        logger.warning(
            "monai_ext: stopped in epoch %d after %d of %d steps; go on with --resume true.",
            engine.state.epoch,
            done,
            length,
        )
        engine.terminate()

    def save_now(self, engine: Workflow) -> None:
        self._write(engine, engine.state.epoch)

    def save(self, engine: Workflow) -> None:
        stop = any_process(self.signals > 0)
        due = of_first_process(time.monotonic() - self.latest >= self.min_seconds)
        if due or stop or engine.state.epoch >= engine.state.max_epochs:
            self._write(engine, engine.state.epoch)
        if stop and engine.state.epoch < engine.state.max_epochs:
            logger.warning("monai_ext: stopped after epoch %d; go on with --resume true.", engine.state.epoch)
            engine.terminate()

    def _write(self, engine: Workflow, epoch: int) -> None:
        """``epoch``: how many are complete."""
        random_states = idist.all_gather(_random_state())  # every process must come here
        if idist.get_rank() > 0:
            return
        state = {
            "objects": {name: _inner(item).state_dict() for name, item in self.objects.items()},
            "epoch": epoch,
            "iteration": engine.state.iteration,
            "scaler": None if engine.scaler is None else engine.scaler.state_dict(),
            "length": engine.state.epoch_length,
            "options": self.options,
            "random": random_states,
            "best": None if self.evaluator is None else _best(self.evaluator),
            "spent": self.spending.so_far(),
        }
        _write_tensors(state, self.path, None if self.damaged else self.previous)
        self.damaged = False
        self.latest = time.monotonic()

    def load(self, engine: Workflow) -> None:
        state = self._read()
        objects = {name: _inner(item) for name, item in self.objects.items()}
        networks = [name for name, item in objects.items() if isinstance(item, torch.nn.Module)]
        for name in networks:
            load_strict(objects.pop(name), state["objects"][name], str(self.path), refuse_zero=False)
        try:
            restore_all(objects, state["objects"], state["options"])
        except ValueError as e:
            raise ValueError(f"monai_ext: {self.path}: {e}") from e
        for line in differences(state["options"], self.options):
            logger.warning("monai_ext: resumed with other options: %s.", line)
        length, done = engine.state.epoch_length, state["iteration"] - state["epoch"] * state["length"]
        if done and length != state["length"]:
            logger.warning("monai_ext: epoch %d starts anew, since its steps are others.", state["epoch"] + 1)
            done = 0
        engine.state.epoch = state["epoch"]
        engine.state.iteration = state["iteration"] if length == state["length"] else state["epoch"] * (length or 0)
        if engine.state.epoch >= engine.state.max_epochs:
            logger.info("monai_ext: %s: all %d epochs are done already.", self.path, engine.state.epoch)
        if state["scaler"] is not None and engine.scaler is not None:
            engine.scaler.load_state_dict(state["scaler"])
        if state["best"] is not None and self.evaluator is not None:
            self.evaluator.state.best_metric, self.evaluator.state.best_metric_epoch = state["best"]
        self.spending.resume(state.get("spent"))  # checkpoints of earlier versions have none
        random_states = state["random"]
        if len(random_states) != idist.get_world_size():
            raise ValueError(
                f"monai_ext: {self.path}: of a training in {len(random_states)} process(es), now there are "
                f"{idist.get_world_size()}. Resume with as many."
            )
        mine = random_states[idist.get_rank()]
        _set_random_state(mine)
        if done:
            loader: Any = engine.data_loader
            loader.sampler.skip = done * loader.batch_size
            # the data loader draws from PyTorch's generator when it starts, which it had done
            self._restore_at_first_batch(engine, mine)
        logger.info(
            "monai_ext: resumed from %s after epoch %d, step %d",
            self.path,
            engine.state.epoch,
            engine.state.iteration,
        )

    def _restore_at_first_batch(self, engine: Workflow, state: Mapping[str, Any]) -> None:
        def restore() -> None:
            _set_random_state(state)
            added.remove()

        added = engine.add_event_handler(Events.GET_BATCH_STARTED, restore)

    def _read(self) -> dict[str, Any]:
        """The newest checkpoint that is whole."""
        damaged: list[str] = []
        for path in (self.path, self.previous):
            if not path.is_file():
                damaged.append(f"monai_ext: {path}: is not there")
                continue
            try:
                state = load_tensors(path)
            except ValueError as e:
                damaged.append(str(e))
                continue
            if damaged:
                logger.warning("%s; going on from %s, the checkpoint before it.", damaged[0].rstrip("."), path.name)
                self.damaged = True
            keys = {"objects", "epoch", "iteration", "length", "options", "random", "scaler", "best"}
            if not isinstance(state, dict) or not keys <= state.keys() or set(state["objects"]) != set(self.objects):
                raise ValueError(f"monai_ext: {path}: no checkpoint of this training (expected {list(self.objects)}).")
            return state
        raise ValueError("; ".join(damaged))


class SaveWeights:
    """Write the network's ``state_dict``, as every MONAI tool expects it: ``models/model.pt`` of a bundle.

    Attached to an evaluator it keeps the epoch with the best key metric; attached to a trainer, the latest epoch. So it
    does in an evaluator whose metric says nothing: is no number, or has no case with anything labelled.

    Args:
        path: the weights file, replaced in one step.
        network: the network.
        trained_with: the knobs that preprocessing depends on; they travel in the file, see
            :func:`monai_ext.bundle.trained_with`.
    """

    def __init__(
        self, path: str | os.PathLike, network: torch.nn.Module, trained_with: Mapping[str, Any] | None = None
    ) -> None:
        self.path = Path(path)
        self.network = network
        self.trained_with = dict(trained_with or {})

    def attach(self, engine: Workflow) -> None:
        if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Workflow) -> None:
        name = engine.state.key_metric_name
        worse = name and engine.state.best_metric_epoch != engine.state.epoch and not _undefined(engine, name)
        if worse and self.path.is_file():
            return
        if worse:  # resumed without the weights of the best epoch, which nothing else holds
            logger.warning("monai_ext: %s is not there; epoch %d is kept.", self.path, engine.state.epoch)
        _write_tensors(stamp(_inner(self.network).state_dict(), self.trained_with), self.path)


def _undefined(engine: Workflow, metric: str) -> bool:
    """Whether the key metric of an epoch is no number, or one made of none: MONAI's mean over no case is 0."""
    details = engine.state.metric_details.get(metric)
    value = details if isinstance(details, torch.Tensor) else torch.as_tensor(engine.state.metrics[metric])
    return not bool(torch.isfinite(value).any())


def _sampler(engine: Workflow) -> Any:
    return getattr(engine.data_loader, "sampler", None)


def _write_tensors(state: Any, path: Path, previous: Path | None = None) -> None:
    """Replace ``path`` in one step; what was there becomes ``previous``, if given, and is at ``path`` until then."""
    try:
        with replacing(path) as temporary:
            torch.save(state, temporary)
            if previous is not None and path.is_file():
                _sync(temporary)
                with scratch_folder(path.parent) as scratch:
                    _link(path, scratch / path.name)
                    (scratch / path.name).replace(previous)
    except (OSError, RuntimeError) as e:  # PyTorch's writer tells of a full disk with a RuntimeError
        raise _unwritable(path, e) from e


def _unwritable(path: Path, reason: Exception) -> OSError:
    return OSError(
        f"monai_ext: {path}: cannot be written ({reason}). What was there is kept. Make room on the disk, or make the "
        "folder writable, and go on with --resume true; or give another --ckpt_dir."
    )


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _link(path: Path, other: Path) -> None:
    """A second name of the same file; a copy where the file system knows no such thing."""
    try:
        os.link(path, other)
    except OSError:
        shutil.copyfile(path, other)
        _sync(other)


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
