# SPDX-License-Identifier: Apache-2.0
"""RT Structure Sets: contours, filled again by two independent fillers, are the mask on the source's own planes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import matplotlib.path
import numpy as np
import pydicom
import pytest
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter

from monai_ext.apps.anatomy import STRUCTURES
from monai_ext.apps.deploy.contours import outlines
from monai_ext.apps.deploy.origin import Origin
from monai_ext.apps.deploy.sources import quoted_sources
from monai_ext.apps.deploy.structure_set import structure_set
from monai_ext.data.files.dicom import Volume, find_series, read_volume, select_series
from tests.apps.series import edit, make_multi_frame, tilt
from tests.data.volumes import rotation
from tests.dciodvfy import faults_of
from tests.dicom import write_ct_series

ORIGIN = Origin("dcaunet_synapse", "0.1.0", {"liver": 1, "left kidney": 2, "spleen": 3, "tumour": 4})
OBLIQUE = rotation(20) @ np.diag([-0.8, -0.8, 2.5, 1.0])
AFFINES = {
    "axial": np.diag([-0.8, -0.8, 2.5, 1.0]),
    "oblique": OBLIQUE,
    "coronal": OBLIQUE[:, [0, 2, 1, 3]],
    "sagittal": OBLIQUE[:, [1, 2, 0, 3]],
    "flipped": OBLIQUE @ np.diag([-1.0, 1.0, -1.0, 1.0]),
    "anisotropic": rotation(35) @ np.diag([-0.4, -1.7, 7.0, 1.0]),
}


@pytest.fixture(autouse=True)
def coded(monkeypatch):
    """The datasets know no tumour of their own here; one that is abnormal, and has no side."""
    monkeypatch.setitem(STRUCTURES, "tumour", STRUCTURES["liver"]._replace(code="108369006", abnormal=True))


def masks(shape: tuple[int, int, int]) -> np.ndarray:
    """``(slices, rows, columns)``: islands, holes, islands in holes, single pixels, corners that touch, an edge."""
    label = np.zeros(shape, np.uint8)
    label[1:-1, 2:26, 3:24] = 1
    label[1:-1, 5:9, 5:9] = label[2, 5:9, 12:15] = label[1:-1, 12:22, 6:20] = 0  # holes, side by side too
    label[1:-1, 15:19, 9:17] = 1  # an island in one of them
    label[2:4, 16:18, 11:14] = 0  # with a hole of its own
    label[1, 27, 27] = label[3, 28, 5] = label[3, 29, 6] = 2
    label[:, :2, :] = label[3, :, -2:] = 3  # to the edges of the image
    noise = np.random.default_rng(0).normal(size=shape)
    label[-2][gaussian_filter(noise, (0, 1, 1))[-2] > 0.05] = 2  # a sponge
    return label


def made(folder: Path, affine: np.ndarray, change: Callable[[Path], None]) -> tuple[Volume, np.ndarray, Path]:
    write_ct_series(folder / "ct", np.zeros((30, 32, 6), np.int16), affine)
    edit(folder / "ct", lambda ds: setattr(ds, "PatientName", "Phantom^P"))
    change(folder / "ct")
    volume = read_volume(select_series(find_series(folder / "ct"), "CT"))
    label = masks(volume.array.shape[::-1])
    file = folder / "rtstruct.dcm"
    structure_set(ORIGIN, label, volume.frames, quoted_sources(volume)).save_as(file, enforce_file_format=True)
    return volume, label, file


def pixels_of(contour: pydicom.Dataset, folder: Path) -> tuple[str, int, np.ndarray]:
    """The image a contour refers to, its frame, and the contour in columns and rows by what that file says."""
    (image,) = contour.ContourImageSequence
    path = next(p for p in folder.iterdir() if pydicom.dcmread(p).SOPInstanceUID == image.ReferencedSOPInstanceUID)
    ds = pydicom.dcmread(path)
    assert ds.SOPClassUID == image.ReferencedSOPClassUID
    frame, place = 0, ds
    axes, measures = ds, ds
    if "PerFrameFunctionalGroupsSequence" in ds:
        frame = image.ReferencedFrameNumber - 1
        place = ds.PerFrameFunctionalGroupsSequence[frame].PlanePositionSequence[0]
        shared = ds.SharedFunctionalGroupsSequence[0]
        axes, measures = shared.PlaneOrientationSequence[0], shared.PixelMeasuresSequence[0]
    row, column = np.array(axes.ImageOrientationPatient, float).reshape(2, 3)
    points = np.array(contour.ContourData, float).reshape(-1, 3) - np.array(place.ImagePositionPatient, float)
    assert len(points) == contour.NumberOfContourPoints
    assert np.abs(points @ np.cross(row, column)).max() < 1e-3  # in the plane
    height, width = map(float, measures.PixelSpacing)
    return str(path), frame, np.stack([points @ row / width, points @ column / height], axis=1)


def filled(rings: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Union of contours; matplotlib counts crossings at the centres of pixels."""
    centres = np.stack(np.meshgrid(np.arange(shape[1]), np.arange(shape[0])), axis=-1).reshape(-1, 2)
    inside = [matplotlib.path.Path(np.vstack([ring, ring[:1]])).contains_points(centres) for ring in rings]
    return np.any(inside, axis=0).reshape(shape) if inside else np.zeros(shape, bool)


