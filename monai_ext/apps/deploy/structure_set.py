# SPDX-License-Identifier: Apache-2.0
"""A label map as RT Structure Set, which planning systems open: outlines in the planes of the source images."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from pydicom import Dataset, FileDataset
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.tag import Tag
from pydicom.uid import UID, ImplicitVRLittleEndian, RTStructureSetStorage

import monai_ext
from monai_ext.apps.anatomy import Structure
from monai_ext.apps.deploy.contours import outlines
from monai_ext.apps.deploy.origin import Origin, series_number
from monai_ext.apps.deploy.sources import REPEATED, is_multi_frame
from monai_ext.data.files.dicom import Frame

__all__ = ["structure_set"]

STUDY_COMPONENT = "1.2.840.10008.3.1.2.3.1"  # retired, and what the standard still has here
CONTOUR_DATA = Tag("ContourData")


def structure_set(origin: Origin, label: np.ndarray, frames: Sequence[Frame], sources: Sequence[Dataset]) -> Dataset:
    """Make an RT Structure Set of a label; a structure that was not found is listed without contours.

    A contour lies in the plane of one source image, to which it refers, however the planes are turned or sheared; see
    :func:`~monai_ext.apps.deploy.contours.outlines` for islands and holes. Coordinates have four decimals.

    Args:
        origin: the bundle.
        label: ``(slices, rows, columns)``.
        frames: of each slice.
        sources: as :func:`~monai_ext.apps.deploy.sources.quoted_sources` quotes them.

    Raises:
        ValueError: if a class has no coded term.

    Examples::

        >>> made = structure_set(origin, label, volume.frames, quoted_sources(volume))
        >>> made.save_as("rtstruct.dcm", enforce_file_format=True)
    """
    now, first = datetime.now(), sources[0]
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ImplicitVRLittleEndian  # elsewhere a contour has at most 64 KB
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = RTStructureSetStorage, UID(origin.uid("rtstruct"))
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    for name in (*REPEATED, "StudyInstanceUID", "FrameOfReferenceUID"):
        setattr(ds, name, first.get(name))
    ds.InstanceCreationDate = ds.StructureSetDate = f"{now:%Y%m%d}"
    ds.InstanceCreationTime = ds.StructureSetTime = f"{now:%H%M%S}"
    ds.Modality, ds.SeriesInstanceUID, ds.InstanceNumber = "RTSTRUCT", origin.uid("rtstruct series"), 1
    ds.SeriesNumber = series_number(first, 1)
    ds.SeriesDescription = origin.series_description("Structure set")
    ds.OperatorsName = ds.PositionReferenceIndicator = None
    ds.Manufacturer, ds.ManufacturerModelName, ds.DeviceSerialNumber = "monai_ext", origin.title[:64], "0"
    ds.SoftwareVersions = monai_ext.__version__
    ds.StructureSetLabel, ds.StructureSetDescription = "Automatic", f"By {origin.title}. {origin.note}"
    ds.ApprovalStatus = "UNAPPROVED"
    ds.ReferencedFrameOfReferenceSequence = [_referenced(sources)]
    ds.StructureSetROISequence, ds.ROIContourSequence, ds.RTROIObservationsSequence = [], [], []
    for name, structure in origin.structures.items():
        number = origin.classes[name]
        ds.StructureSetROISequence.append(_named(number, name, origin, first))
        ds.ROIContourSequence.append(_contoured(number, structure, label == number, frames))
        ds.RTROIObservationsSequence.append(_observed(number, name, structure))
    return ds


def _referenced(sources: Sequence[Dataset]) -> Dataset:
    frame_of_reference, study, series = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = sources[0].SeriesInstanceUID
    series.ContourImageSequence = [_image(source) for source in sources]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = STUDY_COMPONENT, sources[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame_of_reference.FrameOfReferenceUID = sources[0].FrameOfReferenceUID
    frame_of_reference.RTReferencedStudySequence = [study]
    return frame_of_reference


def _image(source: Dataset) -> Dataset:
    image = Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    return image


def _named(number: int, name: str, origin: Origin, source: Dataset) -> Dataset:
    roi = Dataset()
    roi.ROINumber, roi.ReferencedFrameOfReferenceUID, roi.ROIName = number, source.FrameOfReferenceUID, name[:64]
    roi.ROIGenerationAlgorithm = "AUTOMATIC"
    roi.ROIGenerationDescription = f"{origin.title} {origin.version}"[:64]
    return roi


def _observed(number: int, name: str, structure: Structure) -> Dataset:
    observation, coded = Dataset(), Dataset()
    coded.CodeValue, coded.CodingSchemeDesignator, coded.CodeMeaning = structure.code, "SCT", structure.meaning
    if structure.side is not None:
        side, modifier = getattr(codes.SCT, structure.side), Dataset()
        modifier.CodeValue, modifier.CodingSchemeDesignator, modifier.CodeMeaning = side.value, "SCT", side.meaning
        coded.SegmentedPropertyTypeModifierCodeSequence = [modifier]
    observation.ObservationNumber = observation.ReferencedROINumber = number
    observation.ROIObservationLabel = name[:16]
    observation.RTROIIdentificationCodeSequence = [coded]
    # a lesion is no target volume before somebody has said so
    observation.RTROIInterpretedType = "" if structure.abnormal else "ORGAN"
    observation.ROIInterpreter = None
    return observation


def _contoured(number: int, structure: Structure, mask: np.ndarray, frames: Sequence[Frame]) -> Dataset:
    roi = Dataset()
    roi.ROIDisplayColor, roi.ReferencedROINumber = list(structure.colour), number
    contours = [
        _contour(outline, frames[int(k)])
        for k in np.flatnonzero(mask.any(axis=(1, 2)))
        for outline in outlines(mask[k])
    ]
    for i, contour in enumerate(contours, 1):
        contour.ContourNumber = i
    if contours:
        roi.ContourSequence = contours
    return roi


def _contour(outline: np.ndarray, frame: Frame) -> Dataset:
    contour, image = Dataset(), _image(frame.source)
    if is_multi_frame([frame]):
        image.ReferencedFrameNumber = frame.index + 1
    contour.ContourImageSequence = [image]
    contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(outline)
    steps = np.stack([frame.rows * frame.spacing[1], frame.columns * frame.spacing[0]])
    places = (frame.position + outline @ steps).ravel().tolist()
    # as bytes: pydicom would make an object of each of a million numbers
    written = "\\".join([f"{place:.4f}" for place in places]).encode()
    written += b" " * (len(written) % 2)
    contour[CONTOUR_DATA] = RawDataElement(CONTOUR_DATA, "DS", len(written), written, 0, True, True)
    return contour
