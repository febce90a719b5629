# SPDX-License-Identifier: Apache-2.0
"""Images as another patient or scanner would have given them, and damaged ones: what calibration needs to see.

All work on preprocessed images ``(1, C, *spatial)``, whatever they are of, and are the same for one seed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from scipy import ndimage

__all__ = ["DAMAGES", "damaged", "other_field"]

DAMAGES = ("noise", "blur", "offset", "contrast", "boxes")
BOXES = 6


def other_field(x: torch.Tensor, seed: int) -> torch.Tensor:
    """The same body in another field of view: magnified, moved, and of a volume a part of the slices."""
    rng = np.random.default_rng(seed)
    plain = x.as_tensor() if isinstance(x, MetaTensor) else x
    scale = rng.uniform(0.75, 1.3)
    move = rng.uniform(-0.15, 0.15, 2)
    first, last = rng.uniform(0, 0.35, 2)
    volume = plain.dim() == 5
    if volume and (count := plain.shape[-1]) > 4:
        plain = plain[..., int(first * count) : count - int(last * count)]
    planes = plain[0].movedim(-1, 0) if volume else plain  # (slices, C, H, W)
    theta = torch.tensor([[1 / scale, 0, move[0]], [0, 1 / scale, move[1]]], dtype=planes.dtype, device=planes.device)
    grid = F.affine_grid(theta.expand(len(planes), -1, -1), list(planes.shape), align_corners=False)
    outside = planes.amin()  # what lies around is nothing
    seen = F.grid_sample(planes - outside, grid, padding_mode="zeros", align_corners=False) + outside
    changed = seen.movedim(0, -1)[None] if volume else seen
    return MetaTensor(changed).copy_meta_from(x) if isinstance(x, MetaTensor) else changed


def damaged(x: torch.Tensor, kind: str, seed: int) -> torch.Tensor:
    """An image on the same grid that something happened to, see ``DAMAGES``; how much is drawn."""
    rng = np.random.default_rng(seed)
    plain = x.as_tensor() if isinstance(x, MetaTensor) else x
    array = plain.cpu().numpy().astype(np.float32)
    low, high = float(array.min()), float(array.max())
    span = max(high - low, 1e-6)
    much = rng.uniform(0, 1)
    if kind == "noise":
        array = array + span * (0.08 + 0.3 * much) * rng.standard_normal(array.shape, dtype=np.float32)
    elif kind == "blur":
        array = ndimage.gaussian_filter(array, (0, 0, 1 + 3 * much, 1 + 3 * much, *([0] * (array.ndim - 4))))
    elif kind == "offset":
        array = array + span * (0.15 + 0.35 * much) * rng.choice([-1, 1])
    elif kind == "contrast":
        middle = (low + high) / 2
        array = middle + (array - middle) * rng.choice([0.25 + 0.5 * much, 1.5 + 2 * much])
    elif kind == "boxes":
        array = array.copy()
        for _ in range(BOXES):
            sides = [max(1, int(side * (0.1 + 0.15 * much))) for side in array.shape[2:]]
            starts = [int(rng.integers(0, side)) - own for side, own in zip(array.shape[2:], sides)]
            box: Any = tuple(slice(max(0, start), start + 2 * own) for start, own in zip(starts, sides))
            array[(slice(None), slice(None), *box)] = rng.uniform(low, high)
    changed = torch.from_numpy(array.astype(np.float32)).clamp(low, high).to(plain)
    return MetaTensor(changed).copy_meta_from(x) if isinstance(x, MetaTensor) else changed
