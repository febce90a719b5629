# SPDX-License-Identifier: Apache-2.0
"""Which series a folder holds, which of them is the volume, and a reason for every one left out."""

from __future__ import annotations

import filecmp
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from pydicom import Dataset

from monai_ext.data.files.case_finder import walk
from monai_ext.data.files.dicom.frames import Frame, frames_of
from monai_ext.data.files.dicom.headers import SUFFIXES, Header, number_of_frames, read_header, text, values
from monai_ext.utils import MODALITIES as MODALITY_TABLE
from monai_ext.utils import VOLUME_MODALITIES

__all__ = [
    "LEFT_OUT",
    "MODALITIES",
    "Series",
    "find_series",
    "holds_series",
    "image_folders",
    "modality_of",
    "select_series",
    "tell",
]

logger = logging.getLogger(__name__)

#: modality -> SOP classes of its images; one file an image, or all images in one
MODALITIES = {code: MODALITY_TABLE[code].sop_classes for code in VOLUME_MODALITIES}
#: values of Image Type: overviews, and images computed from a volume that is to be read instead
LEFT_OUT = frozenset(
    (
        *("LOCALIZER", "SCOUT", "TOPOGRAM", "SCREEN SAVE", "PROJECTION IMAGE", "MPR", "REFORMATTED"),
        *("MIP", "MINIP", "MAX_IP", "MIN_IP", "AVERAGE", "CURVED_MPR", "VOLUME_RENDER", "SURFACE_RENDER", "VRT", "SSD"),
    )
)
HOUNSFIELD = ("", "HU", "US")  # values of Rescale Type; US says nothing
PLACES = ("ImagePositionPatient", "PerFrameFunctionalGroupsSequence")
FEWEST = 3


@dataclass
class Series:
    """The objects of one series; those without an image among them stay out of the volume."""

    uid: str
    objects: list[Header] = field(default_factory=list)

    @property
    def image_objects(self) -> list[Header]:
        return [header for header in self.objects if header.is_image]

    @property
    def images(self) -> int:
        return sum(number_of_frames(header.tags) for header in self.image_objects)

    @property
    def modality(self) -> str:
        return modality_of((self.image_objects or self.objects)[0].tags)

    @property
    def folder(self) -> str:
        return os.path.commonpath([os.path.dirname(header.path) for header in self.objects])

    def is_called(self, name: str) -> bool:
        """Whether ``name`` is its UID, number or description."""
        first = self.objects[0].tags
        return name in (self.uid, text(first, "SeriesNumber"), text(first, "SeriesDescription"))

    def __str__(self) -> str:
        first = self.objects[0].tags
        described = text(first, "SeriesDescription")
        name = f"{text(first, 'Modality') or '?'} series {text(first, 'SeriesNumber') or '?'}"
        return f"{name} '{described}' ({self.images} images)" if described else f"{name} ({self.images} images)"


def modality_of(tags: Dataset) -> str:
    """Of a scan by its SOP class, since Modality may be missing or wrong; of other objects as they say."""
    kind = text(tags, "SOPClassUID")
    return next((code for code, kinds in MODALITIES.items() if kind in kinds), text(tags, "Modality").upper())


def image_folders(root: Path, without: Sequence[str] = ()) -> list[Path]:
    """The folders at and below ``root`` in which images of a DICOM series lie.

    Hidden folders, and those called as ``without`` says, are passed over.
    """
    walked = ((folder, files) for folder, files in walk(root) if not {*without} & {*folder.relative_to(root).parts})
    return [folder for folder, files in walked if any(map(_is_image, files))]


def holds_series(folder: Path) -> bool:
    """Whether an image of a DICOM series lies in ``folder`` itself."""
    return any(map(_is_image, next(walk(folder))[1]))


