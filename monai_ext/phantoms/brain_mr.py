# SPDX-License-Identifier: Apache-2.0
"""Brain tumours in four MR sequences, of mixed spacing and orientation, in the layout of nnU-Net's second version."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from monai_ext.phantoms.cohort import check_description, save_nifti, write_cohort
from monai_ext.phantoms.solids import Array, ellipsoid, smooth_noise
from monai_ext.utils import replacing

__all__ = ["BRAIN_CHANNELS", "BRAIN_LABELS", "BrainCase", "brain_phantom_case", "write_brain_phantom"]

GENERATOR = "monai_ext brain MR phantom 1"
MOST = 400
BRAIN_CHANNELS = ("FLAIR", "T1w", "T1gd", "T2w")
#: as nnU-Net's ``dataset.json`` has them: two regions that overlap, one value, and what nobody has looked at
BRAIN_LABELS: dict[str, Any] = {
    "background": 0,
    "whole tumour": [1, 2, 3],
    "tumour core": [2, 3],
    "enhancing tumour": 3,
    "ignore": 4,
}
EDEMA, NECROSIS, ENHANCING, IGNORE = 1, 2, 3, 4
# brightness of a tissue in each channel; what is bright in a tumour is so in healthy brain and old lesions, too
FLUID, GREY, WHITE, SWOLLEN, LEAKY = range(5)
TISSUE = np.array(
    [
        [0.25, 0.20, 0.22, 0.95],  # ventricles, sulci, cysts; a tumour's necrosis
        [0.62, 0.48, 0.51, 0.66],
        [0.50, 0.70, 0.73, 0.50],
        [0.86, 0.45, 0.48, 0.82],  # a tumour's edema; gliosis and the lesions of age
        [0.70, 0.47, 0.92, 0.68],  # a tumour's rim; dura, sinus, choroid plexus, vessels
    ],
    dtype=np.float32,
)
# (where the voxel axes run, in-plane mm, slice mm); the slices are the last axis
GRIDS = (
    ("LPS", 2.0, 5.0),
    ("PIR", 2.2, 4.0),  # sagittal
    ("oblique", 1.8, 5.5),
    ("RAS", 2.6, 2.6),
    ("LPS", 1.7, 6.5),
    ("PSL", 2.4, 4.5),  # sagittal, upside down
    ("oblique", 2.1, 3.5),
)
SUB_SLICES = 2  # a slice is the mean of these
HEAD = np.array([66.0, 84.0, 60.0])  # half axes of the brain in mm, RAS
HELD_OUT = 5  # every fifth case is for testing


@dataclass(frozen=True)
class BrainCase:
    """One phantom patient.

    Attributes:
        images: ``(4, X, Y, Z)`` brightness (int16) of ``BRAIN_CHANNELS``, 0 outside the head.
        label: ``(X, Y, Z)``, uint8: 1 edema, 2 necrosis, 3 enhancing tumour, 4 not looked at.
        truth: the same without 4: what a complete annotation has.
        affine: from voxels to RAS in mm.
    """

    images: NDArray[np.int16]
    label: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    affine: NDArray[np.float64]


def brain_phantom_case(case: int, seed: int = 0, coarse: float = 1.0) -> BrainCase:
    """Make one patient; the same ``case``, ``seed`` and ``coarse`` give the same voxels.

    Args:
        case: number of the patient, from 1 on; it decides orientation and spacing.
        seed: of the cohort.
        coarse: voxels are that much longer than usual, in the slices and across them.

    Raises:
        ValueError: if there is no such patient.

    Examples::

        >>> made = brain_phantom_case(2, coarse=2)
        >>> made.images.shape[0], made.images.dtype
        (4, dtype('int16'))
    """
    if not 1 <= case <= MOST:
        raise ValueError(f"monai_ext: case must be 1 to {MOST}, got {case}.")
    # each draws its own numbers: another grid shows the same patient
    anatomy, scan, noise = (np.random.default_rng([seed, case, stream]) for stream in range(3))
    head = HEAD * anatomy.normal(1, 0.05, 3).clip(0.88, 1.12)
    shape, affine = _grid(scan, *GRIDS[(case - 1) % len(GRIDS)], head, coarse)
    points = _points(anatomy, shape, affine)
    weights, label = _paint(anatomy, points, head)
    images = _scan(scan, noise, weights, points, shape)
    truth = np.ascontiguousarray(label[..., SUB_SLICES // 2 :: SUB_SLICES])
    partly = _leave_out(scan, truth, points[..., SUB_SLICES // 2 :: SUB_SLICES]) if case % HELD_OUT else truth
    return BrainCase(images, partly, truth, affine)


def _grid(
    rng: np.random.Generator, codes: str, pixel: float, step: float, head: NDArray[np.float64], coarse: float
) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Shape and affine of a field of view around the head."""
    pixel, step = coarse * pixel * rng.uniform(0.93, 1.07), coarse * step * rng.uniform(0.93, 1.07)
    turn = Rotation.from_euler("xyz", rng.uniform(-4, 4, 3), degrees=True).as_matrix()
    if codes == "oblique":
        angles = rng.uniform(12, 28, 2) * rng.choice([-1, 1], 2)
        codes, turn = "LPS", Rotation.from_euler("xy", angles, degrees=True).as_matrix()
    axes = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    spacing = (pixel, pixel, step)
    linear, shape = np.zeros((3, 3)), []
    for voxel_axis, code in enumerate(codes):
        axis, sign = axes[code]
        linear[axis, voxel_axis] = sign * spacing[voxel_axis]
        shape.append(max(8, int(np.ceil((2 * head[axis] + rng.uniform(8, 26)) / spacing[voxel_axis]))))
    affine = np.eye(4)
    affine[:3, :3] = turn @ linear
    affine[:3, 3] = rng.normal(0, 5, 3) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return (shape[0], shape[1], shape[2]), affine


