# SPDX-License-Identifier: Apache-2.0
"""Labelled tissue as another phase of contrast medium, or another scanner, would show it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from torch.nn.functional import avg_pool2d, avg_pool3d

__all__ = ["RandTissueContrastd"]


class RandTissueContrastd(RandomizableTransform, MapTransform):
    """Make each labelled class brighter or darker by a factor of its own, with soft borders.

    What differs most between two patients' scans is not the whole picture's brightness, which other transforms vary,
    but which organ is brighter than which: contrast medium lifts an aorta from 40 to 170 HU and a liver from 45 to 90,
    and a network that saw one phase only has learnt values in place of shapes. Factors are drawn class by class and for
    each channel by itself, times a strength that the classes of one image share: a phase with much contrast medium and
    one with little. Values of 0 (gas, in a window of CT) stay 0. Borders are as wide as the voxels beside them, as
    partial volumes are.

    Args:
        keys: images ``(C, *spatial)`` with intensities from 0 on.
        label_key: their label map ``(1, *spatial)``, whole numbers with 0 for background.
        num_classes: number of classes, background included, at most 256.
        factors: the range of what is added to 1 at full strength.
        prob: probability of an image being changed.

    Raises:
        ValueError: if ``factors`` is no range above -1.

    Examples::

        >>> lift = RandTissueContrastd("image", label_key="label", num_classes=9, prob=1.0)
        >>> lift({"image": torch.rand(1, 64, 64), "label": torch.ones(1, 64, 64)})["image"].shape
        torch.Size([1, 64, 64])
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_key: str,
        num_classes: int,
        factors: Sequence[float] = (-0.2, 0.8),
        prob: float = 0.5,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        low, high = factors
        if not -1 < low <= high:
            raise ValueError(f"monai_ext: RandTissueContrastd: factors must be a range above -1, got {list(factors)}.")
        self.label_key = label_key
        self.num_classes = num_classes
        self.factors = (low, high)
        self.drawn = np.zeros(
            256, np.float32
        )  # of every value that a label may have; above the classes nothing is done

    def draw(self, channels: int) -> None:
        """Whether an image is changed, and the factors of its channels' classes."""
        self.randomize(None)
        if self._do_transform:
            strength = self.R.uniform(0, 1, size=(channels, 1))
            self.drawn = np.zeros((channels, 256), np.float32)  # of every value that a label may have
            self.drawn[:, 1 : self.num_classes] = strength * self.R.uniform(
                *self.factors, size=(channels, self.num_classes - 1)
            )

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        self.draw(len(d[self.first_key(d)]))
        if not self._do_transform:
            return d
        label = torch.as_tensor(d[self.label_key]).as_subclass(torch.Tensor).byte()
        pool = avg_pool2d if label.dim() == 3 else avg_pool3d
        # NumPy looks up bytes, PyTorch would make a number of 64 bits of each first
        change = 1 + pool(torch.from_numpy(self.drawn[:, label[0].numpy()]), kernel_size=3, stride=1, padding=1)
        for key in self.key_iterator(d):
            d[key] = d[key] * change.to(d[key].dtype)
        return d
