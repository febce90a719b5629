# SPDX-License-Identifier: Apache-2.0
"""What there is to see of a case: scan and labels on one grid, each as NIfTI in memory, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.utils import MetaKeys
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform

from monai_ext.apps.anatomy import colour_of
from monai_ext.apps.view.viewed_cases import ViewedCase
from monai_ext.data import MaskReader, PictureReader, VolumeReader
from monai_ext.data.files.affines import has_right_angles, largest_shift, spacing_of, voxel_ml
from monai_ext.data.files.volume_reader import read_geometry

__all__ = ["CT_WINDOWS", "DIFFERENCES", "Layers", "check_grids", "read_layers"]

#: name -> lowest and highest value shown, in HU
CT_WINDOWS = {
    "abdomen": (-160, 240),
    "liver": (-20, 140),
    "mediastinum": (-125, 225),
    "lung": (-1350, 150),
    "bone": (-450, 1050),
    "brain": (0, 80),
}
#: value in the layer "difference" -> what it is, and its colour
DIFFERENCES = {
    1: ("in the truth only", (86, 180, 233)),
    2: ("in the prediction only", (255, 157, 30)),
    3: ("of another class", (204, 70, 160)),
}
SIDE = 2048  # the longest side that every graphics card shows
# a picture lies as an axial slice does for a radiologist: columns to the left of the patient, rows to the back
PICTURE = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass
class Layers:
    """A case that was read.

    Attributes:
        case: what it was read from.
        scan: ``(C, X, Y, Z)``, or of a picture ``(1, W, H, 1, 3)``.
        affine: voxel indices to RAS in mm, of all layers.
        labels: ``"truth"`` and ``"prediction"``, ``(X, Y, Z)``, as far as there are any.
        notes: sentences on how it is shown.
    """

    case: ViewedCase
    scan: np.ndarray
    affine: np.ndarray
    labels: dict[str, np.ndarray]
    notes: list[str] = field(default_factory=list)

    def nifti(self, name: str) -> bytes:
        """A layer as a NIfTI file: ``"scan0"`` (the first channel), ``"truth"``, ``"prediction"``, ``"difference"``."""
        if name.startswith("scan"):
            return _nifti(self.scan[int(name.removeprefix("scan"))], self.affine)
        return _nifti(self._difference() if name == "difference" else self.labels[name], self.affine)

    def _difference(self) -> np.ndarray:
        truth, prediction = self.labels["truth"], self.labels["prediction"]
        found = np.where(truth == prediction, 0, 3).astype(np.uint8)
        found[(truth > 0) & (prediction == 0)] = 1
        found[(truth == 0) & (prediction > 0)] = 2
        return found

    def description(self) -> dict[str, Any]:
        """For the page: plain values of JSON."""
        channels = self.case.channel_names or ("scan",)
        values = {name: np.bincount(labels.ravel()) for name, labels in sorted(self.labels.items())}
        layers = [
            {"name": name, "url": f"{name}.nii", "labels": self._classes(counts)} for name, counts in values.items()
        ]
        strange = [f"the {name}" for name, counts in values.items() if not self._are_classes(counts)]
        if len(self.labels) == 2:
            kinds = [{"value": v, "name": name, "colour": c, "ml": None} for v, (name, c) in DIFFERENCES.items()]
            layers.append({"name": "difference", "url": "difference.nii", "labels": kinds})
        return {
            "name": self.case.name,
            "picture": self.case.picture,
            "straight": not has_right_angles(self.affine),
            "focus": self._focus(),
            "scans": [
                {"name": str(name), "url": f"scan{k}.nii", "windows": self._windows(self.scan[k])}
                for k, name in enumerate(channels)
            ],
            "layers": layers,
            "quality": self.case.quality,
            "notes": [
                *self.notes,
                *(
                    [f"Values of {' and '.join(strange)} are not all classes of the model: they are shown as numbers."]
                    if strange
                    else []
                ),
            ],
        }

    def _are_classes(self, counts: np.ndarray) -> bool:
        """Whether the names of the classes are those of these values; a publisher's own codes have others."""
        return not self.case.class_names or set(np.flatnonzero(counts).tolist()) <= {0, *self.case.class_names}

    def _classes(self, counts: np.ndarray) -> list[dict[str, Any]]:
        names = self.case.class_names if self._are_classes(counts) else {}
        size = voxel_ml(self.affine)
        found = []
        for value in np.flatnonzero(counts[1:]).tolist():
            name = names.get(value + 1, f"label {value + 1}")
            ml = None if self.case.picture else round(float(counts[value + 1]) * size, 2)
            found.append({"value": value + 1, "name": name, "colour": colour_of(name), "ml": ml})
        return found

    def _focus(self) -> list[float]:
        """Where to look first, in mm: the planes with most of the labels, else the middle."""
        shape = self.scan.shape[1:4]
        drawn = [labels > 0 for labels in self.labels.values() if labels.any()]
        place = [n // 2 for n in shape]
        if drawn:
            for axis, across in enumerate(((1, 2), (0, 2), (0, 1))):
                counts = np.count_nonzero(drawn[0], axis=across)
                many = np.flatnonzero(counts >= 0.9 * counts.max())
                place[axis] = int(many[len(many) // 2])
        return [float(v) for v in (self.affine @ [*place, 1])[:3]]

    def _windows(self, scan: np.ndarray) -> list[dict[str, Any]]:
        if self.case.picture:
            return []
        some = scan.ravel()[:: max(1, scan.size // 1_000_000)].astype(np.float64)
        some = some[np.isfinite(some)]
        inner = some[some > some.min()] if some.size and some.max() > some.min() else some
        fixed = CT_WINDOWS if self.case.modality == "CT" else {}
        windows = [(name, float(low), float(high)) for name, (low, high) in fixed.items()]
        if inner.size:
            windows.append(("contrast", *np.percentile(inner, (1, 99.5)).tolist()))
            windows.append(("all values", float(some.min()), float(some.max())))
        return [{"name": name, "low": low, "high": max(high, low + 1e-6)} for name, low, high in windows]


def read_layers(case: ViewedCase) -> Layers:
    """Read a case's files.

    Raises:
        FileNotFoundError: if one is not there.
        ValueError: if one is damaged, or a label lies on another grid than the scan.
    """
    return _read_picture(case) if case.picture else _read_volume(case)


def check_grids(case: ViewedCase) -> None:
    """Refuse a label that does not lie on its scan's grid, told from the headers.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: if one is damaged, or the grids differ.
    """
    if case.picture:
        read_layers(case)  # small, and without a header that says enough
        return
    shape, affine = read_geometry(case.scan[0], case.channel_names if len(case.scan) == 1 else ())
    for path in (case.truth, case.prediction):
        if path is not None:
            _turn(path, *read_geometry(path), shape, affine, case)


def _read_volume(case: ViewedCase) -> Layers:
    scan, affine = _volume(case.scan, case.channel_names)
    scan = scan if scan.ndim == 4 else scan[None]
    labels = {}
    for name, path in (("truth", case.truth), ("prediction", case.prediction)):
        if path is not None:
            array, placed = _volume([path])
            turn = _turn(path, array.shape, placed, scan.shape[1:], affine, case)
            labels[name] = _whole(path, array if turn is None else apply_orientation(array, turn))
    notes = [] if has_right_angles(affine) else ["The scan's axes are not at right angles: planes are shown in mm."]
    return Layers(case, scan, affine, labels, notes)


def _volume(files: Sequence[str], channel_names: Sequence[str] = ()) -> tuple[np.ndarray, np.ndarray]:
    array, meta = VolumeReader(channel_names).get_data(tuple(files))
    return array, np.asarray(meta[MetaKeys.AFFINE], dtype=np.float64)


def _turn(
    path: str,
    shape: Sequence[int],
    placed: np.ndarray,
    scan_shape: Sequence[int],
    affine: np.ndarray,
    case: ViewedCase,
) -> np.ndarray | None:
    """How a label's axes are turned and flipped to be those of the scan; None if they are."""
    where = f"monai_ext: {path}: lies on another grid than its scan {Path(case.scan[0]).name}:"
    remedy = "Give the label of this scan, or resample it onto the scan."

    def misses(size: Sequence[int], at: np.ndarray) -> str:
        if tuple(size) != tuple(scan_shape):
            return f"{_sides(shape)} voxels, expected {_sides(scan_shape)}"
        # a shift of a tenth of a voxel anywhere in the volume is beyond rounding
        shift = largest_shift(affine, at, scan_shape)
        return f"voxels up to {shift:.3g} mm away" if shift > 0.1 * spacing_of(affine).min() else ""

    if not (told := misses(shape, placed)):
        return None
    turn = ornt_transform(io_orientation(placed), io_orientation(affine))
    turned = tuple(shape[int(np.flatnonzero(turn[:, 0] == axis)[0])] for axis in range(3))
    if misses(turned, placed @ inv_ornt_aff(turn, tuple(shape))):
        raise ValueError(f"{where} {told}. {remedy}")
    return turn


def _whole(path: str, array: np.ndarray) -> np.ndarray:
    """Label values, in as few bytes as they need."""
    whole = np.rint(array)
    low, high = (float(whole.min()), float(whole.max())) if whole.size else (0.0, 0.0)
    if not np.isfinite([low, high]).all() or np.abs(array - whole).max(initial=0) > 1e-3 or low < 0 or high > 65535:
        raise ValueError(f"monai_ext: {path}: values from {low:g} to {high:g}, expected a label map of whole numbers.")
    return whole.astype(np.uint8 if high < 256 else np.uint16)


def _read_picture(case: ViewedCase) -> Layers:
    pixels, _ = PictureReader().get_data((case.scan[0],))
    masks = {}
    for name, path in (("truth", case.truth), ("prediction", case.prediction)):
        if path is not None:
            # of one class it may be black and white; of several a value may be no class, but what is ignored
            classes, _ = MaskReader("classes", 2 if max(case.class_names, default=1) < 2 else 256).get_data((path,))
            if classes.shape != pixels.shape[:2]:
                raise ValueError(
                    f"monai_ext: {path}: lies on another grid than its picture {Path(case.scan[0]).name}: "
                    f"{_sides(classes.T.shape)} pixels, expected {_sides(pixels.shape[1::-1])}. Give the label of this "
                    "picture."
                )
            masks[name] = np.ascontiguousarray(classes.T[..., None])
    scan = np.ascontiguousarray(pixels.swapaxes(0, 1)[None, :, :, None])
    step = -(-max(pixels.shape[:2]) // SIDE)
    notes = []
    if step > 1:
        notes.append(f"One of {step} pixels along each side is shown: the picture is larger than {SIDE} pixels.")
        scan, masks = scan[:, ::step, ::step], {name: mask[::step, ::step] for name, mask in masks.items()}
    return Layers(case, scan, PICTURE @ np.diag([step, step, 1, 1]), masks, notes)


def _nifti(array: np.ndarray, affine: np.ndarray) -> bytes:
    """Of a type that viewers know; colours of a voxel as NIfTI's RGB."""
    if array.ndim == 4:
        array = np.ascontiguousarray(array).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8)
    elif array.dtype.kind == "f":
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            array = np.nan_to_num(array, nan=float(np.nanmin(array)) if not np.isnan(array).all() else 0)
    elif array.dtype not in (np.uint8, np.int16, np.uint16):
        fits = array.min(initial=0) >= -32768 and array.max(initial=0) <= 32767
        array = array.astype(np.int16 if fits else np.float32)
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    return image.to_bytes()


def _sides(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
