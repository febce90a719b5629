# SPDX-License-Identifier: Apache-2.0
"""Labels of annotators and models as DICOM SEG, and back: by the names of their classes, never by their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from pydicom import Dataset

import monai_ext
from monai_ext.apps.deploy.dicom_results import segmentation
from monai_ext.apps.deploy.origin import Origin
from monai_ext.apps.deploy.sources import is_multi_frame, quoted_sources
from monai_ext.apps.label.request_knobs import RequestError
from monai_ext.bundle import Bundle
from monai_ext.data import VolumeReader
from monai_ext.data.files.affines import largest_shift
from monai_ext.data.files.dicom import Volume, one_series, read_volume
from monai_ext.data.files.dicom.headers import read_header, text
from monai_ext.utils import replacing, whole_numbers

__all__ = ["Segments", "label_classes", "read_label", "read_segments", "source_volume", "write_seg"]

BY_HAND = ("MANUAL", "SEMIAUTOMATIC")


@dataclass(frozen=True)
class Segments:
    """What a DICOM SEG says of itself.

    Attributes:
        series: UID of the series that it is a label of; ``""`` where it does not say.
        names: of its segments, by their numbers.
        by_hand: a person drew or corrected a segment; else a program made all of them.
        made: date and time, as text that sorts.
    """

    series: str
    names: Mapping[int, str]
    by_hand: bool
    made: str


def label_classes(info: Mapping[str, Any], bundles: Mapping[str, Bundle]) -> dict[str, int]:
    """Name -> value of a label map that was sent: as the viewer says, or else as the model that made it has them.

    Args:
        info: ``label_info``, the segments in the order of their values (``[{"name": ...}, ...]``), or ``model``.
        bundles: name -> bundle, all that are served.

    Raises:
        RequestError: 400, if neither is given, and the models have different classes.
    """
    segments = info.get("label_info")
    if isinstance(segments, (list, tuple)) and segments:
        named = [segment.get("name") if isinstance(segment, Mapping) else None for segment in segments]
        names = [str(name or "").strip() for name in named]
        if "" in names or len(set(names)) < len(names):
            raise RequestError(400, f"monai_ext: label_info: segments named {names!r:.200}: expected a name each.")
        own = {name.lower(): name for bundle in bundles.values() for name in bundle.channel_def.values()}
        return {own.get(name.lower(), name): i + 1 for i, name in enumerate(names)}
    model = info.get("model")
    asked = [bundles[model]] if isinstance(model, str) and model in bundles else list(bundles.values())
    found = [{name: value for value, name in bundle.channel_def.items() if value > 0} for bundle in asked]
    if any(classes != found[0] for classes in found):
        raise RequestError(
            400,
            "monai_ext: the label does not say what its values mean. Send label_info with the names of its segments, "
            f"or the model whose classes they are, one of {', '.join(bundles)}.",
        )
    return found[0]


def source_volume(folder: Path) -> Volume:
    """The series in a folder, as the label of it lies."""
    return read_volume(one_series(folder))


def write_seg(
    file: Path, label: Path, classes: Mapping[str, int], source: Path, model: str | None, version: str = ""
) -> None:
    """Write a label map as the DICOM SEG of a series.

    Args:
        file: ``.dcm`` to write.
        label: a volume on the grid of the series.
        classes: name -> value.
        source: the folder of the series.
        model: bundle that made the label; None: a person corrected it, and the segments say so.
        version: of the bundle.

    Raises:
        ValueError: if the label lies on another grid, holds other values, or a class has no coded term.
    """
    volume = source_volume(source)
    values, meta = VolumeReader().get_data((str(label),))
    values = whole_numbers(np.asarray(values), label.name)
    shapes = [list(values.shape), list(volume.array.shape)]
    if shapes[0] != shapes[1] or largest_shift(meta["affine"], volume.affine, values.shape) > 0.1:
        raise RequestError(
            400,
            f"monai_ext: {label.name}: a label of {shapes[0]} voxels on another grid than its series, which has "
            f"{shapes[1]}. Draw it on the image that the server sends.",
        )
    if unknown := sorted({*np.unique(values).tolist()} - {0, *classes.values()}):
        raise RequestError(400, f"monai_ext: {label.name}: values {unknown[:8]} without a segment of that number.")
    origin = Origin(model or "monai_ext label", version or monai_ext.__version__, dict(classes))
    try:
        _ = origin.structures
    except ValueError as e:  # a name that an annotator gave
        raise RequestError(400, str(e)) from e
    array = np.ascontiguousarray(values.transpose(2, 1, 0))
    made = segmentation(origin, array, volume, quoted_sources(volume), corrected=model is None)
    with replacing(file) as temporary:
        made.save_as(temporary, enforce_file_format=True)


def read_segments(file: Path) -> Segments:
    """What a DICOM SEG says of itself, from its header.

    Raises:
        ValueError: if it is none.
    """
    header = read_header(file)
    if header is None or text(header.tags, "Modality").upper() != "SEG":
        raise ValueError(f"monai_ext: {file}: no DICOM SEG.")
    ds = header.tags
    referenced = ds.get("ReferencedSeriesSequence") or []
    described = ds.get("SegmentSequence") or []
    return Segments(
        series=text(referenced[0], "SeriesInstanceUID") if len(referenced) == 1 else "",
        names={int(segment.SegmentNumber): text(segment, "SegmentLabel") for segment in described},
        by_hand=any(text(segment, "SegmentAlgorithmType").upper() in BY_HAND for segment in described),
        made=_time(ds),
    )


def read_label(file: Path, volume: Volume) -> np.ndarray:
    """Numbers of the segments of a DICOM SEG, on the grid of the series ``volume``, ``(columns, rows, slices)``.

    Raises:
        ValueError: if segments overlap, or the SEG does not tell to which images its frames belong.
    """
    sources = quoted_sources(volume)
    try:
        seg = hd.seg.segread(file)
        options = {
            "combine_segments": True, "ignore_spatial_locations": True, "assert_missing_frames_are_empty": True
        }  # fmt: skip
        if is_multi_frame(volume.frames):
            numbers = [frame.index + 1 for frame in volume.frames]
            found = seg.get_pixels_by_source_frame(str(sources[0].SOPInstanceUID), numbers, **options)
        else:
            found = seg.get_pixels_by_source_instance([str(ds.SOPInstanceUID) for ds in sources], **options)
        # a frame of another series counts as missing there
        on_series, stored = np.count_nonzero(found), np.count_nonzero(seg.pixel_array)
        if on_series != stored:
            raise ValueError(f"{on_series} of its {stored} voxels lie on images of the series")
    except Exception as e:  # whoever wrote it, and whatever highdicom says of it
        raise ValueError(
            f"monai_ext: {file}: this DICOM SEG cannot be laid on its series ({e!s:.200}). Submit the label "
            "of the series again, or remove the DICOM SEG from the archive."
        ) from e
    return np.asarray(found, np.uint8).transpose(2, 1, 0)


def _time(ds: Dataset) -> str:
    dates = (
        ("ContentDate", "ContentTime"),
        ("InstanceCreationDate", "InstanceCreationTime"),
        ("SeriesDate", "SeriesTime"),
    )
    return max(text(ds, day) + text(ds, hour) for day, hour in dates)
