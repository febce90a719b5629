# SPDX-License-Identifier: Apache-2.0
"""Affines of volumes: from our convention to ITK's and DICOM's, and how far two are apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["flip_lps", "from_itk", "has_right_angles", "largest_shift", "spacing_of", "to_itk", "voxel_ml"]

RIGHT_ANGLE = 1e-3  # cosine between axes up to which an angle is taken for a right one, as rounding leaves it


def flip_lps(affine: np.ndarray) -> np.ndarray:
    """From RAS, as nibabel and MONAI have it, to LPS, as ITK and DICOM have it, or back."""
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(affine, dtype=np.float64)


def spacing_of(affine: np.ndarray) -> np.ndarray:
    """Lengths of a voxel's edges in mm."""
    return np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)


def has_right_angles(affine: np.ndarray) -> bool:
    """Whether the axes of a grid are at right angles, which those of a CT with a tilted gantry are not."""
    axes = np.asarray(affine, dtype=np.float64)[:3, :3] / spacing_of(affine)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() <= RIGHT_ANGLE)


def voxel_ml(affine: np.ndarray) -> float:
    """What a voxel holds, in mL; of a sheared volume, too, where it is less than the product of the edges.

    Examples::

        >>> voxel_ml(np.diag([1.0, 1.0, 5.0, 1.0]))
        0.005
    """
    return abs(float(np.linalg.det(np.asarray(affine, dtype=np.float64)[:3, :3]))) / 1000


def largest_shift(first: np.ndarray, second: np.ndarray, shape: Sequence[int]) -> float:
    """How far apart, in mm along an axis, two affines place a voxel of a volume at most; corners have the extremes."""
    corners = np.array(np.meshgrid(*([0, n] for n in shape), [1], indexing="ij")).reshape(4, -1)
    return float(np.abs((np.asarray(first) - np.asarray(second)) @ corners).max())


def to_itk(array: np.ndarray, affine: np.ndarray) -> sitk.Image:
    """An array ``(X, Y, Z)`` with its affine (RAS, mm) as an image of ITK's."""
    import SimpleITK as sitk  # takes a quarter of a second, which most runs can do without

    lps, spacing = flip_lps(affine), spacing_of(affine)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def from_itk(image: sitk.Image | sitk.ImageFileReader) -> np.ndarray:
    """The affine (RAS, mm) of an image of ITK's of three dimensions, or of the first three of more."""
    affine = np.eye(4)
    if image.GetDimension() >= 3:
        direction = np.array(image.GetDirection()).reshape(image.GetDimension(), -1)[:3, :3]
        affine[:3, :3] = direction * np.array(image.GetSpacing())[:3]
        affine[:3, 3] = image.GetOrigin()[:3]
    return flip_lps(affine)
