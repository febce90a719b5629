# SPDX-License-Identifier: Apache-2.0
"""Data Science Bowl 2018, stage 1: 670 microscopic pictures of nuclei, one mask file for every nucleus."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monai_ext.data.datasets.dataset_info import Cohort, DatasetInfo, Structure
from monai_ext.data.datasets.folders import folders, match_masks, not_found, only, pictures_by_stem, subfolder
from monai_ext.phantoms.drawing import PictureCase
from monai_ext.phantoms.nuclei import nuclei_case
from monai_ext.phantoms.picture_cohort import save_picture, write_picture_cohort

__all__ = ["DSB2018", "find_dsb2018"]


def find_dsb2018(folder: Path) -> Cohort:
    """Find ``stage1_train``, up to three levels below ``folder``; the masks of a picture are to be united."""
    found: dict[Path, Cohort] = {}
    for root in folders(folder, depth=3):
        if found.keys() & {root, *root.parents}:
            continue  # the folder of a case that is found already
        images: dict[str, Path] = {}
        masks: dict[str, list[Path]] = {}
        for case in folders(root, depth=1):
            image, nuclei = subfolder(case, "images"), subfolder(case, "masks")
            if image and (picture := pictures_by_stem(image).get(case.name)):
                images[case.name] = picture
            if nuclei and (files := list(pictures_by_stem(nuclei).values())):
                masks[case.name] = files
        if images.keys() & masks.keys():
            cases = match_masks(images, masks, root)
            found[root] = Cohort(f"DSB 2018 in {root}, {len(cases)} images", cases)
    if cohort := only(found, folder, "DSB 2018"):
        return cohort
    raise not_found(folder, "DSB 2018", "stage1_train/<id>/images/<id>.png with stage1_train/<id>/masks/*.png")


def _save_opaque(path: Path, pixels: NDArray[np.uint8]) -> None:
    save_picture(path, np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]))


def _save_nuclei(path: Path, made: PictureCase) -> None:
    for number in np.unique(made.objects)[1:]:
        name = f"{_digest(f'{path.stem} {number}')}.png"
        save_picture(path.with_name(name), np.where(made.objects == number, 255, 0).astype(np.uint8))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _draw(case: str, seed: int, size: tuple[int, int]) -> PictureCase:
    return nuclei_case(seed, size, stain="hematoxylin" if seed % 5 == 0 else "fluorescence")


def _write_phantom(folder: Path, cases: int) -> None:
    names = [_digest(str(i)) for i in range(cases)]
    roots = {name: Path("stage1_train", name) for name in names}
    files = {name: (root / f"images/{name}.png", root / f"masks/{name}.png") for name, root in roots.items()}
    write_picture_cohort(folder, "dsb2018", files, _draw, _save_nuclei, _save_opaque)


DSB2018 = DatasetInfo(
    title="Data Science Bowl 2018 nuclei (stage 1, 670 microscopic images)",
    class_names=("nucleus",),
    find=find_dsb2018,
    write_phantom=_write_phantom,
    beside={
        f"stage1_test/{'0' * 64}/images/{'0' * 64}.png": "image",
        "stage1_train_labels.csv": "ImageId,EncodedPixels\n",
        "stage1_sample_submission.csv": "ImageId,EncodedPixels\n",
    },
    modality="GM",
    structures=(Structure("84640000", "Nucleus", (97, 113, 158)),),
    label_coding="classes",
    match="iou",
    sorted_folds=True,
)
