# SPDX-License-Identifier: Apache-2.0
"""``SliceBatchInferer`` against a loop over slices, alone and in MONAI's evaluator up to the file on disk."""

from __future__ import annotations

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import nibabel
import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.inferers import SliceInferer
from monai.transforms import (
    AsDiscreted,
    Compose,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    Orientationd,
    SaveImaged,
    Spacingd,
)
from scipy import ndimage

from monai_ext.inferers import SliceBatchInferer, SlidingWindowLabelInferer, WholeImageInferer


def make_network(in_channels: int = 1, classes: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(in_channels, classes, 3, padding=1).double().eval()


def make_volume(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape))


@torch.no_grad()
def loop_over_slices(
    volume: torch.Tensor, network: nn.Module, image_size: tuple[int, int] | None, spatial_dim: int, upsample: str
) -> torch.Tensor:
    """The papers' evaluation, one slice after the other: SciPy in, SciPy or an interpolation of the logits out."""
    labels = torch.empty(volume.shape[0], 1, *volume.shape[2:], dtype=torch.uint8)
    for b in range(volume.shape[0]):
        for i in range(volume.shape[2 + spatial_dim]):
            image = volume[b].select(1 + spatial_dim, i).numpy()
            shape = image.shape[1:]
            size = image_size or shape
            factors = (size[0] / shape[0], size[1] / shape[1])
            small = np.stack([ndimage.zoom(channel, factors, order=3, mode="mirror") for channel in image])
            logits = network(torch.from_numpy(small)[None])
            if upsample == "nearest":
                back = (shape[0] / size[0], shape[1] / size[1])
                label = ndimage.zoom(logits[0].argmax(dim=0).numpy(), back, order=0, mode="mirror")
            else:
                label = F.interpolate(logits, shape, mode="bilinear", align_corners=True)[0].argmax(dim=0).numpy()
            labels[b, 0].select(spatial_dim, i).copy_(torch.from_numpy(label))
    return labels


class TestEqualToLoop:
    @pytest.mark.parametrize("upsample", ["bilinear", "nearest"])
    @pytest.mark.parametrize("spatial_dim", [0, 1, 2])
    @pytest.mark.parametrize("image_size", [(16, 16), (21, 40), (9, 5), None])
    def test_sizes_and_axes(self, upsample, spatial_dim, image_size):
        volume, network = make_volume(1, 1, 19, 23, 17), make_network()
        inferer = SliceBatchInferer(image_size, batch_size=5, spatial_dim=spatial_dim, upsample=upsample)
        labels = inferer(volume, network)
        assert labels.shape == (1, 1, 19, 23, 17) and labels.dtype == torch.uint8 and labels.is_contiguous()
        assert torch.equal(labels, loop_over_slices(volume, network, image_size, spatial_dim, upsample))
        assert labels.unique().tolist() == [0, 1, 2, 3]

    @pytest.mark.parametrize("upsample", ["bilinear", "nearest"])
    def test_the_papers_sizes(self, upsample):
        volume, network = make_volume(1, 1, 512, 512, 2), make_network(classes=9)
        labels = SliceBatchInferer((224, 224), upsample=upsample)(volume, network)
        assert torch.equal(labels, loop_over_slices(volume, network, (224, 224), 2, upsample))

    def test_two_volumes_of_several_channels(self):
        volume, network = make_volume(2, 3, 14, 11, 7), make_network(in_channels=3)
        labels = SliceBatchInferer((16, 12), batch_size=3)(volume, network)
        assert torch.equal(labels, loop_over_slices(volume, network, (16, 12), 2, "bilinear"))

    def test_one_slice(self):
        volume, network = make_volume(1, 1, 14, 11, 1), make_network()
        labels = SliceBatchInferer((16, 12))(volume, network)
        assert torch.equal(labels, loop_over_slices(volume, network, (16, 12), 2, "bilinear"))

    @pytest.mark.parametrize("spatial_dim", [0, -1])
    def test_images_are_slices(self, spatial_dim):
        images, network = make_volume(5, 3, 14, 11), make_network(in_channels=3)
        labels = SliceBatchInferer((16, 12), batch_size=2, spatial_dim=spatial_dim)(images, network)
        expected = loop_over_slices(images[..., None], network, (16, 12), 2, "bilinear")
        assert torch.equal(labels, expected[..., 0])

    @pytest.mark.parametrize("batch_size", [1, 2, 7, 8, 100])
    def test_batch_size_does_not_show(self, batch_size):
        volume, network = make_volume(2, 1, 20, 18, 8), make_network()
        expected = SliceBatchInferer((12, 16), batch_size=3)(volume, network)
        assert torch.equal(SliceBatchInferer((12, 16), batch_size=batch_size)(volume, network), expected)

    def test_negative_axis_and_single_number(self):
        volume, network = make_volume(1, 1, 10, 11, 12), make_network()
        for axis in (0, 1, 2):
            expected = SliceBatchInferer((8, 8), spatial_dim=axis)(volume, network)
            assert torch.equal(SliceBatchInferer(8, spatial_dim=axis - 3)(volume, network), expected)


