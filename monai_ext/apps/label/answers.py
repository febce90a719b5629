# SPDX-License-Identifier: Apache-2.0
"""A label as the file that a viewer asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk
from monai.data import MetaTensor

from monai_ext.data import AtomicNibabelWriter, AtomicPictureWriter
from monai_ext.data.files.affines import has_right_angles, to_itk

__all__ = ["sheared_nrrd", "write_label"]

NIFTI = (".nii", ".nii.gz")


def sheared_nrrd(suffix: str | None, affine: np.ndarray) -> str | None:
    """Why a label on a grid is not written with a suffix: what asks for NRRD holds no sheared one. None where it is."""
    if not str(suffix).endswith(".nrrd") or has_right_angles(affine):
        return None
    return (
        "the gantry was tilted, so the grid of this study is sheared. 3D Slicer, which asks for NRRD, would show its "
        "label beside the organs. Ask for .nii.gz, or for output dicom_seg."
    )


def write_label(
    file: str,
    label: MetaTensor,
    classes: Mapping[str, int],
    colours: Mapping[str, tuple[int, int, int]],
    compress: bool = False,
) -> None:
    """Write a label map as its suffix says; voxels and geometry are those of ``label``.

    Args:
        file: ``.nii`` and ``.nii.gz`` are written as the bundles do, ``.png`` with a palette; ``.nrrd`` and
            ``.seg.nrrd``, with which 3D Slicer asks, carry the names and colours of the segments.
        label: ``(1, X, Y, Z)``, or a picture ``(1, H, W)`` with row 0 at the top.
        classes: name -> value.
        colours: name -> red, green, blue in 0 to 255.
        compress: of NRRD.

    Raises:
        ValueError: for another suffix, a label that is no label map, or a sheared one as NRRD.
    """
    if label.ndim not in (3, 4) or label.shape[0] != 1:
        raise ValueError(f"monai_ext: expected a label map (1, *spatial), got {list(label.shape)}.")
    if file.endswith(NIFTI):
        _write(AtomicNibabelWriter(output_dtype=np.uint8), file, label)
    elif file.endswith(".png") and label.ndim == 3:
        _write(AtomicPictureWriter(output_dtype=np.uint8), file, label)
    elif file.endswith(".nrrd"):
        if label.ndim == 4 and (reason := sheared_nrrd(".nrrd", np.asarray(label.affine))):
            raise ValueError(f"monai_ext: {reason}")
        image = _itk_image(label)
        for key, value in _segments(classes, colours).items():
            image.SetMetaData(key, value)
        sitk.WriteImage(image, file, useCompression=compress)
    else:
        raise ValueError(f"monai_ext: a label is written as .nii, .nii.gz, .png (of a picture) or .nrrd, not {file}.")


def _write(writer: Any, file: str, label: MetaTensor) -> None:
    writer.set_data_array(label, channel_dim=0)
    writer.set_metadata(label.meta, resample=False)
    writer.write(file)


def _itk_image(label: MetaTensor) -> sitk.Image:
    array = np.asarray(label.array[0], dtype=np.uint8)
    if label.ndim == 3:
        return sitk.GetImageFromArray(array)
    return to_itk(array, np.asarray(label.affine))


def _segments(classes: Mapping[str, int], colours: Mapping[str, tuple[int, int, int]]) -> dict[str, str]:
    """3D Slicer's description of segments that share one label map."""
    described = {}
    for i, (name, value) in enumerate(sorted(classes.items(), key=lambda item: item[1])):
        described[f"Segment{i}_ID"] = name
        described[f"Segment{i}_Name"] = name
        described[f"Segment{i}_LabelValue"] = str(value)
        described[f"Segment{i}_Layer"] = "0"
        described[f"Segment{i}_Color"] = " ".join(f"{part / 255:.4f}" for part in colours[name])
    return described
