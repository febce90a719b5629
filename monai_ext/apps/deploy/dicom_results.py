# SPDX-License-Identifier: Apache-2.0
"""A label map as DICOM SEG, RT Structure Set and structured report, as volumes in mL, and as surfaces."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from highdicom.color import CIELabColor
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from monai_ext.apps.anatomy import Structure
from monai_ext.apps.deploy.origin import NOTE, Origin
from monai_ext.apps.deploy.report import volume_report
from monai_ext.apps.deploy.results_folder import ResultsFolder
from monai_ext.apps.deploy.sources import is_multi_frame, quoted_sources
from monai_ext.apps.deploy.structure_set import structure_set
from monai_ext.data.files.affines import flip_lps, voxel_ml
from monai_ext.data.files.dicom import Volume
from monai_ext.data.files.dicom.headers import number_of_frames, text
from monai_ext.utils import write_json

__all__ = ["KINDS", "USUAL", "chosen_results", "fill_results", "segmentation", "volumes_ml", "write_results"]

KINDS = ("seg", "rtstruct", "sr", "stl")
USUAL = ("seg", "rtstruct", "sr")


def chosen_results(results: str | Collection[str], stl: bool = False) -> frozenset[str]:
    """Kinds of results that are known and can be had together.

    Args:
        results: of ``seg``, ``rtstruct``, ``sr`` and ``stl``; as a text with commas between them.
        stl: surfaces, whether they are among ``results`` or not.

    Raises:
        ValueError: if one is unknown, or ``sr`` is asked for without the ``seg`` to whose segments it refers.

    Examples::

        >>> sorted(chosen_results("seg,sr"))
        ['seg', 'sr']
    """
    named = results.split(",") if isinstance(results, str) else results
    chosen = frozenset(name.strip().lower() for name in named if name.strip()) | frozenset(["stl"] if stl else [])
    if unknown := sorted(chosen - {*KINDS}):
        raise ValueError(f"monai_ext: --results: {', '.join(unknown)!r}, expected some of {','.join(KINDS)}.")
    if "sr" in chosen and "seg" not in chosen:
        raise ValueError("monai_ext: --results: sr refers to the segments of seg. Add seg, or leave sr out.")
    return chosen


def write_results(
    output: Path,
    title: str,
    metadata: Mapping[str, Any],
    label: np.ndarray,
    volume: Volume,
    stl: bool = False,
    overwrite: bool = False,
    results: str | Collection[str] = USUAL,
) -> list[Path]:
    """Write ``TITLE_seg.dcm``, ``_sr.dcm``, ``_rtstruct.dcm``, ``_volumes.json``, and ``TITLE_ORGAN.stl`` if asked for.

    They lie in ``OUTPUT/STUDY/SERIES``, a folder named by the UIDs of the series, so that results of two patients never
    lie together. It appears in one step, with all of them.

    Args:
        output: made if need be.
        title: what the files' names begin with.
        metadata: the bundle's ``metadata.json``, for the names of the classes and the version.
        label: ``(slices, rows, columns)`` on the grid of ``volume``.
        volume: the series.
        stl: write surfaces.
        overwrite: replace the folder of this series, as a whole, where there is one.
        results: which of them, see :func:`chosen_results`; ``_volumes.json`` is written always.

    Returns:
        The files, ``TITLE_volumes.json`` last.

    Raises:
        BlockingIOError: if another process writes results of this series.
        FileExistsError: if there are results of this series already.
        ValueError: if a class has no coded term, or the images no UIDs to which results can refer.

    Examples::

        >>> volume = read_volume(select_series(find_series(Path("study")), "CT"))
        >>> write_results(Path("results"), "dcaunet_synapse", metadata, label, volume, results="seg")
        [PosixPath('results/1.2.3/1.2.3.4/dcaunet_synapse_seg.dcm'),
         PosixPath('results/1.2.3/1.2.3.4/dcaunet_synapse_volumes.json')]
    """
    kinds = chosen_results(results, stl)
    first = quoted_sources(volume)[0]
    study, series = text(first, "StudyInstanceUID"), text(first, "SeriesInstanceUID")
    with ResultsFolder(Path(output), study, series, overwrite) as folder:
        return fill_results(folder, title, metadata, label, volume, results=kinds)


def fill_results(
    folder: ResultsFolder,
    title: str,
    metadata: Mapping[str, Any],
    label: np.ndarray,
    volume: Volume,
    results: str | Collection[str] = USUAL,
    note: str = NOTE,
    weights: str | None = None,
    quality: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write what :func:`write_results` writes into a folder that was entered before the work began.

    ``note`` is what each result tells of itself, ``weights`` the hash of those that made the label, ``quality`` what
    can be said of it.
    """
    kinds, sources = chosen_results(results), quoted_sources(volume)
    origin = Origin.of(title, metadata, note).of_result(label, sources)
    amounts = {name: round(ml, 4) for name, ml in volumes_ml(label, volume.affine, origin.classes).items()}
    summary: dict[str, Any] = {
        "bundle": origin.title,
        "version": origin.version,
        "study_instance_uid": str(sources[0].StudyInstanceUID),
        "series_instance_uid": str(sources[0].SeriesInstanceUID),
    }
    objects: dict[str, Dataset] = {}
    if "seg" in kinds:
        seg = segmentation(origin, label, volume, sources)
        objects["seg"] = seg
        summary["segmentation_sop_instance_uid"] = str(seg.SOPInstanceUID)
        if "sr" in kinds:
            objects["sr"] = volume_report(origin, amounts, seg, sources)
    if "rtstruct" in kinds:
        objects["rtstruct"] = structure_set(origin, label, volume.frames, sources)
    names = []
    with folder.filled() as new:
        for kind, ds in objects.items():
            names.append(f"{origin.title}_{kind}.dcm")
            ds.save_as(new / names[-1], enforce_file_format=True)
        for name, value in origin.classes.items() if "stl" in kinds else ():
            if (surface := _surface(label == value, volume.affine)) is not None:
                names.append(f"{origin.title}_{name.replace(' ', '_')}.stl")
                (new / names[-1]).write_bytes(surface)
        names.append(f"{origin.title}_volumes.json")
        told = {**({"quality": dict(quality)} if quality else {}), **({"weights": weights} if weights else {})}
        write_json(new / names[-1], {**summary, "volumes_ml": amounts, **told, "note": origin.note})
    return [folder.path / name for name in names]