def _points(rng: np.random.Generator, shape: tuple[int, int, int], affine: NDArray[np.float64]) -> Array:
    """The head's coordinates (RAS, mm) of every voxel of the sub-slices, gently deformed."""
    index = np.stack(
        np.meshgrid(*map(np.arange, shape[:2]), (np.arange(shape[2] * SUB_SLICES) - 0.5) / SUB_SLICES, indexing="ij")
    ).astype(np.float32)
    points = np.tensordot(affine[:3, :3].astype(np.float32), index, 1)
    points += affine[:3, 3].astype(np.float32).reshape(3, 1, 1, 1)
    # waves in patient space: they do not depend on the grid
    for axis in range(3):
        waves, phases = rng.normal(0, 1 / 40, (4, 3)), rng.uniform(0, 2 * np.pi, 4)
        for wave, phase in zip(waves, phases):
            points[axis] += np.float32(1.2) * np.sin(
                np.tensordot(wave.astype(np.float32), points, 1) + np.float32(phase)
            )
    return points


def _waves(rng: np.random.Generator, points: Array, length: float, count: int = 8) -> Array:
    """A random field over patient space, of about unit variance, whose bumps are ``length`` mm long."""
    field = np.zeros(points.shape[1:], np.float32)
    for wave, phase in zip(rng.normal(0, 2 / length, (count, 3)), rng.uniform(0, 2 * np.pi, count)):
        field += np.sin(np.tensordot(wave.astype(np.float32), points, 1) + np.float32(phase))
    return field * np.float32(np.sqrt(2 / count))


