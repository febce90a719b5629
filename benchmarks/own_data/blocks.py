# SPDX-License-Identifier: Apache-2.0
"""A labelled CT cut into blocks to train on and to test on, the latter as other scanners would show them, too."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np

from benchmarks.other_scanner import contrast_medium, scanner
from monai_ext.data import DATASETS

BLOCK, TRAIN, TEST = 13, 9, slice(10, 12)
NAMES = list(DATASETS["synapse"].class_names)
FIVE = ("aorta", "left kidney", "right kidney", "liver", "spleen")
SCANNERS = {"scanner A": (1, 0.8, 512), "scanner B": (2, 2.0, 250)}  # seed, mm a pixel, pixels a side


def save(folder: Path, name: str, voxels: np.ndarray, affine: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.round(voxels).astype(np.int16), affine), folder / f"{name}.nii.gz")


def write_blocks(image: str, label: str, folder: Path) -> int:
    """Blocks to train on, with a list of them, and a folder of scans for each way to test; the number of slices."""
    volumes = [nibabel.as_closest_canonical(nibabel.load(path)) for path in (image, label)]
    affine = volumes[0].affine
    hu, organs = (np.asarray(volume.dataobj).astype(np.float32) for volume in volumes)
    cases: list[dict[str, str]] = []
    count, last = 0, ""
    # the block nearest to the head validates
    for number, start in enumerate(range(0, hu.shape[2], BLOCK)):
        origin = affine @ np.block([[np.eye(3), np.array([[0], [0], [start]])], [0, 0, 0, 1]])
        train = slice(start, start + TRAIN)
        save(folder / "images", f"train{number}", hu[..., train], origin)
        save(folder / "labels", f"train{number}", organs[..., train], origin)
        cases.append({part: f"{part}s/train{number}.nii.gz" for part in ("image", "label")})
        count += hu[..., train].shape[2] if start + BLOCK < hu.shape[2] else 0
        test = slice(start + TEST.start, start + TEST.stop)
        if hu[..., test].shape[2] < 2 or not organs[..., test].any():
            continue
        lifted = contrast_medium(hu[..., test], organs[..., test], NAMES)
        last = f"block{number}"
        for way, voxels in (("held out", hu[..., test]), ("contrast", lifted)):
            save(folder / way / "images", f"block{number}", voxels, origin)
            save(folder / way / "labels", f"block{number}", organs[..., test], origin)
        for way, (seed, pixel, side) in SCANNERS.items():
            # the patient faces up: to the left and to the back, as other_scanner has it
            turned = (volume[::-1, ::-1] for volume in (lifted, organs[..., test]))
            spacing = float(np.linalg.norm(affine[:3, 0]))
            seen, truth = scanner(*turned, spacing, np.random.default_rng(seed), pixel, side)
            grid = np.diag([-pixel, -pixel, np.linalg.norm(affine[:3, 2]), 1])
            save(folder / way / "images", f"block{number}", seen, grid)
            save(folder / way / "labels", f"block{number}", truth, grid)
    listed = {
        "labels": {str(i): name for i, name in enumerate(["background", *NAMES])},
        "training": cases[:-1],
        "validation": cases[-1:],
        "test": [{part: f"held out/{part}s/{last}.nii.gz" for part in ("image", "label")}],
    }
    (folder / "list.json").write_text(json.dumps(listed))
    return count
