# SPDX-License-Identifier: Apache-2.0
"""What calibration leaves beside weights: arrays and plain values, for exactly these weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from monai_ext.apps.quality.training_likeness import Gaussian, Likeness
from monai_ext.data.files.fingerprint import hash_file
from monai_ext.utils import replacing

__all__ = ["QualityNotes", "quality_file"]

VERSION = 1
WAYS = tuple(way.name for way in fields(Likeness))
GAUSSIAN = tuple(part.name for part in fields(Gaussian))


def quality_file(weights: str | os.PathLike) -> Path:
    """Where the quality of labels of a weights file is calibrated: ``model.quality.npz`` beside ``model.pt``."""
    return Path(weights).with_suffix(".quality.npz")


@dataclass(frozen=True)
class QualityNotes:
    """What is known of the labels of one weights file.

    Attributes:
        weights: its hash.
        layers: names of the layers whose features are looked at.
        near: what the images of the training cases are like.
        limits: distances, in its three ways, up to which an image is like them.
        values: label values, of which Dice is told.
        signals, dice, cases, sound: of held-out cases, see :class:`~monai_ext.apps.quality.estimates.ExpectedDice`.
        trained: how many cases the features are of.
        phantom: whether the cases are synthetic.
    """

    weights: str
    layers: tuple[str, ...]
    near: Likeness
    limits: np.ndarray
    values: tuple[int, ...]
    signals: np.ndarray
    dice: np.ndarray
    cases: np.ndarray
    sound: np.ndarray
    trained: int
    phantom: bool

    def save(self, weights: str | os.PathLike) -> Path:
        """Write it beside the weights, in one step."""
        content: dict[str, Any] = {"version": VERSION}
        for part in fields(self):
            value = getattr(self, part.name)
            if isinstance(value, Likeness):
                content |= {f"{way}.{name}": getattr(getattr(value, way), name) for way in WAYS for name in GAUSSIAN}
            else:
                content[part.name] = value
        small: dict[str, Any] = {
            name: array.astype(np.float32) if array.dtype == np.float64 and array.ndim == 2 else array
            for name, array in ((name, np.asarray(value)) for name, value in content.items())
        }
        file = quality_file(weights)
        with replacing(file) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, **small)
        return file

    @classmethod
    def load(cls, weights: str | os.PathLike) -> QualityNotes:
        """Read what lies beside a weights file.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is of other weights, or none of this library's.
        """
        file = quality_file(weights)
        remedy = f"python -m monai_ext calibrate --bundle BUNDLE --checkpoint {weights}"
        if not file.is_file():
            raise FileNotFoundError(
                f"monai_ext: {file}: not there; the quality of labels is not calibrated for {weights}. Do so with "
                f"{remedy}."
            )
        try:
            with np.load(file, allow_pickle=False) as content:
                read = {name: content[name] for name in content.files}
            if int(read.pop("version")) != VERSION:
                raise ValueError("of another version")
            ways = {}
            for way in WAYS:
                parts = {key: read.pop(f"{way}.{key}") for key in GAUSSIAN}
                ways[way] = Gaussian(**{**parts, "rest": float(parts["rest"])})
            read["near"] = Likeness(**ways)
            plain = {key: read[key].item() for key in ("weights", "trained", "phantom")}
            found = cls(**{**read, **plain, "layers": tuple(read["layers"]), "values": tuple(read["values"].tolist())})
            found._check()
        except Exception as e:  # whatever is in it, it is not what save wrote
            reason = (str(e).splitlines() or [type(e).__name__])[0]
            raise ValueError(
                f"monai_ext: {file}: no quality file of this library, or damaged ({reason:.100}). Make it again: "
                f"{remedy}."
            ) from e
        if found.weights != hash_file(weights):
            raise ValueError(f"monai_ext: {file}: is of other weights than {weights}. Make it again: {remedy}.")
        return found

    def _check(self) -> None:
        rows, near = len(self.dice), [getattr(self.near, way) for way in WAYS]
        shapes = {
            "signals": self.signals.ndim == 2 and len(self.signals) == rows,
            "cases": self.cases.shape == self.sound.shape == self.dice.shape == (rows,),
            "limits": self.limits.shape == (len(WAYS),),
            "features": all(
                g.scale.shape == g.mean.shape and g.directions.shape == (*g.variances.shape, *g.mean.shape)
                for g in near
            ),
            "values": bool(self.values) and all(isinstance(value, int) and 0 < value < 256 for value in self.values),
        }
        if wrong := [name for name, right in shapes.items() if not right]:
            raise ValueError(f"its {wrong[0]} do not fit")
        numbers = [self.signals, self.dice, self.limits, *(getattr(g, name) for g in near for name in GAUSSIAN)]
        if not all(np.isfinite(part).all() for part in numbers):
            raise ValueError("numbers that are not finite")


def pooled(notes: Sequence[QualityNotes]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Signals, Dice, cases and soundness of several files, whose cases are different ones."""
    start = np.cumsum([0, *(int(n.cases.max(initial=-1)) + 1 for n in notes)])
    return (
        np.concatenate([n.signals for n in notes]),
        np.concatenate([n.dice for n in notes]),
        np.concatenate([n.cases + first for n, first in zip(notes, start)]),
        np.concatenate([n.sound for n in notes]).astype(bool),
    )
