# SPDX-License-Identifier: Apache-2.0
"""What picture phantoms share: a labelled RGB picture, and soft-edged outlines and strokes painted on pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monai_ext.data.phantoms.solids import Array

__all__ = ["PictureCase", "to_picture"]


@dataclass(frozen=True)
class PictureCase:
    """One phantom picture.

    Attributes:
        image: RGB, ``(H, W, 3)``.
        objects: ``(H, W)``, 0 or the number of an object, 1 to n.
        kinds: class of every object, 1 where there is one kind.
    """

    image: NDArray[np.uint8]
    objects: NDArray[np.uint16]
    kinds: tuple[int, ...]


def to_picture(rgb: Array) -> NDArray[np.uint8]:
    """Bytes of an RGB picture with values of 0 to 1."""
    return np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)
