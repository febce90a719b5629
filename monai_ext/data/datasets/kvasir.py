# SPDX-License-Identifier: Apache-2.0
"""Kvasir-SEG: 1000 pictures of colonoscopy with polyps. The masks are JPEG: grey remains along outlines."""

from __future__ import annotations

from pathlib import Path

from monai_ext.data.datasets.dataset_info import Cohort, DatasetInfo, Structure
from monai_ext.data.datasets.folders import find_image_folders, match_masks, pictures_by_stem
from monai_ext.phantoms.picture_cohort import write_picture_cohort
from monai_ext.phantoms.polyp import polyp_case

__all__ = ["KVASIR", "find_kvasir"]


def find_kvasir(folder: Path) -> Cohort:
    """Find Kvasir-SEG in ``folder`` or up to four levels below it.

    Raises:
        FileNotFoundError: if it is not there, or an image has no mask; says what was found.
        ValueError: if the pictures of several datasets are there, and none or more than one is called Kvasir.

    Examples::

        >>> find_kvasir(Path("/data")).layout
        'Kvasir-SEG in /data/Kvasir-SEG, 1000 images'
    """
    images, masks = find_image_folders(folder, "images", "masks", "Kvasir-SEG", "kvasir")
    cases = match_masks(pictures_by_stem(images), pictures_by_stem(masks), masks)
    return Cohort(f"Kvasir-SEG in {images.parent}, {len(cases)} images", cases)


def _write_phantom(folder: Path, cases: int) -> None:
    names = [f"cju{i:022d}" for i in range(cases)]
    files = {n: (Path(f"Kvasir-SEG/images/{n}.jpg"), Path(f"Kvasir-SEG/masks/{n}.jpg")) for n in names}
    write_picture_cohort(folder, "kvasir", files, lambda case, seed, size: polyp_case(seed, size))


KVASIR = DatasetInfo(
    title="Kvasir-SEG polyps (1000 colonoscopic images)",
    class_names=("polyp",),
    find=find_kvasir,
    write_phantom=_write_phantom,
    phantom_cases=80,
    beside={"Kvasir-SEG/kavsir_bboxes.json": "{}"},
    modality="ES",
    structures=(Structure("41329004", "Polyp", (144, 238, 144), abnormal=True),),
    label_coding="classes",
    match="touch",
    test_share=0.2,
)
