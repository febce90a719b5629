# SPDX-License-Identifier: Apache-2.0
"""What there is in the data: all that a bundle's choices rest on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data.utils import affine_to_spacing
from monai.utils import MetaKeys, ensure_tuple
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from tqdm.auto import tqdm

from monai_ext.data import MaskReader, PictureReader, VolumeReader, check_pair
from monai_ext.data.files.picture_reader import is_picture
from monai_ext.transforms import no_image, slice_orientation, unlike_modality
from monai_ext.utils import VOLUME_MODALITIES, modality_of, whole_numbers

__all__ = ["Body", "Channel", "Survey", "Tissue", "survey"]

SAMPLES = 10_000  # voxels a case that percentiles are taken from


class Tissue(NamedTuple):
    """Intensities of one label value in one case: percentiles 0.5, 50 and 99.5, and a spread that outliers leave alone.

    The spread is the median distance from the median, times 1.4826: of a normal distribution its standard deviation.
    """

    low: float
    median: float
    high: float
    spread: float


class Body(NamedTuple):
    """A volume along the body's axes (to the left, back and head): its voxels, their sides in mm, and the classes'
    middles, 0 to 1."""

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    centres: dict[int, tuple[float, ...]]


class Channel(NamedTuple):
    """One of several channels: its name, its modality where that is CT or MR, and the tissue in it, as a survey's."""

    name: str
    modality: str | None
    tissue: dict[int, list[Tissue]]


@dataclass
class Survey:
    """What was read.

    Attributes:
        pictures: 2D pictures, not volumes.
        modality: of volumes: ``"CT"``, ``"MR"``, or None where values are neither's.
        shapes: of each case, of volumes in the order in which a 2D network sees their axes.
        spacings: of each volume, in mm, in the same order.
        values: of label files, sorted, with how many cases have each.
        of_case: case id -> the values in its label.
        tissue: label value -> of each case that has it, what its voxels are like.
        centres: case id -> label value -> where its middle lies along each axis as a network sees it, 0 to 1.
        body: of each volume, the same along the body's axes, which a 3D network sees: to the left, back and head.
        widths: label value -> of each case that has it, how thick it is in a slice, in mm, or pixels of a picture.
        channels: of images that have several; all else of intensities is of the first one.
        foreground: percentiles 0.5 and 99.5 of the image inside labels.
        everywhere: the same of whole images.
    """

    pictures: bool
    modality: str | None = None
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    spacings: list[tuple[float, ...]] = field(default_factory=list)
    values: dict[int, int] = field(default_factory=dict)
    of_case: dict[str, set[int]] = field(default_factory=dict)
    tissue: dict[int, list[Tissue]] = field(default_factory=dict)
    centres: dict[str, dict[int, tuple[float, ...]]] = field(default_factory=dict)
    body: dict[str, Body] = field(default_factory=dict)
    widths: dict[int, list[float]] = field(default_factory=dict)
    channels: list[Channel] = field(default_factory=list)
    foreground: tuple[float, float] = (0.0, 1.0)
    everywhere: tuple[float, float] = (0.0, 1.0)


