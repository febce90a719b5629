# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

import torch
import torch.nn as nn
import torch.nn.functional as F

from monai_ext.networks.blocks.c2f import C2f
from monai_ext.networks.blocks.conv_norm_silu import ConvNormSiLU
from monai_ext.networks.blocks.sppf import SPPF
from monai_ext.networks.utils import check_spatial_dims
from monai_ext.networks.weights import KeyRules, load_reference, read_weights

__all__ = ["FPNEncoder"]

# the authors number the layers as YOLOv8 does
_YOLO_LAYERS = {
    "conv_0": "stage2.0",
    "conv_1": "stage2.1",
    "c2f_2": "stage2.2",
    "conv_3": "stage3.0",
    "c2f_4": "stage3.1",
    "conv_5": "stage4.0",
    "c2f_6": "stage4.1",
    "conv_7": "stage5.0",
    "c2f_8": "stage5.1",
    "sppf_9": "stage5.2",
    "c2f_12": "merge4",
    "c2f_15": "merge3",
    "conv_16": "down4",
    "c2f_18": "output4",
    "conv_19": "down5",
    "c2f_21": "output5",
}


class FPNEncoder(nn.Module):
    """QTSeg's encoder [1]_: the backbone of YOLOv8-nano, then a pass down and a pass up its feature pyramid.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        base_width: channels of the first convolution, even; 16 is the "nano" of the authors' release.
        pretrained: path of the authors' ``fpn-nano.pth``; 2D, 3 channels and ``base_width`` 16 only. All must fit.

    Attributes:
        widths: channels of the three outputs, ``4, 8, 16`` times ``base_width``.

    Raises:
        ValueError: for another ``spatial_dims``, an odd ``base_width``, or a ``pretrained`` file that does not fit.

    Shape:
        - input: ``(B, in_channels, *spatial)``, sides multiples of 32
        - output: three maps at strides 8, 16 and 32, of ``widths`` channels

    Examples::

        >>> [y.shape for y in FPNEncoder(2)(torch.rand(1, 3, 64, 96))]
        [torch.Size([1, 64, 8, 12]), torch.Size([1, 128, 4, 6]), torch.Size([1, 256, 2, 3])]

    .. [1] Tran et al., "QTSeg", arXiv:2412.17241.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 3,
        base_width: int = 16,
        pretrained: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        check_spatial_dims(type(self).__name__, spatial_dims)
        if base_width < 2 or base_width % 2:
            raise ValueError(
                f"monai_ext: {type(self).__name__}: base_width must be even and positive, got {base_width}."
            )
        w1, w2, w4, w8, w16 = (base_width * factor for factor in (1, 2, 4, 8, 16))
        self.widths = (w4, w8, w16)

        def down(in_channels: int, out_channels: int) -> ConvNormSiLU:
            return ConvNormSiLU(spatial_dims, in_channels, out_channels, kernel_size=3, stride=2)

        # the backbone; the names end in log2 of the stride
        self.stage2 = nn.Sequential(down(in_channels, w1), down(w1, w2), C2f(spatial_dims, w2, w2, 1, residual=True))
        self.stage3 = nn.Sequential(down(w2, w4), C2f(spatial_dims, w4, w4, 2, residual=True))
        self.stage4 = nn.Sequential(down(w4, w8), C2f(spatial_dims, w8, w8, 2, residual=True))
        self.stage5 = nn.Sequential(
            down(w8, w16), C2f(spatial_dims, w16, w16, 1, residual=True), SPPF(spatial_dims, w16)
        )
        # down the pyramid, then up
        self.merge4 = C2f(spatial_dims, w16 + w8, w8)
        self.merge3 = C2f(spatial_dims, w8 + w4, w4)
        self.down4 = down(w4, w4)
        self.output4 = C2f(spatial_dims, w4 + w8, w8)
        self.down5 = down(w8, w8)
        self.output5 = C2f(spatial_dims, w8 + w16, w16)
        if pretrained is not None:
            load_reference(self, read_weights(pretrained), os.fspath(pretrained))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        e3 = self.stage3(self.stage2(x))
        e4 = self.stage4(e3)
        e5 = self.stage5(e4)
        m4 = self.merge4(torch.cat([F.interpolate(e5, scale_factor=2.0, mode="nearest"), e4], dim=1))
        y3 = self.merge3(torch.cat([F.interpolate(m4, scale_factor=2.0, mode="nearest"), e3], dim=1))
        y4 = self.output4(torch.cat([self.down4(y3), m4], dim=1))
        y5 = self.output5(torch.cat([self.down5(y4), e5], dim=1))
        return [y3, y4, y5]

    # names in the authors' checkpoints, or in a whole QTSeg's, -> ours
    key_rules: KeyRules = [
        (r"\.bn\.", ".norm."),
        (r"\.m\.(\d+)\.cv1\.", r".chain.\1.first."),
        (r"\.m\.(\d+)\.cv2\.", r".chain.\1.second."),
        (r"sppf_9\.cv1\.", "sppf_9.reduce."),
        (r"c2f_(\d+)\.cv1\.", r"c2f_\1.split."),
        (r"(c2f|sppf)_(\d+)\.cv2\.", r"\1_\2.merge."),
        *[(rf"^(image_encoder\.)?{theirs}\.", rf"\g<1>{ours}.") for theirs, ours in _YOLO_LAYERS.items()],
    ]
