# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from torch.autograd.function import once_differentiable

from monai_ext.networks.blocks.rms_norm import ChannelRMSNorm
from monai_ext.networks.paths import TwoPaths
from monai_ext.networks.utils import check_option, check_spatial_dims

__all__ = ["CrossStageAttentionResidual"]

CHUNK = 1 << 22  # elements of one aligned map that are at hand at once: images enough to keep a GPU busy, no more


class CrossStageAttentionResidual(TwoPaths):
    """Read a network's earlier maps: at each position a learnt query weighs all of them, whatever stage they are from.

    The stage-level attention residual of XAttnRes [1]_. Each source is brought to the target's resolution and width,
    ``v_k = P_k(resize(h_k))`` (4); its score is the inner product of its RMS-normalised channels with one vector ``w``
    (6); softmax over sources, position by position (7), weighs the sum of the ``v_k`` (8). ``w`` is zero at first, so
    that the read starts as the sources' mean.

    Inferred, as the paper is silent: means on the way down and linear interpolation on the way up, a projection for
    each source, and the norm's learnt scale and ``eps`` (from the authors' later code).

    The fast path takes half to a tenth of the time, training too: it projects at the lower resolution (a 1x1
    convolution commutes with linear interpolation), normalises scores in place of maps, and adds up without stacking.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of each source, in the order of the call.
        out_channels: channels of the output.
        resize: ``"linear"`` for means down and linear interpolation up, or ``"nearest"``.
        identity_if_match: leave a source that already has ``out_channels`` channels unprojected.
        eps: of the norm.

    Raises:
        ValueError: if an argument is not one of the above, or the sources are not those of ``in_channels``.

    Shape:
        - sources: list of ``(B, in_channels[k], *spatial_k)``
        - size: spatial size of the output
        - output: ``(B, out_channels, *size)``

    Examples::

        >>> read = CrossStageAttentionResidual(2, in_channels=(64, 128, 256), out_channels=128)
        >>> sources = [torch.rand(1, 64, 56, 56), torch.rand(1, 128, 28, 28), torch.rand(1, 256, 14, 14)]
        >>> read(sources, [28, 28]).shape
        torch.Size([1, 128, 28, 28])

    .. [1] Liu et al., "XAttnRes", arXiv:2604.03297.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: Sequence[int],
        out_channels: int,
        resize: str = "linear",
        identity_if_match: bool = False,
        eps: float = 1e-8,
    ) -> None:
        super().__init__()
        check_spatial_dims("CrossStageAttentionResidual", spatial_dims)
        check_option("CrossStageAttentionResidual", "resize", resize, ("linear", "nearest"))
        if not in_channels:
            raise ValueError("monai_ext: CrossStageAttentionResidual: in_channels must name at least one source.")
        self.in_channels = list(in_channels)
        self.up_mode = "nearest" if resize == "nearest" else ("bilinear" if spatial_dims == 2 else "trilinear")
        self.project = nn.ModuleList(
            nn.Identity()
            if identity_if_match and channels == out_channels
            else Conv["CONV", spatial_dims](channels, out_channels, 1, bias=False)
            for channels in in_channels
        )
        self.norm = ChannelRMSNorm(out_channels, eps)
        self.query = nn.Parameter(torch.zeros(out_channels))

    def resize(self, x: torch.Tensor, size: list[int]) -> torch.Tensor:
        """Average over the axes that shrink, interpolate along those that grow."""
        have = list(x.shape[2:])
        if self.up_mode == "nearest":
            return x if have == size else F.interpolate(x, size=size, mode="nearest")
        smaller = [min(a, b) for a, b in zip(have, size)]
        if have != smaller:
            x = _average_to(x, smaller)
        if smaller != size:
            x = F.interpolate(x, size=size, mode=self.up_mode, align_corners=False)
        return x

    def align(self, sources: list[torch.Tensor], size: list[int]) -> list[torch.Tensor]:
        """Bring every source to the width and size of the output, equation (4)."""
        shrunk = self.shrunk(sources, size)
        values: list[torch.Tensor] = []
        for i, project in enumerate(self.project):
            values.append(self.resize(project(shrunk[i]), size))
        return values

    def shrunk(self, sources: list[torch.Tensor], size: list[int]) -> list[torch.Tensor]:
        """Bring every source to the size of the output; on the fast path to the lower of both: enlarging comes last."""
        channels = [source.shape[1] for source in sources]
        if channels != self.in_channels:
            raise ValueError(
                f"monai_ext: CrossStageAttentionResidual: expected sources of {self.in_channels} channels, got "
                f"{channels}."
            )
        if not self.fast:
            return [self.resize(source, size) for source in sources]
        result: list[torch.Tensor] = []
        for source in sources:
            smaller = [min(a, b) for a, b in zip(source.shape[2:], size)]
            # all that follows runs over channels: lay them adjacent in memory
            result.append(self.resize(_channels_last(source), smaller))
        return result

    def weights(self, values: list[torch.Tensor]) -> torch.Tensor:
        """How much each aligned source counts at each position, ``(B, sources, *spatial)``, equations (5) to (7)."""
        scores = [(self.norm(value).movedim(1, -1) @ self.query) for value in values]
        return torch.softmax(torch.stack(scores, dim=1), dim=1)

    def source_weights(self, sources: list[torch.Tensor], size: list[int]) -> torch.Tensor:
        """:meth:`weights` of a call: how much each of ``sources`` counts, ``(B, sources, *size)``; they sum to 1."""
        return self.weights(self.align(sources, list(size)))

    def forward(self, sources: list[torch.Tensor], size: list[int]) -> torch.Tensor:
        size = list(size)
        if not self.fast:
            values = self.align(sources, size)
            return (self.weights(values).unsqueeze(2) * torch.stack(values, dim=1)).sum(dim=1)
        if not torch.jit.is_scripting():
            query = self.query * self.norm.scale
            if _eager(query, sources[0]):
                weights = [getattr(project, "weight", None) for project in self.project]
                return _Read.apply(self, size, query, *self.shrunk(sources, size), *weights)
        return self.read(self.align(sources, size))

    def read(self, values: list[torch.Tensor]) -> torch.Tensor:
        """Equations (5) to (8) without a normalised copy or a stack; maps are matrices of positions times channels."""
        rows = [_rows(value) for value in values]
        products, inverse = self.products(rows, self.query * self.norm.scale)
        total = _weighted_sum(torch.softmax(products * inverse, dim=1), rows)
        return total.view_as(values[0].movedim(1, -1)).movedim(-1, 1)

    def products(self, rows: list[torch.Tensor], query: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Each source's product with the query, and what normalises it, both ``(positions, sources)``."""
        products = torch.stack([row @ query.to(row.dtype) for row in rows], dim=1)
        return products, torch.cat([self.norm.inverse_rms(row) for row in rows], dim=1)


