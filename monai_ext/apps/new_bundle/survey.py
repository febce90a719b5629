# SPDX-License-Identifier: Apache-2.0
"""What there is in the data: all that a bundle's choices rest on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from monai.data.utils import affine_to_spacing
from monai.utils import MetaKeys
from tqdm.auto import tqdm

from monai_ext.data import MaskReader, PictureReader, VolumeReader, check_pair
from monai_ext.data.files.picture_reader import is_picture
from monai_ext.transforms import slice_orientation, unlike_modality

__all__ = ["Survey", "survey"]

SAMPLES = 10_000  # voxels a case that percentiles are taken from


@dataclass
class Survey:
    """What was read.

    Attributes:
        pictures: 2D pictures, not volumes.
        modality: of volumes: ``"CT"``, ``"MR"``, or None where values are neither's.
        shapes: of each case, of volumes in the order in which a 2D network sees their axes.
        spacings: of each volume, in mm, in the same order.
        values: of label files, sorted, with how many cases have each.
        foreground: percentiles 0.5 and 99.5 of the image inside labels.
        everywhere: the same of whole images.
    """

    pictures: bool
    modality: str | None = None
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    spacings: list[tuple[float, ...]] = field(default_factory=list)
    values: dict[int, int] = field(default_factory=dict)
    foreground: tuple[float, float] = (0.0, 1.0)
    everywhere: tuple[float, float] = (0.0, 1.0)


def survey(cases: Mapping[str, Mapping[str, str]], progress: bool = True) -> Survey:
    """Read every image and label once.

    Raises:
        FileNotFoundError, ValueError: for the first case that cannot be used; the file is named.
    """
    found = Survey(pictures=is_picture(next(iter(cases.values()))["image"]))
    rng = np.random.default_rng(0)
    inside: list[np.ndarray] = []
    whole: list[np.ndarray] = []
    odd: dict[str, int] = {"CT": 0, "MR": 0}
    coding = _picture_classes(cases) if found.pictures else 2
    for name, case in tqdm(cases.items(), desc="reading", unit="case", disable=not progress):
        check_pair({**case, "case_id": name})
        if found.pictures:
            image, _ = PictureReader().get_data([case["image"]])
            label, _ = MaskReader("classes", coding).get_data([case["label"]])
            found.shapes.append(image.shape[:2])
            image = image.mean(axis=2)
        else:
            image, meta = VolumeReader().get_data([case["image"]])
            label, _ = VolumeReader().get_data([case["label"]])
            axes = slice_orientation(np.asarray(meta[MetaKeys.AFFINE]))[:, 0].argsort()  # the slices' own come first
            found.shapes.append(tuple(np.array(image.shape)[axes].tolist()))
            found.spacings.append(tuple(affine_to_spacing(meta[MetaKeys.AFFINE])[axes].tolist()))
            values = torch.from_numpy(image.astype(np.float32))
            if not torch.isfinite(values).all():
                raise ValueError(f"monai_ext: {case['image']}: holds values that are not finite (NaN or infinity).")
            for modality in odd:
                odd[modality] += unlike_modality(values, modality) is not None
        if image.min() == image.max():
            raise ValueError(f"monai_ext: {case['image']}: every value is {image.min():g}; there is no image.")
        for value in np.unique(label):
            if value != round(float(value)) or value < 0:
                raise ValueError(
                    f"monai_ext: {case['label']}: label value {value:g}, expected whole numbers from 0 on."
                )
            found.values[int(value)] = found.values.get(int(value), 0) + 1
        whole.append(rng.choice(image.ravel(), SAMPLES))
        if (label > 0).any():
            inside.append(rng.choice(image[label > 0], SAMPLES))
    if not inside:
        raise ValueError(f"monai_ext: {Path(case['label']).parent}: every label is empty (background only).")
    found.values = dict(sorted(found.values.items()))
    half = len(cases) / 2
    if not found.pictures:
        found.modality = "CT" if odd["CT"] < half else "MR" if odd["MR"] < half else None
    found.foreground, found.everywhere = _percentiles(inside), _percentiles(whole)
    return found


def _percentiles(parts: list[np.ndarray]) -> tuple[float, float]:
    low, high = np.percentile(np.concatenate(parts), (0.5, 99.5))
    return float(low), float(high)


def _picture_classes(cases: Mapping[str, Mapping[str, str]]) -> int:
    """2 where every mask is black and white (or 0 and 1), else as many as the values need."""
    try:
        for case in cases.values():
            MaskReader("classes", 2).get_data([case["label"]])
        return 2
    except ValueError:
        reader = MaskReader("classes", 256)
        masks = [np.unique(reader.get_data([case["label"]])[0]) for case in cases.values()]
        values = np.unique(np.concatenate(masks)).tolist()
        if values != list(range(len(values))):
            shown = ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
            where = Path(next(iter(cases.values()))["label"]).parent
            raise ValueError(
                f"monai_ext: {where}: mask values {shown}; expected black and white, or classes 0, 1, 2, ..."
            ) from None
        return len(values)