def _paint(rng: np.random.Generator, points: Array, head: NDArray[np.float64]) -> tuple[Array, NDArray[np.uint8]]:
    """Share of each tissue in each voxel, ``(5, *grid)``, and the label."""
    surface = ellipsoid(points, (0, 0, 0), head)
    weights = np.zeros((len(TISSUE), *surface.shape), np.float32)
    label = np.zeros(surface.shape, np.uint8)

    def lay(distance: Array, tissue: int, value: int | None = None, soft: float = 1.6) -> None:
        share = np.clip(0.5 - distance / soft, 0, 1).astype(np.float32)
        weights[:] *= 1 - share
        weights[tissue] += share
        if value is not None:
            label[distance < 0] = value

    folds = 3.4 * _waves(rng, points, 11, 12)
    lay(surface, LEAKY)  # dura
    lay(surface + 2.2, FLUID)
    lay(surface + 4.5 + 0.6 * folds, GREY)
    lay(surface + 10 + folds, WHITE)
    for side in (-1, 1):  # deep grey matter, ventricles, the choroid plexus in them
        lay(ellipsoid(points, (19 * side, 4, -2), (8, 14, 9)), GREY)
        turn = Rotation.from_euler("z", 12 * side, degrees=True)
        wide = rng.uniform(5.5, 10)
        middle = np.array([11.0 * side, -4, 10])
        lay(ellipsoid(points, middle, (wide, 31, 8), turn) + 0.8 * _waves(rng, points, 18), FLUID)
        # what age leaves around them is as bright as edema
        caps = ellipsoid(points, middle, (wide + 4, 36, 11), turn) + 3 * _waves(rng, points, 15)
        ring = np.maximum(caps, -ellipsoid(points, middle, (wide + 0.5, 31.5, 8.5), turn))
        lay(ring, SWOLLEN)
        lay(ellipsoid(points, middle + np.array([0, -14, -1]), (2.8, 9, 3.2)), LEAKY)
    for _ in range(int(rng.integers(9, 15))):  # old lesions in the white matter: edema's brightness, no core
        lay(_lump(rng, points, _inside(rng, head, 0.72), rng.uniform(5, 11)), SWOLLEN)
    for _ in range(int(rng.integers(2, 6))):  # cysts and old infarcts
        lay(_lump(rng, points, _inside(rng, head, 0.8), rng.uniform(4, 9)), FLUID)
    for _ in range(int(rng.integers(9, 15))):  # vessels and small benign things that take up contrast medium
        lay(_lump(rng, points, _inside(rng, head, 0.9), rng.uniform(3.5, 7.5)), LEAKY)
    sinus = np.hypot(points[0], points[2] - np.float32(head[2] * 0.86)) - 4.5
    lay(np.maximum(sinus, surface + 1), LEAKY)
    outside = surface > 0
    tumours = 2 if rng.uniform() < 0.2 else 1
    for k in range(tumours):
        size = rng.uniform(15, 21) * (0.6 if k else 1)
        centre = _inside(rng, head, 0.55, least=0.3)
        inner = size * rng.uniform(0.5, 0.66)
        core = _lump(rng, points, centre, inner, 1.5)
        edema = np.minimum(_lump(rng, points, centre + rng.normal(0, 3, 3), size, 3.0), core - 3)
        edema = np.maximum(edema, surface + 4)
        lay(edema, SWOLLEN, EDEMA)
        core = np.maximum(core, surface + 4)
        lay(core, LEAKY, ENHANCING)
        lay(core + rng.uniform(0.3, 0.45) * inner + _waves(rng, points, 10), FLUID, NECROSIS)
    weights[:, outside] = 0
    label[outside] = 0
    return weights, label


def _inside(rng: np.random.Generator, head: NDArray[np.float64], most: float, least: float = 0.2) -> Any:
    """A place in the brain, as a share of the way from its middle to its surface."""
    direction = rng.normal(size=3)
    return head * direction / np.linalg.norm(direction) * rng.uniform(least, most)


def _lump(rng: np.random.Generator, points: Array, centre: Any, size: float, rough: float = 1.0) -> Array:
    """Distance to something that is roughly a ball."""
    radii = size * rng.uniform(0.75, 1.25, 3)
    turn = Rotation.from_rotvec(rng.normal(0, 1, 3))
    return ellipsoid(points, centre, radii, turn) + np.float32(rough) * _waves(rng, points, 1.4 * size)


def _scan(
    scan: np.random.Generator, noise: np.random.Generator, weights: Array, points: Array, shape: tuple[int, int, int]
) -> NDArray[np.int16]:
    """What four sequences make of the tissue: contrast, coil, texture, blur, noise and scale of their own."""
    inside = weights.sum(0).reshape(*shape[:2], -1, SUB_SLICES).mean(-1)
    images = np.zeros((len(BRAIN_CHANNELS), *shape), np.int16)
    texture = _waves(scan, points, 9, 10)
    for channel in range(len(BRAIN_CHANNELS)):
        bright = TISSUE[:, channel] * scan.normal(1, 0.06, len(TISSUE)).astype(np.float32)
        value = np.tensordot(bright, weights, 1) * (1 + np.float32(0.05) * texture)
        value = value.reshape(*shape[:2], -1, SUB_SLICES).mean(-1)
        coil = np.tensordot(scan.normal(0, 0.14 / 60, 3).astype(np.float32), points[..., ::SUB_SLICES], 1)
        signal = gaussian_filter(value * np.exp(coil + 0.06 * smooth_noise(scan, shape, [12, 12, 5])), [0.45, 0.45, 0])
        real, imaginary = np.float32(scan.uniform(0.025, 0.05)) * noise.standard_normal((2, *shape), dtype=np.float32)
        scaled = scan.uniform(250, 1400) * np.hypot(signal + real, imaginary)
        images[channel] = np.where(inside > 0.5, np.maximum(np.rint(scaled), 1), 0)
    return images


