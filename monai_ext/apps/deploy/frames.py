# SPDX-License-Identifier: Apache-2.0
"""The images of a DICOM series one by one, whether they lie in a file each or all in one (enhanced CT and MR)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.pixels import apply_modality_lut, pixel_array

__all__ = ["Frame", "frames_of", "read_frame"]


@dataclass(frozen=True)
class Frame:
    """One image: where it lies in the patient (LPS, mm), and in which object."""

    position: np.ndarray
    rows: np.ndarray  # direction of a row, along which the column number grows
    columns: np.ndarray
    spacing: tuple[float, float]  # of rows, of columns: as DICOM's Pixel Spacing
    size: tuple[int, int]  # rows, columns
    thickness: float
    source: Dataset
    index: int = 0  # in its object
    rescale: Dataset | None = None  # of a multi-frame object

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.rows, self.columns)


def frames_of(datasets: Sequence[Dataset]) -> list[Frame]:
    """The frames of the objects of a series, in the order of the objects and of the frames in them.

    Raises:
        ValueError: if an image does not say where it lies.
    """
    frames = []
    for ds in datasets:
        if "PerFrameFunctionalGroupsSequence" in ds:
            frames += [_of_group(ds, i) for i in range(len(ds.PerFrameFunctionalGroupsSequence))]
        else:
            frames.append(_frame(ds, ds, ds, ds, 0, None))
    return frames


def read_frame(frame: Frame) -> np.ndarray:
    """The values of a frame, ``(rows, columns)``, rescaled (CT: HU).

    Raises:
        ValueError: if the pixels cannot be decoded: damaged, or compressed in a way for which no decoder is installed.
    """
    ds = frame.source
    try:
        stored = pixel_array(ds, index=frame.index)
        return apply_modality_lut(stored, ds if frame.rescale is None else frame.rescale)
    except Exception as e:  # decoders raise anything
        syntax = getattr(ds.file_meta.get("TransferSyntaxUID"), "name", "unknown")
        reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise ValueError(
            f"monai_ext: image {ds.get('InstanceNumber', '?')} (frame {frame.index + 1}, {syntax}) cannot be decoded: "
            f"{reason}. It is damaged, or a decoder is missing (pip install 'monai-ext[deploy]')."
        ) from e


def _of_group(ds: Dataset, index: int) -> Frame:
    """A frame of a multi-frame object; what all frames share is said once."""
    own = ds.PerFrameFunctionalGroupsSequence[index]
    shared = ds.SharedFunctionalGroupsSequence[0] if ds.get("SharedFunctionalGroupsSequence") else Dataset()

    def item(name: str) -> Dataset:
        sequence = own.get(name) or shared.get(name)
        return sequence[0] if sequence else Dataset()

    rescale = item("PixelValueTransformationSequence")
    measures = item("PixelMeasuresSequence")
    return _frame(ds, item("PlanePositionSequence"), item("PlaneOrientationSequence"), measures, index, rescale)


def _frame(
    ds: Dataset, position: Dataset, orientation: Dataset, measures: Dataset, index: int, rescale: Dataset | None
) -> Frame:
    wanted = (
        (position, "ImagePositionPatient", 3),
        (orientation, "ImageOrientationPatient", 6),
        (measures, "PixelSpacing", 2),
    )
    values: list[np.ndarray] = []
    for place, name, length in wanted:
        found: Any = place.get(name)
        if found is None or len(found) != length:
            raise ValueError(
                f"monai_ext: image {ds.get('InstanceNumber', '?')} (frame {index + 1}) has no {name}, so where it "
                "lies in the patient is unknown."
            )
        values.append(np.array([float(v) for v in found]))
    between = measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") or 1.0
    return Frame(
        position=values[0],
        rows=values[1][:3],
        columns=values[1][3:],
        spacing=(float(values[2][0]), float(values[2][1])),
        size=(int(ds.Rows), int(ds.Columns)),
        thickness=abs(float(between)),
        source=ds,
        index=index,
        rescale=rescale,
    )
