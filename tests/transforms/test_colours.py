# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from monai_ext.transforms import RGBToYCrCbd


def test_it_is_the_standards_conversion():
    """Pillow's YCbCr is the same standard, its last two channels in the other order, rounded."""
    rgb = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    expected = np.asarray(Image.fromarray(rgb).convert("YCbCr")).astype(np.float32)[..., [0, 2, 1]]
    found = RGBToYCrCbd("image")({"image": torch.from_numpy(rgb).movedim(-1, 0)})["image"]
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.movedim(0, -1).numpy(), expected, atol=1.1)


def test_other_channels():
    with pytest.raises(ValueError, match="image has 1 channels, expected RGB"):
        RGBToYCrCbd("image")({"image": torch.zeros(1, 4, 4)})
