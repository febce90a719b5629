# SPDX-License-Identifier: Apache-2.0
"""The plan of a network in 3D: its rules on data of which the right plan is known, and a bundle that it makes."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from monai_ext.apps.new_bundle import new_bundle
from monai_ext.apps.new_bundle.memory import memory_option
from monai_ext.apps.new_bundle.survey import Body, Survey
from monai_ext.apps.new_bundle.volume_planning import NoRoomError, flat_volumes, target_spacing, volume_plan
from monai_ext.apps.reproduce import reproduce
from monai_ext.apps.segmentation import segment
from monai_ext.phantoms import write_brain_phantom
from tests.bundles import test_contract as contract
from tests.bundles.runs import ROOT, run


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
        assert plan.bytes == cost(plan.size, plan.batch) <= memory / 1.2
        # the next larger patch would not fit
        assert cost([side + 16 for side in plan.size], plan.batch) > memory / 1.2 or plan.size == [160, 160, 80]
        # the volume's own aspect, as near as steps of 16 are
        assert abs(plan.size[0] - plan.size[1]) <= 16
        assert plan.size[0] >= plan.size[2]
    whole = volume_plan(found((64, 64, 32), (2, 2, 2), count=200), 16, cost, 8 * 10**9)
    assert whole.size == [64, 64, 32]
    assert 2 < whole.batch <= 10  # a twentieth of 200
    assert volume_plan(found((64, 64, 32), (2, 2, 2), count=4), 16, cost, 8 * 10**9).batch == 2
    with pytest.raises(NoRoomError, match="16x16x16 voxels, the smallest, take 130 MB"):
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
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("raw") / "Dataset901_Brain"
    write_brain_phantom(folder, 5, progress=False, workers=1, coarse=4)
    return folder


@pytest.fixture(scope="module")
def light(tmp_path_factory) -> Path:
    """A template with a network of a few channels."""
    folder = tmp_path_factory.mktemp("template") / "light"
    shutil.copytree(ROOT / "bundles" / "unet_dca_synapse", folder)
    for name in ("train", "inference"):
        file = folder / "configs" / f"{name}.json"
        config = json.loads(file.read_text())
        config["network_def"]["features"] = [8, 16, 32]
        file.write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def made(data, light, tmp_path_factory) -> Path:
    where = tmp_path_factory.mktemp("made")
    folder, choices = new_bundle("brain", light, nnunet=data, where=where, progress=False, dims=3, memory="60MB")
    (folder / "choices.txt").write_text("\n".join(choices))
    return folder.resolve()


def test_the_bundle_that_new_makes(made, data, tmp_path, monkeypatch):
    """Contract, training on one grid, evaluation, labels on the sources' grids, export and reproduction."""
    monkeypatch.chdir(made.parents[1])
    choices = (made / "choices.txt").read_text()
    print(choices)
    train, inference = (json.loads((made / "configs" / f"{n}.json").read_text()) for n in ("train", "inference"))
    print(json.dumps(train, indent=1)[:3000])
