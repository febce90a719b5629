# SPDX-License-Identifier: Apache-2.0
"""The weights inside XAttnRes's reads and DCAU-Net's attention, for one image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn

from monai_ext.networks.blocks import CrossStageAttentionResidual, DifferentialCrossAttention

__all__ = ["AttentionMaps", "SourceWeights", "attention_maps", "source_weights"]


@dataclass(frozen=True)
class SourceWeights:
    """How much one read took from each source.

    Attributes:
        name: of the read in the network.
        sources: their names: e1, e2, ... for encoder stages from the finest on, d1, d2, ... for decoder stages.
        weights: ``(sources, H, W)``; they sum to 1 at each position, equation (7) of XAttnRes.
    """

    name: str
    sources: tuple[str, ...]
    weights: torch.Tensor


@dataclass(frozen=True)
class AttentionMaps:
    """What one position attended to in one layer, as means over the heads.

    Attributes:
        name: of the layer in the network.
        factor: lambda of the layer.
        first: map ``A1`` on the grid of keys, ``(h, w)``; sums to 1.
        second: map ``A2``, likewise.
    """

    name: str
    factor: float
    first: torch.Tensor
    second: torch.Tensor

    @property
    def difference(self) -> torch.Tensor:
        """``A1 - lambda A2``: what the values are weighed with."""
        return self.first - self.factor * self.second


@torch.no_grad()
def source_weights(network: nn.Module, x: torch.Tensor) -> list[SourceWeights]:
    """The weights of every :class:`CrossStageAttentionResidual` of a network, in the order of the calls.

    Args:
        network: in evaluation mode.
        x: one image, ``(1, C, H, W)``.

    Raises:
        ValueError: if the network has no such block.

    Examples::

        >>> [read.sources for read in source_weights(XAttnResUNet().eval(), torch.rand(1, 1, 64, 64))][-1]
        ('e1', 'e2', 'e3', 'e4', 'e5', 'd1', 'd2', 'd3')
    """
    stages = getattr(network, "encoder", ())
    encoded = len(getattr(stages, "widths", stages)) or 10**6
    found: list[SourceWeights] = []

    def look(name: str, read: Any, inputs: tuple[Any, ...]) -> None:
        weights = read.source_weights(*inputs)[0]
        names = tuple(f"e{i + 1}" if i < encoded else f"d{i + 1 - encoded}" for i in range(len(weights)))
        found.append(SourceWeights(name, names, weights.cpu()))

    _watch(network, x, CrossStageAttentionResidual, look)
    return found


@torch.no_grad()
def attention_maps(network: nn.Module, x: torch.Tensor, at: Sequence[int]) -> list[AttentionMaps]:
    """The two attention maps of one position in every :class:`DifferentialCrossAttention` of a network.

    Args:
        network: in evaluation mode.
        x: one image, ``(1, C, H, W)``.
        at: the position, in pixels of ``x``: row, column.

    Raises:
        ValueError: if the network has no such block, or the position is outside the image.

    Examples::

        >>> attention_maps(DCAUNet(2, 1, 9).eval(), torch.rand(1, 1, 224, 224), at=(100, 120))[0].first.shape
        torch.Size([8, 8])
    """
    size = x.shape[2:]
    if len(at) != len(size) or not all(0 <= place < side for place, side in zip(at, size)):
        raise ValueError(f"monai_ext: position {tuple(at)}: outside an image of {'x'.join(map(str, size))}.")
    found: list[AttentionMaps] = []

    def look(name: str, layer: Any, inputs: tuple[Any, ...]) -> None:
        (seen,) = inputs
        place = [row * side // whole for row, side, whole in zip(at, seen.shape[2:], size)]
        first, second = (of_heads[0].mean(dim=0).cpu() for of_heads in layer.maps_of_position(seen, place))
        found.append(AttentionMaps(name, layer.lambda_full().item(), first, second))

    _watch(network, x, DifferentialCrossAttention, look)
    return found


def _watch(
    network: nn.Module, x: torch.Tensor, kind: type[nn.Module], look: Callable[[str, Any, tuple[Any, ...]], None]
) -> None:
    blocks = [(name, module) for name, module in network.named_modules() if isinstance(module, kind)]
    if not blocks:
        raise ValueError(f"monai_ext: {type(network).__name__} has no {kind.__name__} to look into.")
    hooks = [
        module.register_forward_hook(lambda module, inputs, _, name=name: look(name, module, inputs))
        for name, module in blocks
    ]
    try:
        network(x)
    finally:
        for hook in hooks:
            hook.remove()
