# SPDX-License-Identifier: Apache-2.0
"""BUSI: breast ultrasound of 437 benign and 210 malignant nodules (the 133 normal pictures are left out, as usual)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from monai_ext.data.datasets.dataset_info import LESION_COLOUR, Cohort, DatasetInfo, Structure
from monai_ext.data.datasets.folders import find_one, listed_parts, match_masks, pictures_by_stem, subfolder
from monai_ext.phantoms.drawing import PictureCase
from monai_ext.phantoms.picture_cohort import save_picture, write_picture_cohort
from monai_ext.phantoms.ultrasound import breast_nodule_case

__all__ = ["BUSI", "find_busi"]

KINDS = ("benign", "malignant")


def find_busi(folder: Path) -> Cohort:
    """Find BUSI; several masks of a picture, ``_mask.png`` and ``_mask_1.png``, are to be united."""
    expected = "'benign/benign (1).png' with 'benign/benign (1)_mask.png', and malignant/ likewise"
    return find_one(folder, "BUSI", _read_folder, expected)


def _read_folder(root: Path) -> Cohort | None:
    cases: dict[str, dict[str, Any]] = {}
    kinds: dict[str, list[str]] = {}
    for kind in KINDS:
        images = subfolder(root, kind)
        if images is None:
            return None
        masks: dict[str, list[Path]] = {}
        for stem, path in pictures_by_stem(images, rf"({kind}.*_mask(?:_\d+)?)").items():
            masks.setdefault(stem[: stem.lower().rindex("_mask")], []).append(path)
        pairs = match_masks(pictures_by_stem(images, rf"({kind}(?!.*_mask).*)"), masks, images)
        cases.update(pairs)
        kinds[kind] = list(pairs)
    return Cohort(f"BUSI in {root}, {listed_parts(kinds)} images", cases) if cases else None


def _kind(case: str) -> str:
    return next(kind for kind in KINDS if case.lower().startswith(kind))


def _save_masks(path: Path, made: PictureCase) -> None:
    for i, number in enumerate(np.unique(made.objects)[1:]):
        name = f"{path.stem}_{i}{path.suffix}" if i else path.name
        save_picture(path.with_name(name), np.where(made.objects == number, 255, 0).astype(np.uint8))


def _draw(case: str, seed: int, size: tuple[int, int]) -> PictureCase:
    return breast_nodule_case(seed, size, malignant=_kind(case) == "malignant", nodules=2 if seed % 8 == 0 else 1)


def _write_phantom(folder: Path, cases: int) -> None:
    malignant = cases // 3
    names = [f"benign ({i})" for i in range(1, cases - malignant + 1)]
    names += [f"malignant ({i})" for i in range(1, malignant + 1)]
    roots = {name: Path("Dataset_BUSI_with_GT", _kind(name)) for name in names}
    files = {name: (root / f"{name}.png", root / f"{name}_mask.png") for name, root in roots.items()}
    write_picture_cohort(folder, "busi", files, _draw, _save_masks)


BUSI = DatasetInfo(
    title="BUSI breast ultrasound (647 images with benign or malignant nodules)",
    class_names=("nodule",),
    find=find_busi,
    write_phantom=_write_phantom,
    phantom_cases=80,
    beside={
        f"Dataset_BUSI_with_GT/normal/normal (1){end}.png": what for end, what in (("", "image"), ("_mask", "label"))
    },
    modality="US",
    structures=(Structure("27925004", "Nodule", LESION_COLOUR, abnormal=True),),
    label_coding="classes",
    match="touch",
    sorted_folds=True,
    stratum=_kind,
)
