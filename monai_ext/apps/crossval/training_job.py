# SPDX-License-Identifier: Apache-2.0
"""What is done for one training, in a process of its own, here or on a node of a cluster: train, then predict cases."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_ext.bundle import literal
from monai_ext.data.files.fingerprint import hash_file
from monai_ext.handlers.checkpoints import TRAINING_LOCK
from monai_ext.utils import load_tensors, locked, read_json, write_json

__all__ = ["TrainingJob", "command_words", "labels_of", "last_words", "spent_by", "trained_epochs"]

LOCK = ".monai_ext-fold.lock"
PREDICTION = "prediction.json"


@dataclass(frozen=True)
class TrainingJob:
    """Train a network on one split and predict the cases that it was not trained on; what is done is passed over.

    Attributes:
        name: of the job, such as ``fold 0``.
        folder: for its checkpoints, records, labels and log.
        bundle: the bundle's folder.
        knobs: of the training, as :func:`command_words` makes words of them.
        epochs: that it trains.
        cases: to predict, ``{"image": ..., "case_id": ...}`` each.
        inference: knobs of the prediction.
        overlay: a config file that lies over those of the bundle, with another network for instance.
        environment: variables to set, such as those that give it its GPU.
    """

    name: str
    folder: Path
    bundle: Path
    knobs: dict[str, Any]
    epochs: int
    cases: list[dict[str, Any]]
    inference: dict[str, Any] = field(default_factory=dict)
    overlay: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def weights(self) -> Path:
        return self.folder / "model.pt"

    @property
    def log(self) -> Path:
        return self.folder / "training.log"

    @property
    def trained(self) -> bool:
        """Whether it has been trained to its end."""
        return self.weights.is_file() and trained_epochs(self.folder) >= self.epochs

    @property
    def prediction(self) -> dict[str, Any] | None:
        """``{"cases": ..., "seconds": ...}`` that predicting took, if all labels of these weights are there."""
        file = self.folder / PREDICTION
        if not self.trained or not file.is_file():
            return None
        noted = read_json(file, "prediction")
        names = {case["case_id"] for case in self.cases}
        there = {path.name.rpartition("_seg.")[0] for path in (self.folder / "labels").glob("*_seg.*")}
        return noted if names <= there and noted.get("weights") == hash_file(self.weights) else None

    def command(self) -> list[str]:
        """The documented command that trains it; one that was stopped goes on."""
        words = command_words(self.bundle, self.overlay, self.knobs)
        return words + (["--resume", "true"] if trained_epochs(self.folder) >= 0 else [])

    def run(self) -> None:
        """Do what is missing.

        Raises:
            ValueError: if the training fails or is stopped, or a case cannot be predicted.
        """
        os.environ.update(self.environment)
        # a job that outlived the command that started it goes on to its end, which is waited for
        with locked(self.folder, LOCK, wait=True):
            with locked(self.folder, TRAINING_LOCK, wait=True):
                trained = self.trained
            if not trained:
                self._train()
            self._predict()

    def _train(self) -> None:
        with self.log.open("a", encoding="utf-8") as log:
            start = log.tell()
            # of its own session: of a Ctrl-C that everybody gets it would get two, of which the second stops at once
            process = subprocess.Popen(self.command(), stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
            before: dict[int, Any] = {}
            stops: list[int] = []

            def stop(number: int, frame: Any) -> None:
                if not stops:
                    process.terminate()  # it writes a checkpoint
                stops.append(number)

            try:
                for number in map(int, (signal.SIGINT, signal.SIGTERM)):
                    before[number] = signal.signal(number, stop)
                code = process.wait()
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
        if code or not self.trained:
            reason = (
                last_words(self.log, start) if code else f"it was stopped after epoch {trained_epochs(self.folder)}"
            )
            raise ValueError(f"monai_ext: {self.name}: {reason}; its log is {self.log}.")

    def _predict(self) -> None:
        from monai_ext.apps.segmentation import segment

        def predict(overwrite: bool) -> int:
            labels = segment(
                self.bundle,
                self.cases,
                self.folder / "labels",
                [self.weights],
                overwrite=overwrite,
                force=True,
                overlay=self.overlay,
                **self.inference,
            )
            labels.check()
            return len(labels.written)

        began = time.perf_counter()
        count = predict(overwrite=False)
        if not count and self.prediction is None:  # labels that are there do not tell how long they took
            began = time.perf_counter()
            count = predict(overwrite=True)
        if count:
            noted = {"cases": count, "seconds": time.perf_counter() - began, "weights": hash_file(self.weights)}
            write_json(self.folder / PREDICTION, noted)


def command_words(bundle: Path, overlay: Path | None, knobs: Mapping[str, Any]) -> list[str]:
    """The words of the documented command that trains a bundle, with a config file over its own."""
    file = str(bundle / "configs" / "train.json")
    words = [
        sys.executable,
        "-m",
        "monai.bundle",
        "run",
        "--config_file",
        str([file, str(overlay)]) if overlay else file,
    ]
    return words + [word for knob, value in knobs.items() for word in (f"--{knob}", _word(literal(value)))]


def _word(value: Any) -> str:
    """A knob as a command line has it; what is no text as Python has it, as fire reads it."""
    return os.fspath(value) if isinstance(value, (str, os.PathLike)) else repr(value)


def labels_of(folder: Path, pictures: bool) -> dict[str, Path]:
    """Case -> the label that a fold predicted."""
    suffix = "_seg.png" if pictures else "_seg.nii.gz"
    return {path.name.removesuffix(suffix): path for path in (folder / "labels").glob(f"*{suffix}")}


def trained_epochs(folder: Path) -> int:
    """How many epochs the checkpoint in a folder has had; -1 if there is none to go on from."""
    return int(_of_checkpoint(folder, "epoch", -1))


def spent_by(folder: Path) -> dict[str, float]:
    """What the training in a folder has cost, see :class:`~monai_ext.handlers.spending.Spending`; empty if unknown."""
    return dict(_of_checkpoint(folder, "spent", {}))


def _of_checkpoint(folder: Path, key: str, otherwise: Any) -> Any:
    for name in ("last.pt", "last.pt.previous"):
        try:
            return load_tensors(folder / name, mmap=True)[key]
        except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged; who resumes tells of it
            continue
    return otherwise


def last_words(log: Path, start: int) -> str:
    """The last words of a training that failed, this library's own if there are any."""
    with log.open(encoding="utf-8", errors="replace") as file:
        file.seek(start)
        lines = [line.strip() for line in file.read().splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("monai_ext: ")]
    last = (ours or lines or ["it ended without a word"])[-1]
    return last.removeprefix("monai_ext: ").rstrip(".")
