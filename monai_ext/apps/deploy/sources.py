# SPDX-License-Identifier: Apache-2.0
"""The images of a series as a DICOM SEG of them quotes them: what it repeats is right, or left empty."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence

from pydicom import Dataset

from monai_ext.data.files.dicom import Frame, Volume
from monai_ext.data.files.dicom.headers import text
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

    They are copies without pixels, in UTF-8. Dates, times and a sex that DICOM does not allow are emptied.

    Raises:
        ValueError: if an image has no UID by which a result can refer to it.
    """
    frames = volume.frames
    for frame in frames:
        for name, words in REFERRED.items():
            if not frame.source.get(name):
                raise ValueError(
                    f"monai_ext: {frame.header.path}: it has no {words}, to which DICOM SEG refers. Send the series "
                    "again from its archive, or segment its folder with 'segment', which writes NIfTI."
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
        raise damaged(frame.header.path, e) from e
    ds.SpecificCharacterSet = "ISO_IR 192"  # of the result: every name can be written in UTF-8
    for name in REPEATED:
        value = text(ds, name)
        setattr(ds, name, value if re.fullmatch(FORMS.get(name, "(?s).+"), value) else None)
    if not is_multi_frame(frames) and not ds.get("SliceThickness"):
        first, last = frames[0], frames[-1]
        apart = abs(float((last.position - first.position) @ first.normal)) / max(len(frames) - 1, 1)
        ds.SliceThickness = float(f"{apart or frame.thickness:.6g}")
    return ds
