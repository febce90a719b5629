# SPDX-License-Identifier: Apache-2.0
"""What is done for one fold, in a process of its own, here or on a node of a cluster: train, then predict its cases."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_ext.handlers.checkpoints import TRAINING_LOCK
from monai_ext.utils import load_tensors, locked

__all__ = ["FoldJob", "labels_of", "trained_epochs"]

LOCK = ".monai_ext-fold.lock"


@dataclass(frozen=True)
class FoldJob:
    """Train a fold and predict the cases that it was not trained on; what is done already is passed over.

    Attributes:
        number: of the fold.
        folder: for its checkpoints, records, labels and log.
        bundle: the bundle's folder.
        knobs: of the training, as a command line has them.
        epochs: that it trains.
        cases: to predict, ``{"image": ..., "case_id": ...}`` each.
        inference: knobs of the prediction.
        environment: variables to set, such as those that give it its GPU.
    """

    number: int
    folder: Path
    bundle: Path
    knobs: dict[str, str]
    epochs: int
    cases: list[dict[str, Any]]
    inference: dict[str, Any] = field(default_factory=dict)
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

    def command(self) -> list[str]:
        """The documented command that trains it; one that was stopped goes on."""
        words = [sys.executable, "-m", "monai.bundle", "run"]
        words += ["--config_file", str(self.bundle / "configs" / "train.json")]
        words += [word for knob, value in self.knobs.items() for word in (f"--{knob}", value)]
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
            reason = _reason(self.log, start) if code else f"it was stopped after epoch {trained_epochs(self.folder)}"
            raise ValueError(f"monai_ext: fold {self.number}: {reason}; its log is {self.log}.")

    def _predict(self) -> None:
        from monai_ext.apps.segmentation import segment

        labels = segment(self.bundle, self.cases, self.folder / "labels", [self.weights], force=True, **self.inference)
        labels.check()


def labels_of(folder: Path, pictures: bool) -> dict[str, Path]:
    """Case -> the label that a fold predicted."""
    suffix = "_seg.png" if pictures else "_seg.nii.gz"
    return {path.name.removesuffix(suffix): path for path in (folder / "labels").glob(f"*{suffix}")}


def trained_epochs(folder: Path) -> int:
    """How many epochs the checkpoint in a folder has had; -1 if there is none to go on from."""
    for name in ("last.pt", "last.pt.previous"):
        try:
            return int(load_tensors(folder / name, mmap=True)["epoch"])
        except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged; who resumes tells of it
            continue
    return -1


def _reason(log: Path, start: int) -> str:
    """The last words of a training that failed, this library's own if there are any."""
    with log.open(encoding="utf-8", errors="replace") as file:
        file.seek(start)
        lines = [line.strip() for line in file.read().splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("monai_ext: ")]
    last = (ours or lines or ["it ended without a word"])[-1]
    return last.removeprefix("monai_ext: ").rstrip(".")
