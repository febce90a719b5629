# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_ext.transforms import (
    NOTICE,
    CheckVolumed,
    MapLabelsd,
    ScaleChannelsd,
    gaps,
    unlike_modality,
    unlike_patient,
)


def loaded(values, dtype=torch.float32) -> MetaTensor:
    return MetaTensor(torch.tensor(values, dtype=dtype)[None], meta={"filename_or_obj": "/data/a.nii.gz"})


def test_a_good_volume_passes_unchanged():
    data = {"image": loaded([[1.0, 2.0]])}
    assert CheckVolumed("image")(data)["image"] is data["image"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1.0, float("nan")]], "not finite"),
        ([[1.0, float("inf")]], "not finite"),
        ([[3.0, 3.0]], "every value is 3"),
    ],
)
def test_volumes_without_an_image(values, message):
    with pytest.raises(ValueError, match=rf"monai_ext: /data/a\.nii\.gz: .*{message}"):
        CheckVolumed("image")({"image": loaded(values)})


def test_codes_become_classes():
    mapped = MapLabelsd("label", 3, {0: 0, 8: 1, 4: 2, 13: 0})({"label": loaded([[8, 4, 13, 0]])})["label"]
    assert mapped.dtype == torch.uint8
    assert mapped.tolist() == [[[1, 2, 0, 0]]]
    assert mapped.meta["filename_or_obj"] == "/data/a.nii.gz"
    assert MapLabelsd("label", 3)({"label": loaded([[2, 1, 0, 0]])})["label"].tolist() == [[[2, 1, 0, 0]]]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([[0, 5]], r"\[5\], expected only \[0, 1, 2\]"),
        ([[0, -1]], r"\[-1\], expected only \[0, 1, 2\]"),
        ([[900, 1]], r"\[900\], expected only \[0, 1, 2\]"),
        ([[0.5, 1]], r"0\.5 \(1 of 2\), expected whole numbers\. If the label was resampled"),
        ([[0.998, 0.9985]], r"0\.998, 0\.9985 \(2 of 2\), expected whole numbers"),
        ([[float("nan"), 1]], r"NaN \(1 of 2\), expected whole numbers\. Set them to 0"),
        ([[float("inf"), 1]], r"inf \(1 of 2\), expected whole numbers"),
        ([[1e30, 1]], r"1e\+30 \(1 of 2\), expected whole numbers"),
    ],
)
def test_unknown_values_are_named(values, found):
    with pytest.raises(ValueError, match=rf"a\.nii\.gz: label values {found}"):
        MapLabelsd("label", 3)({"label": loaded(values)})


def test_what_is_within_a_thousandth_of_a_number_is_that_number():
    values = [[0.9999999, 1.0009, 1.9991, -0.0009]]
    assert MapLabelsd("label", 3)({"label": loaded(values)})["label"].tolist() == [[[1, 1, 2, 0]]]
    assert MapLabelsd("label", 3)({"label": loaded(values, torch.float64)})["label"].tolist() == [[[1, 1, 2, 0]]]


def test_a_mapping_beyond_the_classes():
    with pytest.raises(ValueError, match="with 2 classes"):
        MapLabelsd("label", 2, {0: 0, 1: 2})


def ct() -> torch.Tensor:
    """A body of soft tissue, fat and some bone in air, in Hounsfield units, ``(1, 40, 40, 8)``."""
    x, y = torch.meshgrid(torch.linspace(-1, 1, 40), torch.linspace(-1, 1, 40), indexing="ij")
    r = (x**2 + y**2).sqrt()
    plane = torch.full_like(r, -1000.0)
    for radius, value in ((0.85, -100.0), (0.75, 50.0), (0.15, 900.0)):
        plane[r < radius] = value
    volume = plane[None, :, :, None].repeat(1, 1, 1, 8)
    return (volume + torch.randn(volume.shape, generator=torch.Generator().manual_seed(0)) * 15).clamp(min=-1024)


def padded(volume: torch.Tensor) -> torch.Tensor:
    """+1024, as stored, with what the scanner pads outside its round field of view."""
    x, y = torch.meshgrid(torch.linspace(-1, 1, 40), torch.linspace(-1, 1, 40), indexing="ij")
    return torch.where((x**2 + y**2 > 1)[None, :, :, None], -2000.0, volume + 1024)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda v: v, None),
        (lambda v: v.clamp(-125, 275), None),
        (lambda v: torch.where(v < -900, -3024.0, v), None),  # padding
        (lambda v: v - 1024, "hardly any soft tissue"),  # rescaled twice
        (lambda v: v.clamp(max=500) - 1024, "hardly any soft tissue"),  # nothing above -500
        (lambda v: v * 10, "nothing is below air"),
        (lambda v: -v, "as dense as bone"),
        (lambda v: v.clamp(-1024, -900), "hardly any soft tissue"),  # air
        (padded, "as dense as bone"),
        (lambda v: v + 1024, "air and fat below -50"),
    ],
)
def test_values_that_are_no_hounsfield_units(change, found):
    volume = change(ct())
    reason = unlike_modality(volume, "CT")
    assert (found is None) == (reason is None), reason
    assert found is None or found in reason
    image = MetaTensor(volume, affine=torch.diag(torch.tensor([2.0, 2, 4, 1])), meta={"filename_or_obj": "a.nii"})
    if found:
        with pytest.raises(
            ValueError,
            match=r"a\.nii: does not look like CT: .* If it is, give segment --force true, a bundle --strict false",
        ):
            CheckVolumed("image", "CT", strict=True)({"image": image})
        assert found in CheckVolumed("image", "CT")({"image": image})["image"].meta[NOTICE]
    else:
        assert NOTICE not in CheckVolumed("image", "CT", strict=True)({"image": image})["image"].meta


