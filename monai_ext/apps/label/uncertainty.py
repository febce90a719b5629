# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import math

import torch
from monai.inferers import Inferer

from monai_ext.inferers import SliceBatchInferer, SlidingWindowLabelInferer
from monai_ext.inferers.outputs import check_logits

__all__ = ["uncertainty"]


@torch.no_grad()
def uncertainty(x: torch.Tensor, network: torch.nn.Module, inferer: Inferer) -> float:
    """How unsure ``network`` is of an image: 0 for certain, 1 for a guess.

    The entropy of each voxel's class probabilities, divided by that of a guess, averaged over the image with the
    probability of being foreground as weight: an image is not more certain because more of it is background.

    Args:
        x: a volume ``(1, C, H, W, D)`` or a picture ``(1, C, H, W)``, preprocessed.
        network: returns logits.
        inferer: a ``SliceBatchInferer``, whose slices are scored a batch at a time, a ``SlidingWindowLabelInferer``,
            whose windows are, or an inferer of pictures that returns the network's logits.

    Examples::

        >>> uncertainty(torch.rand(1, 1, 64, 64, 20), nn.Conv2d(1, 9, 1), SliceBatchInferer((64, 64)))
        0.97
    """
    if isinstance(inferer, SliceBatchInferer):
        scored = copy.copy(inferer)
        scored.output = "probabilities"
        axis = inferer.spatial_dim + 2
        parts = x.split(inferer.batch_size, dim=axis) if x.dim() == 5 else (x,)
        of_regions = bool(inferer.regions)
        sums = [_entropy(scored(part, network), of_regions) for part in parts]
    elif isinstance(inferer, SlidingWindowLabelInferer):
        watched = _Watched(network, inferer.regions)
        inferer(x, watched)
        sums = watched.sums
    else:
        regions = getattr(inferer, "regions", None)  # MONAI's have none
        logits = check_logits(torch.as_tensor(inferer(x, network)), x, "an image", regions)
        sums = [_entropy(logits.sigmoid() if regions else logits.softmax(dim=1), bool(regions))]
    entropy, weight = (sum(values) for values in zip(*sums))
    return entropy / weight if weight else 0.0


class _Watched(torch.nn.Module):
    """A network whose windows are scored as they pass; there is never a volume of probabilities."""

    def __init__(self, network: torch.nn.Module, regions: list[int] | None) -> None:
        super().__init__()
        self.network, self.regions = network, regions
        self.sums: list[tuple[float, float]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = check_logits(self.network(x), x, "windows", self.regions)
        self.sums.append(_entropy(logits.sigmoid() if self.regions else logits.softmax(dim=1), bool(self.regions)))
        return logits


def _entropy(probabilities: torch.Tensor, of_regions: bool = False) -> tuple[float, float]:
    """The weighted sum of the voxels' entropies, each in 0 to 1, and the sum of the weights."""
    p = torch.as_tensor(probabilities).double()
    if of_regions:  # each is there or not
        entropy = (torch.special.entr(p) + torch.special.entr(1 - p)).mean(dim=1) / math.log(2)
        weight = p.amax(dim=1)
    else:
        entropy = torch.special.entr(p).sum(dim=1) / math.log(p.shape[1])
        weight = 1 - p[:, 0]
    return float((entropy * weight).sum()), float(weight.sum())
