# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from monai.losses import DiceLoss
from monai.networks.utils import one_hot

__all__ = ["MutationLoss"]


class MutationLoss(nn.Module):
    """Supervise every combination of a decoder's maps: "MUTATION" of MERIT [1]_, as EMCAD [2]_ trains with it.

    For each non-empty subset of the maps, logits are summed; the subset's loss is a weighted sum of cross entropy and
    Dice; the losses of all subsets (15 for four maps) are added. Dice is over the whole batch, with squared
    denominators, and its mean includes background.

    Args:
        lambda_ce: weight of cross entropy.
        lambda_dice: weight of Dice.
        smooth: added to Dice's numerator and denominator.
        sigmoid: for maps of one or several independent channels: sigmoid and binary cross entropy in place of softmax
            and cross entropy.

    Raises:
        ValueError: if there are no maps, or the target has another shape than below.

    Shape:
        - input: a sequence of logits ``(B, N, *spatial)``, or one such tensor
        - target: class indices ``(B, 1, *spatial)``; with ``sigmoid``, 0 and 1 ``(B, N, *spatial)``
        - output: a scalar

    Examples::

        >>> maps = [torch.rand(2, 9, 64, 64) for _ in range(4)]
        >>> MutationLoss()(maps, torch.randint(9, (2, 1, 64, 64))).ndim
        0

    .. [1] Rahman and Marculescu, "Multi-scale Hierarchical Vision Transformer with Cascaded Attention Decoding for
       Medical Image Segmentation", arXiv:2303.16892.
    .. [2] Rahman et al., "EMCAD: Efficient Multi-scale Convolutional Attention Decoding for Medical Image
       Segmentation", arXiv:2405.06880.
    """

    def __init__(
        self, lambda_ce: float = 0.3, lambda_dice: float = 0.7, smooth: float = 1e-5, sigmoid: bool = False
    ) -> None:
        super().__init__()
        self.lambda_ce = lambda_ce
        self.lambda_dice = lambda_dice
        self.sigmoid = sigmoid
        # on probabilities, so that Dice and cross entropy share one softmax
        self.dice = DiceLoss(squared_pred=True, batch=True, smooth_nr=smooth, smooth_dr=smooth)

    def forward(self, input: torch.Tensor | Sequence[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        maps = [input] if isinstance(input, torch.Tensor) else list(input)
        if not maps:
            raise ValueError("monai_ext: MutationLoss: expected at least one map, got none.")
        # half precision has too few digits for sums over millions of positions
        maps = [y.float() if y.dtype in (torch.float16, torch.bfloat16) else y for y in maps]
        shape = list(maps[0].shape) if self.sigmoid else [maps[0].shape[0], 1, *maps[0].shape[2:]]
        if list(target.shape) != shape:
            raise ValueError(f"monai_ext: MutationLoss: expected a target of shape {shape}, got {list(target.shape)}.")
        regions = target if self.sigmoid else one_hot(target, num_classes=maps[0].shape[1])
        regions = regions.to(maps[0].dtype)

        sums: list[torch.Tensor] = []
        for logits in maps:
            sums += [logits, *(logits + other for other in sums)]
        return torch.stack([self.subset_loss(logits, target, regions) for logits in sums]).sum()

    def subset_loss(self, logits: torch.Tensor, target: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
        """The loss of one map; ``regions`` is the target with one channel for each of the map's."""
        if self.sigmoid:
            entropy = F.binary_cross_entropy_with_logits(logits, regions)
            probabilities = torch.sigmoid(logits)
        else:
            log_probabilities = F.log_softmax(logits, dim=1)
            entropy = F.nll_loss(log_probabilities, target[:, 0].long())
            probabilities = log_probabilities.exp()
        return self.lambda_ce * entropy + self.lambda_dice * self.dice(probabilities, regions)
