# SPDX-License-Identifier: Apache-2.0
"""How far features are from those of the training cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Gaussian", "Likeness", "shrinkage"]

COMPONENTS = 64  # directions that are kept each; in all others the variance is one
LEAST = 1e-6  # of a feature's scale; one that never changes tells by changing


def shrinkage(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Directions, their variances, and the variance in all others, of the covariance of Ledoit and Wolf [1]_.

    It is ``(1 - a) S + a m I``, with the sample's covariance ``S``, the mean ``m`` of its eigenvalues, and the ``a``
    that is nearest to the truth in the mean. A case or two more than features are not needed.

    Args:
        rows: ``(n, features)`` with mean 0.

    Returns:
        ``(k, features)``, ``(k,)`` and a number.

    .. [1] A well-conditioned estimator for large-dimensional covariance matrices, J. Multivariate Analysis 88, 2004.
    """
    n, features = rows.shape
    _, singular, directions = np.linalg.svd(rows, full_matrices=False)
    variances = singular**2 / n
    mean, squares = variances.sum() / features, (variances**2).sum()
    spread = squares / features - mean**2
    noise = ((rows**2).sum(axis=1) ** 2).sum() / n - squares
    part = min(noise / (n * features), spread) / spread if spread > 0 else 1.0
    shrunk = (1 - part) * variances + part * mean
    kept = min(COMPONENTS, len(shrunk))
    others = features - kept
    rest = (shrunk[kept:].sum() + max(features - len(shrunk), 0) * part * mean) / others if others else mean
    return directions[:kept], np.maximum(shrunk[:kept], LEAST), float(max(rest, LEAST))


@dataclass(frozen=True)
class Gaussian:
    """Mean and covariance of rows of features, each feature in units of its own spread.

    Attributes:
        mean, scale: ``(features,)``.
        directions, variances: see :func:`shrinkage`.
        rest: likewise.

    Examples::

        >>> near = Gaussian.of(np.random.default_rng(0).normal(size=(200, 5)))
        >>> near.distance(np.array([[0.0] * 5, [9.0] * 5])).round(1)
        array([0. , 9.1])
    """

    mean: np.ndarray
    scale: np.ndarray
    directions: np.ndarray
    variances: np.ndarray
    rest: float

    @classmethod
    def of(cls, rows: np.ndarray) -> Gaussian:
        mean, scale = rows.mean(axis=0), rows.std(axis=0)
        scale = np.maximum(scale, LEAST + 0.01 * np.median(scale))
        return cls(mean, scale, *shrinkage((rows - mean) / scale))

    def distance(self, rows: np.ndarray) -> np.ndarray:
        """Mahalanobis distance of each row over the root of the number of features: about 1 for the rows themselves."""
        centred = (rows - self.mean) / self.scale
        along = centred @ self.directions.T
        left = np.maximum((centred**2).sum(axis=1) - (along**2).sum(axis=1), 0)
        return np.sqrt(((along**2 / self.variances).sum(axis=1) + left / self.rest) / rows.shape[1])


@dataclass(frozen=True)
class Likeness:
    """What images of the training cases are like, in three ways.

    Attributes:
        features: of each slice or window, what the network sees in it.
        whole: the mean of these over an image.
        values: of each slice or window, what its values are like.
    """

    features: Gaussian
    whole: Gaussian
    values: Gaussian

    @classmethod
    def of(cls, images: Sequence[np.ndarray], statistics: int) -> Likeness:
        """From rows of each image, whose first columns are ``statistics`` of its values."""
        rows = np.concatenate(images)
        whole = np.stack([image.mean(axis=0) for image in images])
        return cls(*map(Gaussian.of, (rows[:, statistics:], whole[:, statistics:], rows[:, :statistics])))

    def distances(self, rows: np.ndarray) -> np.ndarray:
        """How far an image is, in each of the three ways, ``(3,)``."""
        statistics = self.values.mean.size
        features, values = rows[:, statistics:], rows[:, :statistics]
        return np.array(
            [
                self.features.distance(features).mean(),
                self.whole.distance(features.mean(axis=0)[None])[0],
                self.values.distance(values).mean(),
            ]
        )
