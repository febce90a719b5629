# SPDX-License-Identifier: Apache-2.0
"""Whether one label can be trusted, without a truth."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor

from monai_ext.apps.quality.estimates import COVERAGE, FEWEST, ExpectedDice, mean_where_known
from monai_ext.apps.quality.measuring import VIEWS, Looker, agreement, some_slices, view
from monai_ext.apps.quality.quality_file import QualityNotes, pooled, quality_file
from monai_ext.bundle import Bundle
from monai_ext.inferers.outputs import check_logits
from monai_ext.networks import is_export, load_weights
from monai_ext.networks.utils import weights_follow
from monai_ext.transforms.score_labels import labels_of
from monai_ext.transforms.volumes import gaps
from monai_ext.utils import plain_cause

__all__ = ["Assessor", "Judge", "Judged", "Quality", "is_calibrated", "judged", "signals"]

logger = logging.getLogger(__name__)
# by way of likeness: an image's values change with its sampling, which the network hardly minds
SLACK = np.array([1.0, 1.0, 2.2])


@dataclass(frozen=True)
class Quality:
    """What can be said of one label.

    Attributes:
        expected_dice: mean over the classes, as a truth would have it.
        interval: the Dice of 9 in 10 labels of images like the training cases is inside.
        agreement: mean Dice of the label and those of other views and members, of each class; None of one that
            none has.
        distance: of the image from the training cases, in units of what is usual; above 1 it is unlike them.
        unlike_training: whether it is.
        flag: ``"sound"``, ``"doubtful"`` (as few of the held-out cases were) or ``"unlike training"``.
        missing: which slices hold nothing though others on both sides do; None where none does. Such an image is unlike
            training, too.
    """

    expected_dice: float
    interval: tuple[float, float]
    agreement: dict[str, float | None]
    distance: float
    unlike_training: bool
    flag: str
    missing: str | None = None

    @property
    def warning(self) -> str | None:
        """A sentence for the log and the viewer; None of a sound label."""
        about = f"expected Dice {self.expected_dice:.2f} ({self.interval[0]:.2f} to {self.interval[1]:.2f})"
        if self.missing:
            return f"{self.missing}; do not trust the label ({about})"
        if self.unlike_training:
            return (
                f"this image is unlike those that the model was trained on ({self.distance:.1f} times what is usual); "
                f"do not trust the label ({about})"
            )
        return f"this label is doubtful: {about}" if self.flag == "doubtful" else None

    def content(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "flag": self.flag,
            "expected_dice": round(self.expected_dice, 4),
            "interval": [round(side, 4) for side in self.interval],
            "coverage": COVERAGE,
            "unlike_training": self.unlike_training,
            "distance": round(self.distance, 4),
            "agreement": {name: value if value is None else round(value, 4) for name, value in self.agreement.items()},
            **({"missing": self.missing} if self.missing else {}),
        }


def signals(agreements: np.ndarray, distance: float) -> np.ndarray:
    """What speaks for a label: agreement on the mean, agreement of the worst view, and nearness to training."""
    means = np.array([mean_where_known(of_view) for of_view in agreements])
    return np.array([means.mean(), means.min(), -np.log(max(distance, 1e-3))])


class Assessor:
    """The quality of the labels of a bundle's weights, one image after the other.

    Args:
        bundle: the bundle.
        weights: of one network, or the members of an ensemble; each has its quality file beside it.
        device: where to compute.
        knobs: of the bundle's ``inference.json``, as the labels are made with.

    Raises:
        FileNotFoundError: if weights or a quality file are not there.
        ValueError: if a quality file is of other weights or damaged, if there are too few held-out cases, or for an
            exported network.

    Examples::

        >>> assess = Assessor(Bundle.find("bundles/mine"), [Path("bundles/mine/models/model.pt")])
        >>> assess(image, label).flag
        'sound'
    """

    def __init__(
        self,
        bundle: Bundle,
        weights: Sequence[str | os.PathLike],
        device: str | torch.device | None = None,
        **knobs: Any,
    ) -> None:
        self.weights = [Path(path) for path in weights]
        if exported := [path for path in self.weights if is_export(path)]:
            raise ValueError(
                f"monai_ext: {exported[0]}: is an exported network, whose features cannot be looked at. Quality takes "
                "weights such as model.pt."
            )
        self.notes = [QualityNotes.load(path) for path in self.weights]
        signals, dice, cases, sound = pooled(self.notes)
        if (count := len(np.unique(cases))) < FEWEST:
            raise ValueError(
                f"monai_ext: {self.weights[0]}: its quality is calibrated on {count} held-out cases, expected at least "
                f"{FEWEST}. Calibrate with more (python -m monai_ext calibrate), or leave --quality out."
            )
        self.expected = ExpectedDice(signals, dice, cases, sound)
        parser = bundle.parser("inference", **{**knobs, "ckpt_path": [str(path) for path in self.weights]})
        self.device = torch.device(parser.get_parsed_content("device") if device is None else device)
        with weights_follow():
            network = parser.get_parsed_content("network_def").to(self.device).eval()
        inferer = parser.get_parsed_content("inferer")
        self.regions = parser.get_parsed_content("region_order", default=None)
        self.names = dict(bundle.channel_def)
        self.lookers = [Looker(network, inferer, self.regions, list(notes.layers)) for notes in self.notes]
        self._loaded: Path | None = None

    def __call__(self, image: torch.Tensor, label: torch.Tensor) -> Quality:
        """Assess a label, which is not changed.

        Args:
            image: preprocessed, ``(1, C, *spatial)``.
            label: what the bundle's inferer made of it, labels ``(1, 1, *spatial)`` or logits.
        """
        x = some_slices(image, self.lookers[0].inferer).to(self.device)
        found: Any = some_slices(label, self.lookers[0].inferer)
        plain = found.as_tensor() if isinstance(found, MetaTensor) else found
        if plain.is_floating_point():
            plain = labels_of(check_logits(plain, x, "an image", self.regions), regions=self.regions)
        plain = plain.cpu()
        values = self.notes[0].values
        agreements, ratios = [], []
        for path, notes, looker in zip(self.weights, self.notes, self.lookers):
            self._load(path)
            own, rows = looker.look(x)
            ratios.append(notes.near.distances(rows) / notes.limits)
            if len(self.weights) > 1:
                agreements.append(agreement(plain, own, values))
            agreements += [agreement(plain, looker.labels(view(x, kind)), values) for kind in VIEWS]
        nearness, distance = float(np.mean([r.max() for r in ratios])), _distance(ratios)
        table = np.array(agreements)
        expected, low, high = self.expected(signals(table, nearness))
        missing = gaps(image[0].cpu()) if image.dim() == 5 else None
        unlike = distance > 1 or missing is not None
        flag = "unlike training" if unlike else "doubtful" if expected < self.expected.usual else "sound"
        by_class = {
            self.names.get(value, str(value)): mean_where_known(column) if np.isfinite(column).any() else None
            for value, column in zip(values, table.T)
        }
        return Quality(expected, (low, high), by_class, distance, unlike, flag, missing)

    def distance(self, image: torch.Tensor) -> float:
        """How far an image is from those of the training cases; above 1 it is unlike them.

        Args:
            image: preprocessed, ``(1, C, *spatial)``.
        """
        x = some_slices(image, self.lookers[0].inferer).to(self.device)
        ratios = []
        for path, notes, looker in zip(self.weights, self.notes, self.lookers):
            self._load(path)
            ratios.append(notes.near.distances(looker.look(x)[1]) / notes.limits)
        return _distance(ratios)

    def _load(self, path: Path) -> None:
        if self._loaded != path:
            load_weights(self.lookers[0].network, path, mmap=len(self.weights) > 1, refuse_zero=False)
            self._loaded = path


def _distance(ratios: Sequence[np.ndarray]) -> float:
    """Of all members, by the way in which the image is farthest away."""
    return float(np.mean([(ratio / SLACK).max() for ratio in ratios]))


class Judged(NamedTuple):
    """What a record or an answer says of a label.

    Attributes:
        content: as JSON has it; of a label of which nothing can be said ``{"flag": "unknown", "reason": ...}``.
        warning: a sentence for who looks at the label, or None.
    """

    content: dict[str, Any]
    warning: str | None


def is_calibrated(weights: str | os.PathLike) -> bool:
    """Whether a quality file lies beside weights, of these or of others."""
    return quality_file(weights).is_file()


class Judge:
    """Assess labels where that is possible, and never stop a label: for servers, and for runs of many cases."""

    def __init__(self) -> None:
        self._ready: tuple[Any, Assessor] | None = None

    def __call__(
        self,
        bundle: Bundle,
        weights: Sequence[str | os.PathLike],
        device: str | torch.device,
        image: torch.Tensor,
        label: torch.Tensor,
        name: str,
    ) -> Judged | None:
        """What to say of a label; None for weights that are not calibrated. Warnings go to the log, too.

        Args:
            bundle, weights, device: as for :class:`Assessor`, which is kept until a file changes.
            image, label: as for :meth:`Assessor.__call__`.
            name: of the image, for the log.
        """
        if not any(map(is_calibrated, weights)):
            return None
        try:
            files = [file for path in weights for file in (Path(path), quality_file(path))]
            stats = [file.stat() for file in files if file.is_file()]
            key = (str(device), *files, *((s.st_mtime_ns, s.st_size, s.st_ino) for s in stats))
            if self._ready is None or self._ready[0] != key:
                self._ready = key, Assessor(bundle, weights, device)
            return judged(self._ready[1], image, label, name)
        except (OSError, ValueError) as e:
            return _unknown(name, e)


def judged(assess: Assessor, image: torch.Tensor, label: torch.Tensor, name: str) -> Judged:
    """What an assessor says of a label; whatever goes wrong with that, the label is kept."""
    try:
        quality = assess(image, label)
    except Exception as e:  # networks and transforms may raise anything
        return _unknown(name, e)
    if quality.warning:
        logger.warning("monai_ext: %s: %s.", name, quality.warning)
    return Judged(quality.content(), quality.warning)


def _unknown(name: str, error: Exception) -> Judged:
    reason = (plain_cause(error) or f"{type(error).__name__}: {error}").removeprefix("monai_ext: ")
    logger.warning("monai_ext: %s: the quality of its label cannot be told: %s", name, reason)
    return Judged({"flag": "unknown", "reason": reason}, None)