def volumes_ml(label: np.ndarray, affine: np.ndarray, classes: Mapping[str, int]) -> dict[str, float]:
    """Voxels of each class times the voxel's volume.

    Examples::

        >>> volumes_ml(np.ones((10, 10, 10)), np.diag([1, 1, 5, 1]), {"liver": 1})
        {'liver': 5.0}
    """
    voxel = voxel_ml(affine)
    counts = np.bincount(np.asarray(label, dtype=np.uint8).ravel(), minlength=256)
    return {name: float(counts[value]) * voxel for name, value in classes.items()}


def segmentation(
    origin: Origin, label: np.ndarray, volume: Volume, sources: Sequence[Dataset], corrected: bool = False
) -> hd.seg.Segmentation:
    """A label map as DICOM SEG, a segment for each class.

    Args:
        origin: who made it, and its classes, numbered from 1 on.
        label: ``(slices, rows, columns)`` on the grid of ``volume``.
        volume: the series.
        sources: its images, from ``quoted_sources``.
        corrected: by a person, as DICOM's SEMIAUTOMATIC says; else a program alone made it.

    Raises:
        ValueError: if a class has no coded term.
    """
    frames = volume.frames
    ordered = np.asarray(label, dtype=np.uint8)
    if is_multi_frame(frames):  # its segmentation follows the order in which the frames are stored
        stored = np.zeros((number_of_frames(frames[0].source), *ordered.shape[1:]), np.uint8)
        stored[[frame.index for frame in frames]] = ordered
        ordered = stored
    algorithm = hd.AlgorithmIdentificationSequence(
        name=origin.title[:64], family=codes.DCM.ArtificialIntelligence, version=origin.version
    )
    kinds = hd.seg.SegmentAlgorithmTypeValues
    kind = kinds.SEMIAUTOMATIC if corrected else kinds.AUTOMATIC
    return hd.seg.Segmentation(
        source_images=sources,
        pixel_array=ordered,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _described(name, origin, structure, algorithm, kind) for name, structure in origin.structures.items()
        ],
        content_description=f"Segmentation by {origin.title}"[:64],
        omit_empty_frames=bool(ordered.any()),
        **origin.keywords("seg", "Segmentation", sources[0], 0),
    )


def _described(
    name: str,
    origin: Origin,
    structure: Structure,
    algorithm: hd.AlgorithmIdentificationSequence,
    kind: hd.seg.SegmentAlgorithmTypeValues,
) -> hd.seg.SegmentDescription:
    category = codes.SCT.MorphologicallyAbnormalStructure if structure.abnormal else codes.SCT.AnatomicalStructure
    segment = hd.seg.SegmentDescription(
        segment_number=origin.classes[name],
        segment_label=name,
        segmented_property_category=category,
        segmented_property_type=Code(structure.code, "SCT", structure.meaning),
        algorithm_type=kind,
        algorithm_identification=algorithm,
        tracking_uid=origin.uid(f"segment {name}"),
        tracking_id=name,
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
