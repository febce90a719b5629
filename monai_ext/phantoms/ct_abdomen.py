# SPDX-License-Identifier: Apache-2.0
"""Abdominal CT phantom in the layout of the Synapse multi-organ (BTCV) dataset."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from monai_ext.phantoms.cohort import check_description, save_nifti, write_cohort
from monai_ext.phantoms.ct_anatomy import Anatomy, Build
from monai_ext.phantoms.solids import Array, Canvas, resize, smooth_noise

__all__ = ["CTCase", "ct_phantom_case", "ct_phantom_case_ids", "write_ct_phantom"]

GENERATOR = "monai_ext CT abdomen phantom 1"
TRAINING_IDS = (5, 6, 7, 9, 10, 21, 23, 24, 26, 27, 28, 30, 31, 33, 34, 37, 39, 40)
TEST_IDS = (1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38)
FEWEST, MOST = 5, len(TRAINING_IDS) + len(TEST_IDS)

# where the voxel axes run, by a case's place in its half of the split; "oblique" is LPS turned by a few degrees
ORIENTATIONS = ("LPS", "RAS", "oblique", "LAS", "RPS", "LPS", "PLS", "LAI")
DEFORMATION = 5.0  # mm, standard deviation of the displacement of the anatomy


@dataclass(frozen=True)
class CTCase:
    """One phantom case: ``image`` in HU (int16), ``label`` (uint8, 0 to 13), ``affine`` from voxels to RAS in mm."""

    image: NDArray[np.int16]
    label: NDArray[np.uint8]
    affine: NDArray[np.float64]


def ct_phantom_case_ids(num_cases: int = MOST) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids of the training and the test cases of a cohort.

    The ids are Synapse's own, in the order of its usual split (18 training and 12 test cases). A smaller cohort takes
    the first of each, in the same proportion, but at least 4 training cases and 1 test case.

    Args:
        num_cases: 5 to 30.

    Raises:
        ValueError: for any other number.

    Examples::

        >>> ct_phantom_case_ids(5)
        ((5, 6, 7, 9), (1,))
    """
    if not FEWEST <= num_cases <= MOST:
        raise ValueError(f"monai_ext: num_cases must be {FEWEST} to {MOST}, got {num_cases}.")
    test = min(max(round(num_cases * len(TEST_IDS) / MOST), 1), num_cases - 4)
    return TRAINING_IDS[: num_cases - test], TEST_IDS[:test]


def _grid(
    rng: np.random.Generator, build: Build, orientation: str, in_plane: int | None, slices: int | None
) -> tuple[tuple[int, int, int], NDArray[np.float64], NDArray[np.float64]]:
    """Shape, affine to patient coordinates and affine to the scanner's of a scan of the whole upper abdomen."""
    field = 2 * build.half_size[0] * build.scale[0] + rng.uniform(18, 60)
    pixels = int(np.clip(np.round(field / rng.uniform(2.0, 2.6) / 4) * 4, 144, 192))
    top, bottom = rng.uniform(98, 128), rng.uniform(-122, -92)
    count = int(np.clip(np.round((top - bottom) / rng.choice([3.0, 3.5, 4.0, 5.0])), 40, 70))
    angles = rng.uniform(5, 8, 2) * rng.choice([-1, 1], 2)
    middle = np.array([rng.normal(0, 4), build.centre[1] - 4 + rng.normal(0, 4), (top + bottom) / 2])
    origin = np.array([rng.normal(0, 10), rng.normal(-150, 10), rng.uniform(-400, 400)])
    # everything is drawn by now: a size that is asked for changes nothing else
    pixels, count = in_plane or pixels, slices or count
    spacing = {"x": field / pixels, "y": field / pixels, "z": (top - bottom) / count}
    turn = np.eye(3)
    codes = orientation
    if orientation == "oblique":
        codes = "LPS"
        turn = Rotation.from_euler("xz", angles, degrees=True).as_matrix()
    axes = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    linear = np.zeros((3, 3))
    shape = [0, 0, 0]
    for voxel_axis, code in enumerate(codes):
        world_axis, sign = axes[code]
        linear[world_axis, voxel_axis] = sign * spacing["xyz"[world_axis]]
        shape[voxel_axis] = count if world_axis == 2 else pixels
    affine = np.eye(4)
    affine[:3, :3] = turn @ linear
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    world = affine.copy()
    world[:3, 3] += origin
    return (shape[0], shape[1], shape[2]), affine, world


