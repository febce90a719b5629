# SPDX-License-Identifier: Apache-2.0
"""The images of a DICOM series one by one, whether they lie in a file each or all in one (enhanced CT and MR)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset

from monai_ext.data.files.dicom.headers import EXPORT_AGAIN, Header, require, text, values
from monai_ext.data.files.guards import damaged, unusable

__all__ = ["Frame", "frames_of"]


@dataclass(frozen=True)
class Frame:
    """One image: where it lies in the patient (LPS, mm), and in which object."""

    position: np.ndarray
    rows: np.ndarray  # direction of a row, along which the column number grows
    columns: np.ndarray
    spacing: tuple[float, float]  # of rows, of columns: as DICOM's Pixel Spacing
    size: tuple[int, int]  # rows, columns
    thickness: float
    header: Header
    index: int  # in its object
    rescale: Dataset  # where slope and intercept stand
    kind: frozenset[str]  # values of Image Type

    @property
    def source(self) -> Dataset:
        return self.header.tags

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.rows, self.columns)

    @property
    def number(self) -> str:
        """What a person finds it by."""
        number = text(self.source, "InstanceNumber") or "?"
        return f"{number}.{self.index + 1}" if "PerFrameFunctionalGroupsSequence" in self.source else number


def frames_of(headers: Iterable[Header]) -> list[Frame]:
    """The frames of the objects of a series, in the order of the objects and of the frames in them.

    Raises:
        ValueError: if an image does not say where it lies; names the file.
    """
    frames = []
    for header in headers:
        try:
            ds = header.tags
            if "PerFrameFunctionalGroupsSequence" in ds:
                require(header.path, ds, "NumberOfFrames")
                groups = ds.PerFrameFunctionalGroupsSequence
                if len(groups) != int(ds.NumberOfFrames):
                    raise ValueError(f"{len(groups)} descriptions of {ds.NumberOfFrames} frames")
                frames += [_of_group(header, i) for i in range(len(groups))]
            elif int(ds.get("NumberOfFrames") or 1) > 1:
                raise ValueError(
                    f"monai_ext: {header.path}: {ds.NumberOfFrames} frames that do not say where they lie, expected an "
                    "enhanced multi-frame object or one file for each slice. Export the series as one of these."
                )
            else:
                frames.append(_frame(header, 0, ds, ds, ds, ds, values(ds.get("ImageType"))))
        except Exception as e:  # a damaged value may raise anything
            raise e if str(e).startswith("monai_ext: ") else damaged(header.path, e, b"DICM") from e
    return frames


def _of_group(header: Header, index: int) -> Frame:
    """A frame of a multi-frame object; what all frames share is said once."""
    ds = header.tags
    own = ds.PerFrameFunctionalGroupsSequence[index]
    shared = ds.SharedFunctionalGroupsSequence[0] if ds.get("SharedFunctionalGroupsSequence") else Dataset()

    def item(*names: str) -> Dataset:
        for name in names:
            if sequence := own.get(name) or shared.get(name):
                return sequence[0]
        return Dataset()

    kind = item("CTImageFrameTypeSequence", "MRImageFrameTypeSequence", "PETFrameTypeSequence")
    return _frame(
        header,
        index,
        item("PlanePositionSequence"),
        item("PlaneOrientationSequence"),
        item("PixelMeasuresSequence"),
        item("PixelValueTransformationSequence"),
        values(kind.get("FrameType") or ds.get("ImageType")) | values(kind.get("VolumeBasedCalculationTechnique")),
    )


def _frame(
    header: Header,
    index: int,
    position: Dataset,
    orientation: Dataset,
    measures: Dataset,
    rescale: Dataset,
    kind: frozenset[str],
) -> Frame:
    ds = header.tags
    read = []
    for place, name, words, length in (
        (position, "ImagePositionPatient", "Image Position (Patient)", 3),
        (orientation, "ImageOrientationPatient", "Image Orientation (Patient)", 6),
        (measures, "PixelSpacing", "Pixel Spacing", 2),
    ):
        found = place.get(name)
        if found is None or found == "" or len(found) == 0:
            raise ValueError(
                f"monai_ext: {header.path}: image {text(ds, 'InstanceNumber') or '?'} (frame {index + 1}) has no "
                f"{words}, so where it lies in the patient is unknown. {EXPORT_AGAIN}"
            )
        many = [found] if isinstance(found, str) or not np.iterable(found) else list(found)
        try:
            read.append(np.array([float(v) for v in many]).reshape(length))
        except (TypeError, ValueError):
            told = ", ".join(str(v) for v in many)
            raise unusable(
                header.path, f"its {words} is {told!r:.80}, expected {length} numbers", EXPORT_AGAIN
            ) from None
    where, axes, spacing = read
    square = np.allclose(axes.reshape(2, 3) @ axes.reshape(2, 3).T, np.eye(2), atol=1e-3)
    if not square or not np.isfinite(where).all() or not (np.isfinite(spacing).all() and spacing.min() > 0):
        raise unusable(header.path, "its pixel spacing, orientation or position makes no sense", EXPORT_AGAIN)
    between = measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") or 1.0
    return Frame(
        position=where,
        rows=axes[:3],
        columns=axes[3:],
        spacing=(float(spacing[0]), float(spacing[1])),
        size=(int(ds.Rows), int(ds.Columns)),
        thickness=abs(float(between)),
        header=header,
        index=index,
        rescale=rescale,
        kind=kind,
    )
