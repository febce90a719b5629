# SPDX-License-Identifier: Apache-2.0
"""2D networks see the planes that were acquired, always the same way up, however a file stores them."""

from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.data.utils import decollate_batch
from monai.transforms import Invertd, Orientationd
from monai.utils import SpaceKeys

from monai_ext.data import SliceDataset
from monai_ext.inferers import SliceBatchInferer
from monai_ext.transforms import OrientSlices, OrientSlicesd, slice_orientation
from tests.bundles.runs import ROOT

SIZE = (14, 11, 5)


def frame(right, down, spacing=(1.4, 1.4, 10.0), origin=(-7.0, 9.0, 30.0)):
    """A stack whose planes' axes run in these directions (RAS), slices at right angles to them."""
    right, down = (np.asarray(v, float) / np.linalg.norm(v) for v in (right, down))
    down = down - right * (right @ down)
    down /= np.linalg.norm(down)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([right, down, np.cross(right, down)], axis=1) * spacing
    affine[:3, 3] = origin
    return affine


LEFT, BACK, FEET = np.array([-1.0, 0, 0]), np.array([0, -1.0, 0]), np.array([0, 0, -1.0])


def short_axis(normal):
    """A heart's short axis as scanners write it: rows from the upper right front to the lower left back."""
    normal = np.asarray(normal, float) / np.linalg.norm(normal)
    right = np.cross((0, 0, 1), normal)
    return frame(right, -np.cross(normal, right))


# as documented: first axis, second axis
STACKS = {
    "axial": frame(LEFT, BACK),
    "oblique axial": frame(LEFT + 0.2 * FEET, BACK + 0.5 * FEET),
    "coronal": frame(LEFT, FEET, (0.7, 0.8, 3.0)),
    "oblique coronal": frame(LEFT + 0.3 * BACK, FEET + 0.2 * LEFT),
    "sagittal": frame(BACK, FEET, (0.6, 0.6, 4.0)),
    "oblique sagittal": frame(BACK + 0.2 * LEFT, FEET + 0.3 * BACK),
    "short axis": short_axis((-0.6, 0.45, -0.66)),
    "short axis, another heart": short_axis((-0.7, 0.45, -0.55)),
    "short axis, upright heart": short_axis((-0.5, 0.4, -0.75)),
}
ISOTROPIC = frame(LEFT, BACK, (1.0, 1.0, 1.2))
STORED = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]


def place(affine, shape=SIZE):
    """Where each voxel lies, ``(3, *shape)``."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    return np.einsum("ij,j...->i...", affine[:3, :3], index) + affine[:3, 3, None, None, None]


def stored(affine, order, signs, shape=SIZE):
    """The same stack with its axes in another order and direction: affine and shape."""
    turn = np.stack([np.asarray(order), np.asarray(signs)], axis=1).astype(float)
    new = affine @ nib.orientations.inv_ornt_aff(turn, shape)
    return new, tuple(int(shape[i]) for i in np.argsort(turn[:, 0]))


def volume(affine, shape=SIZE):
    """Each voxel's value says where it lies."""
    return MetaTensor(torch.from_numpy(place(affine, shape)), affine=torch.from_numpy(affine))


@pytest.mark.parametrize("name", STACKS)
def test_a_stack_lies_as_documented_however_it_is_stored(name):
    for order, signs in STORED:
        affine, shape = stored(STACKS[name], order, signs)
        turned = OrientSlices()(volume(affine, shape))
        assert turned.shape[1:] == SIZE
        got = turned.affine.numpy()
        np.testing.assert_allclose(got[:3, :2], STACKS[name][:3, :2], atol=1e-12)
        np.testing.assert_allclose(got[:3, 2], STACKS[name][:3, 2], atol=1e-12)
        assert np.linalg.det(got[:3, :3]) > 0  # not mirrored
        np.testing.assert_allclose(turned.numpy(), place(got, SIZE), atol=1e-9)  # the content moves with its place


