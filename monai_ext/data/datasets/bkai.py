# SPDX-License-Identifier: Apache-2.0
"""BKAI-IGH NeoPolyp: 1000 colonoscopic pictures whose polyps are outlined by kind, neoplastic (red) or not (green)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from monai_ext.data.datasets.dataset_info import Cohort, DatasetInfo, Structure
from monai_ext.data.datasets.folders import folders, match_masks, not_found, only, pictures_by_stem, subfolder
from monai_ext.phantoms.drawing import PictureCase
from monai_ext.phantoms.picture_cohort import save_picture, write_picture_cohort
from monai_ext.phantoms.polyp import polyp_case

__all__ = ["BKAI", "BKAI_TYPES", "find_bkai"]

COLOURS = np.array([[0, 0, 0], [0, 255, 0], [255, 0, 0]], np.uint8)  # background, non-neoplastic, neoplastic


def find_bkai(folder: Path) -> Cohort:
    """Find BKAI-IGH NeoPolyp in ``folder`` or up to four levels below it; its ``test`` pictures have no masks.

    Raises:
        FileNotFoundError: if it is not there, or an image has no mask; says what was found.

    Examples::

        >>> find_bkai(Path("/data/bkai-igh-neopolyp")).layout
        'BKAI-IGH NeoPolyp in /data/bkai-igh-neopolyp, 1000 images'
    """
    found: dict[Path, Cohort] = {}
    for root in folders(folder):
        images, masks = subfolder(root, "train"), subfolder(root, "train_gt")
        if images and masks:
            cases = match_masks(pictures_by_stem(images), pictures_by_stem(masks), masks)
            if cases:
                found[root] = Cohort(f"BKAI-IGH NeoPolyp in {root}, {len(cases)} images", cases)
    if cohort := only(found, folder, "BKAI-IGH NeoPolyp"):
        return cohort
    raise not_found(folder, "BKAI-IGH NeoPolyp", "train/*.jpeg with train_gt/*.jpeg")


def _save_kinds(path: Path, made: PictureCase) -> None:
    save_picture(path, COLOURS[np.array([0, *made.kinds])[made.objects]])


def _write_phantom(folder: Path, cases: int) -> None:
    names = [hashlib.md5(str(i).encode(), usedforsecurity=False).hexdigest() for i in range(cases)]
    files = {n: (Path(f"train/train/{n}.jpeg"), Path(f"train_gt/train_gt/{n}.jpeg")) for n in names}
    write_picture_cohort(folder, "bkai", files, lambda case, seed, size: polyp_case(seed, size, True), _save_kinds)


BESIDE = {f"test/test/{'0' * 32}.jpeg": "image", "sample_submission.csv": "Id,Expected\n"}
BKAI = DatasetInfo(
    title="BKAI-IGH NeoPolyp (1000 colonoscopic images)",
    class_names=("polyp",),
    find=find_bkai,
    write_phantom=_write_phantom,
    phantom_cases=60,
    beside=BESIDE,
    modality="ES",
    structures=(Structure("41329004", "Polyp", (144, 238, 144), abnormal=True),),
    label_coding="neopolyp",
    match="touch",
    sorted_folds=True,
)
BKAI_TYPES = DatasetInfo(
    title="BKAI-IGH NeoPolyp (1000 colonoscopic images), by kind of polyp",
    class_names=("non-neoplastic polyp", "neoplastic polyp"),
    find=find_bkai,
    write_phantom=_write_phantom,
    phantom_cases=60,
    beside=BESIDE,
    modality="ES",
    structures=(
        Structure("41329004", "Polyp", (122, 193, 214), abnormal=True),
        Structure("41329004", "Polyp", (144, 238, 144), abnormal=True),
    ),
    label_coding="neopolyp",
    match="touch",
    sorted_folds=True,
)
