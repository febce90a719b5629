# SPDX-License-Identifier: Apache-2.0
"""Which planes of a volume a 2D network works on, and which way up they lie."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import orientation_ras_lps, to_affine_nd
from monai.transforms import InvertibleTransform, MapTransform, Orientation
from monai.transforms.spatial.functional import orientation
from monai.utils import SpaceKeys

__all__ = ["OrientSlices", "OrientSlicesd", "slice_orientation"]

ANISOTROPIC = 1.5  # the coarsest axis over the next: slices rather than a volume
AXIAL = 0.8  # cosine of a plane's normal with the body's axis: closer are axial, tilted gantries and oblique brains too


def slice_orientation(affine: np.ndarray, axcodes: str = "LPS") -> np.ndarray:
    """Which way to turn a volume so that the planes that were acquired are the slices along its last axis.

    Slices lie across the axis whose voxels are longest, if they are 1.5 times as long as along any other; a volume that
    is nearer to isotropic is cut axially. Axial planes, up to 37 degrees of tilt, and near-isotropic volumes get
    ``axcodes``. In any other plane the second axis is the one that runs most along the body, towards the feet, and the
    first one runs to the patient's left in coronal planes, to the back in sagittal ones, and to both in those between,
    as of a short-axis view of the heart. Slices are counted so that nothing is mirrored: a coronal volume becomes
    L, I, P; a sagittal one P, I, R.

    Args:
        affine: ``(4, 4)``, voxel indices to RAS millimetres.
        axcodes: for axial planes; the last axis is that of the slices.

    Returns:
        A nibabel orientation, ``(3, 2)``: for each axis the one it becomes, and 1 or -1 where it is turned round.

    Examples::

        >>> slice_orientation(np.array([[0, 0, 4.0, 0], [-0.6, 0, 0, 0], [0, -0.6, 0, 0], [0, 0, 0, 1]]))
        array([[ 0.,  1.],
               [ 1.,  1.],
               [ 2., -1.]])
    """
    axial = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(axcodes))
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    across = int(lengths.argmax())
    inside = [axis for axis in range(3) if axis != across]
    if not np.isfinite(lengths).all() or lengths[across] < ANISOTROPIC * lengths[inside].max():
        return axial
    directions = affine[:3, :3] / np.where(lengths, lengths, 1)
    normal = np.cross(directions[:, inside[0]], directions[:, inside[1]])
    if abs(normal[2]) >= AXIAL * np.linalg.norm(normal):
        return axial
    down = max(inside, key=lambda axis: abs(directions[2, axis]))
    right = inside[1] if down == inside[0] else inside[0]
    turned = np.empty((3, 2))
    turned[down] = 1, -np.sign(directions[2, down]) or 1
    turned[right] = 0, -np.sign(directions[0, right] + directions[1, right]) or 1  # to the left and the back
    axes = directions[:, [right, down, across]] * [turned[right, 1], turned[down, 1], 1]
    turned[across] = 2, np.sign(np.linalg.det(axes)) or 1
    return turned


class OrientSlices(Orientation):
    """Turn a volume as :func:`slice_orientation` says; otherwise as MONAI's ``Orientation``, inverse included.

    Args:
        axcodes: for volumes that are cut axially.
        labels: see ``Orientation``.

    Shape:
        - input: ``(C, H, W, D)``, a ``MetaTensor`` whose affine says where it lies
        - output: the same with its axes in another order

    Examples::

        >>> sagittal = MetaTensor(torch.rand(1, 256, 256, 12), affine=from_nifti)
        >>> OrientSlices()(sagittal).shape
        torch.Size([1, 256, 256, 12])
    """

    def __init__(self, axcodes: str = "LPS", labels: Sequence[tuple[str, str]] | None = None) -> None:
        super().__init__(axcodes=axcodes, labels=labels)

    def __call__(
        self, data_array: torch.Tensor, lazy: bool | None = None, like: np.ndarray | None = None
    ) -> torch.Tensor:
        """Turn ``data_array``; as ``like`` says, if given, in place of its own affine."""
        if not isinstance(data_array, MetaTensor) or data_array.ndim != 4:
            return super().__call__(data_array, lazy)
        turned = self.of(data_array) if like is None else like
        affine = to_affine_nd(3, data_array.affine.cpu().numpy())
        return orientation(data_array, affine, turned.copy(), lazy=False, transform_info=self.get_transform_info())

    def of(self, volume: MetaTensor) -> np.ndarray:
        """How a volume is turned."""
        affine = to_affine_nd(3, volume.affine.cpu().numpy()).astype(np.float64)
        if volume.meta.get("space") == SpaceKeys.LPS:
            affine = np.asarray(orientation_ras_lps(affine))
        return slice_orientation(affine, str(self.axcodes))


class OrientSlicesd(MapTransform, InvertibleTransform):
    """:class:`OrientSlices` of several entries of one grid: the first says how all are turned.

    Args:
        keys: the image, and what lies on its grid.
        spatial_dims: of the network; one in 3D sees the whole volume, as ``axcodes`` say.
        axcodes: for volumes that are cut axially.
        labels: see MONAI's ``Orientation``.
        allow_missing_keys: pass over keys that are not there.

    Examples::

        {"_target_": "monai_ext.transforms.OrientSlicesd", "keys": ["image", "label"],
         "spatial_dims": "@network_def#spatial_dims"}
    """

    def __init__(
        self,
        keys: KeysCollection,
        spatial_dims: int = 2,
        axcodes: str = "LPS",
        labels: Sequence[tuple[str, str]] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.turn = OrientSlices(axcodes, labels) if spatial_dims == 2 else Orientation(axcodes, labels=labels)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        like = None
        for key in self.key_iterator(result):
            if not isinstance(self.turn, OrientSlices) or not isinstance(data[key], MetaTensor) or data[key].ndim != 4:
                result[key] = self.turn(data[key])
                continue
            like = self.turn.of(data[key]) if like is None else like
            result[key] = self.turn(data[key], like=like)
        return result

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.turn.inverse(data[key])
        return result