@pytest.mark.parametrize("name", [*STACKS, "isotropic"])
@pytest.mark.parametrize("space", [SpaceKeys.RAS, SpaceKeys.LPS])
def test_turned_back_it_is_as_it_was(name, space):
    turn = OrientSlices()
    for order, signs in STORED[::5]:
        affine, shape = stored({**STACKS, "isotropic": ISOTROPIC}[name], order, signs)
        before = volume(affine, shape)
        if space == SpaceKeys.LPS:
            before.affine = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64)) @ before.affine
            before.meta["space"] = SpaceKeys.LPS
        turned = turn(before.clone())
        assert turned.shape[1:] == SIZE
        if name != "isotropic":
            reference = turn(volume(affine, shape))
            np.testing.assert_array_equal(turned.numpy(), reference.numpy())
        back = turn.inverse(turned)
        np.testing.assert_array_equal(back.numpy(), before.numpy())
        np.testing.assert_allclose(back.affine.numpy(), before.affine.numpy(), atol=1e-12)
        assert not back.applied_operations


@pytest.mark.parametrize(
    "spacing",
    [(0.59, 0.59, 5.0), (0.98, 0.98, 2.5), (0.7, 0.7, 5.0), (1.92, 1.92, 10.0), (0.98, 0.98, 0.5), (1.0, 1.0, 1.0)],
)
def test_axial_and_near_isotropic_volumes_lie_as_they_always_did(spacing):
    """Synapse's and ACDC's spacings, thin slices, cubes: MONAI's ``Orientation`` to LPS."""
    for tilt in (0.0, 0.3):
        for order, signs in STORED:
            affine, shape = stored(frame(LEFT, BACK + tilt * FEET, spacing), order, signs)
            image = volume(affine, shape)
            expected = Orientationd("image", axcodes="LPS", labels=None)({"image": image.clone()})["image"]
            got = OrientSlicesd("image")({"image": image})["image"]
            np.testing.assert_array_equal(got.numpy(), expected.numpy())
            np.testing.assert_array_equal(got.affine.numpy(), expected.affine.numpy())


def test_a_tilted_gantry_is_axial():
    affine = frame(LEFT, BACK, (0.8, 0.8, 5.0))
    affine[:3, 2] += [0, 2.5, 0]  # slices lie straight, each a little further to the front
    assert nib.aff2axcodes(affine @ nib.orientations.inv_ornt_aff(slice_orientation(affine), SIZE)) == tuple("LPS")


def test_a_volume_without_a_place_and_a_network_in_3d_see_lps():
    sagittal = STACKS["sagittal"]
    expected = Orientationd("image", axcodes="LPS", labels=None)({"image": volume(sagittal)})["image"]
    turn = OrientSlicesd("image", spatial_dims=3)
    got = turn({"image": volume(sagittal)})
    np.testing.assert_array_equal(got["image"].numpy(), expected.numpy())
    np.testing.assert_array_equal(turn.inverse(got)["image"].numpy(), volume(sagittal).numpy())
    plain = torch.rand(1, 4, 5, 6)
    with pytest.warns(UserWarning, match="affine to be identity"):
        assert torch.equal(torch.as_tensor(OrientSlicesd("image")({"image": plain})["image"]), plain.flip(1, 2))


def test_the_label_is_turned_with_its_image():
    """Rounding in a header may put the label's own on the other side of a limit."""
    image, label = volume(np.diag([1.0, 1.6, 1.0, 1.0])), volume(np.diag([1.0, 1.4, 1.0, 1.0]))
    label.copy_(image)
    both = OrientSlicesd(["image", "label"])({"image": image, "label": label})
    assert both["image"].shape == (3, SIZE[0], SIZE[2], SIZE[1])
    np.testing.assert_array_equal(both["image"].numpy(), both["label"].numpy())


