# SPDX-License-Identifier: Apache-2.0
"""CVC-ClinicDB and CVC-ColonDB: frames of colonoscopy videos with polyps.

ClinicDB's 612 frames come from about 30 video sequences, ColonDB's 380 from 15; neighbours look alike. The published
splits are by frame all the same, and so are these: scores are those of frames whose neighbours were trained on.
"""

from __future__ import annotations

from pathlib import Path

from monai_ext.data.datasets.dataset_info import Cohort
from monai_ext.data.datasets.folders import (
    find_images_and_masks,
    folders,
    match_masks,
    not_found,
    only,
    pictures_by_stem,
    subfolder,
)
from monai_ext.data.datasets.polyps import polyp_dataset, write_polyps

__all__ = ["CLINICDB", "COLONDB", "find_clinicdb", "find_colondb"]


def find_clinicdb(folder: Path) -> Cohort:
    """Find CVC-ClinicDB, ``Original`` and ``Ground Truth``, as TIFF or PNG."""
    found: dict[str, dict[Path, Cohort]] = {}  # copies of the archive hold the same frames as PNG and as TIFF
    for root in folders(folder):
        images, masks = subfolder(root, "Original"), subfolder(root, "Ground Truth")
        if images and masks:
            # by number: FIVES has folders of these names, too
            cases = match_masks(pictures_by_stem(images, r"(\d+)"), pictures_by_stem(masks, r"(\d+)"), masks)
            if cases:
                suffix = Path(next(iter(cases.values()))["image"]).suffix.lower()
                found.setdefault(suffix, {})[root] = Cohort(f"CVC-ClinicDB in {root}, {len(cases)} images", cases)
    for copies in found.values():
        if cohort := only(copies, folder, "CVC-ClinicDB"):
            return cohort
    raise not_found(folder, "CVC-ClinicDB", "Original/1.tif with 'Ground Truth/1.tif', or both as PNG")


def find_colondb(folder: Path) -> Cohort:
    """Find CVC-ColonDB; of several datasets' pictures, those with ColonDB in their path."""
    return find_images_and_masks(folder, "CVC-ColonDB", "colondb")


def _write_clinicdb(folder: Path, cases: int) -> None:
    files = {f"{i}": (Path(f"Original/{i}.tif"), Path(f"Ground Truth/{i}.tif")) for i in range(1, cases + 1)}
    write_polyps(folder, "clinicdb", files)


def _write_colondb(folder: Path, cases: int) -> None:
    root = Path("CVC-ColonDB")
    files = {f"{i}": (root / f"images/{i}.png", root / f"masks/{i}.png") for i in range(1, cases + 1)}
    write_polyps(folder, "colondb", files)


CLINICDB = polyp_dataset(
    title="CVC-ClinicDB polyps (612 colonoscopic frames)",
    find=find_clinicdb,
    write_phantom=_write_clinicdb,
    test_share=0.25,
)
COLONDB = polyp_dataset(
    title="CVC-ColonDB polyps (380 colonoscopic frames)",
    find=find_colondb,
    write_phantom=_write_colondb,
    phantom_cases=60,
)
