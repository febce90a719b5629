# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from monai.losses import DiceLoss
from monai.networks import one_hot

__all__ = ["LabelLoss"]


class LabelLoss(nn.Module):
    """Dice and cross entropy of label maps with regions that overlap, or with voxels that nobody has looked at.

    MONAI's ``DiceCELoss`` asks of its channels that one of them is right: with regions each has a sigmoid and a binary
    cross entropy of its own here. Voxels of the value ``ignore`` take no part: they are left out of sums and means,
    and no gradient comes from them. A batch without any other voxel has the loss 0.

    Args:
        regions: label values of each of the network's channels, such as ``[[1, 2, 3], [2, 3], [3]]``; None where its
            channels are background and classes.
        ignore: label value of voxels that take no part.
        lambda_dice: weight of Dice.
        lambda_ce: weight of cross entropy.
        include_background: whether Dice counts background; regions have none.
        squared_pred: squares in Dice's denominator.
        batch: one Dice of a whole batch, in place of one for each item.
        smooth: added to Dice's numerator and denominator.

    Raises:
        ValueError: if the network's channels are not as many as the regions.

    Shape:
        - input: logits ``(B, C, *spatial)``; of networks with deep supervision a list of them, whose losses are added
        - target: label values ``(B, 1, *spatial)``
        - output: a scalar

    Examples::

        >>> loss = LabelLoss(regions=[[1, 2, 3], [2, 3], [3]])
        >>> loss(torch.rand(2, 3, 64, 64), torch.randint(4, (2, 1, 64, 64))).ndim
        0
    """

    def __init__(
        self,
        regions: Sequence[Sequence[int]] | None = None,
        ignore: int = 255,
        lambda_dice: float = 1.0,
        lambda_ce: float = 1.0,
        include_background: bool = True,
        squared_pred: bool = False,
        batch: bool = True,
        smooth: float = 1e-5,
    ) -> None:
        super().__init__()
        self.regions = [list(values) for values in regions] if regions else None
        self.ignore = ignore
        self.lambda_dice, self.lambda_ce = lambda_dice, lambda_ce
        # on probabilities: what is left out is 0 in them and in the truth, and so in every sum
        self.dice = DiceLoss(
            include_background=include_background or bool(regions),
            squared_pred=squared_pred,
            batch=batch,
            smooth_nr=smooth,
            smooth_dr=smooth,
        )

    def forward(self, input: torch.Tensor | Sequence[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        if not isinstance(input, torch.Tensor):
            return torch.stack([self(logits, target) for logits in input]).sum()
        logits = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        labels = torch.as_tensor(target).long()
        seen = labels != self.ignore
        # logits of what is left out may be anything, infinity too: 0 times that is no number
        logits = torch.where(seen, logits, torch.zeros_like(logits))
        labels = torch.where(seen, labels, torch.zeros_like(labels))
        count = seen.sum().clamp(min=1)
        if self.regions is None:
            truth = one_hot(labels, num_classes=logits.shape[1]).to(logits.dtype)
            log_probabilities = logits.log_softmax(dim=1)
            probabilities = log_probabilities.exp()
            entropy = F.nll_loss(log_probabilities, labels[:, 0], reduction="none")[:, None]
        else:
            if logits.shape[1] != len(self.regions):
                raise ValueError(
                    f"monai_ext: LabelLoss: {logits.shape[1]} channels, expected one for each of {len(self.regions)} "
                    "regions."
                )
            truth = torch.cat([torch.isin(labels, labels.new_tensor(values)) for values in self.regions], dim=1)
            truth = truth.to(logits.dtype)
            probabilities = logits.sigmoid()
            entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(dim=1, keepdim=True)
        mean_entropy = (entropy * seen).sum() / count
        # the background of what is left out is nobody's either
        dice = self.dice(probabilities * seen, truth * seen)
        return self.lambda_dice * dice + self.lambda_ce * mean_entropy
