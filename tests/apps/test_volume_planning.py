# SPDX-License-Identifier: Apache-2.0
"""The plan of a network in 3D: its rules on data of which the right plan is known, and a bundle that it makes."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data.utils import affine_to_spacing
from monai.inferers import SlidingWindowInferer

from monai_ext.apps.new_bundle import new_bundle
from monai_ext.apps.new_bundle.memory import WORKSPACE, memory_option
from monai_ext.apps.new_bundle.survey import Body, Survey
from monai_ext.apps.new_bundle.volume_planning import NoRoomError, flat_volumes, target_spacing, volume_plan
from monai_ext.apps.reproduce import reproduce
from monai_ext.apps.segmentation import segment
from monai_ext.bundle import Bundle, trained_with
from monai_ext.transforms import resize_volume, volume_size_at_spacing
from tests.apps.light import light_template
from tests.bundles import test_contract as contract
from tests.bundles.runs import ROOT, run, same_weights

FEW = {"num_workers": 0, "patches_per_volume": 2}
# forward, backward and Adam's step of a network in 3D, in a process of its own
MEASURED = """
import resource
import torch
from monai_ext.apps.new_bundle.memory import step_bytes
from monai_ext.networks.nets import UNetDCA
torch.set_num_threads(1)
network = UNetDCA(spatial_dims=3, in_channels=1, out_channels=4, features=(32, 64, 128), img_size=(32, 32, 32))
counted = step_bytes(network, (2, 1, 32, 32, 32))
optimizer = torch.optim.Adam(network.parameters())
held = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
before = held - 4 * sum(p.numel() for p in network.parameters())
logits = network(torch.rand(2, 1, 32, 32, 32))
labels = torch.randint(4, (2, 32, 32, 32))
truth = torch.nn.functional.one_hot(labels, 4).movedim(-1, 1).float()
dice = (logits.softmax(dim=1) * truth).sum() / truth.sum()
(torch.nn.functional.cross_entropy(logits, labels) - dice).backward()
optimizer.step()
# ru_maxrss would begin with the peak of the process that started this one
peak = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
print(counted, peak * 1024 - before)
"""


def found(shape, spacing, width=30.0, count=4):
    body = {str(i): Body(tuple(shape), tuple(spacing), {1: (0.5, 0.5, 0.5)}) for i in range(count)}
    return Survey(pictures=False, modality="CT", body=body, widths={1: [width] * count})


def cost(size, batch):
    """A network of 100 MB whose voxels take 1 kB each."""
    return 100_000_000 + 1000 * batch * math.prod(size)


def test_a_coarse_axis_gets_a_low_percentile():
    assert target_spacing([(0.8, 0.8, 2), (0.7, 0.7, 1), (0.9, 0.9, 2)]) == [0.8, 0.8, 2.0]
    thick = [(0.8, 0.8, 5)] * 8 + [(0.8, 0.8, 1.25)] * 2
    assert target_spacing(thick) == [0.8, 0.8, 1.25]
    # nothing shorter than the other sides
    assert target_spacing([(1, 1, 5)] * 8 + [(1, 1, 0.5)] * 2) == [1.0, 1.0, 1.0]


def test_slices_are_no_volumes():
    assert "5 times as long" in flat_volumes(found((512, 512, 60), (1, 1, 5)), 16)
    assert "12 slices" in flat_volumes(found((128, 128, 12), (2, 2, 3)), 16)
    assert flat_volumes(found((256, 256, 120), (1, 1, 2)), 16) == ""


def test_patch_and_batch_follow_from_the_memory():
    seen = found((160, 160, 80), (2, 2, 2), width=6.0)
    for memory in (500e6, 1e9, 2e9):
        plan = volume_plan(seen, 16, cost, int(memory))
        assert all(side % 16 == 0 for side in plan.size)
        assert plan.bytes == cost(plan.size, plan.batch) <= memory / WORKSPACE
        # the next larger patch would not fit
        assert cost([side + 16 for side in plan.size], plan.batch) > memory / WORKSPACE or plan.size == [160, 160, 80]
        # the volume's own aspect, as near as steps of 16 are
        assert abs(plan.size[0] - plan.size[1]) <= 16
        assert plan.size[0] >= plan.size[2]
    whole = volume_plan(found((64, 64, 32), (2, 2, 2), count=200), 16, cost, 8 * 10**9)
    assert whole.size == [64, 64, 32]
    assert 2 < whole.batch <= 10  # a twentieth of 200
    assert volume_plan(found((64, 64, 32), (2, 2, 2), count=4), 16, cost, 8 * 10**9).batch == 2
    with pytest.raises(NoRoomError, match="16x16x16 voxels, the smallest, take 151 MB"):
        volume_plan(seen, 16, cost, 120_000_000)


def test_voxels_grow_where_a_patch_would_see_too_little():
    # 3 voxels across the thinnest class, and no further
    plan = volume_plan(found((400, 400, 400), (0.5, 0.5, 0.5), width=3.0), 16, cost, 2 * 10**9)
    assert 0.9 < plan.spacing[0] <= 1.02
    assert plan.spacing == [plan.spacing[0]] * 3
    # the finest sides first
    plan = volume_plan(found((400, 400, 100), (0.5, 0.5, 1.4), width=30.0), 16, cost, 4 * 10**9)
    assert plan.spacing[2] == 1.4
    assert 0.5 < plan.spacing[0] <= 1.4
    shown = np.minimum(plan.size, 200 / np.array([*plan.spacing[:2], 200 / 140 * plan.spacing[2]]))
    assert np.prod(shown * plan.spacing) > 0.2 * 200 * 200 * 140
    assert volume_plan(found((400, 400, 400), (1, 1, 1), width=2.0), 16, cost, 10**9).spacing == [1, 1, 1]


def test_a_memory_has_a_unit():
    assert memory_option("8GB") == memory_option("8000 MB") == 8 * 10**9
    assert memory_option("0.5GiB") == 1 << 29
    for wrong in ("8", 8, "8TB", "-1GB", "0GB", "much"):
        with pytest.raises(ValueError, match="expected a number and its unit, such as 8GB"):
            memory_option(wrong)


@pytest.fixture(scope="module")
def light(tmp_path_factory) -> Path:
    return light_template(tmp_path_factory.mktemp("template") / "light")


@pytest.fixture(scope="module")
def made(brain, light, tmp_path_factory) -> Path:
    where = tmp_path_factory.mktemp("made")
    folder, choices = new_bundle("brain", light, nnunet=brain, where=where, progress=False, dims=3, memory="60MB")
    (folder / "choices.txt").write_text("\n".join(choices))
    return folder.resolve()


@pytest.fixture(scope="module")
def trained(made) -> Path:
    """After an epoch of two patches a volume; the bundle's weights are those."""
    run(str(made), "train", **FEW, epochs=1, val_interval=1)
    return made


