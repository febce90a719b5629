# SPDX-License-Identifier: Apache-2.0
"""BKAI-IGH NeoPolyp: 1000 colonoscopic pictures whose polyps are outlined by kind, neoplastic (red) or not (green)."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from monai_ext.data.datasets.dataset_info import Cohort
from monai_ext.data.datasets.folders import find_one, match_masks, pictures_by_stem, subfolder
from monai_ext.data.datasets.polyps import POLYP, polyp_dataset
from monai_ext.phantoms.drawing import PictureCase
from monai_ext.phantoms.picture_cohort import save_picture, write_picture_cohort
from monai_ext.phantoms.polyp import polyp_case

__all__ = ["BKAI", "BKAI_TYPES", "find_bkai"]

COLOURS = np.array([[0, 0, 0], [0, 255, 0], [255, 0, 0]], np.uint8)  # background, non-neoplastic, neoplastic


def find_bkai(folder: Path) -> Cohort:
    """Find BKAI-IGH NeoPolyp; its ``test`` pictures have no masks."""
    return find_one(folder, "BKAI-IGH NeoPolyp", _read_folder, "train/*.jpeg with train_gt/*.jpeg")


def _read_folder(root: Path) -> Cohort | None:
    images, masks = subfolder(root, "train"), subfolder(root, "train_gt")
    if images is None or masks is None:
        return None
    cases = match_masks(pictures_by_stem(images), pictures_by_stem(masks), masks)
    return Cohort(f"BKAI-IGH NeoPolyp in {root}, {len(cases)} images", cases) if cases else None


def _save_kinds(path: Path, made: PictureCase) -> None:
    save_picture(path, COLOURS[np.array([0, *made.kinds])[made.objects]])


def _write_phantom(folder: Path, cases: int) -> None:
    names = [hashlib.md5(str(i).encode(), usedforsecurity=False).hexdigest() for i in range(cases)]
    files = {n: (Path(f"train/train/{n}.jpeg"), Path(f"train_gt/train_gt/{n}.jpeg")) for n in names}
    write_picture_cohort(folder, "bkai", files, lambda case, seed, size: polyp_case(seed, size, True), _save_kinds)


BKAI = polyp_dataset(
    title="BKAI-IGH NeoPolyp (1000 colonoscopic images)",
    find=find_bkai,
    write_phantom=_write_phantom,
    phantom_cases=60,
    beside={f"test/test/{'0' * 32}.jpeg": "image", "sample_submission.csv": "Id,Expected\n"},
    label_coding="neopolyp",
    sorted_folds=True,
)
BKAI_TYPES = replace(
    BKAI,
    title=f"{BKAI.title}, by kind of polyp",
    class_names=("non-neoplastic polyp", "neoplastic polyp"),
    structures=(POLYP._replace(colour=(122, 193, 214)), POLYP),
)
