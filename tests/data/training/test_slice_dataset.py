# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, RandFlipd, RandRotated

from monai_ext.data import SliceDataset, SliceSampler
from monai_ext.networks.nets import DCAUNet
from monai_ext.transforms import RandViewd


def make_volume(item: dict) -> dict:
    """A volume in which every voxel says where it is; foreground in the upper half of its slices."""
    number, depth = item["number"], item["depth"]
    image = torch.arange(8 * 6 * depth, dtype=torch.float32).reshape(1, 8, 6, depth) + 1000 * number
    label = torch.zeros(1, 8, 6, depth, dtype=torch.uint8)
    label[..., depth // 2 :] = 1
    return {"image": image, "label": label, "case_id": str(number)}


DATA = [{"number": 1, "depth": 4}, {"number": 2, "depth": 5}, {"number": 3, "depth": 2}]
AUGMENT = [RandFlipd(["image", "label"], prob=0.5, spatial_axis=0), RandRotated(["image", "label"], 0.3, prob=0.5)]


def slices(**kwargs) -> SliceDataset:
    return SliceDataset(DATA, make_volume, progress=False, **kwargs)


def test_every_slice_of_every_volume_once():
    dataset = slices()
    assert len(dataset) == 11
    expected = [make_volume(item)["image"][..., k] for item in DATA for k in range(item["depth"])]
    for sample, image in zip([dataset[i] for i in range(11)], expected):
        assert torch.equal(sample["image"], image)
        assert sample["label"].shape == (1, 8, 6)
    assert dataset.foreground.tolist() == [False, False, True, True, False, False, True, True, True, False, True]


def test_slices_along_another_axis():
    dataset = slices(spatial_dim=0)
    assert len(dataset) == 24
    assert torch.equal(dataset[8]["image"], make_volume(DATA[1])["image"][:, 0])


def test_slices_are_resized_once_as_the_inferer_does():
    from monai_ext.transforms import resize_slices

    dataset = slices(image_size=(5, 7))
    image = make_volume(DATA[0])["image"][..., 1]
    torch.testing.assert_close(dataset[1]["image"], resize_slices(image[None], (5, 7), "cubic")[0])
    assert dataset[1]["label"].dtype == torch.uint8
    assert set(dataset[2]["label"].unique().tolist()) == {1}


def batches(workers: int, epoch: int, seed: int = 3) -> list[torch.Tensor]:
    dataset = slices(slice_transform=Compose(AUGMENT))
    sampler = SliceSampler(dataset, seed=seed)
    sampler.set_epoch(epoch)
    loader = DataLoader(dataset, batch_size=4, sampler=sampler, num_workers=workers)
    return [batch["image"].as_subclass(torch.Tensor) for batch in loader]


def test_batches_depend_on_seed_and_epoch_only():
    alone, workers = batches(0, epoch=1), batches(2, epoch=1)
    assert all(torch.equal(a, b) for a, b in zip(alone, workers, strict=True))
    assert not torch.equal(alone[0], batches(0, epoch=2)[0])
    assert not torch.equal(alone[0], batches(0, epoch=1, seed=4)[0])


def test_processes_share_the_slices_out():
    dataset = slices()
    parts = [list(SliceSampler(dataset, seed=1, num_replicas=2, rank=rank)) for rank in (0, 1)]
    assert len(parts[0]) == len(parts[1]) == 6
    taken = [index for part in parts for index, _ in part]
    assert set(taken) == set(range(11))
    assert len({seed for part in parts for _, seed in part}) == 12


def test_foreground_weight():
    dataset = slices()
    sampler = SliceSampler(dataset, seed=1, foreground_weight=9)
    hits = []
    for epoch in range(200):
        sampler.set_epoch(epoch)
        hits += [dataset.foreground[index] for index, _ in sampler]
    share = dataset.foreground.sum() * 10 / (dataset.foreground.sum() * 10 + (~dataset.foreground).sum())
    assert np.mean(hits) == pytest.approx(share, abs=0.02)
    with pytest.raises(ValueError, match="foreground_weight must be at least 0"):
        SliceSampler(dataset, foreground_weight=-1)


def test_workers_share_one_cache():
    """Workers that read the whole cache find every array where this process put it: none was copied."""

    class Spy(SliceDataset):
        def __getitem__(self, item):
            for index in range(len(self)):
                super().__getitem__(index)
            return torch.tensor([os.getpid(), *addresses(self)])

    def addresses(dataset):
        items = [dataset.volumes[number] for number in range(len(DATA))]
        return [item[key].untyped_storage().data_ptr() for item in items for key in ("image", "label")]

    dataset = Spy(DATA, make_volume, progress=False)
    loader = DataLoader(dataset, batch_size=1, sampler=[0, 1], num_workers=2, multiprocessing_context="fork")
    seen = torch.cat(list(loader)).tolist()
    assert len({process for process, *_ in seen} | {os.getpid()}) == 3
    assert all(found == addresses(dataset) for _, *found in seen)


def test_no_volume_and_uneven_arrays():
    with pytest.raises(ValueError, match="no volume"):
        SliceDataset([], make_volume)
    with pytest.raises(ValueError, match=r"arrays of different size: image \(8, 6, 4\), label \(8, 6, 3\)"):
        SliceDataset([{}], lambda _: {"image": torch.ones(1, 8, 6, 4), "label": torch.ones(1, 8, 6, 3)}, progress=False)


def test_slices_that_nobody_has_looked_at_are_not_drawn():
    label = torch.zeros(1, 4, 4, 5, dtype=torch.uint8)
    label[..., 1] = label[..., 4] = 255
    label[0, 0, :, 2] = 255
    label[0, 1, 0, 3] = 2
    item = {"image": torch.arange(5.0).expand(1, 4, 4, 5).contiguous(), "label": label}
    slices = SliceDataset([item], dict, num_workers=0, progress=False)
    assert [float(slices[k]["image"].mean()) for k in range(len(slices))] == [0, 2, 3]
    assert slices.foreground.tolist() == [False, False, True]  # what is ignored is no class
    assert slices.of_class == {2: [2]}
    assert slices[1]["label"].max() == 255
    with pytest.raises(ValueError, match="no slice to draw: every voxel of every label is to be ignored"):
        SliceDataset([{**item, "label": torch.full_like(label, 255)}], dict, num_workers=0, progress=False)


def test_a_share_is_drawn_from_slices_with_a_class_each_as_often():
    def rare(item):
        volume = make_volume(item)
        volume["label"][:] = 1
        if item["number"] == 2:
            volume["label"][..., 3] = 2  # one slice in eleven
        return volume

    dataset = SliceDataset(DATA, rare, progress=False)
    assert dataset.of_class[2] == [7]
    assert dataset.of_class[1] == [i for i in range(11) if i != 7]
    sampler = SliceSampler(dataset, seed=1, foreground_share=0.5)
    hits = []
    for epoch in range(400):
        sampler.set_epoch(epoch)
        hits += [index == 7 for index, _, _ in sampler]
    # half of the half is of class 2, of the rest every eleventh
    assert np.mean(hits) == pytest.approx(0.5 * 0.5 + 0.5 / 11, abs=0.02)
    with pytest.raises(ValueError, match="foreground_share must be from 0 to 1"):
        SliceSampler(dataset, foreground_share=2)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        SliceSampler(dataset, batch_size=0)


def pictures(**kwargs) -> SliceDataset:
    """Of twenty large pictures six show something small: of class 1 five, in places of their own, of class 2 one."""

    def load(item):
        label = torch.zeros(1, 90, 70, dtype=torch.uint8)
        if item["number"] < 6:
            row, column = divmod(13 * item["number"], 8)
            label[0, 10 * row : 10 * row + 5, 8 * column : 8 * column + 5] = 2 if item["number"] == 3 else 1
        return {"image": label.float(), "label": label}

    return SliceDataset([{"number": n} for n in range(20)], load, spatial_dim=None, progress=False, **kwargs)


@pytest.mark.parametrize(
    ("batch_size", "share", "expected"),
    [(2, 0.33, 1), (3, 0.33, 1), (8, 0.33, 3), (12, 0.33, 4), (24, 0.33, 8), (4, 0.5, 2), (5, 1.0, 5), (4, 0.0, 0)],
)
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_each_batch_of_each_process_shows_as_many(batch_size, share, expected, processes):
    """nnU-Net's number; whatever the epoch, and wherever within it a training goes on."""
    dataset = pictures()
    assert sorted(dataset.of_class[1]) == [0, 1, 2, 4, 5] and dataset.of_class[2] == [3]
    taken = set()
    for rank in range(processes):
        sampler = SliceSampler(dataset, 1, 0, processes, rank, foreground_share=share, batch_size=batch_size)
        for epoch in range(4):
            sampler.set_epoch(epoch)
            drawn = list(sampler)
            taken |= {index for index, *_ in drawn}
            assert len(drawn) == len(sampler)
            for index, _, shown in drawn if share else ():
                assert not shown or index in dataset.of_class[shown]
            counts = [
                sum(shown > 0 for _, _, shown in drawn[at : at + batch_size]) if share else 0
                for at in range(len(drawn) - batch_size + 1)
            ]
            assert set(counts) <= {expected}
            sampler.skip = batch_size
            assert list(sampler) == drawn[batch_size:]
            assert list(sampler) == drawn  # once
    assert taken == set(range(6)) if share == 1 else len(taken) > 15


def test_an_epoch_that_is_shorter_than_a_batch_has_its_share():
    sampler = SliceSampler(pictures(), foreground_share=0.33, batch_size=64)
    assert sum(shown > 0 for _, _, shown in sampler) == 7  # of 20
    sampler = SliceSampler(pictures(), num_replicas=7, rank=6, foreground_share=0.33, batch_size=64)
    assert sum(shown > 0 for _, _, shown in sampler) == 1  # of 3


def test_a_share_that_rounds_to_nothing_is_kept_over_batches():
    shown = [shown > 0 for _, _, shown in SliceSampler(pictures(), foreground_share=0.1, batch_size=2)]
    assert sum(shown) == 2
    assert sum(shown[:10]) == 1
    shown = [shown > 0 for _, _, shown in SliceSampler(pictures(), foreground_share=0.33)]
    assert sum(shown) == 6
    assert all(any(shown[at : at + 4]) for at in range(17))
    nothing = SliceDataset(
        [{}], lambda _: {"image": torch.ones(1, 9, 9), "label": torch.zeros(1, 9, 9)}, spatial_dim=None
    )
    assert [shown for _, _, shown in SliceSampler(nothing, foreground_share=1.0)] == [0]


def test_without_a_share_the_draws_are_those_of_every_version():
    rng = np.random.default_rng((5, 2))
    order, seeds = rng.permutation(20), rng.integers(2**32, size=20)
    sampler = SliceSampler(pictures(), seed=5)
    sampler.set_epoch(2)
    assert list(sampler) == list(zip(order.tolist(), seeds.tolist(), strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_views_show_the_class_that_was_drawn(workers):
    """Turned, scaled, shifted and bent, at the pictures' edges, too, where a worker cuts them."""

    class Spy(SliceDataset):
        def __getitem__(self, item):
            sample = super().__getitem__(item)
            assert sample.keys() == {"image", "label"}
            return {**sample, "shown": item[2]}

    view = RandViewd(["image", "label"], (30, 34), ["bilinear", "nearest"], 0.35, (0.7, 1.4), 0.1, 0.3, 0.04, prob=0.8)
    plain = pictures()
    dataset = Spy(plain.volumes.data, plain.volumes.transform, None, Compose([view]), spatial_dim=None, progress=False)
    sampler = SliceSampler(dataset, seed=2, foreground_share=0.33, batch_size=2)
    loader = DataLoader(dataset, batch_size=2, sampler=sampler, num_workers=workers, drop_last=True)
    seen = []
    for epoch in range(2 if workers else 20):
        sampler.set_epoch(epoch)
        for batch in loader:
            assert (batch["shown"] > 0).sum() == 1
            for label, shown in zip(batch["label"], batch["shown"].tolist(), strict=True):
                seen.append(shown)
                if shown:
                    assert (label == shown).any()
    assert set(seen) == {0, 1, 2}


def test_slices_of_one_spacing():
    """Two scans of one object, one twice as fine: their slices have pixels of one size."""
    from monai.data import MetaTensor

    def scan(item):
        side = item["side"]
        rows = torch.arange(0, 24 + side / 2, side)
        image = rows[None, :, None, None].expand(1, len(rows), len(rows), 2).clone()
        affine = torch.diag(torch.tensor([side, side, 4.0, 1.0]))
        return {key: MetaTensor(image, affine=affine) for key in ("image", "label")}

    dataset = SliceDataset([{"side": 1.0}, {"side": 2.0}], scan, spacing=[3.0, 3.0], progress=False)
    assert [dataset[i]["image"].shape[1:] for i in (0, 2)] == [(9, 9), (9, 9)]
    # each pixel is the mean of what lies around it, which is where it lies; mirrored at the edges
    for i in (0, 2):
        torch.testing.assert_close(dataset[i]["image"][0, 2:-2, 4], torch.arange(0, 25.0, 3)[2:-2], atol=0.05, rtol=0)


def test_an_empty_slice_leaves_the_gradient_finite():
    """One slice beside the head in a batch must not end the training of a network that normalises over channels."""
    torch.manual_seed(0)

    def scan(item):
        image = torch.zeros(1, 32, 32, 2)
        image[..., 1] = torch.rand(32, 32)
        return {"image": image, "label": (image > 0.5).byte()}

    dataset = SliceDataset([{}], scan, slice_transform=Compose(AUGMENT[:1]), progress=False)
    images = torch.stack([dataset[i]["image"] for i in range(2)])
    assert images[0].std() > 0.01
    assert images[0].min() >= 0 and images[0].max() <= 0.05
    assert not dataset[0]["label"].any()
    assert torch.equal(SliceDataset([{}], scan, progress=False)[0]["image"], torch.zeros(1, 32, 32))
    network = DCAUNet(2, 1, 2)
    network(images).square().mean().backward()
    assert max(p.grad.abs().max() for p in network.parameters() if p.grad is not None) < 1e4
