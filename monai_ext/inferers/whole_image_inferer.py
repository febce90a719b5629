# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import SimpleInferer, SlidingWindowInferer

from monai_ext.inferers.outputs import check_finite, check_logits

__all__ = ["WholeImageInferer", "WindowImageInferer"]


class WholeImageInferer(SimpleInferer):
    """MONAI's ``SimpleInferer``, the network on the whole input, with logits that must be finite.

    Args:
        regions: of a network of regions that may overlap, the value that each is to be written as.

    Raises:
        ValueError: if a logit is infinite or not a number, which arg-max would take for a class, or channels are not
            as many as regions.

    Examples::

        >>> WholeImageInferer()(torch.rand(1, 3, 64, 64), network).shape
        torch.Size([1, 2, 64, 64])
    """

    def __init__(self, regions: Sequence[int] | None = None) -> None:
        super().__init__()
        self.regions = list(regions) if regions else None

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        return _checked(super().__call__(inputs, network, *args, **kwargs), inputs, self.regions)


class WindowImageInferer(SlidingWindowInferer):
    """MONAI's ``SlidingWindowInferer``, logits of overlapping windows averaged, with logits that must be finite.

    For pictures that are larger than the network sees at once. Smaller ones are padded, and the padding cut away.

    Args:
        args, kwargs: of ``SlidingWindowInferer``.
        regions: of a network of regions that may overlap, the value that each is to be written as.

    Raises:
        ValueError: if a logit is infinite or not a number, which arg-max would take for a class, or channels are not
            as many as regions.

    Examples::

        >>> WindowImageInferer(roi_size=(512, 512), overlap=0.25, mode="gaussian")(picture, network).shape
        torch.Size([1, 2, 2048, 2048])
    """

    def __init__(self, *args: Any, regions: Sequence[int] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.regions = list(regions) if regions else None

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        logits: Any = super().__call__(inputs, network, *args, **kwargs)
        return _checked(logits, inputs, self.regions)


def _checked(logits: torch.Tensor, x: torch.Tensor, regions: list[int] | None) -> torch.Tensor:
    return check_logits(logits, x, "an image", regions) if regions else check_finite(logits)
