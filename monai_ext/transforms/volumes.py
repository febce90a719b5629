# SPDX-License-Identifier: Apache-2.0
"""What has to hold before a volume is trained on or segmented, and label codes as classes."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey, convert_to_dst_type, convert_to_tensor

from monai_ext.utils import VOLUME_MODALITIES, whole_numbers

from .slice_orientation import slice_orientation

__all__ = [
    "IGNORE",
    "NOTICE",
    "CheckVolumed",
    "MapLabelsd",
    "ScaleChannelsd",
    "gaps",
    "no_image",
    "unlike_modality",
    "unlike_patient",
]

logger = logging.getLogger(__name__)
NOTICE = "notice"  # key of an image's metadata under which reports find what looked odd about it
LOWEST = -9000  # padding is written as low as -8192
SPACING = (0.05, 50)  # mm
EXTENT = (10, 3000)  # mm, of the longest side
IGNORE = 255  # class of voxels that take no part in losses and metrics
NO_CLASS = -1  # marks codes without a class in the look-up table
PERCENTILES = (0.5, 99.5)
EMPTY = 0.05  # share of voxels of exactly 0 from which on these are taken for the outside of the body


def no_image(values: torch.Tensor) -> str | None:
    """Why values are none of an image, or None: one is not finite, or all are the same."""
    low, high = torch.aminmax(values)  # NaN anywhere makes both NaN
    if not (torch.isfinite(low) and torch.isfinite(high)):
        return "holds values that are not finite (NaN or infinity)"
    return f"every value is {low.item():g}; there is no image" if low == high else None


def unlike_modality(volume: torch.Tensor, modality: str) -> str | None:
    """Say why a volume's values are not those of ``modality``; None where they may be.

    CT in Hounsfield units has air or fat, well below 0, soft tissue around 0 to 100, and little of dense bone. MR has
    no negative values.
    """
    low, high = (value.item() for value in torch.aminmax(volume))
    if modality == "CT":
        if low > -50:
            return f"values from {low:g} to {high:g}, but CT in Hounsfield units has air and fat below -50"
        if low < LOWEST:
            return f"values from {low:g} to {high:g}, but nothing is below air (-1000), nor padding below {LOWEST}"
        # a share of voxels is known well enough from a ninth of them, whose rows lie in memory as they are read
        some = volume[tuple(slice(None, None, 3 if side >= 64 else 1) for side in volume.shape[:-1])]
        content = (some > low).sum()  # the lowest value may be padding
        soft = ((some > -150) & (some < 300)).sum()
        if soft < 0.1 * (some > -500).sum() or soft < 0.03 * content:
            return f"values from {low:g} to {high:g}, but hardly any soft tissue (-150 to 300 Hounsfield units)"
        if (some > 700).sum() > 0.25 * content:
            return f"values from {low:g} to {high:g}, but more than a quarter is as dense as bone (above 700)"
    elif low < 0:
        return f"values from {low:g} to {high:g}, but MR has none below 0"
    return None


def unlike_patient(affine: Any, shape: Sequence[int]) -> str | None:
    """Say why a grid is not one of a patient's scan; None where it may be.

    Args:
        affine: from voxels to mm.
        shape: ``(X, Y, Z)``.
    """
    spacing = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
    sides = spacing * np.asarray(shape)
    if spacing.min() < SPACING[0] or spacing.max() > SPACING[1]:
        voxel = "x".join(f"{side:.3g}" for side in spacing)
        return f"voxels of {voxel} mm, expected {SPACING[0]} to {SPACING[1]} mm"
    if not EXTENT[0] <= sides.max() <= EXTENT[1]:
        whole = "x".join(f"{side:.3g}" for side in sides)
        return f"{whole} mm in all, expected a longest side of {EXTENT[0]} to {EXTENT[1]} mm"
    return None


def gaps(volume: torch.Tensor, affine: Any = None) -> str | None:
    """Say which slices hold one value only, though there is an image on both sides of them; None where none does.

    Programs that join a series' slices put such ones where a slice is missing.

    Args:
        volume: ``(C, X, Y, Z)``.
        affine: from voxels to mm, which tells the planes that were acquired; by default slices lie along the last axis.
    """
    across = 2 if affine is None else int(slice_orientation(np.asarray(affine, np.float64))[:, 0].argmax())
    slices = volume.movedim(1 + across, 1)
    some = slices[(slice(None), slice(None), *[slice(None, None, 8)] * (slices.ndim - 2))].flatten(2)
    flat = some.amin(dim=2) == some.amax(dim=2)
    for channel, number in flat.nonzero().tolist():  # by a part of their values
        low, high = torch.aminmax(slices[channel, number])
        flat[channel, number] = low == high
    found: set[int] = set()
    for channel in flat:
        shown = (~channel).nonzero().flatten().tolist()
        if shown:
            found |= set(range(shown[0], shown[-1])) - set(shown)
    if not found:
        return None
    listed = ", ".join(str(number) for number in sorted(found)[:5]) + (", ..." if len(found) > 5 else "")
    return f"{len(found)} of {slices.shape[1]} slices ({listed}) hold one value only between others: are some missing?"


class CheckVolumed(MapTransform):
    """Refuse a volume that cannot be segmented: with values that are not finite, or all the same.

    Of slices of one value between others a warning is given, and noted in the image's metadata for the report.

    Args:
        keys: images ``(C, *spatial)``, with the values of the file.
        modality: ``"CT"`` or ``"MR"``: values that are not such a scan's are warned about in the log, and noted in the
            image's metadata for the report; so is a grid that is no patient's.
        strict: refuse them instead.

    Raises:
        ValueError: names the file and says what was found.
    """

    def __init__(self, keys: KeysCollection, modality: str | None = None, strict: bool = False) -> None:
        super().__init__(keys)
        if modality is not None and modality not in VOLUME_MODALITIES:
            raise ValueError(f"monai_ext: CheckVolumed: modality must be CT or MR, got {modality!r}.")
        self.modality = modality
        self.strict = strict

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            volume = convert_to_tensor(data[key], track_meta=False)
            for i, channel in enumerate(volume):
                where = f"{_name(data, key)}: " + (f"channel {i}: " if len(volume) > 1 else "")
                if fault := no_image(channel):
                    raise ValueError(f"monai_ext: {where}{fault}.")
            reason = None
            if self.modality:
                if isinstance(data[key], MetaTensor) and volume.ndim == 4:
                    reason = unlike_patient(data[key].affine, volume.shape[1:])
                reason = reason or unlike_modality(volume, self.modality)
            if reason:
                message = f"monai_ext: {_name(data, key)}: does not look like {self.modality}: {reason}."
                if self.strict:
                    raise ValueError(f"{message} If it is, give segment --force true, a bundle --strict false.")
                logger.warning(message)
                if isinstance(data[key], MetaTensor):
                    data[key].meta[NOTICE] = f"does not look like {self.modality}: {reason}"
                continue
            scan = isinstance(data[key], MetaTensor) and volume.ndim == 4
            if scan and (missing := gaps(volume, data[key].affine)):
                logger.warning("monai_ext: %s: %s", _name(data, key), missing)
                data[key].meta[NOTICE] = missing
        return dict(data)


class ScaleChannelsd(MapTransform):
    """Scale each channel of a volume to [0, 1]: by a window in the file's values, or by its own percentiles.

    Percentiles are 0.5 and 99.5; of a channel whose outside is exactly 0 (a tenth of a brain scan is brain) they are
    those of what is inside, and 0 stays 0.

    Args:
        keys: images ``(C, *spatial)``.
        windows: of each channel, ``[low, high]`` or None for its own percentiles.

    Raises:
        ValueError: if an image has another number of channels.

    Examples::

        >>> scale = ScaleChannelsd("image", [[-125, 275], None])
        >>> scale({"image": torch.stack([torch.full((2, 2, 2), 75.0), torch.rand(2, 2, 2)])})["image"][0, 0, 0, 0]
        tensor(0.5000)
    """

    def __init__(self, keys: KeysCollection, windows: Sequence[Sequence[float] | None]) -> None:
        super().__init__(keys)
        self.windows = list(windows)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            image = convert_to_tensor(data[key], track_meta=False).float()
            if len(image) != len(self.windows):
                raise ValueError(f"monai_ext: {_name(data, key)}: {len(image)} channels, expected {len(self.windows)}.")
            scaled = torch.stack([_scaled(channel, window) for channel, window in zip(image, self.windows)])
            result[key] = convert_to_dst_type(scaled, dst=data[key], dtype=torch.float32)[0]
        return result


def _scaled(channel: torch.Tensor, window: Sequence[float] | None) -> torch.Tensor:
    body: torch.Tensor | None = None
    if window is None:
        filled = channel != 0
        body = filled if (~filled).float().mean() > EMPTY and filled.any() else None
        inside = channel if body is None else channel[body]
        low, high = np.percentile(inside.cpu().numpy(), PERCENTILES).tolist()
    else:
        low, high = window
    scaled = ((channel - low) / max(high - low, 1e-8)).clamp(0, 1)
    return scaled if body is None else scaled * body


class MapLabelsd(MapTransform):
    """Turn the codes of label files into classes, strictly; what is within 0.001 of a whole number is that code.

    Args:
        keys: label maps.
        num_classes: number of classes, background included; the result is in ``0 .. num_classes - 1``.
        mapping: code -> class, or ``IGNORE`` (255) for what nobody has looked at; None where the files hold the classes
            themselves.

    Raises:
        ValueError: names the file and the values that are not whole numbers, or neither in ``mapping`` nor a class.
    """

    def __init__(self, keys: KeysCollection, num_classes: int, mapping: Mapping[int, int] | None = None) -> None:
        super().__init__(keys)
        self.mapping = {i: i for i in range(num_classes)} if mapping is None else dict(mapping)
        if not set(self.mapping.values()) <= {*range(num_classes), IGNORE}:
            raise ValueError(
                f"monai_ext: MapLabelsd: mapping to {sorted(set(self.mapping.values()))} with {num_classes} classes."
            )
        self.table = np.full(max(self.mapping) + 1, NO_CLASS, dtype=np.int16)
        self.table[list(self.mapping)] = list(self.mapping.values())

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            values = convert_to_tensor(data[key], track_meta=False)
            codes = torch.from_numpy(whole_numbers(values.cpu().numpy(), _name(data, key)).astype(np.int64, copy=False))
            unknown = (codes < 0) | (codes >= len(self.table))
            classes = torch.from_numpy(self.table)[codes.masked_fill(unknown, 0)]
            unknown |= classes == NO_CLASS
            if unknown.any():
                found = codes[unknown].unique().tolist()[:8]
                raise ValueError(
                    f"monai_ext: {_name(data, key)}: label values {found}, expected only {sorted(self.mapping)}."
                )
            result[key] = convert_to_dst_type(classes, dst=data[key], dtype=torch.uint8)[0]
        return result


def _name(data: Mapping[Hashable, Any], key: Hashable) -> str:
    meta = getattr(data[key], "meta", {})
    return str(meta.get(ImageMetaKey.FILENAME_OR_OBJ, key))