@pytest.mark.parametrize(
    ("form", "orientation"),
    [*(("plain", name) for name in AFFINES), ("tilted", "oblique"), ("multi-frame", "coronal"), ("backwards", "axial")],
)
def test_contours_filled_again_are_the_mask(form, orientation, tmp_path):
    change = {
        "plain": lambda folder: None,
        "tilted": lambda folder: tilt(folder, 17),
        "multi-frame": make_multi_frame,
        "backwards": lambda folder: edit(folder, lambda ds: setattr(ds, "InstanceNumber", 50 - ds.InstanceNumber)),
    }[form]
    volume, label, file = made(tmp_path, AFFINES[orientation], change)
    assert faults_of(file) == []
    ds = pydicom.dcmread(file)
    names = {roi.ROINumber: roi.ROIName for roi in ds.StructureSetROISequence}
    order = {(frame.header.path, frame.index): k for k, frame in enumerate(volume.frames)}
    rings: dict[tuple[int, int], list[np.ndarray]] = {}
    for roi in ds.ROIContourSequence:
        for contour in roi.get("ContourSequence", []):
            assert contour.ContourGeometricType == "CLOSED_PLANAR"
            path, frame, ring = pixels_of(contour, tmp_path / "ct")
            key = ORIGIN.classes[names[roi.ReferencedROINumber]], order[path, frame]
            rings.setdefault(key, []).append(ring)
    for value in ORIGIN.classes.values():
        for k in range(len(label)):
            mask, found = label[k] == value, rings.get((value, k), [])
            np.testing.assert_array_equal(filled(found, mask.shape), mask)
            drawn = np.zeros(mask.shape, np.uint8)  # a second filler, which draws the edge as well
            for ring in found:
                cv2.fillPoly(drawn, [np.round(ring * 256).astype(np.int32)], 1, shift=8)
            assert not (drawn.astype(bool) & ~binary_dilation(mask, np.ones((3, 3)))).any()
            assert not (binary_erosion(mask, np.ones((3, 3))) & ~drawn.astype(bool)).any()


