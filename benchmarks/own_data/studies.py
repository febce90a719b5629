# SPDX-License-Identifier: Apache-2.0
"""What recipes and plans are compared on: cases to train on, and ways to test, of other scanners and patients too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np

from benchmarks.other_scanner import contrast_medium, scanner
from benchmarks.own_data.blocks import FIVE, NAMES, SCANNERS, save, write_blocks
from monai_ext.data.datasets.synapse import RAW_CODES
from monai_ext.phantoms import ct_phantom_case, ct_phantom_case_ids, write_brain_phantom

__all__ = ["STUDIES", "Study"]

ORGANS, OTHERS = 14, 5  # CT phantoms to train on, and to test on in each way


class Study(NamedTuple):
    """``write`` fills a folder and gives the options of ``new`` that name its data, and the folder of each way to test.

    A way has folders of images and of labels, ``parts``; the ``dataset.json`` of the folder that is filled lists the
    classes. ``some`` of these are averaged by themselves. ``slices``: surfaces are compared in slices.
    """

    title: str
    write: Callable[[Path, str, str], tuple[list[str], dict[str, Path]]]
    some: tuple[str, ...] = ()
    slices: bool = False
    parts: tuple[str, str] = ("images", "labels")


def _ct(folder: Path, image: str, label: str) -> tuple[list[str], dict[str, Path]]:
    if not (folder / "list.json").exists():
        write_blocks(image, label, folder)
        _write_classes(folder)
    ways = ("held out", "contrast", *SCANNERS)
    return ["--datalist", str(folder / "list.json")], {way: folder / way for way in ways}


def _organs(folder: Path, image: str, label: str) -> tuple[list[str], dict[str, Path]]:
    """CT phantoms: others of the same cohort, and another cohort in other phases, bodies, pixels and noise."""
    ways = {way: folder / way for way in ("held out", "another cohort")}
    listed = ["--images", str(folder / "images"), "--labels", str(folder / "labels"), "--class_names", ",".join(NAMES)]
    if (folder / "dataset.json").exists():
        return listed, ways
    train, test = ct_phantom_case_ids()
    for case in train[:ORGANS]:
        _save_case(folder, *_phantom(case, 0))
    for number, case in enumerate(test[:OTHERS]):
        _save_case(ways["held out"], *_phantom(case, 0))
        # canonical axes turned to the left and to the back, as other_scanner has it; a CT in another field of view
        name, hu, organs, affine = _phantom(case, 7)
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        pixel, side = (0.9 * spacing[0], 256) if number % 2 else (1.6 * spacing[0], 144)
        turned = (volume[::-1, ::-1, ::2] for volume in (contrast_medium(hu, organs, NAMES), organs))
        seen, truth = scanner(*turned, float(spacing[0]), np.random.default_rng(number), float(pixel), side)
        _save_case(ways["another cohort"], name, seen, truth, np.diag([-pixel, -pixel, 2 * spacing[2], 1]))
    _write_classes(folder)
    return listed, ways


def _phantom(case: int, seed: int) -> tuple[str, np.ndarray, np.ndarray, np.ndarray]:
    made = ct_phantom_case(case, seed)
    image, label = (
        nibabel.as_closest_canonical(nibabel.Nifti1Image(voxels.astype(np.int16), made.affine))
        for voxels in (made.image, made.label)
    )
    organs = np.asarray(label.dataobj)
    ours = np.zeros_like(organs)
    for number, code in enumerate(RAW_CODES, start=1):
        ours[organs == code] = number
    return f"case{case:02d}", np.asarray(image.dataobj).astype(np.float32), ours, image.affine


def _save_case(folder: Path, name: str, image: np.ndarray, label: np.ndarray, affine: np.ndarray) -> None:
    save(folder / "images", name, image, affine)
    save(folder / "labels", name, label, affine)


def _write_classes(folder: Path) -> None:
    labels = {name: value for value, name in enumerate(["background", *NAMES])}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))


def _brain(folder: Path, image: str, label: str) -> tuple[list[str], dict[str, Path]]:
    """MR phantoms of four channels, mixed planes and spacings: others of the cohort, and another, coarser one."""
    if not (folder / "another cohort").exists():
        write_brain_phantom(folder, num_cases=15, progress=False)
        write_brain_phantom(folder / "another cohort", num_cases=25, seed=7, coarse=1.4, progress=False)
    return ["--nnunet", str(folder)], {"held out": folder, "another cohort": folder / "another cohort"}


STUDIES = {
    "ct": Study("one real CT, in blocks", _ct, FIVE, slices=True),
    "organs": Study("CT phantoms", _organs),
    "brain": Study("MR phantoms, four channels, mixed planes and spacings", _brain, parts=("imagesTs", "labelsTs")),
}
