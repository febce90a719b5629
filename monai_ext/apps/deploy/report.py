# SPDX-License-Identifier: Apache-2.0
"""The volumes of a run's structures as a DICOM structured report (TID 1500), which refers to their segments."""

from __future__ import annotations

import highdicom as hd
import numpy as np
from highdicom import sr
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from monai_ext.apps.anatomy import Structure
from monai_ext.apps.deploy.origin import Origin

__all__ = ["volume_report"]

MILLILITRE = Code("mL", "UCUM", "milliliter")
EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")


def volume_report(
    origin: Origin, amounts: dict[str, float], segmentation: hd.seg.Segmentation, sources: list[Dataset]
) -> sr.ComprehensiveSR:
    """Make a report with one measurement group a segment: its volume in mL, structure and side, and what measured it.

    It is complete, and neither verified nor final: nobody has looked at it.

    Args:
        origin: the bundle.
        amounts: structure -> mL.
        segmentation: whose segments the groups refer to, and whose tracking identifiers they have.
        sources: as :func:`~monai_ext.apps.deploy.sources.quoted_sources` quotes them.

    Raises:
        ValueError: if a class has no coded term.

    Examples::

        >>> report = volume_report(origin, {"liver": 1500.0}, segmentation, quoted_sources(volume))
        >>> report.save_as("sr.dcm")
    """
    program = sr.DeviceObserverIdentifyingAttributes(
        uid=generate_uid(entropy_srcs=["monai_ext", origin.title, origin.version]),
        name=origin.title,
        manufacturer_name="monai_ext",
        model_name=origin.title,
    )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_device_context=sr.ObserverContext(codes.DCM.Device, program)
        ),
        procedure_reported=Code("363679005", "SCT", "Imaging procedure"),
        imaging_measurements=[
            _group(origin, name, structure, amounts[name], segmentation, sources[0].SeriesInstanceUID)
            for name, structure in origin.structures.items()
        ],
        title=codes.DCM.ImagingMeasurementReport,
    )
    evaluations = sr.ContainerContentItem(EVALUATIONS, relationship_type="CONTAINS")
    evaluations.ContentSequence = sr.ContentSequence(
        [sr.TextContentItem(codes.DCM.Comment, origin.note, relationship_type="CONTAINS")]
    )
    content[0].ContentSequence.append(evaluations)
    return sr.ComprehensiveSR(
        evidence=[segmentation, *sources],
        content=content[0],
        is_complete=True,
        **origin.keywords("sr", "Volumes", sources[0], 2),
    )


def _group(
    origin: Origin, name: str, structure: Structure, amount: float, segmentation: hd.seg.Segmentation, series: str
) -> sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    number = origin.classes[name]
    segment = segmentation.get_segment_description(number)
    coded = Code(structure.code, "SCT", structure.meaning)
    side = None if structure.side is None else getattr(codes.SCT, structure.side)
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=segment.tracking_uid, identifier=segment.tracking_id),
        referenced_segment=sr.ReferencedSegment(
            segmentation.SOPClassUID,
            segmentation.SOPInstanceUID,
            number,
            source_series=sr.SourceSeriesForSegmentation(series),
        ),
        finding_type=coded,
        finding_sites=None if structure.abnormal else [sr.FindingSite(coded, laterality=side)],
        algorithm_id=sr.AlgorithmIdentification(
            origin.title, origin.version, family=codes.DCM.ArtificialIntelligence, manufacturer="monai_ext"
        ),
        measurements=[sr.Measurement(codes.SCT.Volume, float(np.round(amount, 4)), MILLILITRE)],
    )
