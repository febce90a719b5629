# SPDX-License-Identifier: Apache-2.0
"""GlaS (Warwick-QU): colorectal glands in H&E, 85 pictures to train on, 60 (test A) and 20 (test B) to test on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from monai_ext.data.datasets.dataset_info import Cohort, DatasetInfo, Structure
from monai_ext.data.datasets.folders import find_one, listed_parts, match_masks, pictures_by_stem
from monai_ext.phantoms.drawing import PictureCase
from monai_ext.phantoms.glands import gland_case
from monai_ext.phantoms.picture_cohort import save_picture, split_counts, write_picture_cohort

__all__ = ["GLAS", "find_glas"]


def find_glas(folder: Path) -> Cohort:
    """Find GlaS; tests A and B are one test part."""
    expected = "train_1.bmp with train_1_anno.bmp, testA_1.bmp and testB_1.bmp likewise"
    return find_one(folder, "GlaS", _read_folder, expected)


def _read_folder(root: Path) -> Cohort | None:
    images = pictures_by_stem(root, r"((?:train|testA|testB)_\d+)")
    masks = pictures_by_stem(root, r"((?:train|testA|testB)_\d+)_anno")
    if not images or not masks:
        return None
    cases = match_masks(images, masks, root)
    training = [case for case in cases if case.lower().startswith("train")]
    parts = {"training": training, "test": [case for case in cases if case not in training]}
    return Cohort(f"GlaS in {root}, {listed_parts(parts)} images", cases, parts=parts)


def _save_objects(path: Path, made: PictureCase) -> None:
    save_picture(path, made.objects.astype(np.uint8))


def _write_phantom(folder: Path, cases: int) -> None:
    root = Path("Warwick QU Dataset (Released 2016_07_08)")
    counts = split_counts(cases, [60 / 165, 20 / 165])
    names = [f"{part}_{i}" for part, n in zip(("train", "testA", "testB"), counts) for i in range(1, n + 1)]
    files = {name: (root / f"{name}.bmp", root / f"{name}_anno.bmp") for name in names}
    write_picture_cohort(folder, "glas", files, lambda case, seed, size: gland_case(seed, size), _save_objects)


GLAS = DatasetInfo(
    title="GlaS colorectal glands (165 H&E images)",
    class_names=("gland",),
    find=find_glas,
    write_phantom=_write_phantom,
    beside={"Warwick QU Dataset (Released 2016_07_08)/Grade.csv": "name,patient ID, grade (GlaS)\n"},
    modality="SM",
    structures=(Structure("85756007", "Tissue", (199, 140, 176)),),
    label_coding="instances",
    match="half",
)