def winding(ring: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """How often a ring goes around the centre of each pixel."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    count = np.zeros(shape, int)
    for (x1, y1), (x2, y2) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        crosses = (y1 <= y) != (y2 <= y)
        if crosses.any():
            count += (crosses & (x1 + (y - y1) / (y2 - y1) * (x2 - x1) > x)) * (1 if y2 > y1 else -1)
    return count


@pytest.mark.parametrize("seed", range(40))
def test_any_mask_by_either_rule(seed):
    """Fillers that count rounds and those that count crossings agree; no ring goes through a centre of a pixel."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=random.integers(1, 22, 2))
    mask = gaussian_filter(noise, random.choice([0, 0.6, 1.2])) > random.choice([-0.3, -0.1, 0, 0.2])
    rings = outlines(mask)
    counts = sum((winding(ring, mask.shape) for ring in rings), np.zeros(mask.shape, int))
    np.testing.assert_array_equal(np.abs(counts), mask)
    for ring in rings:
        quarters = ring * 4
        np.testing.assert_array_equal(quarters, np.round(quarters))
        assert ((ring % 1) != 0).any(axis=1).all()


def test_what_a_structure_is_called(tmp_path):
    volume, label, _ = made(tmp_path, OBLIQUE, lambda folder: None)
    label[label == 3] = 0
    ds = structure_set(ORIGIN, label, volume.frames, quoted_sources(volume))
    source = pydicom.dcmread(tmp_path / "ct" / "slice000.dcm")
    for name in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
        assert ds[name].value == source[name].value
    assert ds.SeriesInstanceUID != source.SeriesInstanceUID
    assert (ds.Modality, ds.ApprovalStatus) == ("RTSTRUCT", "UNAPPROVED")
    assert ds.StructureSetDescription == "By dcaunet_synapse. Research only; not for diagnosis or treatment."
    assert [roi.ROIName for roi in ds.StructureSetROISequence] == list(ORIGIN.classes)
    assert {roi.ROIGenerationAlgorithm for roi in ds.StructureSetROISequence} == {"AUTOMATIC"}
    assert [list(roi.ROIDisplayColor) for roi in ds.ROIContourSequence] == [
        list(STRUCTURES[name].colour) for name in ORIGIN.classes
    ]
    assert ["ContourSequence" in roi for roi in ds.ROIContourSequence] == [True, True, False, False]  # not found
    seen = {roi.ROIObservationLabel: roi for roi in ds.RTROIObservationsSequence}
    assert [roi.RTROIInterpretedType for roi in seen.values()] == ["ORGAN", "ORGAN", "ORGAN", ""]
    code = seen["left kidney"].RTROIIdentificationCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator) == (STRUCTURES["left kidney"].code, "SCT")
    assert code.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    series = ds.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    assert len(series.ContourImageSequence) == 6
    label[:] = 0
    empty = structure_set(ORIGIN, label, volume.frames, quoted_sources(volume))
    empty.save_as(tmp_path / "empty.dcm", enforce_file_format=True)
    assert faults_of(tmp_path / "empty.dcm") == []


def test_a_contour_longer_than_a_short_length_says(tmp_path):
    """More than 64 KB of coordinates, which a data set with explicit types could not hold as such."""
    write_ct_series(tmp_path / "ct", np.zeros((160, 160, 1), np.int16), OBLIQUE)
    volume = read_volume(select_series(find_series(tmp_path / "ct"), "CT"))
    label = np.zeros((1, 160, 160), np.uint8)
    label[0, 1:-1, 1:-1], label[0, 2:-2:3, 2:-2:3] = 1, 0
    ds = structure_set(ORIGIN, label, volume.frames, quoted_sources(volume))
    ds.save_as(tmp_path / "rtstruct.dcm", enforce_file_format=True)
    (contour,) = pydicom.dcmread(tmp_path / "rtstruct.dcm").ROIContourSequence[0].ContourSequence
    assert sum(len(str(value)) + 1 for value in contour.ContourData) > 1 << 16
    _, _, ring = pixels_of(contour, tmp_path / "ct")
    np.testing.assert_array_equal(filled([ring], (160, 160)), label[0] == 1)
    assert not [fault for fault in faults_of(tmp_path / "rtstruct.dcm") if "Length" not in fault]