def survey(
    cases: Mapping[str, Mapping[str, Any]],
    progress: bool = True,
    modality: str | None = None,
    channel_names: Sequence[str] = (),
    ignore: int | None = None,
    coded: bool = False,
) -> Survey:
    """Read every image and label once.

    Args:
        cases: case id -> ``{"image": path, "label": path or paths}``.
        progress: show a progress bar.
        modality: what the volumes are said to be; not believed where their values say otherwise.
        channel_names: what the channels of an image are, where it has several.
        ignore: label value of voxels that nobody has looked at; they are counted as background.
        coded: a list says what the values in masks of pictures are; otherwise they are classes, or black and white.

    Raises:
        FileNotFoundError, ValueError: for the first case that cannot be used; the file is named.
    """
    found = Survey(pictures=is_picture(ensure_tuple(next(iter(cases.values()))["image"])[0]))
    rng = np.random.default_rng(0)
    inside: list[np.ndarray] = []
    whole: list[np.ndarray] = []
    odd = dict.fromkeys(VOLUME_MODALITIES, 0)
    channels = _Channels(channel_names)
    coding = 256 if coded else _picture_classes(cases) if found.pictures else 2
    for name, case in tqdm(cases.items(), desc="reading", unit="case", disable=not progress):
        first = ensure_tuple(case["image"])[0]
        if is_picture(first) != found.pictures:
            raise ValueError(f"monai_ext: {first}: volumes and 2D pictures are mixed, expected one kind.")
        check_pair({**case, "case_id": name}, channel_names)
        if found.pictures:
            image, _ = PictureReader().get_data([case["image"]])
            label, _ = MaskReader("classes", coding).get_data(ensure_tuple(case["label"]))
            label = label if ignore is None else np.where(label == ignore, 0, label)
            found.shapes.append(image.shape[:2])
            image = image.mean(axis=2)
            turned = np.array([[0, 1], [1, 1]])
        else:
            image, meta = VolumeReader(channel_names).get_data(ensure_tuple(case["image"]))
            label = whole_numbers(VolumeReader().get_data([case["label"]])[0], case["label"])
            label = label if ignore is None else np.where(label == ignore, 0, label)
            if channel_names:
                channels.add(image, label, first, rng)
                image = image[0]
            turned = slice_orientation(np.asarray(meta[MetaKeys.AFFINE]))
            axes = turned[:, 0].argsort()  # the slices' own come first
            found.shapes.append(tuple(np.array(image.shape)[axes].tolist()))
            sides = affine_to_spacing(meta[MetaKeys.AFFINE])
            found.spacings.append(tuple(sides[axes].tolist()))
            upright = ornt_transform(io_orientation(np.asarray(meta[MetaKeys.AFFINE])), axcodes2ornt("LPS"))
            axes = upright[:, 0].argsort()
            length = tuple(np.array(image.shape)[axes].tolist())
            found.body[name] = Body(length, tuple(sides[axes].tolist()), {})
        values = torch.from_numpy(image.astype(np.float32))
        if fault := no_image(values):
            raise ValueError(f"monai_ext: {first}: {fault}.")
        for kind in () if found.pictures else odd:
            odd[kind] += unlike_modality(values, kind) is not None
        found.of_case[name] = _values(case["label"], label)
        found.centres[name] = {}
        inside_slice = turned[:, 0].argsort()[:2].tolist()
        pixel = float(np.mean(found.spacings[-1][:2])) if found.spacings else 1.0
        for value, width in _widths(label, inside_slice).items():
            found.widths.setdefault(value, []).append(pixel * width)
        for value in sorted(found.of_case[name] - {0}):
            where = np.nonzero(label == value)
            found.centres[name][value] = _centre(where, label.shape, turned)
            if name in found.body:
                found.body[name].centres[value] = _centre(where, label.shape, upright)
            found.tissue.setdefault(value, []).append(_tissue(rng.choice(image[where], SAMPLES)))
        whole.append(rng.choice(image.ravel(), SAMPLES))
        if (labelled := label > 0).any():
            inside.append(rng.choice(image[labelled], SAMPLES))
    if not inside:
        folder = Path(ensure_tuple(case["label"])[0]).parent
        raise ValueError(f"monai_ext: {folder}: every label is empty (background only).")
    counts = Counter(value for values in found.of_case.values() for value in values)
    found.values = dict(sorted(counts.items()))
    half = len(cases) / 2
    if not found.pictures:
        likely = (kind for kind in odd if odd[kind] < half and (modality is None or kind == modality))
        found.modality = next(likely, None)
    if channel_names:
        found.channels = channels.found(half)
        kinds = {channel.modality for channel in found.channels}
        found.modality = kinds.pop() if len(kinds) == 1 else None
    found.foreground, found.everywhere = _percentiles(inside), _percentiles(whole)
    return found


