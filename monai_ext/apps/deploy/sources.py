# SPDX-License-Identifier: Apache-2.0
"""The images of a series as a DICOM SEG of them quotes them: what it repeats is right, or left empty."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence

from pydicom import Dataset
from pydicom.valuerep import DSfloat

from monai_ext.data.files.dicom import Frame, Volume
from monai_ext.data.files.dicom.finding import modality_of
from monai_ext.data.files.dicom.headers import is_uid, text
from monai_ext.data.files.guards import damaged

__all__ = ["quoted_sources"]

# of the patient and the study; a SEG repeats them, and anonymised files may lack them
REPEATED = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
FORMS = {
    "PatientBirthDate": r"\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])",
    "StudyDate": r"\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])",
    "StudyTime": r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?",
    "PatientSex": "[MFO]",
}
REFERRED = {
    "StudyInstanceUID": "Study Instance UID",
    "SeriesInstanceUID": "Series Instance UID",
    "SOPInstanceUID": "SOP Instance UID",
    "SOPClassUID": "SOP Class UID",
    "FrameOfReferenceUID": "Frame of Reference UID",
}


def quoted_sources(volume: Volume) -> list[Dataset]:
    """One data set for each frame of single files, in their order; one for all of a multi-frame object.

    They are copies without pixels, in UTF-8. Dates, times and a sex that DICOM does not allow are emptied. Study and
    series are the same in all, and their UIDs can name a folder.

    Raises:
        ValueError: if an image has no UID by which a result can refer to it, or images are of several studies.
    """
    frames = volume.frames
    for frame in frames:
        for name, words in REFERRED.items():
            if not (found := text(frame.source, name)):
                raise ValueError(
                    f"monai_ext: {frame.header.path}: it has no {words}, to which DICOM SEG refers. Send the series "
                    "again from its archive, or segment its folder with 'segment', which writes NIfTI."
                )
            if not is_uid(found):
                raise ValueError(
                    f"monai_ext: {frame.header.path}: its {words} is {found!r:.80}, expected numbers with dots "
                    "between, at most 64 characters. Send the series again from its archive, or segment its folder "
                    "with 'segment', which writes NIfTI."
                )
    for name in ("StudyInstanceUID", "SeriesInstanceUID"):
        other = next((f for f in frames if text(f.source, name) != text(frames[0].source, name)), None)
        if other is not None:
            raise ValueError(
                f"monai_ext: {other.header.path}: its {REFERRED[name]} is not that of {frames[0].header.path}, but "
                "DICOM SEG refers to one. Send the series again from its archive, or segment its folder with "
                "'segment', which writes NIfTI."
            )
    if is_multi_frame(frames):
        if len({frame.header.path for frame in frames}) > 1:
            raise ValueError(
                f"monai_ext: {frames[0].header.path}: one of several multi-frame objects of a series, but DICOM SEG "
                "refers to one. Send the series as one object, or use 'segment', which writes NIfTI."
            )
        return [_quoted(frames[0], frames)]
    return [_quoted(frame, frames) for frame in frames]


def is_multi_frame(frames: Sequence[Frame]) -> bool:
    """Whether all images are in one enhanced object."""
    return "PerFrameFunctionalGroupsSequence" in frames[0].source


def _quoted(frame: Frame, frames: Sequence[Frame]) -> Dataset:
    ds = copy.deepcopy(frame.source)
    try:
        ds.decode()
    except Exception as e:  # a damaged value may raise anything
        raise damaged(frame.header.path, e, b"DICM") from e
    ds.SpecificCharacterSet = "ISO_IR 192"  # of the result: every name can be written in UTF-8
    for name in REPEATED:
        value = text(ds, name)
        setattr(ds, name, value if re.fullmatch(FORMS.get(name, "(?s).+"), value) else None)
    ds.Modality = modality_of(ds)
    first, last = frames[0], frames[-1]
    apart = abs(float((last.position - first.position) @ first.normal)) / max(len(frames) - 1, 1)
    if is_multi_frame(frames):  # what a SEG takes over as it is
        _shorten_numbers(ds)
    for measures in _measures(ds) if is_multi_frame(frames) else [ds]:
        if not measures.get("SliceThickness"):
            measures.SliceThickness = float(f"{apart or frame.thickness:.6g}")
    return ds


def _measures(ds: Dataset) -> list[Dataset]:
    """Where a multi-frame object says how large its voxels are."""
    groups = [*(ds.get("SharedFunctionalGroupsSequence") or []), *ds.PerFrameFunctionalGroupsSequence]
    return [item for group in groups for item in group.get("PixelMeasuresSequence") or []]


def _shorten_numbers(ds: Dataset) -> None:
    """Numbers written with more characters than DICOM allows."""
    for group in [*(ds.get("SharedFunctionalGroupsSequence") or []), *ds.PerFrameFunctionalGroupsSequence]:
        for element in group.iterall():
            if element.VR == "DS" and element.value is not None:
                many = element.value if element.VM > 1 else [element.value]
                short = [DSfloat(number, auto_format=True) for number in many]
                element.value = short if element.VM > 1 else short[0]