def _patient_points(
    rng: np.random.Generator, shape: tuple[int, int, int], affine: NDArray[np.float64], build: Build
) -> tuple[Array, NDArray[Any]]:
    """Patient coordinates of every voxel: the body's size, and a smooth random deformation.

    Returns:
        the points, and the matrix from undeformed patient coordinates to voxels.
    """
    to_patient = np.diag([*(1 / build.scale), 1.0]) @ affine
    # displacements of a lattice of knots, 90 mm apart, in patient space: they do not depend on the grid
    knots = rng.normal(0, DEFORMATION, (3, 10, 10, 10))
    sparse = [max(2, -(-n // 4)) for n in shape]
    index = np.stack(np.meshgrid(*[np.linspace(0, n - 1, m) for n, m in zip(shape, sparse)], indexing="ij"))
    points = np.tensordot(to_patient[:3, :3], index, 1) + to_patient[:3, 3].reshape(3, 1, 1, 1)
    at = points / 90 + 4.5
    shift = np.stack([map_coordinates(k, at, order=3, mode="nearest") for k in knots])
    return resize((points + shift).astype(np.float32), shape), np.linalg.inv(to_patient)


def _scan(rng: np.random.Generator, hu: Array, voxel: NDArray[np.float64], slice_axis: int) -> NDArray[np.int16]:
    """What a scanner makes of the tissue: its sharpness, its noise, uneven brightness, whole numbers."""
    blur = [0.45 if axis == slice_axis else 0.5 for axis in range(3)]
    hu = gaussian_filter(hu, blur, truncate=3.0)
    # noise of a reconstructed slice is correlated within the slice, and poor in the lowest frequencies
    grain = [0.25 if axis == slice_axis else 0.7 for axis in range(3)]
    white = rng.standard_normal(hu.shape, dtype=np.float32)
    noise = gaussian_filter(white, grain, truncate=3.0) - gaussian_filter(
        white, [0.25 if axis == slice_axis else 2.0 for axis in range(3)], truncate=2.0
    )
    noise *= float(rng.uniform(10, 19)) / float(noise.std())
    shading = 4 * smooth_noise(rng, hu.shape, 60 / voxel)
    return np.clip(np.rint(hu + noise + shading), -1024, 3071).astype(np.int16)


def ct_phantom_case(case_id: int, seed: int = 0, in_plane: int | None = None, slices: int | None = None) -> CTCase:
    """Make one case; the same ``case_id``, ``seed`` and size give the same voxels.

    Args:
        case_id: one of Synapse's 30.
        seed: of the cohort.
        in_plane: pixels along each side of a slice; default: 144 to 192, different from case to case.
        slices: number of slices; default: 40 to 70. The field of view does not depend on either.

    Raises:
        ValueError: if ``case_id`` is not one of the cohort's.

    Examples::

        >>> case = ct_phantom_case(5, in_plane=64, slices=24)
        >>> case.image.shape, case.image.dtype
        ((64, 64, 24), dtype('int16'))
    """
    if case_id not in TRAINING_IDS + TEST_IDS:
        raise ValueError(
            f"monai_ext: case_id must be one of Synapse's {sorted(TRAINING_IDS + TEST_IDS)}, got {case_id}."
        )
    half = TRAINING_IDS if case_id in TRAINING_IDS else TEST_IDS
    orientation = ORIENTATIONS[half.index(case_id) % len(ORIENTATIONS)]
    # the scan draws its own numbers: another grid shows the same patient
    patient, scanner = (np.random.default_rng([seed, case_id, stream]) for stream in range(2))
    build = Build.draw(patient)
    shape, affine, world = _grid(scanner, build, orientation, in_plane, slices)
    points, to_index = _patient_points(patient, shape, affine, build)
    voxel = np.linalg.norm(affine[:3, :3], axis=0)
    canvas = Canvas(points, to_index, softness=float(voxel.min()), background=-1000.0)
    coarse, fine = smooth_noise(scanner, shape, 6 / voxel), smooth_noise(scanner, shape, 2.2 / voxel)
    Anatomy(patient, canvas, build, coarse, fine).paint()
    slice_axis = int(np.argmax(np.abs(affine[2, :3])))
    image = _scan(scanner, canvas.value, voxel, slice_axis)
    return CTCase(image, canvas.label, world)


def write_ct_phantom(
    folder: str | os.PathLike[str],
    num_cases: int = MOST,
    seed: int = 0,
    progress: bool = True,
    workers: int | None = None,
    in_plane: int | None = None,
    slices: int | None = None,
) -> None:
    """Write a cohort of phantom abdominal CTs in the layout in which Synapse (BTCV) is published.

    ``<folder>/RawData/Training/img/img0001.nii.gz`` (HU) and ``<folder>/RawData/Training/label/label0001.nii.gz``
    (codes 1 to 13) for every id of :func:`ct_phantom_case_ids`, and at last ``<folder>/PHANTOM.json``, which tells
    readers that this is no clinical data; each file's NIfTI header says so, too. The cohort
    appears as a whole, in one step; in a folder that holds a smaller one, each file does.

    Args:
        folder: where to write; made if need be.
        num_cases: 5 to 30. A smaller cohort keeps the proportion of 18 training to 12 test cases, but has at least 4
            and 1.
        seed: another seed, another cohort.
        progress: show a progress bar.
        workers: threads; default: one per core, 8 at most.
        in_plane: see :func:`ct_phantom_case`.
        slices: see :func:`ct_phantom_case`.

    Raises:
        ValueError: if ``num_cases`` is out of range, or ``folder`` holds files that another call did not leave the same
            way: real data, or a phantom of another seed or size. They are left alone.
    """
    folder = Path(folder)
    training, test = ct_phantom_case_ids(num_cases)
    stamp = f"{GENERATOR}, seed {seed}, size {in_plane or 'default'} {slices or 'default'}"

    def paths(place: Path, case: int) -> tuple[Path, Path]:
        training = place / "RawData/Training"
        return training / f"img/img{case:04d}.nii.gz", training / f"label/label{case:04d}.nii.gz"

    def complete(place: Path, case: int) -> bool:
        for path in paths(place, case):
            if path.exists():
                check_description(path, stamp)
        return all(path.exists() for path in paths(place, case))

    def make(place: Path, case: int) -> None:
        image_path, label_path = paths(place, case)
        made = ct_phantom_case(case, seed, in_plane, slices)
        save_nifti(label_path, made.label, made.affine, stamp)
        save_nifti(image_path, made.image, made.affine, stamp)  # last: an image means a complete case

    possible = TRAINING_IDS + TEST_IDS
    write_cohort(folder, GENERATOR, seed, training + test, possible, complete, make, workers, progress, "CT phantom")
