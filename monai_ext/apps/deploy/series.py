# SPDX-License-Identifier: Apache-2.0
"""Which series of a folder to segment: a rule for each modality, and a reason for every series left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from monai_ext.apps.deploy.frames import Frame, frames_of, read_frame
from monai_ext.apps.deploy.geometry import affine_of, sorted_frames
from monai_ext.utils import MODALITIES as MODALITY_TABLE
from monai_ext.utils import VOLUME_MODALITIES

__all__ = ["MODALITIES", "Series", "Volume", "find_series", "read_volume", "select_series"]

#: modality -> SOP classes of its images; one file an image, or all images in one
MODALITIES = {code: MODALITY_TABLE[code].sop_classes for code in VOLUME_MODALITIES}
LEFT_OUT = {"LOCALIZER", "SCOUT", "MPR", "PROJECTION IMAGE", "SCREEN SAVE"}  # values of Image Type
FEWEST = 3


@dataclass
class Series:
    """The objects of one series."""

    uid: str
    objects: list[Dataset] = field(default_factory=list)

    @property
    def images(self) -> int:
        return sum(int(ds.get("NumberOfFrames", 1) or 1) for ds in self.objects)

    def __str__(self) -> str:
        first = self.objects[0]
        text = f"{first.get('Modality', '?')} series {first.get('SeriesNumber', '?')}"
        described = str(first.get("SeriesDescription", "") or "").strip()
        return f"{text} '{described}' ({self.images} images)" if described else f"{text} ({self.images} images)"


@dataclass(frozen=True)
class Volume:
    """A series as a volume: ``array`` ``(columns, rows, slices)``, ``affine`` to RAS in mm, and its frames in order."""

    array: np.ndarray
    affine: np.ndarray
    frames: list[Frame]


def find_series(folder: Path) -> list[Series]:
    """Every series below a folder.

    Raises:
        FileNotFoundError: if there is no such folder, or no DICOM object in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"monai_ext: {folder}: no such folder.")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found: dict[str, Series] = {}
    for path in files:
        try:
            ds = dcmread(path)
        except (InvalidDicomError, OSError, ValueError, EOFError):
            continue
        uid = str(ds.get("SeriesInstanceUID", ""))
        if uid:
            found.setdefault(uid, Series(uid)).objects.append(ds)
    if not found:
        others = f"{len(files)} file(s), none of them DICOM" if files else "the folder is empty"
        raise FileNotFoundError(f"monai_ext: {folder}: no DICOM series ({others}).")
    return list(found.values())


def select_series(found: Sequence[Series], modality: str, chosen: str | None = None) -> Series:
    """The one series that a bundle for ``modality`` is to segment.

    Args:
        found: the series of a study, or of several.
        modality: a key of ``MODALITIES``.
        chosen: a Series Instance UID, number or description, where several would do.

    Raises:
        ValueError: if none is suitable (with the reason for each), or several are.
    """
    if modality not in MODALITIES:
        raise ValueError(f"monai_ext: there are rules for series of {', '.join(MODALITIES)}, not of {modality!r}.")
    asked = [series for series in found if chosen is None or _is_called(series, str(chosen))]
    if not asked:
        raise ValueError(f"monai_ext: no series {chosen!r}; there are: {'; '.join(map(str, found))}.")
    reasons = {series.uid: _unsuitable(series, modality) for series in asked}
    suitable = [series for series in asked if reasons[series.uid] is None]
    if not suitable:
        listed = "; ".join(f"{series}: {reasons[series.uid]}" for series in asked)
        raise ValueError(f"monai_ext: no {modality} series to segment. {listed}.")
    if len(suitable) > 1:
        listed = "; ".join(f"{series}, UID {series.uid}" for series in suitable)
        raise ValueError(f"monai_ext: {len(suitable)} series could be segmented; choose one with --series. {listed}.")
    return suitable[0]


def read_volume(series: Series) -> Volume:
    """Read a series in single files or in one, compressed or not.

    Raises:
        ValueError: if the images make no regular volume, or cannot be decoded; the reason is given.
    """
    try:
        frames = sorted_frames(frames_of(series.objects))
        kinds = {str(frame.source.get("PhotometricInterpretation", "?")) for frame in frames}
        if kinds != {"MONOCHROME2"}:
            raise ValueError(f"monai_ext: pixels of kind {', '.join(sorted(kinds))}, expected MONOCHROME2.")
        slices = [np.asarray(read_frame(frame), dtype=np.float32) for frame in frames]
    except ValueError as e:
        reason = str(e).removeprefix("monai_ext: ")
        raise ValueError(f"monai_ext: {series}: {reason}") from e
    return Volume(np.stack(slices, axis=-1).swapaxes(0, 1), affine_of(frames), frames)


def _is_called(series: Series, name: str) -> bool:
    first = series.objects[0]
    described = str(first.get("SeriesDescription", "") or "").strip()
    return name in (series.uid, str(first.get("SeriesNumber", "")), described)


def _unsuitable(series: Series, modality: str) -> str | None:
    """Why a series is not segmented; None if it is."""
    classes = {str(ds.get("SOPClassUID", "")) for ds in series.objects}
    if not classes <= set(MODALITIES[modality]):
        odd = next(ds for ds in series.objects if str(ds.get("SOPClassUID", "")) not in MODALITIES[modality])
        return f"no {modality} images ({odd.SOPClassUID.name if 'SOPClassUID' in odd else 'no SOP class'})"
    kinds = [{str(value).upper() for value in ds.get("ImageType", [])} & LEFT_OUT for ds in series.objects]
    if all(kinds):  # one among others is a mixed series, which reading it tells
        return f"image type {', '.join(sorted(set.union(*kinds)))}"
    if series.images < FEWEST:
        return f"fewer than {FEWEST} images"
    return None