@pytest.mark.parametrize(
    ("spacing", "shape", "found"),
    [
        ((0.8, 0.8, 2.5), (512, 512, 100), None),
        ((0.001, 0.001, 0.001), (512, 512, 100), "voxels of 0.001x0.001x0.001 mm"),
        ((1, 1, 1000), (512, 512, 100), "voxels of 1x1x1e"),
        ((0.06, 0.06, 0.06), (64, 64, 64), "3.84x3.84x3.84 mm in all"),
        ((10, 10, 10), (512, 512, 100), "5.12e"),
    ],
)
def test_grids_that_are_no_patients(spacing, shape, found):
    reason = unlike_patient(np.diag([*spacing, 1.0]), shape)
    assert (reason is None) if found is None else (found in reason)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_that_hold_nothing_between_others(axis, caplog):
    """Those at the ends are padding; planes that were not acquired may be empty, as between two legs."""
    spacing = [0.8, 0.8, 0.8]
    spacing[axis] = 4.0
    volume = ct().as_subclass(torch.Tensor)
    volume.movedim(1 + axis, 1)[:, [0, -1]] = -1024
    volume.movedim(1 + (axis + 1) % 3, 1)[:, 4] = -1024
    affine = torch.diag(torch.tensor([*spacing, 1.0]))
    image = MetaTensor(volume, affine=affine, meta={"filename_or_obj": "a.nii"})
    assert NOTICE not in CheckVolumed("image", "CT")({"image": image})["image"].meta
    volume.movedim(1 + axis, 1)[:, [3, 5]] = torch.tensor([-1024.0, 0.0])[None, :, None, None]
    image = MetaTensor(volume, affine=affine, meta={"filename_or_obj": "a.nii"})
    told = f"2 of {volume.shape[1 + axis]} slices (3, 5) hold one value only between others: are some missing?"
    checked = CheckVolumed("image", "CT", strict=True)({"image": image})["image"]
    assert checked.meta[NOTICE] == told
    assert f"a.nii: {told}" in caplog.text
    # one voxel is an image
    volume.movedim(1 + axis, 1)[:, 3, 1, 1] = 7
    assert gaps(volume, affine) == told.replace("2 of", "1 of").replace("(3, 5)", "(5)")
    assert gaps(torch.zeros(1, 4, 4, 4)) is None


def test_a_spacing_of_no_scanner_is_refused_like_odd_values():
    image = MetaTensor(ct(), affine=torch.diag(torch.tensor([1e-3, 1e-3, 4e-3, 1])), meta={"filename_or_obj": "a.nii"})
    with pytest.raises(
        ValueError, match=r"a\.nii: does not look like CT: voxels of 0\.001.* give segment --force true"
    ):
        CheckVolumed("image", "CT", strict=True)({"image": image})


def test_channels_are_scaled_each_by_its_own_rule():
    """A window, percentiles of the body where the outside is 0, percentiles of all where it is not."""
    rng = np.random.default_rng(0)
    ct = rng.uniform(-1000, 1000, (8, 9, 10)).astype(np.float32)
    brain = np.zeros_like(ct)
    brain[2:6, 2:7] = rng.uniform(100, 300, (4, 5, 10))
    other = rng.uniform(-5, 5, ct.shape).astype(np.float32)
    image = torch.from_numpy(np.stack([ct, brain, other]))
    scaled = ScaleChannelsd("image", [[-125, 275], None, None])({"image": image})["image"].numpy()
    np.testing.assert_allclose(scaled[0], np.clip((ct + 125) / 400, 0, 1), atol=1e-6)
    low, high = np.percentile(brain[brain > 0], (0.5, 99.5))
    np.testing.assert_allclose(
        scaled[1], np.where(brain > 0, np.clip((brain - low) / (high - low), 0, 1), 0), atol=1e-6
    )
    low, high = np.percentile(other, (0.5, 99.5))
    np.testing.assert_allclose(scaled[2], np.clip((other - low) / (high - low), 0, 1), atol=1e-5)
    with pytest.raises(ValueError, match="3 channels, expected 2"):
        ScaleChannelsd("image", [None, None])({"image": image})


def test_what_is_ignored_is_kept_apart_from_classes():
    label = torch.tensor([[[0, 1, 2, 3]]])
    mapped = MapLabelsd("label", 3, {0: 0, 1: 1, 2: 2, 3: 255})({"label": label})["label"]
    assert mapped.tolist() == [[[0, 1, 2, 255]]]
    with pytest.raises(ValueError, match="label values \\[255\\]"):
        MapLabelsd("label", 3)({"label": torch.tensor([[[0, 255]]])})
