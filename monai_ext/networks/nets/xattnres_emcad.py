# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import torch
import torch.nn as nn
from monai.networks.layers.factories import Pool

from monai_ext.networks.blocks.cross_stage_attention_residual import CrossStageAttentionResidual
from monai_ext.networks.nets.emcad import EMCADNet
from monai_ext.networks.utils import check_option

__all__ = ["XAttnResEMCAD"]


class XAttnResEMCAD(EMCADNet):
    """EMCAD whose decoder levels read every earlier map of encoder and decoder: XAttnRes on EMCAD [1]_.

    The pool starts with the encoder's four maps, finest first; each decoder level adds its own. A level's read joins
    the sum of the up-sampled and the gated map, before attention: ``d_i = MSCAM(u + LGAG(u, e_i) + r_i)``; see
    :class:`CrossStageAttentionResidual`. The reads add 0.86 million parameters to ``pvt_v2_b2``.

    Inferred, as the paper is silent: that point of addition, and no read at the coarsest level, which has no skip.

    Args:
        mode: what joins the up-sampled map: ``"skip"`` the gated skip map and the read, ``"replace"`` the read alone,
            ``"baseline"`` the gated skip map alone (:class:`EMCADNet`), ``"none"`` nothing. No other parameter changes
            name or shape; the gates are frozen where unused.
        deepest_read: let the coarsest level read the encoder's maps too.
        kwargs: all other arguments are those of :class:`EMCADNet`.

    Raises:
        ValueError: as :class:`EMCADNet`, or if ``mode`` is not one of the above, or ``deepest_read`` is asked for
            without reads.

    Shape:
        - as :class:`EMCADNet`

    Examples::

        >>> net = XAttnResEMCAD(spatial_dims=2, in_channels=1, out_channels=9).eval()
        >>> net(torch.rand(1, 1, 224, 224)).shape
        torch.Size([1, 9, 224, 224])

    .. [1] Liu et al., "XAttnRes", arXiv:2604.03297.
    """

    # not the decoder, with which small organs change
    bfloat16_inference = ("encoder.blocks.*.attention.[qkpr]*", "encoder.blocks.*.mlp.fc*")
    # branches on these are resolved when scripting: a mode without reads has no modules to call there
    __constants__ = ["deepest_read", "fast", "with_reads"]

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 9,
        encoder: str = "pvt_v2_b2",
        mode: str = "skip",
        deepest_read: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(spatial_dims, in_channels, out_channels, encoder, **kwargs)
        check_option("XAttnResEMCAD", "mode", mode, ("skip", "replace", "baseline", "none"))
        self.with_gate = mode in ("skip", "baseline")
        self.with_reads = mode in ("skip", "replace")
        self.deepest_read = deepest_read
        if deepest_read and not self.with_reads:
            raise ValueError(f"monai_ext: XAttnResEMCAD: deepest_read needs reads, but mode is {mode!r}.")
        if not self.with_gate:
            self.gate.requires_grad_(False)

        def read(enabled: bool, sources: list[int], width: int) -> nn.Module:
            return CrossStageAttentionResidual(spatial_dims, sources, width) if enabled else nn.Identity()

        encoded = list(self.encoder.widths)
        decoded = encoded[::-1]
        self.halve = Pool["AVG", spatial_dims](2)
        self.first_read = read(deepest_read, encoded, decoded[0])
        self.reads = nn.ModuleList(
            read(self.with_reads, encoded + decoded[:i], decoded[i]) for i in range(1, len(decoded))
        )

    def sources(self, features: list[torch.Tensor]) -> list[list[torch.Tensor]]:
        """For each level, finest first, the encoder's maps as a read takes them.

        On the fast path maps of finer levels are averaged down to it, each from its own version one level up.
        """
        levels = [features]
        averaged: list[torch.Tensor] = []
        for i in range(1, len(features)):
            if self.fast:
                averaged = [self.halve(y) for y in averaged + features[i - 1 : i]]
                levels.append(averaged + features[i:])
            else:
                levels.append(features)
        return levels

    def decode(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        levels = self.sources(features) if self.with_reads else [features]
        maps: list[torch.Tensor] = []
        x = features[-1]
        if self.deepest_read:
            x = x + self.first_read(levels[-1], x.shape[2:])
        for i, (mscam, up, gate, read) in enumerate(zip(self.mscam, self.up, self.gate, self.reads)):
            maps.append(mscam(x))
            coarse = up(maps[-1])
            x = coarse
            if self.with_gate:
                x = x + gate(coarse, features[2 - i])
            if self.with_reads:
                x = x + read(levels[2 - i] + maps, coarse.shape[2:])
        maps.append(self.mscam[-1](x))
        return maps