class Sides(torch.nn.Module):
    """Labels 1 what lies on the patient's left, 2 what lies more than 5 mm to the back of that, by its input's values;
    and notes what it has seen."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x)
        left, back = x[:, 0] < 0, x[:, 1] < 5
        return torch.stack([~left, left & ~back, left & back], dim=1).float()


@pytest.mark.parametrize("name", STACKS)
def test_predictions_return_to_the_voxels_they_are_of(name):
    affine, shape = stored(STACKS[name], (2, 0, 1), (-1, 1, -1))
    preprocessing = OrientSlicesd("image")
    data = preprocessing({"image": volume(affine, shape)})
    network = Sides()
    labels = SliceBatchInferer(None, batch_size=2)(data["image"][None], network)
    assert sum(map(len, network.seen)) == SIZE[2] and network.seen[0].shape[2:] == SIZE[:2]
    case = {"image": data["image"], "pred": decollate_batch(labels)[0]}
    pred = Invertd("pred", preprocessing, orig_keys="image", nearest_interp=True)(case)["pred"]
    x, y, _ = place(affine, shape)
    np.testing.assert_array_equal(pred[0].numpy(), np.where(x < 0, np.where(y < 5, 2, 1), 0))
    np.testing.assert_allclose(pred.affine.numpy(), affine, atol=1e-12)


@pytest.mark.parametrize("name", ["sagittal", "short axis"])
def test_training_slices_are_the_acquired_planes(name):
    affine, shape = stored(STACKS[name], (1, 2, 0), (1, -1, 1))

    def load(item):
        image = volume(affine, shape)
        label = MetaTensor((image[:1] < 0).to(torch.uint8), affine=image.affine)
        return OrientSlicesd(["image", "label"])({"image": image, "label": label})

    slices = SliceDataset([{}], load, progress=False)
    assert len(slices) == SIZE[2]
    turned = load({})["image"].affine.numpy()
    for index in range(SIZE[2]):
        np.testing.assert_allclose(slices[index]["image"].numpy(), place(turned, SIZE)[..., index], atol=1e-9)
        np.testing.assert_array_equal(slices[index]["label"][0].numpy(), place(turned, SIZE)[0, ..., index] < 0)
    np.testing.assert_allclose(turned[:3, :2], STACKS[name][:3, :2], atol=1e-12)


VOLUME_BUNDLES = sorted(path.name for path in (ROOT / "bundles").iterdir() if path.name.endswith(("synapse", "acdc")))


@pytest.mark.parametrize("bundle", VOLUME_BUNDLES)
def test_bundles_see_a_sagittal_stack_slice_by_slice(bundle, tmp_path):
    affine, shape = stored(STACKS["sagittal"], (2, 0, 1), (-1, 1, -1), (40, 36, 5))
    values = place(affine, shape)[0] + 40 * (place(affine, shape)[2] % 7)
    values[:2] = 0 if bundle.endswith("acdc") else -1000
    values = values.clip(0 if bundle.endswith("acdc") else -1000).astype(np.int16)
    nib.save(nib.Nifti1Image(values, affine), tmp_path / "x.nii")
    configs = ROOT / "bundles" / bundle / "configs"
    overlay = [configs / "inference_3d.json"] if (configs / "inference_3d.json").is_file() else []
    for files, expected in (([], "PIR"), (overlay, "LPS")) if overlay else (([], "PIR"),):
        parser = ConfigParser(ConfigParser.load_config_files([configs / "inference.json", *files]))
        image = parser.get_parsed_content("preprocessing")({"image": str(tmp_path / "x.nii")})["image"]
        assert nib.aff2axcodes(image.affine.numpy()) == tuple(expected)
        assert (image.shape[-1] == 5) == (expected == "PIR")
        names = ["train", "train_3d"] if files else ["train"]
        config = ConfigParser(ConfigParser.load_config_files([configs / f"{name}.json" for name in names]))
        config["cases"] = {"label_mapping": None}
        transforms = config.get_parsed_content("train#preprocessing").transforms
        [turn] = [transform for transform in transforms if isinstance(transform, OrientSlicesd)]
        both = turn({key: volume(affine, shape) for key in ("image", "label")})
        assert [nib.aff2axcodes(both[key].affine.numpy()) for key in both] == [tuple(expected)] * 2
