# SPDX-License-Identifier: Apache-2.0
"""What every volume must be, whatever its format: its sides, its channels and its affine."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from nibabel.orientations import axcodes2ornt, inv_ornt_aff

from monai_ext.data.files.affines import spacing_of
from monai_ext.data.files.volume_finder import channel_of

__all__ = ["assumed_affine", "check_count", "checked_affine", "volume_shape", "warn_once"]

logger = logging.getLogger(__name__)
ONE_VALUE = "Save the one that is meant as a file of its own."


def volume_shape(path: str, shape: Sequence[int], channel_names: Sequence[str] = ()) -> tuple[int, ...]:
    """The three sides of a volume, and its channels where several are named; further axes of length 1 are dropped."""
    kept = tuple(int(n) for n in shape)
    kept = (*kept[:3], *(n for n in kept[3:] if n > 1)) if len(channel_names) > 1 else kept
    while len(kept) > 3 and kept[-1] == 1:
        kept = kept[:-1]
    if len(channel_names) > 1 and len(kept) in (3, 4):
        check_count(path, kept[3] if len(kept) == 4 else 1, channel_names)
        return kept
    if len(kept) != 3:
        several = "" if len(kept) < 3 else f" {ONE_VALUE}"
        sides = "x".join(map(str, shape))
        raise ValueError(f"monai_ext: {path}: {sides}, expected a volume of three dimensions.{several}")
    return kept


def check_count(path: str, found: int, channel_names: Sequence[str]) -> None:
    """A file must have as many channels as are named."""
    expected = max(1, len(channel_names))
    if found == expected:
        return
    if expected == 1:
        raise ValueError(f"monai_ext: {path}: {found} values per voxel, expected 1 (no colour, no series). {ONE_VALUE}")
    names = ", ".join(channel_names)
    if found < expected:
        here = channel_of(path)[1] if found == 1 else None
        missing = [name for i, name in enumerate(channel_names) if (i != here if here is not None else i >= found)]
        told = f"{', '.join(missing)} missing"
    else:
        told = f"{found - expected} too many (is it a time series?)"
    raise ValueError(
        f"monai_ext: {path}: {found} channel{'s' * (found > 1)}, expected {expected} ({names}): {told}. Give each "
        "channel as a file of its own, or all in one file."
    )


def checked_affine(path: str, affine: np.ndarray | None) -> np.ndarray:
    """An affine that says where every voxel lies; ValueError for another."""
    spacing = np.zeros(3) if affine is None else spacing_of(affine)
    # a micrometre to a metre: no scanner's voxel is beyond
    sane = affine is not None and np.isfinite(affine).all() and spacing.min() >= 1e-3 and spacing.max() <= 1e3
    if affine is None or not sane or abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-3:
        raise ValueError(
            f"monai_ext: {path}: its geometry (affine) is missing, singular or of no scanner, so left and right are "
            "unknown. Convert it again from the original DICOM series."
        )
    return np.asarray(affine, dtype=np.float64)


def assumed_affine(path: str, spacing: np.ndarray) -> np.ndarray:
    """Voxels of a file without orientation, where the user vouches for one."""
    axes = os.environ.get("MONAI_EXT_ORIENTATION", "").upper()
    if not re.fullmatch("(?=.*[LR])(?=.*[AP])(?=.*[IS])[LRAPIS]{3}", axes):
        raise ValueError(
            f"monai_ext: {path}: it says nowhere which way its axes run, so left and right are unknown. Convert it "
            "again from the original DICOM series; or, if you know that all your files without it run, say, to the "
            "left, to the back and up, set MONAI_EXT_ORIENTATION=LPS."
        )
    warn_once(f"monai_ext: {path}: without orientation; taken as {axes}, as MONAI_EXT_ORIENTATION says.")
    return checked_affine(path, inv_ornt_aff(axcodes2ornt(tuple(axes)), (1, 1, 1)) @ np.diag([*spacing, 1.0]))


@lru_cache(maxsize=4096)
def warn_once(message: str) -> None:
    """Once in a process, however often a file is read."""
    logger.warning(message)
