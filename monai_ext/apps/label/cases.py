# SPDX-License-Identifier: Apache-2.0
"""From the labels that annotators saved to cases that a bundle trains on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk
from monai.utils import MetaKeys
from PIL import Image

from monai_ext.data import MaskReader, VolumeReader
from monai_ext.data.files.guards import damaged, unusable
from monai_ext.data.files.picture_reader import is_picture
from monai_ext.data.splits import evenly_spread
from monai_ext.utils import whole_numbers

__all__ = ["own_cases", "split_cases"]


def own_cases(saved: Sequence[Mapping[str, Any]], classes: Mapping[str, int], folder: Path) -> list[dict[str, str]]:
    """Cases whose label files hold the model's class numbers.

    3D Slicer numbers the segments of a saved label in the order of its list, and sends the names: after an annotator
    removed or added one, number 3 may be another organ than the model's class 3. Such labels are written anew, by name.

    Args:
        saved: ``image``, ``label``, and ``segments`` (``[{"name": ...}, ...]`` in the order of their numbers, or None
            where a viewer sends none: then the numbers are taken for the classes).
        classes: name -> number of the model's classes.
        folder: where relabelled files go.

    Raises:
        ValueError: if nothing was saved, or a segment is none of the model's classes; names the study.
    """
    if not saved:
        raise ValueError(
            "monai_ext: no study has a final label yet. Save one in the viewer (Submit Label), then train."
        )
    cases = []
    for case in saved:
        numbers = _numbers(case, classes)
        label = str(case["label"])
        volume_of_picture = is_picture(case["image"]) and not is_picture(label)
        if volume_of_picture or any(number != value for number, value in numbers.items()):
            label = _relabelled(str(case["image"]), label, numbers or {v: v for v in classes.values()}, folder)
        cases.append({"image": str(case["image"]), "label": label})
    return cases


def split_cases(cases: Sequence[dict[str, str]], share: float) -> dict[str, list[dict[str, str]]]:
    """Training and validation parts; ``share`` of the cases, evenly spread, are for validation.

    With one case, or a share of 0, there is no validation: the last epoch becomes the model.

    Raises:
        ValueError: if the share is not in ``[0, 1)``.
    """
    if not 0 <= share < 1:
        raise ValueError(f"monai_ext: val_split must be at least 0 and below 1, got {share}.")
    count = min(len(cases) - 1, max(1, round(share * len(cases)))) if share else 0
    kept = evenly_spread(len(cases), count)
    return {
        "training": [case for i, case in enumerate(cases) if i not in kept],
        "validation": [case for i, case in enumerate(cases) if i in kept],
    }


def _numbers(case: Mapping[str, Any], classes: Mapping[str, int]) -> dict[int, int]:
    """Number in the file -> class of the model."""
    segments = case.get("segments") or []
    numbers = {}
    for i, segment in enumerate(segments):
        name = str(segment.get("name", "")).lower()
        if name not in classes:
            known = ", ".join(name for name in classes if name != "background")
            raise ValueError(
                f"monai_ext: {Path(case['label']).name}: segment {segment.get('name')!r} is none of this model's "
                f"classes ({known}). Rename or remove it in the viewer and submit the label again."
            )
        numbers[i + 1] = classes[name]
    return numbers


def _relabelled(image: str, label: str, numbers: Mapping[int, int], folder: Path) -> str:
    if is_picture(image):
        values = MaskReader("classes", 256).get_data((label,))[0] if is_picture(label) else _only_slice(label)
        file = folder / f"{Path(image).stem}.png"
        Image.fromarray(_mapped(label, values, numbers)).save(file)
    else:
        values, meta = VolumeReader().get_data((label,))
        file = folder / f"{Path(label).name.split('.')[0]}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(_mapped(label, values, numbers), meta[MetaKeys.AFFINE]), file)
    return str(file)


def _only_slice(label: str) -> np.ndarray:
    """3D Slicer saves the label of a picture as a volume of one slice."""
    try:
        values = sitk.GetArrayFromImage(sitk.ReadImage(label))
    except RuntimeError as e:
        raise damaged(label, e) from e
    if values.size != np.prod(values.shape[-2:]):
        sides = "x".join(map(str, values.shape[::-1]))
        raise unusable(
            label, f"{sides} values, expected one slice", "Draw the label on the picture and submit it again."
        )
    return values.reshape(values.shape[-2:])


def _mapped(label: str, values: np.ndarray, numbers: Mapping[int, int]) -> np.ndarray:
    values = whole_numbers(values, Path(label).name)
    if unknown := sorted(set(np.unique(values).tolist()) - {0, *numbers}):
        raise ValueError(f"monai_ext: {Path(label).name}: values {unknown[:8]} without a segment of that number.")
    mapped = np.zeros(values.shape, np.uint8)
    for number, value in numbers.items():
        mapped[values == number] = value
    return mapped