class TestOutputs:
    @pytest.mark.parametrize("upsample", ["bilinear", "nearest"])
    @pytest.mark.parametrize("mirror", [False, True])
    def test_labels_are_the_most_probable(self, upsample, mirror):
        volume, network = make_volume(1, 1, 30, 28, 5), make_network()
        arguments = {"image_size": (16, 12), "upsample": upsample, "mirror": mirror}
        probabilities = SliceBatchInferer(**arguments, output="probabilities")(volume, network)
        assert probabilities.shape == (1, 4, 30, 28, 5) and probabilities.dtype == torch.float32
        torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(1, 30, 28, 5))
        labels = SliceBatchInferer(**arguments)(volume, network)
        if upsample == "nearest" or mirror:  # otherwise the logits are interpolated, not the probabilities
            assert torch.equal(labels, probabilities.argmax(dim=1, keepdim=True).to(torch.uint8))

    def test_mirror_averages_four_flips(self):
        images, network = make_volume(3, 1, 20, 18), make_network()
        expected = torch.zeros(3, 4, 20, 18, dtype=torch.float64)
        with torch.no_grad():
            for axes in ([], [2], [3], [2, 3]):
                expected += network(images.flip(axes)).softmax(dim=1).flip(axes) / 4
        found = SliceBatchInferer(None, output="probabilities", mirror=True)(images, network)
        torch.testing.assert_close(found, expected.float())
        flipped = SliceBatchInferer(None, output="probabilities", mirror=True)(images.flip(2), network)
        torch.testing.assert_close(flipped.flip(2), found)

    @pytest.mark.parametrize("mirror", [False, True])
    def test_one_channel_is_foreground_where_positive(self, mirror):
        volume = make_volume(1, 1, 12, 10, 6)
        labels = SliceBatchInferer(None, mirror=mirror)(volume, nn.Identity())
        assert torch.equal(labels, (volume > 0).to(torch.uint8))
        probabilities = SliceBatchInferer(None, output="probabilities", mirror=mirror)(volume, nn.Identity())
        torch.testing.assert_close(probabilities[:, 1:], volume.sigmoid().float())

    @pytest.mark.parametrize(("classes", "dtype"), [(256, torch.uint8), (257, torch.int16)])
    def test_dtype_holds_every_class(self, classes, dtype):
        scores = torch.arange(classes, dtype=torch.float32)[:, None, None]
        labels = SliceBatchInferer(None)(torch.zeros(1, 1, 3, 3, 2), lambda x: x + scores)
        assert labels.dtype == dtype and (labels == classes - 1).all()

    def test_half_precision_logits_are_interpolated_in_float32(self):
        volume, network = make_volume(1, 1, 40, 40, 3).float(), make_network().float()
        rounded = lambda x: network(x).bfloat16()  # noqa: E731
        labels = SliceBatchInferer((10, 10))(volume, rounded)
        assert torch.equal(labels, SliceBatchInferer((10, 10))(volume, lambda x: rounded(x).float()))

    def test_runs_under_autocast(self):
        volume, network = make_volume(1, 1, 40, 40, 3).float(), make_network().float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            labels = SliceBatchInferer((20, 20))(volume, network)
        assert (labels == SliceBatchInferer((20, 20))(volume, network)).float().mean() > 0.97

    def test_integer_volumes(self):
        volume = torch.randint(-1000, 1000, (1, 1, 20, 20, 4), dtype=torch.int16)
        network = make_network().float()
        inferer = SliceBatchInferer((8, 8))
        assert torch.equal(inferer(volume, network), inferer(volume.float(), network))