def test_the_bundle_that_new_makes(made, brain, tmp_path, monkeypatch):
    """It knows volumes only, keeps the contract, and exports."""
    monkeypatch.chdir(made.parents[1])
    choices = (made / "choices.txt").read_text()
    assert "dims: 3, as asked" in choices
    assert "counted in float32" in choices
    train, inference = (json.loads((made / "configs" / f"{n}.json").read_text()) for n in ("train", "inference"))
    assert train["network_def"]["spatial_dims"] == 3
    assert train["network_def"]["out_channels"] == 3
    assert train["train"]["dataset"]["spacing"] == train["validate"]["inferer"]["spacing"] == "@spacing"
    assert train["validate"]["inferer"]["regions"] == "@region_order"
    assert train["batch_size"] == inference["batch_size"] == 2
    steps = [step["_target_"].rpartition(".")[2] for step in train["train"]["augmentation"]["transforms"]]
    assert steps[0] == "RandViewd"
    assert steps.count("RandFlipd") == 3
    left = {file.stem for file in (made / "configs").glob("*.json")}
    assert not left & {"strong", "strong_3d", "train_3d", "inference_3d"}
    for check in contract.CHECKS_OF_A_MADE_BUNDLE:
        check(str(made))
    contract.test_metadata(str(made), tmp_path)
    contract.test_exports(str(made), tmp_path)


