# SPDX-License-Identifier: Apache-2.0
"""A label map as DICOM SEG, as volumes in mL, and as surfaces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from highdicom.color import CIELabColor
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

import monai_ext
from monai_ext.apps.anatomy import STRUCTURES
from monai_ext.apps.deploy.results_folder import ResultsFolder
from monai_ext.apps.deploy.sources import is_multi_frame, quoted_sources
from monai_ext.data.files.affines import flip_lps, voxel_ml
from monai_ext.data.files.dicom import Volume
from monai_ext.data.files.dicom.headers import number_of_frames, text
from monai_ext.utils import write_json

__all__ = ["fill_results", "volumes_ml", "write_results"]

NOTE = "Research only; not for diagnosis or treatment."


def write_results(
    output: Path,
    title: str,
    metadata: Mapping[str, Any],
    label: np.ndarray,
    volume: Volume,
    stl: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """Write ``TITLE_seg.dcm``, ``TITLE_volumes.json`` and, if asked for, ``TITLE_ORGAN.stl``; all of them or none.

    They lie in ``OUTPUT/STUDY/SERIES``, a folder named by the UIDs of the series, so that results of two patients never
    lie together. It appears in one step.

    Args:
        output: made if need be.
        title: what the files' names begin with.
        metadata: the bundle's ``metadata.json``, for the names of the classes and the version.
        label: ``(slices, rows, columns)`` on the grid of ``volume``.
        volume: the series.
        stl: write surfaces.
        overwrite: replace the folder of this series, as a whole, where there is one.

    Returns:
        The files, ``TITLE_volumes.json`` last.

    Raises:
        BlockingIOError: if another process writes results of this series.
        FileExistsError: if there are results of this series already.
        ValueError: if a class has no coded term, or the images no UIDs to which results can refer.

    Examples::

        >>> volume = read_volume(select_series(find_series(Path("study")), "CT"))
        >>> write_results(Path("results"), "dcaunet_synapse", metadata, label, volume)
        [PosixPath('results/1.2.3/1.2.3.4/dcaunet_synapse_seg.dcm'),
         PosixPath('results/1.2.3/1.2.3.4/dcaunet_synapse_volumes.json')]
    """
    first = quoted_sources(volume)[0]
    study, series = text(first, "StudyInstanceUID"), text(first, "SeriesInstanceUID")
    with ResultsFolder(Path(output), study, series, overwrite) as results:
        return fill_results(results, title, metadata, label, volume, stl)


def fill_results(
    results: ResultsFolder,
    title: str,
    metadata: Mapping[str, Any],
    label: np.ndarray,
    volume: Volume,
    stl: bool = False,
) -> list[Path]:
    """Write what :func:`write_results` writes into a folder that was entered before the work began."""
    channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    classes = {name: int(value) for value, name in channels.items() if int(value) > 0}
    segmentation = _segmentation(title, metadata, classes, label, volume)
    amounts = volumes_ml(label, volume.affine, classes)
    surfaces = {name: _surface(label == value, volume.affine) for name, value in classes.items()} if stl else {}
    first = volume.frames[0].source
    summary = {
        "bundle": title,
        "version": metadata["version"],
        "study_instance_uid": text(first, "StudyInstanceUID"),
        "series_instance_uid": text(first, "SeriesInstanceUID"),
        "segmentation_sop_instance_uid": str(segmentation.SOPInstanceUID),
        "volumes_ml": {name: round(amount, 4) for name, amount in amounts.items()},
        "note": NOTE,
    }
    names = [f"{title}_seg.dcm"]
    with results.filled() as folder:
        segmentation.save_as(folder / names[0])
        for name, content in surfaces.items():
            if content is not None:
                names.append(f"{title}_{name.replace(' ', '_')}.stl")
                (folder / names[-1]).write_bytes(content)
        names.append(f"{title}_volumes.json")
        write_json(folder / names[-1], summary)
    return [results.path / name for name in names]


def volumes_ml(label: np.ndarray, affine: np.ndarray, classes: Mapping[str, int]) -> dict[str, float]:
    """Voxels of each class times the voxel's volume.

    Examples::

        >>> volumes_ml(np.ones((10, 10, 10)), np.diag([1, 1, 5, 1]), {"liver": 1})
        {'liver': 5.0}
    """
    voxel = voxel_ml(affine)
    counts = np.bincount(np.asarray(label, dtype=np.uint8).ravel(), minlength=256)
    return {name: float(counts[value]) * voxel for name, value in classes.items()}


def _segmentation(
    title: str, metadata: Mapping[str, Any], classes: Mapping[str, int], label: np.ndarray, volume: Volume
) -> hd.seg.Segmentation:
    frames = volume.frames
    ordered = np.asarray(label, dtype=np.uint8)
    if is_multi_frame(frames):  # its segmentation follows the order in which the frames are stored
        stored = np.zeros((number_of_frames(frames[0].source), *ordered.shape[1:]), np.uint8)
        stored[[frame.index for frame in frames]] = ordered
        ordered = stored
    algorithm = hd.AlgorithmIdentificationSequence(
        name=title[:64], family=codes.DCM.ArtificialIntelligence, version=str(metadata["version"])
    )
    by_value = sorted(classes.items(), key=lambda item: item[1])
    return hd.seg.Segmentation(
        source_images=quoted_sources(volume),
        pixel_array=ordered,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_described(name, value, algorithm) for name, value in by_value],
        series_instance_uid=hd.UID(),
        series_number=_series_number(frames[0].source),
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="monai_ext",
        manufacturer_model_name=title,
        software_versions=monai_ext.__version__,
        device_serial_number="0",
        content_description=f"Segmentation by {title}"[:64],
        series_description=f"Segmentation by {title}. {NOTE}"[:64],
        omit_empty_frames=bool(ordered.any()),
    )


def _series_number(source: Dataset) -> int:
    """One thousand above the source's, where DICOM's whole numbers reach that far."""
    number = text(source, "SeriesNumber")
    above = int(number) + 1000 if number.isdecimal() else 1000
    return above if above < 2**31 else 1000


def _described(name: str, value: int, algorithm: hd.AlgorithmIdentificationSequence) -> hd.seg.SegmentDescription:
    structure = STRUCTURES.get(name.lower())
    if structure is None:
        raise ValueError(
            f"monai_ext: class {name!r} has no coded term, so DICOM SEG cannot name it. Known are "
            f"{', '.join(STRUCTURES)}. Name it as one of them, or give its code in the structures of a dataset "
            "(monai_ext.data.datasets)."
        )
    category = codes.SCT.MorphologicallyAbnormalStructure if structure.abnormal else codes.SCT.AnatomicalStructure
    segment = hd.seg.SegmentDescription(
        segment_number=value,
        segment_label=name,
        segmented_property_category=category,
        segmented_property_type=Code(structure.code, "SCT", structure.meaning),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        display_color=CIELabColor.from_rgb(*structure.colour),
    )
    if structure.side is not None:
        side = getattr(codes.SCT, structure.side)
        modifier = Dataset()
        modifier.CodeValue, modifier.CodingSchemeDesignator, modifier.CodeMeaning = side.value, "SCT", side.meaning
        segment.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [modifier]
    return segment


def _surface(mask: np.ndarray, affine: np.ndarray) -> bytes | None:
    """The outline of a structure as STL, in mm and DICOM's patient coordinates (LPS); None of an empty one."""
    import trimesh
    from skimage.measure import marching_cubes

    if not mask.any():
        return None
    vertices, faces, _, _ = marching_cubes(np.pad(mask.transpose(2, 1, 0), 1).astype(np.float32), 0.5)
    lps = flip_lps(affine)
    points = (vertices - 1) @ lps[:3, :3].T + lps[:3, 3]
    surface = trimesh.Trimesh(points, faces)
    if surface.volume < 0:  # its triangles look inwards
        surface.invert()
    return surface.export(file_type="stl")
