# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, set_track_meta
from monai.transforms import ScaleIntensityRanged as Stock

from monai_ext.transforms import ScaleIntensityRanged

LARGE = (1, 80, 80, 90)  # more than two blocks, and a part of one
WINDOWS = ((-125, 275, 0.0, 1.0, True), (0, 255, -1, 1, False), (-125, 275, None, None, False), (3, 3, 0, 1, True))


def volume(dtype, shape=LARGE):
    return torch.randint(0 if dtype == torch.uint8 else -2000, 250, shape, dtype=dtype)


@pytest.mark.filterwarnings("ignore:Divide by zero")
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int16, torch.uint8, torch.float64])
def test_numbers_are_those_of_monai_bit_by_bit(window, dtype):
    image = volume(dtype)
    kept = image.clone()
    expected, found = (kind("image", *window)({"image": image})["image"] for kind in (Stock, ScaleIntensityRanged))
    assert type(found) is type(expected) and found.dtype == expected.dtype
    assert torch.equal(found.as_tensor(), expected.as_tensor()) and torch.equal(image, kept)


def test_what_is_no_plain_large_tensor_comes_out_as_of_monai():
    """Turned in memory, with a place in the patient, without such tracking, small, an array."""
    affine = torch.diag(torch.tensor([-0.7, 0.8, 2.5, 1.0]))
    placed = MetaTensor(volume(torch.float32), affine=affine, meta={"filename_or_obj": "a.nii"})
    stock, ours = Stock("image", *WINDOWS[0]), ScaleIntensityRanged("image", *WINDOWS[0])
    for image in (
        placed,
        placed.flip(1).permute(0, 3, 1, 2),
        volume(torch.int16, (1, 4, 4, 3)),
        np.ones((1, 4), "int16"),
    ):
        expected, found = stock({"image": image})["image"], ours({"image": image})["image"]
        assert type(found) is type(expected) and torch.equal(found.as_tensor(), expected.as_tensor())
        assert torch.equal(found.affine, expected.affine) and found.meta.keys() == expected.meta.keys()
    assert ours({"image": placed})["image"].meta["filename_or_obj"] == "a.nii"
    set_track_meta(False)
    try:
        assert type(ours({"image": volume(torch.int16)})["image"]) is torch.Tensor
    finally:
        set_track_meta(True)
