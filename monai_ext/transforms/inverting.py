# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import Invertd
from monai.utils import TraceKeys, ensure_tuple_rep

__all__ = ["InvertFromWorkerd"]


class InvertFromWorkerd(Invertd):
    """MONAI's ``Invertd``, for images that a worker process has preprocessed, however it was started.

    ``Invertd`` knows a transform again by its place in memory, which is another in a worker that was not forked; it
    makes an exception for ``spawn``, but not for ``forkserver``, Python 3.14's default. The transforms are those of
    ``transform`` in any case: what is traced is told apart by order alone.

    Examples::

        >>> invert = InvertFromWorkerd("pred", transform=preprocessing, orig_keys="image", nearest_interp=True)
        >>> invert({"image": image, "pred": labels})["pred"]  # on the grid of the file
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in ensure_tuple_rep(self.orig_keys, len(self.keys)):
            for step in getattr(data.get(key), "applied_operations", ()):
                step[TraceKeys.ID] = TraceKeys.NONE
        return super().__call__(data)
