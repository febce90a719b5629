# SPDX-License-Identifier: Apache-2.0
"""Skin lesions of the ISIC challenges of 2016 and 2017, part 1: dermoscopic pictures, one lesion each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from monai_ext.data.datasets.dataset_info import LESION_COLOUR, Cohort, DatasetInfo, Structure
from monai_ext.data.datasets.folders import (
    folders,
    listed_parts,
    match_masks,
    not_found,
    only,
    pictures_by_stem,
    subfolder,
)
from monai_ext.phantoms.picture_cohort import split_counts, write_picture_cohort
from monai_ext.phantoms.skin import skin_lesion_case

__all__ = ["ISIC2016", "ISIC2017", "find_isic2016", "find_isic2017"]

# part of the split -> folder of the images, folder of the masks
TREE_2016 = {
    "training": ("ISBI2016_ISIC_Part1_Training_Data", "ISBI2016_ISIC_Part1_Training_GroundTruth"),
    "test": ("ISBI2016_ISIC_Part1_Test_Data", "ISBI2016_ISIC_Part1_Test_GroundTruth"),
}
TREE_2017 = {
    "training": ("ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth"),
    "validation": ("ISIC-2017_Validation_Data", "ISIC-2017_Validation_Part1_GroundTruth"),
    "test": ("ISIC-2017_Test_v2_Data", "ISIC-2017_Test_v2_Part1_GroundTruth"),
}


def find_isic2016(folder: Path) -> Cohort:
    """Find ISIC 2016, part 1: 900 training and 379 test pictures."""
    return _find(folder, "ISIC 2016", TREE_2016)


def find_isic2017(folder: Path) -> Cohort:
    """Find ISIC 2017, part 1: 2000 training, 150 validation and 600 test pictures."""
    return _find(folder, "ISIC 2017", TREE_2017)


def _find(folder: Path, title: str, tree: Mapping[str, tuple[str, str]]) -> Cohort:
    cases: dict[str, dict[str, Any]] = {}
    parts: dict[str, list[str]] = {}
    for part, names in tree.items():
        images, masks = (_named(folder, title, name) for name in names)
        # ISIC_0000000_superpixels.png of 2017 is neither an image nor a mask
        found = pictures_by_stem(images, r"(ISIC_\d+)") if images and masks else {}
        if not found or not masks:
            raise not_found(folder, title, f"{names[0]}/ISIC_0000000.jpg and {names[1]}/ISIC_0000000_Segmentation.png")
        pairs = match_masks(found, pictures_by_stem(masks, r"(ISIC_\d+)_Segmentation"), masks)
        cases.update(pairs)
        parts[part] = list(pairs)
    return Cohort(f"{title} part 1, {listed_parts(parts)} images", cases, parts=parts)


def _named(folder: Path, title: str, name: str) -> Path | None:
    """The folder of this name with pictures in it: archives unpack beside each other, some twice, some empty."""
    found = {path: path for root in folders(folder) if (path := subfolder(root, name)) and pictures_by_stem(path)}
    return only(found, folder, title)


def _write_phantom(name: str, tree: Mapping[str, tuple[str, str]], suffix: str, folder: Path, cases: int) -> None:
    counts = split_counts(cases, {2: [0.3], 3: [0.1, 0.25]}[len(tree)])
    files: dict[str, tuple[Path, Path]] = {}
    for (images, masks), count in zip(tree.values(), counts):
        for _ in range(count):
            case = f"ISIC_{len(files):07d}"
            files[case] = (Path(images, f"{case}.jpg"), Path(masks, f"{case}{suffix}.png"))
    write_picture_cohort(folder, name, files, lambda case, seed, size: skin_lesion_case(seed, size))


ISIC2016 = DatasetInfo(
    title="ISIC 2016 skin lesions (part 1, 1279 dermoscopic images)",
    class_names=("lesion",),
    find=find_isic2016,
    write_phantom=partial(_write_phantom, "isic2016", TREE_2016, "_Segmentation"),
    phantom_cases=80,
    beside={"ISBI2016_ISIC_Part3_Training_GroundTruth.csv": "ISIC_0000000,benign\n"},
    modality="DMS",
    structures=(Structure("52988006", "Lesion", LESION_COLOUR, abnormal=True),),
    label_coding="classes",
    match="touch",
)
ISIC2017 = replace(
    ISIC2016,
    title="ISIC 2017 skin lesions (part 1, 2750 dermoscopic images)",
    find=find_isic2017,
    write_phantom=partial(_write_phantom, "isic2017", TREE_2017, "_segmentation"),
    beside={
        "ISIC-2017_Training_Data/ISIC_0000000_superpixels.png": "label",
        "ISIC-2017_Training_Data/ISIC-2017_Training_Data_metadata.csv": "image_id,age_approximate,sex\n",
        "ISIC-2017_Training_Part3_GroundTruth.csv": "image_id,melanoma,seborrheic_keratosis\n",
    },
)
