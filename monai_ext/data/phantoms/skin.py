# SPDX-License-Identifier: Apache-2.0
"""Dermoscopy phantom: one pigmented lesion."""

from __future__ import annotations

import numpy as np

from monai_ext.data.phantoms.pictures import PictureCase, to_picture
from monai_ext.data.phantoms.solids import smooth_noise

__all__ = ["skin_lesion_case"]


def skin_lesion_case(seed: int, size: tuple[int, int] = (192, 256)) -> PictureCase:
    """Dermoscopy phantom: one pigmented lesion."""
    rng = np.random.default_rng([1, seed])
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32) / min(size)
    objects = np.zeros(size, np.uint16)
    wobble = 0.02 * smooth_noise(rng, size, (8, 8))
    for number in range(1, 1 + 1):
        at = rng.uniform(0.25, 0.75, 2) * np.array(size) / min(size)
        objects[np.hypot(y - at[0], x - at[1]) < 0.12 + wobble] = number
    objects = np.searchsorted(np.unique(objects), objects).astype(np.uint16)
    shade = np.where(objects > 0, 0.4, 0.6)[..., None] + 0.1 * smooth_noise(rng, (*size, 3), (2, 2, 0.1))
    return PictureCase(to_picture(shade), objects, (1,) * int(objects.max()))
