# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.transforms import (
    ClassesToIndicesd,
    Compose,
    RandCropByLabelClassesd,
    RandFlipd,
    RandSpatialCropd,
    SpatialPadd,
)

from monai_ext.data import SliceSampler, VolumePatchDataset
from monai_ext.transforms import RandViewd

DATA = [{"number": 1, "shape": (12, 10, 6)}, {"number": 2, "shape": (9, 11, 3)}]
PATCH = (6, 6, 4)


def make_volume(item: dict) -> dict:
    """Every voxel says where it is; class 1 is one voxel, class 2 none, the rest background."""
    shape = item["shape"]
    image = torch.arange(np.prod(shape), dtype=torch.float32).reshape(1, *shape) + 10000 * item["number"]
    label = torch.zeros(1, *shape, dtype=torch.uint8)
    label[0, 4, 4, 1] = 1
    return {"image": MetaTensor(image), "label": MetaTensor(label), "case_id": str(item["number"])}


def dataset(flip: float = 0.5, ratios=(1, 1, 1), **kwargs) -> VolumePatchDataset:
    patch = Compose(
        [
            RandCropByLabelClassesd(
                ["image", "label"],
                "label",
                PATCH,
                ratios=list(ratios),
                indices_key="label_cls_indices",
                allow_smaller=True,
                warn=False,
            ),
            SpatialPadd(["image", "label"], PATCH),
            RandFlipd(["image", "label"], prob=flip, spatial_axis=0),
        ]
    )
    index = ClassesToIndicesd("label", num_classes=3, max_samples_per_class=5)
    keys = ("image", "label", "label_cls_indices")
    return VolumePatchDataset(DATA, make_volume, patch, index, keys, 4, progress=False, **kwargs)


def batches(workers: int, epoch: int = 0, seed: int = 3, **kwargs) -> list[torch.Tensor]:
    patches = dataset(**kwargs)
    sampler = SliceSampler(patches, seed=seed)
    sampler.set_epoch(epoch)
    return [batch["image"] for batch in DataLoader(patches, sampler=sampler, batch_size=3, num_workers=workers)]


def test_patches_are_parts_of_their_volume():
    patches = dataset(flip=0)
    assert len(patches) == 8
    for index in range(8):
        (patch,) = patches[index]
        assert patch.keys() == {"image", "label"}
        image, label = patch["image"], patch["label"]
        assert type(image) is torch.Tensor and image.shape == label.shape == (1, *PATCH)
        volume = make_volume(DATA[index // 4])
        inside = image > 0  # one volume has three slices, a patch four
        assert inside.float().mean() == (1 if index < 4 else 0.75)
        found = image[inside].long() - 10000 * DATA[index // 4]["number"]
        assert torch.equal(label[inside], volume["label"].as_tensor().flatten()[found])
        x, y, z = np.unravel_index(found.reshape(6, 6, -1).numpy(), DATA[index // 4]["shape"])
        assert (np.diff(x, axis=0) == 1).all() and (np.diff(y, axis=1) == 1).all() and (np.diff(z, axis=2) == 1).all()


def test_classes_are_drawn_by_their_ratios():
    rare = dataset(ratios=(0, 1, 1))
    assert all(rare[(index, seed)][0]["label"].any() for index in range(8) for seed in range(3))


def test_batches_depend_on_seed_and_epoch_only():
    first = batches(workers=0)
    for workers in (0, 2):
        assert all(map(torch.equal, first, batches(workers)))
    assert all(map(torch.equal, first, batches(0, cache_rate=0.0)))
    assert not all(map(torch.equal, first, batches(0, epoch=1)))
    assert not all(map(torch.equal, first, batches(0, seed=4)))


def test_drawing_leaves_the_cache_as_it_is():
    patches = dataset()
    before = [patches.volumes[i]["image"].clone() for i in range(2)]
    for index in range(8):
        patches[(index, index)]
    assert all(torch.equal(patches.volumes[i]["image"], before[i]) for i in range(2))


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="no volume to draw patches from"):
        VolumePatchDataset([], make_volume, make_volume)
    with pytest.raises(ValueError, match="patches_per_volume must be at least 1, got 0"):
        VolumePatchDataset(DATA, make_volume, make_volume, patches_per_volume=0)


def test_patches_that_nobody_has_looked_at_are_drawn_again():
    def half_seen(item):
        volume = make_volume(item)
        volume["label"][:, 6:] = 255
        return volume

    crop = RandSpatialCropd(["image", "label"], (3, 3, 3), random_size=False)
    patches = VolumePatchDataset(DATA[:1], half_seen, crop, patches_per_volume=40, progress=False)
    labels = [patches[(index, index)]["label"] for index in range(40)]
    assert not any((label == 255).all() for label in labels)
    assert any((label == 255).any() for label in labels)
    # all of it: what is drawn is given, and the loss leaves it out
    nothing = VolumePatchDataset(
        DATA[:1], lambda item: {**make_volume(item), "label": torch.full((1, 12, 10, 6), 255)}, crop, progress=False
    )
    assert (nothing[0]["label"] == 255).all()


def test_one_patch_of_a_batch_of_two_shows_a_class():
    """Of three volumes one holds class 2, one nothing: each batch has a patch of a class, and it is the one drawn."""

    def load(item):
        label = torch.zeros(1, 30, 28, 20, dtype=torch.uint8)
        label[0, :4, :4, :4], label[0, 20:, 20:, 15:] = item["corner"], 255
        label[0, 12:16, 12:16, 8:12] = min(item["corner"], 1)
        return {"image": label.float(), "label": label}

    class Spy(VolumePatchDataset):
        def __getitem__(self, item):
            patch = super().__getitem__(item)
            assert patch.keys() == {"image", "label"}
            return {**patch, "shown": item[2]}

    view = RandViewd(
        ["image", "label"], (12, 12, 8), ["bilinear", "nearest"], 0.35, (0.7, 1.4), indices_key="label_cls_indices"
    )
    data = [{"corner": corner} for corner in (0, 1, 2)]
    index = ClassesToIndicesd("label", num_classes=3)
    patches = Spy(data, load, Compose([view]), index, ("image", "label", "label_cls_indices"), 8, progress=False)
    assert patches.of_class == {1: list(range(8, 24)), 2: list(range(16, 24))}
    sampler = SliceSampler(patches, seed=4, foreground_share=0.33, batch_size=2)
    shown = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        for batch in DataLoader(patches, sampler=sampler, batch_size=2, drop_last=True):
            assert (batch["shown"] > 0).sum() == 1
            for label, value in zip(batch["label"], batch["shown"].tolist(), strict=True):
                shown.append(value)
                assert not value or (label == value).any()
    assert shown.count(1) > 8 and shown.count(2) > 8


def test_patches_of_volumes_on_one_grid():
    """A voxel of 2 mm in every scan, whichever it was; the labels with it."""

    def scan(item):
        volume = make_volume(item)
        affine = torch.diag(torch.tensor([4.0, 2.0, 1.0, 1.0]) / item["number"])
        volume["label"][0, :6] = 1
        return {key: MetaTensor(volume[key].float(), affine=affine) for key in ("image", "label")}

    patches = VolumePatchDataset(DATA, scan, lambda item: item, progress=False, spacing=[2.0, 2.0, 2.0])
    assert patches[0]["image"].shape == patches[0]["label"].shape == (1, 23, 10, 3)
    assert patches[1]["image"].shape == (1, 9, 6, 1)
    assert (patches[0]["label"][0, :11] == 1).all()
    assert not patches[0]["label"][0, 12:].any()