class TestCalls:
    def test_arguments_reach_the_network(self):
        def network(x, shift, *, scale):
            return torch.cat([torch.zeros_like(x), scale * x + shift], dim=1)

        volume = make_volume(1, 1, 6, 5, 4)
        labels = SliceBatchInferer(None)(volume, network, -1.0, scale=2.0)
        assert torch.equal(labels, (2 * volume > 1).to(torch.uint8))

    def test_no_graph_is_kept(self):
        network = make_network()
        seen = []
        network.register_forward_hook(lambda module, args, output: seen.append(output.requires_grad))
        SliceBatchInferer((8, 8), output="probabilities")(make_volume(1, 1, 9, 9, 2), network)
        assert seen == [False]

    def test_threads_share_an_inferer(self):
        inferer, network = SliceBatchInferer((12, 12), batch_size=2), make_network()
        volumes = [make_volume(1, 1, 20, 10 + i, 6) for i in range(8)]
        before = dict(vars(inferer))
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda volume: inferer(volume, network), volumes))
        for volume, labels in zip(volumes, results, strict=True):
            assert torch.equal(labels, inferer(volume, network))
        assert vars(inferer) == before

    def test_pickles(self):
        inferer = pickle.loads(pickle.dumps(SliceBatchInferer((12, 12), mirror=True)))
        volume, network = make_volume(1, 1, 9, 9, 2), make_network()
        assert torch.equal(inferer(volume, network), SliceBatchInferer((12, 12), mirror=True)(volume, network))

    def test_progress_counts_slices(self, capsys):
        SliceBatchInferer(None, batch_size=3, progress=True)(make_volume(2, 1, 4, 4, 5), make_network())
        assert "10/10" in capsys.readouterr().err
        SliceBatchInferer(None)(make_volume(1, 1, 4, 4, 5), make_network())
        assert capsys.readouterr().err == ""

    def test_devices_by_name(self):
        """The meta device stands for one that is not the default: slices go there, and the result is made there."""
        volume, network, seen = make_volume(1, 1, 9, 9, 2), make_network(), []

        def elsewhere(x: torch.Tensor) -> torch.Tensor:
            seen.append(x.device.type)
            return network(torch.zeros(x.shape, dtype=volume.dtype))

        labels = SliceBatchInferer(None, sw_device="meta", device="meta")(volume, elsewhere)
        assert set(seen) == {"meta"} and labels.device.type == "meta" and labels.shape == (1, 1, 9, 9, 2)
        seen.clear()
        assert SliceBatchInferer(None, sw_device="meta")(volume, elsewhere).device.type == "cpu"
        assert set(seen) == {"meta"}

    def test_halves_the_batch_when_memory_is_short(self):
        network, sizes = make_network(), []

        def short_of_memory(x):
            sizes.append(len(x))
            if len(x) > 3:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
            return network(x)

        volume = make_volume(2, 1, 20, 18, 8)
        with pytest.warns(UserWarning, match=r"out of GPU memory with \d slices at once; going on with \d") as warned:
            labels = SliceBatchInferer((12, 16), batch_size=8)(volume, short_of_memory)
        assert len(warned) == 2
        assert sizes == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]  # the second volume starts with what fitted
        assert torch.equal(labels, SliceBatchInferer((12, 16), batch_size=8)(volume, network))

    def test_one_slice_that_does_not_fit_is_an_error(self):
        def out_of_memory(x):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

        with pytest.warns(UserWarning), pytest.raises(torch.cuda.OutOfMemoryError):
            SliceBatchInferer(None, batch_size=2)(make_volume(1, 1, 4, 4, 4), out_of_memory)

    @pytest.mark.parametrize(
        ("network", "message"),
        [
            (lambda x: [x, x], r"returned a list, not one tensor .* call network\.eval\(\) first"),
            (lambda x: {"out": x}, "returned a dict"),
            (lambda x: x.flatten(1), r"shape \[4, 30\] for slices \[4, 1, 6, 5\]"),
            (lambda x: x[:1], r"shape \[1, 1, 6, 5\] for slices \[4, 1, 6, 5\]"),
        ],
    )
    def test_networks_that_do_not_return_logits(self, network, message):
        with pytest.raises(ValueError, match=message):
            SliceBatchInferer(None)(make_volume(1, 1, 6, 5, 4), network)

    @pytest.mark.parametrize("shape", [(4, 5, 6), (1, 1, 2, 3, 4, 5), (1, 1, 4, 5, 0)])
    def test_inputs_that_are_no_volumes(self, shape):
        with pytest.raises(ValueError, match=r"expected volumes \(B, C, H, W, D\) or images \(B, C, H, W\), got \["):
            SliceBatchInferer()(torch.zeros(shape), make_network())

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"batch_size": 0}, "at least 1, got 0"),
            ({"spatial_dim": 3}, "0, 1 or 2, or -3 to -1 counted from the end; got 3"),
            ({"upsample": "cubic"}, "'bilinear', 'nearest'; got 'cubic'"),
            ({"output": "logits"}, "'labels', 'probabilities'; got 'logits'"),
            ({"image_size": (224, 224, 1)}, "one or two positive integers"),
            ({"image_size": (224, 0)}, "one or two positive integers"),
        ],
    )
    def test_bad_arguments(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            SliceBatchInferer(**arguments)


class Bands(nn.Module):
    """Classes by intensity, so that the expected labels follow from the file alone."""

    def __init__(self) -> None:
        super().__init__()
        self.edges = nn.Parameter(torch.tensor([0.2, 0.5, 0.7]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(x), *(k * x - self.edges[:k].sum() for k in (1, 2, 3))], dim=1)


AFFINES = {
    "plain": np.diag([1.5, 1.5, 3.0, 1.0]),
    "flipped": np.array([[-0.8, 0, 0, 90], [0, 0.8, 0, -30], [0, 0, -2.5, 10], [0, 0, 0, 1]]),
    "oblique": np.array([[0.1, -1.4, 0.3, 3], [0.9, 0.05, 0.2, -8], [0.05, 0.2, -3, 40], [0, 0, 0, 1]]),
}


class TestInMonai:
    @pytest.fixture(params=AFFINES)
    def scan(self, request, tmp_path):
        image = np.random.default_rng(3).random((13, 17, 9), dtype=np.float32)
        nibabel.save(nibabel.Nifti1Image(image, AFFINES[request.param]), tmp_path / "scan.nii.gz")
        return tmp_path / "scan.nii.gz"

    @staticmethod
    def evaluate(scan, inferer, preprocessing, before_inverse=()):
        post = [
            *before_inverse,
            Invertd(keys="pred", transform=preprocessing, orig_keys="image", nearest_interp=True, to_tensor=True),
            SaveImaged(
                keys="pred", output_dir=scan.parent, output_postfix="seg", separate_folder=False, output_dtype=np.uint8
            ),
        ]
        evaluator = SupervisedEvaluator(
            device=torch.device("cpu"),
            val_data_loader=DataLoader(Dataset([{"image": str(scan)}], preprocessing), batch_size=1),
            network=Bands(),
            inferer=inferer,
            postprocessing=Compose(post),
        )
        evaluator.run()
        saved = nibabel.load(scan.parent / "scan_seg.nii.gz")
        return np.asarray(saved.dataobj), saved.affine

    @pytest.mark.parametrize("spatial_dim", [0, 1, 2])
    def test_labels_return_to_the_grid_of_the_file(self, scan, spatial_dim):
        preprocessing = Compose(
            [
                LoadImaged("image", image_only=True),
                EnsureChannelFirstd("image"),
                Orientationd("image", axcodes="RAS", labels=None),
            ]
        )
        inferer = SliceBatchInferer(None, batch_size=4, spatial_dim=spatial_dim)
        labels, affine = self.evaluate(scan, inferer, preprocessing)
        image = nibabel.load(scan).get_fdata(dtype=np.float32)
        np.testing.assert_array_equal(labels, np.digitize(image, [0.2, 0.5, 0.7]))
        np.testing.assert_allclose(affine, nibabel.load(scan).affine, atol=1e-6)

    def test_same_file_as_with_monais_inferer(self, scan):
        preprocessing = Compose(
            [
                LoadImaged("image", image_only=True),
                EnsureChannelFirstd("image"),
                Orientationd("image", axcodes="PLS", labels=None),
                Spacingd("image", pixdim=(1.0, 1.2, 2.0)),
            ]
        )
        ours = self.evaluate(scan, SliceBatchInferer(None), preprocessing)
        monai = self.evaluate(
            scan, SliceInferer(roi_size=(-1, -1), spatial_dim=2), preprocessing, [AsDiscreted("pred", argmax=True)]
        )
        np.testing.assert_array_equal(ours[0], monai[0])
        np.testing.assert_array_equal(ours[1], monai[1])

    def test_meta_tensor_keeps_what_it_knows(self):
        item = Orientationd("image", axcodes="LPS", labels=None)(
            {"image": MetaTensor(torch.rand(1, 9, 8, 7), affine=torch.diag(torch.tensor([2.0, 2.0, 5.0, 1.0])))}
        )
        volume = item["image"]
        volume.meta["filename_or_obj"] = "case.nii.gz"
        labels = SliceBatchInferer((16, 16))(volume[None], make_network().float())
        assert isinstance(labels, MetaTensor) and labels.dtype == torch.uint8
        assert torch.equal(labels.affine, volume.affine)
        assert labels.meta["filename_or_obj"] == "case.nii.gz"
        assert labels.applied_operations == volume.applied_operations != []
        labels.meta["filename_or_obj"] = "other.nii.gz"
        assert volume.meta["filename_or_obj"] == "case.nii.gz"
        assert not isinstance(SliceBatchInferer(None)(volume.as_tensor()[None], make_network().float()), MetaTensor)


MEMORY = """
import resource
from pathlib import Path
import torch
from monai_ext.inferers import SliceBatchInferer

def peak():
    status = Path("/proc/self/status")  # ru_maxrss begins with the peak of the process that started this one
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

def infer(classes, slices):
    network = torch.nn.Conv2d(1, classes, 1)
    SliceBatchInferer((64, 64), batch_size=2)(torch.zeros(1, 1, 128, 128, slices), network)
    return peak()

print(infer(2, 32), infer(128, 32), infer(128, 96))
torch.ones(1, 128, 128, 128, 32)
print(peak())
"""


def test_memory_grows_neither_with_classes_nor_with_slices():
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    few, many, longer, logits = map(float, run.stdout.split())
    whole_logits = 128 * 128 * 128 * 32 * 4 / 2**20  # 256 MiB, of which SliceInferer takes two or three times as much
    assert logits - longer > 0.8 * whole_logits  # they would show
    assert many - few < 0.2 * whole_logits
    assert longer - many < 0.1 * whole_logits  # the longer volume itself, 5 MiB with its labels


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("inferer", ["slices", "mirrored", "probabilities", "windows", "image"])
def test_logits_that_are_not_finite_are_refused(inferer, value):
    def network(x):
        logits = torch.zeros(len(x), 3, *x.shape[2:])
        logits.flatten()[7] = value
        return logits

    infer, image = {
        "slices": (SliceBatchInferer(image_size=None), torch.rand(1, 1, 8, 8, 3)),
        "mirrored": (SliceBatchInferer(image_size=None, mirror=True), torch.rand(1, 1, 8, 8, 3)),
        "probabilities": (SliceBatchInferer(image_size=None, output="probabilities"), torch.rand(1, 1, 8, 8, 3)),
        "windows": (SlidingWindowLabelInferer(roi_size=(8, 8, 8)), torch.rand(1, 1, 9, 8, 8)),
        "image": (WholeImageInferer(), torch.rand(1, 1, 8, 8)),
    }[inferer]
    with pytest.raises(ValueError, match=r"^monai_ext: the network's logits are not finite"):
        infer(image, network)


@pytest.mark.parametrize("image_size", [(48, 48), (24, 32)])
def test_a_pixel_means_the_same_in_every_scan(image_size):
    """A network that marks what is at least 9 mm wide, by its own pixels: right for scans of any spacing."""
    seen = []

    def wide(x):
        seen.append(tuple(x.shape[2:]))
        # 3 pixels of 3 mm side by side
        inside = -torch.nn.functional.max_pool2d(-(x > 0.5).float(), (3, 1), 1, (1, 0))
        return torch.cat([1 - inside, inside], dim=1) * 10

    for side in (0.75, 1.5, 3.0):
        count = round(120 / side) + 1
        place = torch.arange(count) * side
        image = torch.zeros(1, 1, count, count, 2)
        image[:, :, (place > 20) & (place < 26)] = 1.0  # 6 mm
        image[:, :, (place > 60) & (place < 90)] = 1.0  # 30 mm
        volume = MetaTensor(image, affine=torch.diag(torch.tensor([side, side, 5.0, 1.0])))
        labels = SliceBatchInferer(image_size, 4, spacing=[3.0, 3.0])(volume, wide)
        assert labels.shape == image.shape
        assert torch.equal(labels.affine, volume.affine)
        middle = labels[0, 0, :, count // 2, 1]
        assert not middle[(place > 15) & (place < 31)].any()
        assert middle[(place > 67) & (place < 83)].all()
    assert set(seen) == {image_size}
    with pytest.raises(ValueError, match="a volume with an affine is needed"):
        SliceBatchInferer(image_size, spacing=3.0)(torch.zeros(1, 1, 8, 8, 2), wide)
    with pytest.raises(ValueError, match="image_size is needed, too"):
        SliceBatchInferer(None, spacing=3.0)
