# SPDX-License-Identifier: Apache-2.0
"""Short-axis cardiac MR phantom in the layout of the ACDC dataset."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from monai_ext.phantoms.cohort import check_description, save_nifti, write_cohort
from monai_ext.phantoms.mr_anatomy import AIR, GROUPS, Chest, Heart, paint_heart
from monai_ext.phantoms.solids import Array, Canvas, resize, smooth_noise
from monai_ext.utils import replacing

__all__ = ["MRCase", "mr_phantom_case", "mr_phantom_ids", "write_mr_phantom"]

GENERATOR = "monai_ext cardiac MR phantom 1"
FEWEST, MOST = 5, 100
# place in a group of 20 ids, in turn: of every ten patients 7 train (places up to 14), 1 validates, 2 test
TRAINING_PLACES, VALIDATION_PLACES, TEST_PLACES = range(1, 15), range(15, 17), range(17, 21)

# where the voxel axes run; "oblique" is LPS turned by some degrees. The slices are always the last axis
ORIENTATIONS = ("LPS", "RAS", "oblique", "LPI", "LAS", "RPS", "LPS")
SUB_SLICES = 3  # a slice is the mean of these: it is as thick as the heart is tall at its apex
DEFORMATION = 1.5  # mm, standard deviation of the displacement of the anatomy


@dataclass(frozen=True)
class MRCase:
    """One phantom patient.

    Attributes:
        images: ``ED`` and ``ES`` -> brightness (int16).
        labels: the same -> classes (uint8): 1 right ventricle, 2 myocardium, 3 left ventricle.
        affine: from voxels to RAS in mm.
        info: what ``Info.cfg`` says, such as the numbers of the two frames.
    """

    images: dict[str, NDArray[np.int16]]
    labels: dict[str, NDArray[np.uint8]]
    affine: NDArray[np.float64]
    info: dict[str, int | float | str]


def mr_phantom_ids(num_cases: int = 20) -> tuple[int, ...]:
    """Ids of the patients of a cohort, out of ACDC's 100: the first of one list that takes the five groups in turn.

    Of every ten, 7 are for training, 1 for validation and 2 for testing; 5 have at least one of each.

    Args:
        num_cases: number of patients, 5 to 100.

    Raises:
        ValueError: for any other number.

    Examples::

        >>> mr_phantom_ids(5)
        (1, 21, 57, 75, 81)
    """
    if not FEWEST <= num_cases <= MOST:
        raise ValueError(f"monai_ext: num_cases must be {FEWEST} to {MOST}, got {num_cases}.")
    left = [{"t": list(TRAINING_PLACES), "v": list(VALIDATION_PLACES), "e": list(TEST_PLACES)} for _ in GROUPS]
    ids = []
    for k in range(num_cases):
        group = (k + k // 10) % len(GROUPS)
        ids.append(20 * group + left[group]["ttevtttett"[k % 10]].pop(0))
    return tuple(ids)


def _grid(
    rng: np.random.Generator, orientation: str, top: float, in_plane: int | None, slices: int | None
) -> tuple[tuple[int, int, int], NDArray[np.float64], NDArray[np.float64]]:
    """Shape, affine to the heart's coordinates and affine to the scanner's of a stack from the apex to the atria.

    The scanner's axes are those of the heart: R to its right (-x), A forward (y), S towards the base (z).
    """
    columns = 4 * int(rng.integers(36, 55))
    rows = max(128, 4 * round(columns * rng.uniform(0.8, 1) / 4))
    pixel, step = rng.uniform(1.37, 1.7), rng.uniform(8, 10)
    low, high = rng.uniform(-7, 4), top + rng.uniform(0, 10)
    count = int(np.clip(round((high - low) / step), 8, 12))
    spin, angles = rng.normal(0, 12), rng.uniform(6, 20, 2) * rng.choice([-1, 1], 2)
    middle = np.array([*(np.array([-18, 0]) + rng.normal(0, 9, 2).clip(-18, 18)), low + count * step / 2])
    origin = rng.normal(0, 30, 3)
    # everything is drawn by now: a size that is asked for changes nothing else
    sides = np.array([columns * pixel, rows * pixel, count * step])
    if in_plane:
        columns, rows = in_plane, max(8, round(in_plane * rows / columns))
    size = {"x": columns, "y": rows, "z": slices or count}
    spacing = dict(zip("xyz", sides / list(size.values())))
    turn = Rotation.from_euler("z", spin, degrees=True).as_matrix()
    codes, tilt = orientation, np.eye(3)
    if orientation == "oblique":
        codes, tilt = "LPS", Rotation.from_euler("xy", angles, degrees=True).as_matrix()
    axes = {"R": (0, -1), "L": (0, 1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    linear, shape = np.zeros((3, 3)), []
    for voxel_axis, code in enumerate(codes):
        axis, sign = axes[code]
        linear[axis, voxel_axis] = sign * spacing["xyz"[axis]]
        shape.append(size["xyz"[axis]])
    affine, world = np.eye(4), np.eye(4)
    affine[:3, :3] = turn @ linear
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    world[:3, :3] = tilt @ np.diag([-1, 1, 1]) @ linear
    world[:3, 3] = origin - world[:3, :3] @ ((np.array(shape) - 1) / 2)
    return (shape[0], shape[1], shape[2]), affine, world


def _points(
    rng: np.random.Generator, shape: tuple[int, int, int], affine: NDArray[np.float64]
) -> tuple[Array, NDArray[Any]]:
    """The heart's coordinates of every voxel of the sub-slices, gently deformed.

    Returns:
        the points, and the matrix from undeformed coordinates to voxels.
    """
    fine = affine @ np.diag([1, 1, 1 / SUB_SLICES, 1])
    fine[:3, 3] -= affine[:3, 2] * (SUB_SLICES // 2) / SUB_SLICES
    size = (*shape[:2], shape[2] * SUB_SLICES)
    # displacements of a lattice of knots, 45 mm apart, around the heart: they do not depend on the grid
    knots = rng.normal(0, DEFORMATION, (3, 14, 14, 7))
    sparse = [max(2, -(-n // 6)) for n in size]
    index = np.stack(np.meshgrid(*[np.linspace(0, n - 1, m) for n, m in zip(size, sparse)], indexing="ij"))
    points = np.tensordot(fine[:3, :3], index, 1) + fine[:3, 3].reshape(3, 1, 1, 1)
    at = points / 45 + np.array([6.5, 6.5, 2.0]).reshape(3, 1, 1, 1)
    shift = np.stack([map_coordinates(k, at, order=3, mode="nearest") for k in knots])
    return resize((points + shift).astype(np.float32), size), np.linalg.inv(fine)


class _Scanner:
    """What makes a picture of the tissue: coil, bands, blur, noise and scale, the same for all frames of a patient."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int, int], affine: NDArray[np.float64]) -> None:
        voxel = np.linalg.norm(affine[:3, :3], axis=0)
        index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).astype(np.float32)
        x, y = (np.tensordot(row, index, 1) + np.float32(at) for row, at in zip(affine[:2, :3], affine[:2, 3]))
        direction = rng.normal(0.9, 0.5) + rng.normal(0, 0.15) * np.pi
        toward_coil = (x * np.cos(direction) + y * np.sin(direction)) / 150
        self.coil = np.exp(rng.uniform(0.15, 0.5) * toward_coil + 0.12 * smooth_noise(rng, shape, 60 / voxel))
        # dark bands where the field is off resonance, far from the heart, on which the scanner is tuned
        phase = np.hypot(x - rng.normal(-10, 12), y - rng.normal(0, 12)) / rng.uniform(95, 130)
        phase = phase**2 + 0.1 * smooth_noise(rng, shape, 40 / voxel)
        self.bands = 1 - rng.uniform(0.4, 0.8) * np.exp(-(((np.mod(phase, 1) - 0.85) / 0.06) ** 2)) * (phase > 0.5)
        self.noise = rng.uniform(0.025, 0.06)
        self.scale = rng.uniform(180, 700)
        self.sharpness = rng.uniform(0.35, 0.6)

    def __call__(self, rng: np.random.Generator, value: Array) -> NDArray[np.int16]:
        signal = value.reshape(*value.shape[:2], -1, SUB_SLICES).mean(-1) * self.coil * self.bands
        signal = gaussian_filter(signal, [self.sharpness, self.sharpness, 0], truncate=3.0)
        # a magnitude image: noise of the real and the imaginary part (Rician)
        real, imaginary = self.noise * rng.standard_normal((2, *signal.shape), dtype=np.float32)
        return np.rint(self.scale * np.hypot(signal + real, imaginary)).astype(np.int16)