def test_training_patches_lie_on_one_grid(made, monkeypatch):
    """Axial, sagittal and oblique scans of other spacings: one size of voxel, and a third around what is labelled."""
    monkeypatch.chdir(made.parents[1])
    parser = Bundle(made).parser("train", **FEW, bundle_root=str(made))
    dataset = parser.get_parsed_content("train#dataset")
    spacing = parser.get_parsed_content("spacing")
    for volume in dataset.volumes:
        sides = affine_to_spacing(volume["image"].affine)
        np.testing.assert_allclose(sides, spacing, rtol=0.12)  # a whole number of voxels in 100 mm
        assert volume["image"].shape[1:] == volume["label"].shape[1:]
        assert set(np.unique(volume["label"])) <= {0, 1, 2, 3, 255}
    patch = dataset[(0, 3)]
    assert patch.keys() == {"image", "label"}
    assert patch["image"].shape == (4, *parser.get_parsed_content("image_size"))
    assert torch.equal(patch["image"], dataset[(0, 3)]["image"])


def test_training_evaluation_inference_and_reproduction(trained, brain, tmp_path, monkeypatch):
    """Labels lie on the sources' grids and are probabilities' that went back there; the run can be started again."""
    monkeypatch.chdir(trained.parents[1])
    assert any(value.dim() == 5 for value in torch.load(trained / "models/model.pt", weights_only=True).values())
    assert trained_with(trained / "models/model.pt").keys() == {"image_size", "spacing"}
    run(str(trained), "train", "evaluate", **FEW)
    summary = json.loads((trained / "eval" / "summary.json").read_text())
    assert summary["conventions"]["monai"]["classes"].keys() == {"whole tumour", "tumour core", "enhancing tumour"}
    folder = tmp_path / "images"
    folder.mkdir()
    for case in (1, 2, 3):
        for file in sorted((brain / "imagesTr").glob(f"brain_{case:03d}_*")):
            shutil.copy(file, folder)
    labels = segment(trained, folder, tmp_path / "out", num_workers=0)
    labels.check()
    for label in labels:
        written, source = nibabel.load(label), nibabel.load(folder / label.name.replace("seg", "0000"))
        assert written.shape == source.shape
        np.testing.assert_allclose(written.affine, source.affine, atol=1e-4)
    parser = Bundle(trained).parser("inference", num_workers=0)
    image = parser.get_parsed_content("preprocessing")({"image": sorted(map(str, folder.glob("brain_002*")))})["image"]
    network = parser.get_parsed_content("network")
    size = volume_size_at_spacing(image, parser.get_parsed_content("spacing"))
    roi = parser.get_parsed_content("image_size")
    with torch.no_grad():
        windows = SlidingWindowInferer(roi, 1, 0.5, "gaussian")
        logits = windows(resize_volume(image.as_tensor(), size)[None], network)
        shape = image.shape[1:]
        back = torch.nn.functional.interpolate(logits.sigmoid(), shape, mode="trilinear", align_corners=True)
    expected = torch.zeros(shape)
    for channel, value in enumerate((1, 2, 3)):
        expected[back[0, channel] > 0.5] = value
    found = parser.get_parsed_content("inferer")(image[None], network)[0, 0]
    assert (found.as_tensor() != expected).float().mean() < 1e-4
    where = reproduce(trained / "eval" / "run_training.json", tmp_path / "again")
    assert same_weights(trained / "models" / "model.pt", where / "model.pt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dims": 4}, r"--dims 4: expected one of 2, 3, auto"),
        ({"memory": "8"}, r"--memory 8: expected a number and its unit"),
        ({"dims": 3, "memory": "1MB"}, r"--memory 1MB: not enough for UNetDCA in 3D: .* Give more with --memory"),
    ],
)
def test_what_no_plan_can_be_made_of(brain, light, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message) as told:
        new_bundle("brain", light, nnunet=brain, where=tmp_path, progress=False, **arguments)
    assert len(str(told.value).splitlines()) == 1
    assert not (tmp_path / "bundles").exists()


def test_auto_takes_slices_where_memory_is_short(brain, light, tmp_path):
    made, choices = new_bundle("brain", light, nnunet=brain, where=tmp_path, progress=False, dims="auto", memory="1MB")
    assert choices[0].startswith("dims: 2, as two patches of 4x4x4 voxels, the smallest, take")
    assert json.loads((made / "configs/train.json").read_text())["network_def"]["spatial_dims"] == 2


def test_a_step_takes_what_is_counted():
    """The process grows by about as much, and by no more than the plan leaves; a processor's library has its share."""
    gives_back = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURED],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        env={**os.environ, **gives_back},
    )
    counted, grown = map(float, done.stdout.split())
    assert WORKSPACE / 2 < grown / counted < WORKSPACE