def find_series(folder: Path, below: bool = True) -> list[Series]:
    """Every series in a folder, and below it. Dot files, DICOMDIRs, other files and second copies are passed over.

    Raises:
        FileNotFoundError: if there is no such folder, or no DICOM object in it.
        ValueError: if a DICOM file is damaged; a series without it would lack a slice unnoticed.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"monai_ext: {folder}: no such folder.")
    found: dict[str, Series] = {}
    objects: dict[str, Header] = {}
    others = 0
    for _, files in walk(folder) if below else [next(walk(folder))]:
        for file in files:
            if (header := read_header(file)) is None:
                others += 1
                continue
            uid = text(header.tags, "SOPInstanceUID")
            if uid and uid in objects and filecmp.cmp(file, objects[uid].path, shallow=False):
                tell(f"monai_ext: {file}: a second copy of {objects[uid].path}; passed over.")
                continue
            if uid:
                objects[uid] = header
            series = text(header.tags, "SeriesInstanceUID")
            found.setdefault(series, Series(series)).objects.append(header)
    if not found:
        what = f"{others} file(s), none of them DICOM" if others else "the folder is empty"
        raise FileNotFoundError(f"monai_ext: {folder}: no DICOM series ({what}).")
    return list(found.values())


def select_series(
    found: Sequence[Series],
    modality: str | None = None,
    chosen: str | None = None,
    remedy: str = "choose one with --series",
) -> Series:
    """The one series that is the volume; what is left out beside it is said in the log.

    Args:
        found: the series of a folder, a study, or of several.
        modality: a key of ``MODALITIES``, of the bundle that is to segment it; None for any.
        chosen: a Series Instance UID, number or description, where several would do.
        remedy: what a person can do where several would do.

    Raises:
        ValueError: if none is suitable (with the reason for each), or several are.
    """
    if modality is not None and modality not in MODALITIES:
        raise ValueError(f"monai_ext: there are rules for series of {', '.join(MODALITIES)}, not of {modality!r}.")
    asked = [series for series in found if chosen is None or series.is_called(str(chosen))]
    if not asked:
        raise ValueError(f"monai_ext: no series {chosen!r}; there are: {'; '.join(map(_told_apart, found))}.")
    reasons = {series.uid: _unsuitable(series, modality) for series in asked}
    suitable = [series for series in asked if reasons[series.uid] is None]
    if modality and any(series.images >= FEWEST for series in suitable):  # of a study; the others are overviews
        for series in suitable:
            if series.images < FEWEST:
                reasons[series.uid] = f"fewer than {FEWEST} images"
        suitable = [series for series in suitable if reasons[series.uid] is None]
    where = os.path.commonpath([series.folder for series in found])
    if not suitable:
        listed = "; ".join(f"{series}: {reasons[series.uid]}" for series in asked)
        wanted = f"no {modality} series to segment" if modality else "no DICOM series that is a volume"
        raise ValueError(f"monai_ext: {where}: {wanted}. {listed}.")
    if len(suitable) > 1:
        listed = "; ".join(map(_told_apart, suitable))
        raise ValueError(f"monai_ext: {where}: {len(suitable)} DICOM series could be segmented; {remedy}. {listed}.")
    for series in asked:
        if reason := reasons[series.uid]:
            tell(f"monai_ext: {series.folder}: {series} left out: {reason}.")
    return suitable[0]


@lru_cache(maxsize=4096)
def tell(message: str) -> None:
    """Say something once, however often a series is read."""
    logger.warning(message)


def _is_image(file: Path) -> bool:
    try:
        header = read_header(file)
    except (OSError, ValueError):
        return file.suffix.lower() in SUFFIXES  # damaged, or a dangling link: who reads the folder is told
    return header is not None and header.is_image


def _told_apart(series: Series) -> str:
    """A series with what tells it from others: no more of the patient than the ID, since a name is none of a log's."""
    first = series.objects[0].tags
    date = text(first, "StudyDate") or "unknown date"
    return f"{series}, patient {text(first, 'PatientID')!r}, study of {date}, UID {series.uid}"


def _unsuitable(series: Series, modality: str | None) -> str | None:
    """Why a series is not the volume; None if it is, as far as its headers tell one by one."""
    objects = series.image_objects
    for header in objects or series.objects:
        name = getattr(header.tags.get("SOPClassUID"), "name", None) or "no SOP class"
        if modality and text(header.tags, "SOPClassUID") not in MODALITIES[modality]:
            return f"no {modality} images ({name})"
        if not objects:
            return f"no images ({name})"
    if not modality and not any(name in header.tags for header in objects for name in PLACES):
        name = getattr(objects[0].tags.get("SOPClassUID"), "name", "")
        if "Secondary Capture" in name:
            return f"pictures without a place in the patient ({name})"
    types = [values(header.tags.get("ImageType")) & LEFT_OUT for header in objects]
    if all(types):  # one among others is left out when they are read
        return _computed(types)
    for name, words in (("PatientID", "IDs"), ("PatientName", "names"), ("PatientBirthDate", "birth dates")):
        several = sorted({text(header.tags, name).upper() for header in objects} - {""})
        if len(several) > 1:
            # names and birth dates are none of a log's
            told = f": {', '.join(several[:3])}" if name == "PatientID" else " differ"
            return (
                f"images of {len(several)} patients (their {words}{told}); export those of each as a series of its own"
            )
    try:
        frames = frames_of(objects)
        if all(types := [frame.kind & LEFT_OUT for frame in frames]):
            return _computed(types)
        frames = [frame for frame in frames if not frame.kind & LEFT_OUT]
        return next(filter(None, map(_no_hounsfield_units, frames)), None) if series.modality == "CT" else None
    except Exception:  # who reads it is told
        return None


def _computed(types: Sequence[frozenset[str]]) -> str:
    return (
        f"image type {', '.join(sorted(frozenset.union(*types)))}; take the series that it was made from, or convert "
        "it to NIfTI if it is to be used as it is"
    )


def _no_hounsfield_units(frame: Frame) -> str | None:
    table = frame.rescale
    if not table.get("ModalityLUTSequence") and None in (table.get("RescaleSlope"), table.get("RescaleIntercept")):
        return (
            f"image {frame.number} has no Rescale Slope and Intercept, so its values are no Hounsfield units; send "
            "the series as the scanner made it"
        )
    if (unit := text(table, "RescaleType").upper()) not in HOUNSFIELD:
        return f"its values are in {unit}, no Hounsfield units: it was computed from another series; take that"
    return None