def mr_phantom_case(patient: int, seed: int = 0, in_plane: int | None = None, slices: int | None = None) -> MRCase:
    """Make both frames of one patient; the same ``patient``, ``seed`` and size give the same voxels.

    Args:
        patient: ACDC's id, 1 to 100; it decides the diagnosis, too.
        seed: of the cohort.
        in_plane: pixels along the x side of a slice; default: 144 to 216, different from patient to patient.
        slices: number of slices; default: 8 to 12. The field of view does not depend on either.

    Raises:
        ValueError: if there is no such patient.

    Examples::

        >>> case = mr_phantom_case(1, in_plane=64)
        >>> case.info["Group"], case.images["ES"].dtype
        ('DCM', dtype('int16'))
    """
    if not 1 <= patient <= MOST:
        raise ValueError(f"monai_ext: patient must be 1 to {MOST}, got {patient}.")
    group, place = GROUPS[(patient - 1) // 20], (patient - 1) % 20
    orientation = ORIENTATIONS[(place + (patient - 1) // 20) % len(ORIENTATIONS)]
    # the scan draws its own numbers: another grid shows the same patient
    anatomy, scan, noise = (np.random.default_rng([seed, patient, stream]) for stream in range(3))
    hearts = Heart.draw(anatomy, group)
    shape, affine, world = _grid(scan, orientation, hearts["ED"].base, in_plane, slices)
    points, to_index = _points(anatomy, shape, affine)
    voxel = np.linalg.norm(affine[:3, :3], axis=0)
    canvas = Canvas(points, to_index, softness=float(voxel.min()), background=AIR)
    thin = voxel / [1, 1, SUB_SLICES]
    textures = [smooth_noise(scan, canvas.value.shape, sigma / thin) for sigma in (6.0, 2.0)]
    chest = Chest(anatomy, canvas, *textures)
    chest.paint()
    scanner = _Scanner(scan, shape, affine)
    details = int(anatomy.integers(2**32))
    images, labels = {}, {}
    for phase, heart in hearts.items():
        frame = copy.copy(canvas)
        frame.value, frame.label = canvas.value.copy(), canvas.label.copy()
        paint_heart(np.random.default_rng(details), chest, heart, frame)
        images[phase] = scanner(noise, frame.value)
        labels[phase] = np.ascontiguousarray(frame.label[..., SUB_SLICES // 2 :: SUB_SLICES])
    height, weight = anatomy.normal(170, 9), anatomy.normal(76, 13)
    info: dict[str, int | float | str] = {"ED": 1, "ES": int(anatomy.integers(8, 15)), "Group": group}
    info |= {"Height": round(float(height), 1), "NbFrame": 30, "Weight": round(float(np.clip(weight, 45, 120)), 1)}
    return MRCase(images, labels, world, info)


def write_mr_phantom(
    folder: str | os.PathLike[str],
    num_cases: int = 20,
    seed: int = 0,
    progress: bool = True,
    workers: int | None = None,
    in_plane: int | None = None,
    slices: int | None = None,
) -> None:
    """Write a cohort of phantom patients in the layout in which ACDC is published.

    ``<folder>/training/patient001`` with ``Info.cfg``, ``patient001_frame01.nii.gz``, ``patient001_frame01_gt.nii.gz``
    and the same of the end-systolic frame for every id of :func:`mr_phantom_ids`, and at last
    ``<folder>/PHANTOM.json``, which tells readers that this is no clinical data; each file's NIfTI header says so, too.
    The cohort appears as a whole, in one step; in a folder that holds a smaller one, each file does.

    Args:
        folder: where to write; made if need be.
        num_cases: number of patients, 5 to 100, with two labelled frames each.
        seed: another seed, another cohort.
        progress: show a progress bar.
        workers: threads; default: one per core, 8 at most.
        in_plane: see :func:`mr_phantom_case`.
        slices: see :func:`mr_phantom_case`.

    Raises:
        ValueError: if ``num_cases`` is out of range, or ``folder`` holds files that another call did not leave the same
            way: real data, or a phantom of another seed or size. They are left alone.
    """
    folder = Path(folder)
    patients = mr_phantom_ids(num_cases)
    stamp = f"{GENERATOR}, seed {seed}, size {in_plane or 'default'} {slices or 'default'}"

    def home(place: Path, patient: int) -> Path:
        return place / "training" / f"patient{patient:03d}"

    def complete(place: Path, patient: int) -> bool:
        files = sorted(home(place, patient).glob("*.nii*"))
        for path in files:
            check_description(path, stamp)
        return len(files) == 4 and (home(place, patient) / "Info.cfg").is_file()

    def make(place: Path, patient: int) -> None:
        folder = home(place, patient)
        case = mr_phantom_case(patient, seed, in_plane, slices)
        with replacing(folder / "Info.cfg") as temporary:
            temporary.write_text("".join(f"{key}: {value}\n" for key, value in case.info.items()), encoding="utf-8")
        for phase in case.images:
            stem = f"patient{patient:03d}_frame{case.info[phase]:02d}"
            save_nifti(folder / f"{stem}_gt.nii.gz", case.labels[phase], case.affine, stamp)
            save_nifti(folder / f"{stem}.nii.gz", case.images[phase], case.affine, stamp)

    possible = mr_phantom_ids(MOST)
    write_cohort(folder, GENERATOR, seed, patients, possible, complete, make, workers, progress, "cardiac MR phantom")
