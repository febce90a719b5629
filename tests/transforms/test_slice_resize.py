# SPDX-License-Identifier: Apache-2.0
"""Resizing of slices against ``scipy.ndimage.zoom``, with which the papers prepare their data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.data import MetaTensor, set_track_meta
from scipy import ndimage

from monai_ext.transforms import ResizeSlicesd, ResizeVolumed, resize_slices, resize_volume, size_at_spacing

ORDERS = {"cubic": 3, "bilinear": 1, "nearest": 0}


def zoom(x: torch.Tensor, size: tuple[int, int], order: int, mode: str = "mirror") -> np.ndarray:
    factors = (1, 1, size[0] / x.shape[2], size[1] / x.shape[3])
    return ndimage.zoom(x.numpy(), factors, order=order, mode=mode)


class TestResizeSlices:
    @pytest.mark.parametrize("mode", ORDERS)
    @pytest.mark.parametrize("before", [(1, 1), (1, 4), (2, 3), (7, 5), (33, 64), (130, 90)])
    @pytest.mark.parametrize("after", [(1, 1), (1, 6), (2, 2), (7, 5), (16, 17), (40, 64), (224, 100)])
    def test_equals_scipy(self, mode, before, after):
        x = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 2, *before)))
        np.testing.assert_allclose(resize_slices(x, after, mode), zoom(x, after, ORDERS[mode]), rtol=0, atol=1e-10)

    @pytest.mark.parametrize(("mode", "tolerance"), [("cubic", 2e-6), ("nearest", 0)])
    def test_equals_the_papers_call(self, mode, tolerance):
        x = torch.from_numpy(np.random.default_rng(1).random(size=(1, 1, 512, 512), dtype=np.float32))
        for size in ((256, 256), (448, 320)):
            expected = zoom(x, size, ORDERS[mode], mode="constant")  # SciPy's default
            np.testing.assert_allclose(resize_slices(x, size, mode), expected, rtol=0, atol=tolerance)

    def test_keeps_the_last_row_that_scipy_loses(self):
        x = torch.from_numpy(np.random.default_rng(2).random(size=(1, 1, 512, 512)))
        scipy = zoom(x, (224, 224), 3, mode="constant")
        ours = resize_slices(x, (224, 224)).numpy()
        assert not scipy[..., -1, :].any() and not scipy[..., -1].any()
        np.testing.assert_allclose(ours[..., :-1, :-1], scipy[..., :-1, :-1], rtol=0, atol=1e-10)
        np.testing.assert_allclose(ours[..., -1, -1], x[..., -1, -1], rtol=0, atol=1e-10)

    @pytest.mark.parametrize("size", [(224, 224), (97, 300)])
    def test_image_and_label_do_not_shift(self, size):
        rows, columns = torch.meshgrid(torch.arange(512.0), torch.arange(512.0), indexing="ij")
        disc = ((rows - 200) ** 2 + (columns - 330) ** 2 < 90**2).double()[None, None]

        def centre(image: torch.Tensor) -> list[float]:
            i, j = (torch.arange(length, dtype=torch.float64) for length in image.shape[2:])
            return [
                float(weights @ at / image.sum()) for weights, at in ((image[0, 0].sum(1), i), (image[0, 0].sum(0), j))
            ]

        expected = [200 * (size[0] - 1) / 511, 330 * (size[1] - 1) / 511]
        blurred = F.avg_pool2d(disc, 5, stride=1, padding=2)
        assert centre(resize_slices(blurred, size, "cubic")) == pytest.approx(expected, abs=0.01)
        assert centre(resize_slices(disc, size, "nearest")) == pytest.approx(expected, abs=0.05)
        back = resize_slices(resize_slices(disc, size, "nearest"), (512, 512), "nearest")
        for found, true, length in zip(centre(back), (200, 330), size, strict=True):
            assert found == pytest.approx(true, abs=0.1 * 511 / (length - 1))  # a tenth of a resized pixel, not a half

    def test_slices_and_channels_are_independent(self):
        x = torch.rand(5, 2, 30, 20, dtype=torch.float64)
        together = resize_slices(x, (17, 23))
        for i in range(5):
            alone = resize_slices(x[i : i + 1, 1:], (17, 23))
            torch.testing.assert_close(together[i : i + 1, 1:], alone, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("slices", [1, 5])
    @pytest.mark.parametrize("size", [(17, 23), (30, 23), (17, 20), (64, 48)])
    def test_slices_are_read_where_they_lie_in_a_volume(self, size, slices):
        volume = torch.rand(2, 30, 20, slices, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        for x in (volume.movedim(-1, 0), volume.flip(1).movedim(-1, 0), volume[..., ::2].movedim(-1, 0)):
            found = resize_slices(x, size)
            torch.testing.assert_close(found, resize_slices(x.contiguous(), size), rtol=0, atol=1e-12)

    def test_same_size_changes_nothing(self):
        x = torch.rand(2, 1, 9, 8)
        for mode in ORDERS:
            assert torch.equal(resize_slices(x, (9, 8), mode), x)
            assert torch.equal(resize_slices(x, (9, 5), mode)[..., 0], x[..., 0]) or mode == "cubic"

    def test_one_number_is_both_sides(self):
        assert resize_slices(torch.rand(1, 1, 9, 8), 12).shape == (1, 1, 12, 12)

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, torch.bool, torch.float16, torch.float32])
    def test_dtypes(self, dtype):
        x = torch.randint(0, 2, (2, 1, 20, 30)).to(dtype)
        assert resize_slices(x, (7, 50), "nearest").dtype == dtype
        image = resize_slices(x, (7, 50))
        assert image.dtype == (dtype if dtype.is_floating_point else torch.float32)
        expected = resize_slices(x.double(), (7, 50))
        torch.testing.assert_close(image.double(), expected, rtol=0, atol=1e-3 if dtype == torch.float16 else 1e-6)

    def test_autocast_does_not_round(self):
        x = torch.rand(2, 1, 50, 60)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = resize_slices(x, (30, 30))
        assert torch.equal(inside, resize_slices(x, (30, 30)))

    @pytest.mark.parametrize("mode", ["cubic", "bilinear", "nearest"])
    def test_gradients_even_after_inference_mode(self, mode):
        with torch.inference_mode():
            resize_slices(torch.rand(1, 1, 6, 5, dtype=torch.float64), (4, 7), mode)
        x = torch.rand(1, 1, 6, 5, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: resize_slices(x, (4, 7), mode), x)

    def test_non_contiguous_slices(self):
        volume = torch.rand(1, 40, 30, 6, dtype=torch.float64)
        view = volume.movedim(3, 0)
        for mode in ORDERS:
            # another layout, another order of sums: bit for bit the same only where nothing is summed
            rounding = 0 if mode == "nearest" else 1e-14
            torch.testing.assert_close(
                resize_slices(view, (25, 33), mode),
                resize_slices(view.contiguous(), (25, 33), mode),
                rtol=rounding,
                atol=rounding,
            )

    @pytest.mark.parametrize(
        ("shape", "size", "mode", "message"),
        [
            ((1, 9, 9), (5, 5), "cubic", r"slices \(N, C, H, W\), got shape \[1, 9, 9\]"),
            ((1, 1, 0, 9), (5, 5), "cubic", r"got shape \[1, 1, 0, 9\]"),
            ((1, 1, 9, 9), (5, 5, 5), "cubic", r"positive integers, got \(5, 5, 5\)"),
            ((1, 1, 9, 9), (5, 0), "nearest", r"positive integers, got \(5, 0\)"),
            ((1, 1, 9, 9), (5.5, 5), "nearest", r"positive integers, got \(5.5, 5\)"),
            ((1, 1, 9, 9), (5, 5), "area", "'cubic', 'antialiased', 'bilinear', 'nearest'; got 'area'"),
        ],
    )
    def test_errors(self, shape, size, mode, message):
        with pytest.raises(ValueError, match=message):
            resize_slices(torch.zeros(shape), size, mode)


class TestResizeSlicesd:
    @pytest.mark.parametrize("spatial_dim", [0, 1, 2, -1])
    def test_every_slice(self, spatial_dim):
        item = {"image": torch.rand(2, 12, 14, 16), "label": torch.randint(0, 5, (1, 12, 14, 16), dtype=torch.uint8)}
        resized = ResizeSlicesd(["image", "label"], (9, 20), ["cubic", "nearest"], spatial_dim)(item)
        for key, mode in (("image", "cubic"), ("label", "nearest")):
            assert resized[key].dtype == item[key].dtype and resized[key].is_contiguous()
            axis = spatial_dim % 3 + 1
            for before, after in zip(item[key].unbind(axis), resized[key].unbind(axis), strict=True):
                expected = resize_slices(before[None], (9, 20), mode)[0]
                torch.testing.assert_close(after.as_tensor(), expected, rtol=0, atol=1e-6)

    def test_one_slice(self):
        image = torch.rand(3, 40, 30)
        resized = ResizeSlicesd("image", (16, 24))({"image": image, "name": "a"})
        torch.testing.assert_close(
            resized["image"].as_tensor(), resize_slices(image[None], (16, 24))[0], rtol=0, atol=1e-6
        )
        assert resized["name"] == "a"

    @pytest.mark.parametrize("spatial_dim", [0, 1, 2])
    def test_affine_keeps_the_corners_in_place(self, spatial_dim):
        affine = torch.tensor([[0.1, -1.5, 0.2, 3], [0.9, 0, 0.3, -8], [0, 0.4, -3.0, 40], [0, 0, 0, 1]]).double()
        volume = MetaTensor(torch.rand(1, 11, 13, 7), affine=affine, meta={"filename_or_obj": "case.nii.gz"})
        resized = ResizeSlicesd("image", (8, 5), spatial_dim=spatial_dim)({"image": volume})["image"]
        torch.testing.assert_close(resized.affine[:, 3], affine[:, 3], rtol=0, atol=0)
        last, new_last = (torch.tensor([*(n - 1 for n in v.shape[1:]), 1]).double() for v in (volume, resized))
        torch.testing.assert_close(resized.affine @ new_last, affine @ last, rtol=0, atol=1e-12)
        assert resized.meta["filename_or_obj"] == "case.nii.gz"
        assert torch.equal(volume.affine, affine) and volume.shape == (1, 11, 13, 7)

    def test_affine_of_an_image(self):
        image = MetaTensor(torch.rand(1, 21, 11), affine=torch.diag(torch.tensor([0.5, 2.0, 1.0, 1.0])))
        resized = ResizeSlicesd("image", (11, 21))({"image": image})["image"]
        assert resized.affine.diagonal().tolist() == [1.0, 1.0, 1.0, 1.0]

    def test_a_side_of_one_voxel_keeps_its_size(self):
        volume = MetaTensor(torch.rand(1, 1, 9, 5), affine=torch.eye(4) * 2)
        resized = ResizeSlicesd("image", (4, 1))({"image": volume})["image"]
        assert resized.affine.diagonal().tolist() == [2.0, 2.0, 2.0, 2.0]

    def test_numpy_and_untracked(self):
        array = np.random.default_rng(0).random((1, 9, 8, 3), dtype=np.float32)
        tracked = ResizeSlicesd("image", (6, 6))({"image": array})["image"]
        set_track_meta(False)
        try:
            plain = ResizeSlicesd("image", (6, 6))({"image": array})["image"]
        finally:
            set_track_meta(True)
        assert isinstance(tracked, MetaTensor) and not isinstance(plain, MetaTensor)
        assert torch.equal(tracked.as_tensor(), plain)

    def test_missing_keys(self):
        with pytest.raises(KeyError):
            ResizeSlicesd(["image", "label"], 8)({"image": torch.rand(1, 9, 9)})
        resize = ResizeSlicesd(["image", "label"], 8, allow_missing_keys=True)
        assert list(resize({"image": torch.rand(1, 9, 9)})) == ["image"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"image_size": (8, 8, 8)}, "positive integers"),
            ({"mode": "linear"}, "got 'linear'"),
            ({"spatial_dim": 3}, "0, 1 or 2, or -3 to -1 counted from the end; got 3"),
        ],
    )
    def test_bad_arguments(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            ResizeSlicesd("image", **arguments)

    def test_bad_shape_names_the_key(self):
        with pytest.raises(ValueError, match=r"label: expected .* got shape \[9, 9\]"):
            ResizeSlicesd("label")({"label": torch.zeros(9, 9)})


def test_antialiased_is_cubic_of_a_mean():
    x = np.random.default_rng(0).random((120, 90))
    expected = ndimage.zoom(ndimage.gaussian_filter(x, ((119 / 29 - 1) / 2, 0), mode="mirror", truncate=3),
                            (30 / 120, 180 / 90), order=3, mode="mirror")  # fmt: skip
    found = resize_slices(torch.from_numpy(x)[None, None], (30, 180), "antialiased")
    np.testing.assert_allclose(found[0, 0].numpy(), expected, atol=1e-6)
    # noise of a fine scan is that of a coarse one
    noise = torch.randn(2, 1, 256, 256)
    assert resize_slices(noise, 64, "antialiased").std() < 0.35 < 0.6 < resize_slices(noise, 64, "cubic").std()


def test_size_at_spacing():
    affine = torch.tensor([[0, 2.0, 0, 5], [-1.0, 0, 0, 6], [0, 0, 5.0, 7], [0, 0, 0, 1]])  # sides 1, 2 and 5 mm
    volume = MetaTensor(torch.zeros(1, 201, 101, 30), affine=affine)
    assert size_at_spacing(volume, 4) == (51, 51)
    assert size_at_spacing(volume, [2, 4]) == (101, 51)
    batch = MetaTensor(torch.zeros(1, 1, 201, 101, 30))
    batch.meta["affine"] = affine[None]
    assert size_at_spacing(batch, 4) == (51, 51)
    with pytest.raises(ValueError, match="a volume with an affine is needed"):
        size_at_spacing(torch.zeros(1, 4, 4, 4), 4)
    with pytest.raises(ValueError, match="Is the spacing of this scan right"):
        size_at_spacing(volume, 0.001)


@pytest.mark.parametrize("size", [(13, 30, 22), (20, 17, 9), (25, 11, 4)])
def test_a_volume_is_resized_as_scipy_does(size):
    volume = torch.rand(2, 20, 17, 9, generator=torch.Generator().manual_seed(0))
    zoom = [new / old for new, old in zip(size, volume.shape[1:])]
    for mode, order, tolerance in (("cubic", 3, 1e-5), ("nearest", 0, 0)):
        expected = np.stack([ndimage.zoom(channel, zoom, order=order, mode="mirror") for channel in volume.numpy()])
        np.testing.assert_allclose(resize_volume(volume, size, mode).numpy(), expected, atol=tolerance)
    # what grows is not smoothed
    larger = [max(new, old) for new, old in zip(size, volume.shape[1:])]
    assert torch.equal(resize_volume(volume, larger), resize_volume(volume, larger, "cubic"))


def test_volumes_of_any_spacing_meet_on_one_grid():
    affine = torch.diag(torch.tensor([-0.8, 0.8, 5.0, 1.0]))
    ramp = torch.linspace(0, 1, 31).expand(1, 40, 50, 31)
    item = {"image": MetaTensor(ramp.clone(), affine=affine), "label": MetaTensor((ramp > 0.5).byte(), affine=affine)}
    found = ResizeVolumed(["image", "label"], (1.6, 1.6, 2.5), ["antialiased", "nearest"])(item)
    assert found["image"].shape == found["label"].shape == (1, 20 + 1, 25 + 1, 61)  # (39 / 2, 49 / 2) rounded
    np.testing.assert_allclose(found["image"].affine[2, 2], 2.5)
    np.testing.assert_allclose(found["image"].affine[0, 0], -0.8 * 39 / 20)
    np.testing.assert_allclose(found["image"][0, 3, 3].numpy(), np.linspace(0, 1, 61), atol=0.01)
    assert found["label"].dtype == torch.uint8
    with pytest.raises(ValueError, match="would be .* mm that the network was trained with"):
        ResizeVolumed(["image"], 0.01)(item)
    with pytest.raises(ValueError, match="mode must be one of"):
        resize_volume(torch.rand(1, 4, 4, 4), (2, 2, 2), "bilinear")
