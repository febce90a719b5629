# SPDX-License-Identifier: Apache-2.0
"""Small volumes in the layouts and orientations that tests need."""

from __future__ import annotations

from pathlib import Path

import h5py
import nibabel
import numpy as np

RAS = np.diag([2.0, 2.0, 5.0, 1.0])


def rotation(degrees: float) -> np.ndarray:
    """A turn about the first axis, as a gantry or an oblique acquisition makes it."""
    angle = np.deg2rad(degrees)
    matrix = np.eye(4)
    matrix[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return matrix


def volume(seed: int = 0, shape: tuple[int, ...] = (24, 20, 6)) -> tuple[np.ndarray, np.ndarray]:
    """HU and the publisher's codes: every code at least once."""
    rng = np.random.default_rng(seed)
    image = rng.integers(-1000, 1000, shape).astype(np.int16)
    label = rng.integers(0, 14, shape).astype(np.uint8)
    return image, label


def save(path: Path, array: np.ndarray, affine: np.ndarray = RAS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def write_raw_synapse(root: Path, ids: list[int], **kwargs) -> Path:
    for case in ids:
        image, label = volume(case, **kwargs)
        save(root / f"RawData/Training/img/img{case:04d}.nii.gz", image)
        save(root / f"RawData/Training/label/label{case:04d}.nii.gz", label)
    return root


def write_preprocessed_synapse(root: Path, training: list[int], test: list[int], codes: int = 9) -> Path:
    """TransUNet's files: one npz a training slice, one h5 a test volume; images in [0, 1]."""
    (root / "train_npz").mkdir(parents=True)
    (root / "test_vol_h5").mkdir()
    for case in training + test:
        image, label = volume(case)
        image = ((np.clip(image, -125, 275) + 125) / 400).astype(np.float32)
        label = (label % codes).astype(np.float32)
        if case in training:
            for k in range(image.shape[-1]):
                name = root / "train_npz" / f"case{case:04d}_slice{k:03d}.npz"
                np.savez(name, image=image[..., k], label=label[..., k])
        else:
            with h5py.File(root / "test_vol_h5" / f"case{case:04d}.npy.h5", "w") as h5:
                h5["image"], h5["label"] = np.moveaxis(image, -1, 0), np.moveaxis(label, -1, 0)
    return root


def write_acdc(root: Path, patients: list[int]) -> Path:
    """The publisher's tree: two frames a patient, noise and every class."""
    for patient in patients:
        name = f"patient{patient:03d}"
        folder = root / "training" / name
        for frame in (1, 8):
            image, label = volume(100 * patient + frame)
            save(folder / f"{name}_frame{frame:02d}.nii.gz", image - image.min())
            save(folder / f"{name}_frame{frame:02d}_gt.nii.gz", label % 4)
        (folder / "Info.cfg").write_text("ED: 1\nES: 8\nGroup: NOR\nHeight: 180\nNbFrame: 30\nWeight: 70\n")
    return root
