# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import SimpleInferer
from torch.nn.parallel import DistributedDataParallel

from monai_ext.networks.backends import has_bfloat16
from monai_ext.networks.utils import check_option
from monai_ext.utils.knobs import PRECISIONS

__all__ = ["TrainingInferer"]

logger = logging.getLogger(__name__)


class TrainingInferer(SimpleInferer):
    """MONAI's ``SimpleInferer`` for a trainer, whose forward pass a processor may compute in bfloat16.

    MONAI's trainers know mixed precision on a GPU only, where they stay in charge: this changes nothing there. Weights,
    gradients, optimiser and loss are float32; products and convolutions, forward and backward, are rounded.

    Args:
        precision: ``"float32"``; ``"bfloat16"``; or ``"auto"``, bfloat16 on a processor that computes in it, for 2D
            networks whose Dice after training was seen to stay the same (``bfloat16_training`` of the class). Where
            bfloat16 cannot be had (no such processor; a GPU; 3D, where PyTorch's gradients of convolutions are wrong
            in it), the log says so once and float32 is taken, or on a GPU what ``amp`` says.

    Raises:
        ValueError: for another ``precision``.

    Shape:
        - inputs: what the network takes
        - output: what the network gives, a map or several, in float32

    Examples::

        >>> TrainingInferer("bfloat16")(torch.rand(8, 1, 224, 224), DCAUNet(2, 1, 9).train()).dtype
        torch.float32
    """

    def __init__(self, precision: str = "auto") -> None:
        super().__init__()
        check_option("TrainingInferer", "precision", precision, PRECISIONS)
        self.precision = precision
        self.told = False

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not self.in_bfloat16(inputs, network):
            return super().__call__(inputs, network, *args, **kwargs)
        with torch.autocast("cpu", torch.bfloat16):
            return _in_float32(super().__call__(inputs, network, *args, **kwargs))

    def in_bfloat16(self, inputs: torch.Tensor, network: Callable[..., Any]) -> bool:
        """Whether these inputs of this network are computed in bfloat16."""
        if self.precision == "float32":
            return False
        obstacle = _obstacle(inputs)
        if self.precision == "bfloat16":
            if obstacle:
                self._tell("--precision bfloat16: %s.", obstacle)
            return not obstacle
        inner = network.module if isinstance(network, DistributedDataParallel) else network
        taken = not obstacle and getattr(inner, "bfloat16_training", False)
        if taken:
            self._tell("%s trains in bfloat16 on this processor; --precision float32 is exact.", type(inner).__name__)
        return taken

    def _tell(self, line: str, what: str) -> None:
        if not self.told:
            logger.warning(f"monai_ext: {line}", what)
        self.told = True


def _obstacle(inputs: torch.Tensor) -> str:
    if inputs.device.type != "cpu":
        return "is for training on a processor; on a GPU --amp says what is taken"
    if inputs.dim() > 4:
        return "PyTorch's gradients of 3D convolutions are wrong in it on a processor; float32 is taken"
    return "" if has_bfloat16() else "this processor does not compute in it; float32 is taken"


def _in_float32(output: Any) -> Any:
    if torch.is_tensor(output):
        return output.float()
    return type(output)(_in_float32(each) for each in output)  # of several heads
