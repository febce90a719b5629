# SPDX-License-Identifier: Apache-2.0
"""What has to hold before a volume is trained on or segmented, and label codes as classes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey, convert_to_dst_type, convert_to_tensor

__all__ = ["CheckVolumed", "MapLabelsd"]

NO_CLASS = 255  # marks codes without a class in the look-up table


class CheckVolumed(MapTransform):
    """Refuse a volume that cannot be segmented: with values that are not finite, or all the same.

    Args:
        keys: images ``(C, *spatial)``.

    Raises:
        ValueError: names the file and says what was found.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            low, high = torch.aminmax(torch.as_tensor(data[key]))  # NaN anywhere makes both NaN
            if not (torch.isfinite(low) and torch.isfinite(high)):
                raise ValueError(f"monai_ext: {_name(data, key)}: holds values that are not finite (NaN or infinity).")
            if low == high:
                raise ValueError(f"monai_ext: {_name(data, key)}: every voxel is {low.item():g}; there is no image.")
        return dict(data)


class MapLabelsd(MapTransform):
    """Turn the codes of label files into classes, strictly.

    Args:
        keys: label maps.
        num_classes: number of classes, background included; the result is in ``0 .. num_classes - 1``.
        mapping: code -> class; None where the files hold the classes themselves.

    Raises:
        ValueError: names the file and the values that are not whole numbers, or neither in ``mapping`` nor a class.
    """

    def __init__(self, keys: KeysCollection, num_classes: int, mapping: Mapping[int, int] | None = None) -> None:
        super().__init__(keys)
        self.mapping = {i: i for i in range(num_classes)} if mapping is None else dict(mapping)
        if not set(self.mapping.values()) <= set(range(num_classes)):
            raise ValueError(
                f"monai_ext: MapLabelsd: mapping to {sorted(set(self.mapping.values()))} with {num_classes} classes."
            )
        self.table = np.full(max(self.mapping) + 1, NO_CLASS, dtype=np.uint8)
        self.table[list(self.mapping)] = list(self.mapping.values())

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            values = convert_to_tensor(data[key], track_meta=False)
            codes = values.to(torch.int64)
            unknown = (codes != values) | (codes < 0) | (codes >= len(self.table))
            classes = torch.from_numpy(self.table)[codes.masked_fill(unknown, 0)]
            unknown |= classes == NO_CLASS
            if unknown.any():
                found = values[unknown].unique().tolist()[:8]
                raise ValueError(
                    f"monai_ext: {_name(data, key)}: label values {found}, expected only {sorted(self.mapping)}."
                )
            result[key] = convert_to_dst_type(classes, dst=data[key], dtype=torch.uint8)[0]
        return result


def _name(data: Mapping[Hashable, Any], key: Hashable) -> str:
    meta = getattr(data[key], "meta", {})
    return str(meta.get(ImageMetaKey.FILENAME_OR_OBJ, key))
