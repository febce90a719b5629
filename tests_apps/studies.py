# SPDX-License-Identifier: Apache-2.0
"""Studies of an annotator: CT and MR volumes, a DICOM series, pictures, all of them phantoms."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

from monai_ext.phantoms import breast_nodule_case, ct_phantom_case, mr_phantom_case
from tests.dicom import write_ct_series


def oblique(affine: np.ndarray, degrees: float = 12.0) -> np.ndarray:
    """Turned about two axes, as a patient lies."""
    a = np.deg2rad(degrees)
    x = np.array([[1, 0, 0, 0], [0, np.cos(a), -np.sin(a), 0], [0, np.sin(a), np.cos(a), 0], [0, 0, 0, 1]])
    z = np.array([[np.cos(a), -np.sin(a), 0, 0], [np.sin(a), np.cos(a), 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    return z @ x @ affine


def save(path: Path, voxels: np.ndarray, affine: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    return path


def ct(case_id: int = 5, size: int = 48, slices: int = 10):
    """Voxels, label and an oblique affine."""
    case = ct_phantom_case(case_id, in_plane=size, slices=slices)
    return case.image, case.label, oblique(case.affine)


def write_studies(folder: Path) -> Path:
    """``ct.nii.gz``, ``mr.nii.gz``, ``us.png`` and ``series/*.dcm``, with the labels beside the folder."""
    image, label, affine = ct()
    save(folder / "ct.nii.gz", image, affine)
    save(folder.parent / "ct_label.nii.gz", label, affine)
    mr = mr_phantom_case(1, in_plane=48, slices=6)
    save(folder / "mr.nii.gz", mr.images["ED"], oblique(mr.affine, 5))
    image, _, affine = ct(6)
    write_ct_series(folder / "patient" / "series", image, affine)
    us = breast_nodule_case(1)
    Image.fromarray(us.image).save(folder / "us.png")
    return folder
