# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import torch
import torch.nn as nn
from monai.networks.layers.factories import Conv

from monai_ext.networks.paths import TwoPaths
from monai_ext.networks.utils import check_option, check_spatial_dims

from .rms_norm import ChannelRMSNorm

__all__ = ["IntraStageAttentionResidual"]


class IntraStageAttentionResidual(TwoPaths):
    """Replace a map by a mixture of what its stage has computed so far, weighed at each position.

    The block-level revision of XAttnRes [1]_: with the stage's maps ``m_1 .. m_N``, the newest last, a query ``q``
    made from ``m_N`` by a 1x1 convolution and keys ``k_n`` that are the maps' RMS norms,
    ``softmax_n(<q, k_n> / sqrt(C))`` weighs the maps themselves.

    The authors append the newest map to a list that holds it already, so that it counts twice. With one map before
    the second block, as everywhere in their default network, the result is that map whatever the weights, and the
    parameters here get no gradient. ``count_newest_twice=False`` takes each map once.

    The fast path never forms the stack of maps and of their norms.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of every map.
        count_newest_twice: the published behaviour.
        query_init: ``"zero"`` starts as the plain mean of the maps, ``"random"`` from a normal of std 0.01.

    Raises:
        ValueError: for another ``spatial_dims`` or ``query_init``.

    Shape:
        - memory: a list of at least one ``(B, channels, *spatial)``, the newest last
        - output: ``(B, channels, *spatial)``

    Examples::

        >>> attend = IntraStageAttentionResidual(spatial_dims=2, channels=36, count_newest_twice=False)
        >>> attend([torch.rand(1, 36, 56, 56), torch.rand(1, 36, 56, 56)]).shape
        torch.Size([1, 36, 56, 56])

    .. [1] Liu et al., "XAttnRes", arXiv:2604.03297; this revision is in the authors' repository, xq141839/XAttnRes.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        count_newest_twice: bool = True,
        query_init: str = "zero",
    ) -> None:
        super().__init__()
        check_spatial_dims(type(self).__name__, spatial_dims)
        check_option(type(self).__name__, "query_init", query_init, ("zero", "random"))
        self.count_newest_twice = count_newest_twice
        self.query = Conv["CONV", spatial_dims](channels, channels, 1, bias=False)
        self.norm = ChannelRMSNorm(channels, eps=1e-8)
        self.query_std = 0.01 if query_init == "random" else 0.0
        self.reset_query()

    def reset_query(self) -> None:
        """Give the query generator its first values: an attention that starts as the maps' mean, or close to it."""
        nn.init.normal_(self.query.weight, std=self.query_std)

    def forward(self, memory: list[torch.Tensor]) -> torch.Tensor:
        if not self.fast:
            return self._by_definition(memory)
        if len(memory) == 1 and not self.training:
            return memory[0]  # in training the parameters stay in the graph: DDP waits for their gradient
        newest = memory[-1]
        channels = newest.shape[1]
        # the norm's scale and the temperature go into the convolution's weight
        rows = self.query.weight.flatten(1) * (self.norm.scale / math.sqrt(channels)).unsqueeze(1)
        query = torch.bmm(rows.expand(newest.shape[0], -1, -1), newest.flatten(2)).view(newest.shape)
        scores = [(query * m).sum(dim=1, keepdim=True) * self.norm.inverse_rms(m) for m in memory]
        if self.count_newest_twice:
            scores[-1] = scores[-1] + math.log(2.0)  # two equal entries of a softmax are one, ln 2 higher
        weights = torch.softmax(torch.cat(scores, dim=1), dim=1).to(newest.dtype)
        mixed = weights[:, :1] * memory[0]
        for n in range(1, len(memory)):
            mixed = mixed.addcmul_(weights[:, n : n + 1], memory[n])
        return mixed

    def _by_definition(self, memory: list[torch.Tensor]) -> torch.Tensor:
        newest = memory[-1]
        maps = memory + [newest] if self.count_newest_twice else memory  # noqa: RUF005 - TorchScript cannot unpack
        values = torch.stack(maps, dim=1)
        keys = torch.stack([self.norm(m) for m in maps], dim=1)
        scores = (self.query(newest).unsqueeze(1) * keys).sum(dim=2) / math.sqrt(newest.shape[1])
        weights = torch.softmax(scores, dim=1)
        return (weights.unsqueeze(2) * values).sum(dim=1)
