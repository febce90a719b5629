# SPDX-License-Identifier: Apache-2.0
"""FIVES: retinal vessels in 800 fundus photographs, 600 to train on and 200 to test on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai_ext.data.datasets.dataset_info import Cohort, DatasetInfo, Structure
from monai_ext.data.datasets.folders import find_one, listed_parts, match_masks, pictures_by_stem, subfolder
from monai_ext.phantoms.picture_cohort import split_counts, write_picture_cohort
from monai_ext.phantoms.vessels import vessel_case

__all__ = ["FIVES", "find_fives"]


def find_fives(folder: Path) -> Cohort:
    """Find FIVES. Both parts have an image ``1_A``, so case ids name the part: ``train_1_A``, ``test_1_A``."""
    expected = "train/Original/1_A.png with 'train/Ground truth/1_A.png', and test/ likewise"
    return find_one(folder, "FIVES", _read_folder, expected)


def _read_folder(root: Path) -> Cohort | None:
    cases: dict[str, dict[str, Any]] = {}
    parts: dict[str, list[str]] = {}
    for part, name in (("training", "train"), ("test", "test")):
        inner = subfolder(root, name)
        images, masks = (subfolder(inner, n) if inner else None for n in ("Original", "Ground truth"))
        if images is None or masks is None:
            return None
        pairs = match_masks(pictures_by_stem(images), pictures_by_stem(masks), masks)
        parts[part] = [f"{name}_{case}" for case in pairs]
        cases.update((f"{name}_{case}", pair) for case, pair in pairs.items())
    if not all(parts.values()):
        return None
    return Cohort(f"FIVES in {root}, {listed_parts(parts)} images", cases, parts=parts)


def _write_phantom(folder: Path, cases: int) -> None:
    files = {}
    for part, count in zip(("train", "test"), split_counts(cases, [0.25])):
        for i in range(count):
            name = f"{i + 1}_{'ADGN'[4 * i // count]}"  # the publisher's order: by disease
            files[f"{part}_{name}"] = (Path(part, f"Original/{name}.png"), Path(part, f"Ground truth/{name}.png"))
    write_picture_cohort(folder, "fives", files, lambda case, seed, size: vessel_case(seed, size))


FIVES = DatasetInfo(
    title="FIVES retinal vessels (800 fundus photographs)",
    class_names=("vessel",),
    find=find_fives,
    write_phantom=_write_phantom,
    beside={"Quality Assessment.xlsx": "", "train/Original/desktop.ini": "[.ShellClassInfo]\n"},
    modality="OP",
    structures=(Structure("59820001", "Blood vessel", (216, 101, 79)),),
    label_coding="classes",
)