class _Channels:
    """What the channels of images are like, each on its own."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.odd = [dict.fromkeys(VOLUME_MODALITIES, 0) for _ in names]
        self.tissue: list[dict[int, list[Tissue]]] = [{} for _ in names]

    def add(self, image: np.ndarray, label: np.ndarray, file: str, rng: np.random.Generator) -> None:
        for i, channel in enumerate(image):
            values = torch.from_numpy(channel.astype(np.float32))
            if not torch.isfinite(values).all():
                raise ValueError(f"monai_ext: {file}: {self.names[i]} holds values that are not finite.")
            if values.min() == values.max():
                raise ValueError(f"monai_ext: {file}: every value of {self.names[i]} is {values.min():g}.")
            for kind in self.odd[i]:
                self.odd[i][kind] += unlike_modality(values, kind) is not None
            for value in sorted(set(np.unique(label).tolist()) - {0}):
                self.tissue[i].setdefault(value, []).append(_tissue(rng.choice(channel[label == value], SAMPLES)))

    def found(self, half: float) -> list[Channel]:
        result = []
        for name, odd, tissue in zip(self.names, self.odd, self.tissue, strict=True):
            said = modality_of(name)
            likely = (kind for kind in odd if odd[kind] < half and said in (None, kind))
            result.append(Channel(name, next(likely, None), tissue))
        return result


def _values(path: Any, label: np.ndarray) -> set[int]:
    values = np.unique(label)
    if values[0] < 0:
        raise ValueError(f"monai_ext: {path}: label value {values[0]}, expected whole numbers from 0 on.")
    return set(values.tolist())


def _centre(where: tuple[np.ndarray, ...], shape: tuple[int, ...], turned: np.ndarray) -> tuple[float, ...]:
    """The middle of voxels along each axis after turning, 0 to 1."""
    centre = [0.0] * len(shape)
    for places, length, (axis, direction) in zip(where, shape, turned, strict=True):
        along = (places.mean() + 0.5) / length
        centre[int(axis)] = float(along if direction > 0 else 1 - along)
    return tuple(centre)


def _widths(label: np.ndarray, axes: Sequence[int]) -> dict[int, float]:
    """Label value -> pixels across it in a slice: twice its area over the length of its outline.

    Of a line it is the width, of a disc two fifths of the diameter.
    """
    classes = int(label.max()) + 1
    outline = np.zeros(classes, dtype=np.int64)
    for axis in axes:
        first, second = np.delete(label, -1, axis), np.delete(label, 0, axis)
        edge = first != second
        outline += np.bincount(first[edge], minlength=classes) + np.bincount(second[edge], minlength=classes)
    areas = np.bincount(label.ravel(), minlength=classes)
    return {v: 2 * float(areas[v]) / max(1, int(outline[v])) for v in range(1, classes) if areas[v]}


def _tissue(values: np.ndarray) -> Tissue:
    low, median, high = np.percentile(values, (0.5, 50, 99.5)).tolist()
    return Tissue(low, median, high, 1.4826 * float(np.median(np.abs(values - median))))


def _percentiles(parts: list[np.ndarray]) -> tuple[float, float]:
    low, high = np.percentile(np.concatenate(parts), (0.5, 99.5))
    return float(low), float(high)


def _picture_classes(cases: Mapping[str, Mapping[str, Any]]) -> int:
    """2 where every mask is black and white (or 0 and 1), else as many as the values need."""
    try:
        for case in cases.values():
            MaskReader("classes", 2).get_data(ensure_tuple(case["label"]))
        return 2
    except ValueError:
        reader = MaskReader("classes", 256)
        masks = [np.unique(reader.get_data(ensure_tuple(case["label"]))[0]) for case in cases.values()]
        values = np.unique(np.concatenate(masks)).tolist()
        if values != list(range(len(values))):
            shown = ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
            where = Path(ensure_tuple(next(iter(cases.values()))["label"])[0]).parent
            raise ValueError(
                f"monai_ext: {where}: mask values {shown}; expected black and white, or classes 0, 1, 2, ..."
            ) from None
        return len(values)