class _Read(torch.autograd.Function):
    """Projection and fast read with their gradient written out: half the time of the chain that autograd would build.

    Some images of the batch take their turn after others: each source at full resolution is the largest thing here. For
    the way back only what goes into the projections is kept, which their own gradient asks for.
    """

    @staticmethod
    def forward(
        ctx: Any, block: CrossStageAttentionResidual, size: list[int], query: torch.Tensor, *maps: torch.Tensor | None
    ) -> torch.Tensor:
        lows, weights = _halves(maps)
        kept: list[torch.Tensor] = []
        total = lows[0].new_empty((len(lows[0]), *size, query.numel()))
        for images in _turns(total):
            rows = [_rows(block.resize(_project(low[images], w), size)) for low, w in zip(lows, weights, strict=True)]
            products, inverse = block.products(rows, query)
            total[images] = _weighted_sum(torch.softmax(products * inverse, dim=1), rows).view(-1, *total.shape[1:])
            kept += [products, inverse]
            del rows  # gone before the next images' come
        ctx.block, ctx.size, ctx.maps = block, size, len(maps)
        ctx.save_for_backward(query, *maps, *kept)
        return total.movedim(-1, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, *saved = ctx.saved_tensors
        kept = saved[ctx.maps :]
        lows, weights = _halves(saved[: ctx.maps])
        to_query = torch.zeros_like(query)
        to_lows = [torch.empty_like(low) for low in lows]
        to_weights = [None if w is None else torch.zeros_like(w) for w in weights]
        for turn, images in enumerate(_turns(to_output)):
            products, inverse = kept[2 * turn : 2 * turn + 2]
            shares = torch.softmax(products * inverse, dim=1)
            grad = _rows(to_output[images]).contiguous()
            buffer = torch.empty_like(grad)
            values = [_project(low[images], w).detach() for low, w in zip(lows, weights, strict=True)]
            with torch.enable_grad():
                resized = [ctx.block.resize(value.requires_grad_(), ctx.size) for value in values]
            rows = [_rows(value.detach()) for value in resized]
            to_shares = torch.stack([torch.einsum("pc,pc->p", grad, row) for row in rows], dim=1)
            to_scores = shares * (to_shares - (shares * to_shares).sum(dim=1, keepdim=True))
            to_products = to_scores * inverse
            to_squares = to_products * products * inverse.square() * (-1 / query.numel())
            for i, row in enumerate(rows):
                to_query += to_products[:, i] @ row
                torch.mul(shares[:, i : i + 1], grad, out=buffer)
                buffer.addcmul_(to_products[:, i : i + 1], query).addcmul_(to_squares[:, i : i + 1], row)
                to_value = buffer.view_as(resized[i].movedim(1, -1)).movedim(-1, 1)
                if resized[i] is not values[i]:
                    (to_value,) = torch.autograd.grad(resized[i], values[i], to_value)
                weight, to_weight = weights[i], to_weights[i]
                if weight is None or to_weight is None:
                    to_lows[i][images] = to_value
                else:
                    to_weight += (_rows(to_value).T @ _rows(lows[i][images])).view_as(weight)
                    to_lows[i][images] = _project(to_value, weight.transpose(0, 1))
            del values, resized, rows
        return None, None, to_query, *to_lows, *to_weights


def _halves(maps: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """Sources, and the weights of their projections."""
    return maps[: len(maps) // 2], maps[len(maps) // 2 :]


def _project(x: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """A 1x1 convolution as a product: with channels adjacent in memory nothing is copied."""
    return x if weight is None else F.linear(x.movedim(1, -1), weight.flatten(1)).movedim(-1, 1)


def _eager(query: torch.Tensor, source: torch.Tensor) -> bool:
    """Whether no compiler or export reads along, and no other precision is asked for."""
    watched = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return not watched and source.dtype == query.dtype and not torch.is_autocast_enabled(query.device.type)


def _turns(maps: torch.Tensor) -> list[slice]:
    """Which images of a batch are read together."""
    images = max(1, CHUNK * len(maps) // maps.numel())
    return [slice(start, start + images) for start in range(0, len(maps), images)]


def _rows(value: torch.Tensor) -> torch.Tensor:
    """A map as a matrix of positions times channels."""
    return value.movedim(1, -1).flatten(0, -2)


def _weighted_sum(weights: torch.Tensor, rows: list[torch.Tensor]) -> torch.Tensor:
    total = weights[:, :1] * rows[0]
    for i in range(1, len(rows)):
        total.addcmul_(weights[:, i : i + 1], rows[i])
    return total


def _average_to(x: torch.Tensor, size: list[int]) -> torch.Tensor:
    """Average pooling to a size that is nowhere larger; by windows of one size wherever the sides allow it."""
    have = list(x.shape[2:])
    window = [a // b for a, b in zip(have, size)]
    exact = [a * b for a, b in zip(window, size)] == have
    if x.dim() == 4:
        return F.avg_pool2d(x, window) if exact else F.adaptive_avg_pool2d(x, size)  # type: ignore[arg-type]
    return F.avg_pool3d(x, window) if exact else F.adaptive_avg_pool3d(x, size)  # type: ignore[arg-type]


def _channels_last(x: torch.Tensor) -> torch.Tensor:
    if x.dim() == 4:
        return x.contiguous(memory_format=torch.channels_last)
    return x.contiguous(memory_format=torch.channels_last_3d)