def _leave_out(rng: np.random.Generator, truth: NDArray[np.uint8], points: Array) -> NDArray[np.uint8]:
    """What an annotator did not look at: slices at one end, or all but a few, and an unclear place."""
    label = truth.copy()
    count = truth.shape[2]
    way = rng.uniform()
    if way < 0.35:
        cut = max(1, round(count * rng.uniform(0.1, 0.3)))
        label[..., :cut] = IGNORE
    elif way < 0.6:
        seen = np.zeros(count, bool)
        seen[int(rng.integers(0, 2)) :: 2] = True
        label[..., ~seen] = IGNORE
    places = np.argwhere(truth == EDEMA)
    if len(places):
        centre = points[(slice(None), *places[int(rng.integers(len(places)))])]
        label[ellipsoid(points, centre, rng.uniform(5, 9, 3)) < 0] = IGNORE
    return label


def write_brain_phantom(
    folder: str | os.PathLike[str],
    num_cases: int = 15,
    seed: int = 0,
    progress: bool = True,
    workers: int | None = None,
    coarse: float = 1.0,
) -> None:
    """Write a cohort of phantom patients as nnU-Net's second version has a dataset.

    ``<folder>/dataset.json``, ``imagesTr/brain_001_0000.nii.gz`` to ``_0003`` and ``labelsTr/brain_001.nii.gz``; every
    fifth case lies in ``imagesTs`` and ``labelsTs``, with nothing left out of its label. ``PHANTOM.json`` tells readers
    that this is no clinical data.

    Args:
        folder: where to write; made if need be.
        num_cases: number of patients, 5 to 400.
        seed: another seed, another cohort.
        progress: show a progress bar.
        workers: threads; default: one per core, 8 at most.
        coarse: see :func:`brain_phantom_case`.

    Raises:
        ValueError: if ``num_cases`` is out of range, or ``folder`` holds files that another call did not leave the same
            way. They are left alone.
    """
    if not HELD_OUT <= num_cases <= MOST:
        raise ValueError(f"monai_ext: num_cases must be {HELD_OUT} to {MOST}, got {num_cases}.")
    folder = Path(folder)
    stamp = f"{GENERATOR}, seed {seed}, {coarse:g}"

    def files(place: Path, case: int) -> list[Path]:
        part, name = "Tr" if case % HELD_OUT else "Ts", f"brain_{case:03d}"
        images = [place / f"images{part}" / f"{name}_{k:04d}.nii.gz" for k in range(len(BRAIN_CHANNELS))]
        return [place / f"labels{part}" / f"{name}.nii.gz", *images]

    def complete(place: Path, case: int) -> bool:
        found = [path for path in files(place, case) if path.is_file()]
        for path in found:
            check_description(path, stamp)
        return len(found) == 1 + len(BRAIN_CHANNELS)

    def make(place: Path, case: int) -> None:
        made = brain_phantom_case(case, seed, coarse)
        for path, voxels in zip(files(place, case), [made.label, *made.images]):
            save_nifti(path, voxels, made.affine, stamp)
        about = dict(_dataset_json(), numTraining=sum(k % HELD_OUT > 0 for k in range(1, num_cases + 1)))
        with replacing(place / "dataset.json") as temporary:
            temporary.write_text(json.dumps(about, indent=4) + "\n", encoding="utf-8")

    cases = range(1, num_cases + 1)
    write_cohort(
        folder, GENERATOR, seed, cases, range(1, MOST + 1), complete, make, workers, progress, "brain MR phantom"
    )


def _dataset_json() -> Mapping[str, Any]:
    return {
        "channel_names": {str(k): name for k, name in enumerate(BRAIN_CHANNELS)},
        "labels": BRAIN_LABELS,
        "regions_class_order": [EDEMA, NECROSIS, ENHANCING],
        "file_ending": ".nii.gz",
        "name": "brain MR phantom",
        "description": "phantom data, no clinical meaning",
    }
