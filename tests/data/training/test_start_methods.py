# SPDX-License-Identifier: Apache-2.0
"""Whatever way worker processes are started, the batches of a training are those without workers."""

from __future__ import annotations

import pickle
import sys

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import CacheDataset, DataLoader
from monai.transforms import Compose, RandCropByLabelClassesd, RandFlipd

from monai_ext.data import SliceDataset, SliceSampler, VolumePatchDataset
from tests.bundles.runs import BUNDLES, ROOT

METHODS = ("spawn",) if sys.platform == "win32" else ("fork", "spawn", "forkserver")
DATA = [{"seed": number} for number in range(2)]


class Read:
    """A volume that depends on its case only; a class, so that it can be sent to a process."""

    def __call__(self, item):
        image = torch.rand(1, 12, 10, 6, generator=torch.Generator().manual_seed(item["seed"]))
        return {"image": image, "label": (image > 0.7).to(torch.uint8), "case_id": str(item["seed"])}


def slices():
    flip = Compose([RandFlipd(["image", "label"], 0.5, 0), RandFlipd(["image", "label"], 0.5, 1)])
    return SliceDataset(DATA, Read(), image_size=(8, 8), slice_transform=flip, progress=False)


def patches():
    crop = RandCropByLabelClassesd(["image", "label"], "label", (4, 4, 4), num_classes=2, num_samples=1)
    return VolumePatchDataset(DATA, Read(), crop, patches_per_volume=3, progress=False)


def volumes():
    return CacheDataset(DATA, Read(), progress=False)


def epoch(dataset, sampler, **options):
    loader = DataLoader(dataset, batch_size=2, sampler=sampler, **options)
    return [(batch["image"].clone(), batch["label"].clone()) for batch in loader]


@pytest.mark.parametrize("make", [slices, patches, volumes])
def test_batches_are_the_same(make):
    def sampler(dataset):
        return None if make is volumes else SliceSampler(dataset, seed=3)

    dataset = make()
    expected = epoch(dataset, sampler(dataset))
    assert len(expected) > 0
    for method in METHODS:
        found = epoch(dataset, sampler(dataset), num_workers=1, multiprocessing_context=method)
        assert len(found) == len(expected), method
        for (image, label), (same_image, same_label) in zip(found, expected, strict=True):
            assert torch.equal(image, same_image) and torch.equal(label, same_label), method


@pytest.mark.parametrize("bundle", BUNDLES)
def test_what_a_bundle_does_to_its_cases_can_be_sent_to_a_process(bundle):
    configs = ROOT / "bundles" / bundle / "configs"
    overlays = [[], ["train_3d"]] if (configs / "train_3d.json").is_file() else [[]]
    for overlay in overlays:
        files = [configs / f"{name}.json" for name in ["train", *overlay]]
        parser = ConfigParser(ConfigParser.load_config_files(files))
        parser["cases"] = {"label_mapping": None, "label_coding": "classes"}
        for part in ("train#preprocessing", "train#augmentation", "validate#preprocessing"):
            if part in parser:
                steps = parser.get_parsed_content(part)
                again = pickle.loads(pickle.dumps(steps))
                assert [type(step) for step in again.transforms] == [type(step) for step in steps.transforms]
