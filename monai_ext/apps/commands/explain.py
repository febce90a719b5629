# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["explain"]


def explain(
    bundle: str,
    input: str,
    output: str,
    checkpoint: str | None = None,
    slice: int | None = None,
    at: Sequence[int] | None = None,
    **knobs: Any,
) -> None:
    """Draw what a network looked at: the sources of XAttnRes's reads, or the two attention maps of DCAU-Net.

    Args:
        bundle: a bundle's name, or its folder.
        input: an image that it segments.
        output: the figure to write: .png, .svg or .pdf.
        checkpoint: weights instead of the bundle's models/model.pt.
        slice: of a volume, counted from the feet in axial ones; by default the one with the largest prediction.
        at: for DCAU-Net, "row,column" in pixels of the network's input; by default inside the prediction.
        knobs: of the bundle's inference.json, such as --device cpu.
    """
    from monai_ext.apps.explain import explain as draw

    print(draw(bundle, input, output, checkpoint, slice, at, **knobs))
