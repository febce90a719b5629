# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import SimpleInferer, SlidingWindowInferer

from monai_ext.inferers.outputs import check_finite

__all__ = ["WholeImageInferer", "WindowImageInferer"]


class WholeImageInferer(SimpleInferer):
    """MONAI's ``SimpleInferer``, the network on the whole input, with logits that must be finite.

    Raises:
        ValueError: if a logit is infinite or not a number, which arg-max would take for a class.

    Examples::

        >>> WholeImageInferer()(torch.rand(1, 3, 64, 64), network).shape
        torch.Size([1, 2, 64, 64])
    """

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        return check_finite(super().__call__(inputs, network, *args, **kwargs))


class WindowImageInferer(SlidingWindowInferer):
    """MONAI's ``SlidingWindowInferer``, logits of overlapping windows averaged, with logits that must be finite.

    For pictures that are larger than the network sees at once. Smaller ones are padded, and the padding cut away.

    Raises:
        ValueError: if a logit is infinite or not a number, which arg-max would take for a class.

    Examples::

        >>> WindowImageInferer(roi_size=(512, 512), overlap=0.25, mode="gaussian")(picture, network).shape
        torch.Size([1, 2, 2048, 2048])
    """

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        logits: Any = super().__call__(inputs, network, *args, **kwargs)
        return check_finite(logits)
