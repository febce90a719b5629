# SPDX-License-Identifier: Apache-2.0
"""What inferers ask of a network's output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

__all__ = ["check_finite", "check_logits", "device_of"]


def device_of(network: Callable[..., Any]) -> torch.device | None:
    """The device of a network's parameters; None if it has none."""
    parameter = next(network.parameters(), None) if isinstance(network, nn.Module) else None
    return None if parameter is None else parameter.device


def check_finite(logits: torch.Tensor) -> torch.Tensor:
    """Return logits that are numbers: of others the class would be that of background, without a word.

    Raises:
        ValueError: if one is infinite or not a number.
    """
    if not torch.isfinite(logits).all():
        raise ValueError(
            "monai_ext: the network's logits are not finite (infinity, or not a number): its weights are damaged "
            "or of a "
            "training that went astray, or mixed precision is too coarse for them, for which there is --amp false."
        )
    return logits


def check_logits(output: object, x: torch.Tensor, what: str, regions: Sequence[int] | None = None) -> torch.Tensor:
    """Return a network's output for ``x`` in at least float32, with a background of 0 if it has one channel only.

    Args:
        output: what the network returned.
        x: what it was given, ``(N, C, *spatial)``.
        what: what errors call ``x``.
        regions: of a network of regions, what each is written as: it has as many channels, and no background.

    Raises:
        ValueError: if ``output`` is anything but one tensor of finite logits, ``(N, classes, *spatial)``.
    """
    if not isinstance(output, torch.Tensor):
        raise ValueError(
            f"monai_ext: the network returned a {type(output).__name__}, not one tensor of logits: networks with "
            "deep supervision "
            "do so in training mode, call network.eval() first."
        )
    if output.dim() != x.dim() or len(output) != len(x):
        axes = ", ".join(("H", "W", "D")[: x.dim() - 2])
        raise ValueError(
            f"monai_ext: the network returned shape {list(output.shape)} for {what} {list(x.shape)}, expected logits "
            f"({len(x)}, classes, {axes})."
        )
    logits = check_finite(output).to(torch.promote_types(output.dtype, torch.float32))
    if regions:
        if logits.shape[1] != len(regions):
            raise ValueError(f"monai_ext: the network has {logits.shape[1]} channels, expected {len(regions)} regions.")
        return logits
    return F.pad(logits, (0, 0) * (x.dim() - 2) + (1, 0)) if logits.shape[1] == 1 else logits
