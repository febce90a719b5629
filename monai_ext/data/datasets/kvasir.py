# SPDX-License-Identifier: Apache-2.0
"""Kvasir-SEG: 1000 pictures of colonoscopy with polyps. The masks are JPEG: grey remains along outlines."""

from __future__ import annotations

from pathlib import Path

from monai_ext.data.datasets.dataset_info import Cohort
from monai_ext.data.datasets.folders import find_images_and_masks
from monai_ext.data.datasets.polyps import polyp_dataset, write_polyps

__all__ = ["KVASIR", "find_kvasir"]


def find_kvasir(folder: Path) -> Cohort:
    """Find Kvasir-SEG; of several datasets' pictures, those with Kvasir in their path."""
    return find_images_and_masks(folder, "Kvasir-SEG", "kvasir")


def _write_phantom(folder: Path, cases: int) -> None:
    names = [f"cju{i:022d}" for i in range(cases)]
    files = {n: (Path(f"Kvasir-SEG/images/{n}.jpg"), Path(f"Kvasir-SEG/masks/{n}.jpg")) for n in names}
    write_polyps(folder, "kvasir", files)


KVASIR = polyp_dataset(
    title="Kvasir-SEG polyps (1000 colonoscopic images)",
    find=find_kvasir,
    write_phantom=_write_phantom,
    beside={"Kvasir-SEG/kavsir_bboxes.json": "{}"},
)
