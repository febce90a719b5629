# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_tensor

__all__ = ["RGBToYCrCbd"]

# ITU-R BT.601, as OpenCV's COLOR_RGB2YCrCb: luma, red and blue difference
LUMA = (0.299, 0.587, 0.114)
RED, BLUE = 0.713, 0.564
CENTRE = 128.0


class RGBToYCrCbd(MapTransform):
    """Turn RGB in 0 to 255 into luma, red difference and blue difference, as QTSeg reads dermoscopy [1]_.

    Args:
        keys: images ``(3, *spatial)``; float32 afterwards, with the differences around 128.

    Raises:
        ValueError: if an image has not three channels.

    Examples::

        >>> RGBToYCrCbd("image")({"image": torch.full((3, 1, 1), 255.0)})["image"].flatten()
        tensor([255., 128., 128.])

    .. [1] "QTSeg: A Query Token-Based Dual-Mix Attention Framework with Multi-Level Feature Distribution for Medical
       Image Segmentation", arXiv:2412.17241.
    """

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        for key in self.key_iterator(d):
            image = convert_to_tensor(d[key], track_meta=False).float()
            if image.shape[0] != 3:
                raise ValueError(f"monai_ext: RGBToYCrCbd: {key} has {image.shape[0]} channels, expected RGB.")
            luma = torch.tensordot(torch.tensor(LUMA), image, 1)
            channels = torch.stack([luma, (image[0] - luma) * RED + CENTRE, (image[2] - luma) * BLUE + CENTRE])
            d[key] = convert_to_dst_type(channels, d[key], dtype=torch.float32)[0]
        return d
