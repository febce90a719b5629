# SPDX-License-Identifier: Apache-2.0
"""Several checkpoints and mirrored views through every bundle's own inference and evaluation."""

from __future__ import annotations

import csv
import itertools
import json
import math
import re
from functools import reduce
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image
from scipy import ndimage

from monai_ext.data import write_phantom
from tests.bundles.runs import BUNDLES, command, config, run
from tests.bundles.test_runs import PARALLEL, PICTURES, dataset_of, small, torchrun
from tests.data.volumes import save, volume, write_acdc


def networks(bundle: str, folder: Path, count: int = 2) -> list[torch.nn.Module]:
    """Random networks whose label maps hold more than one class, saved as trainings of folds leave them."""
    definition = json.loads(Path(config(bundle, "inference")[0]).read_text())["network_def"]
    found: list[torch.nn.Module] = []
    for seed in itertools.count():
        torch.manual_seed(seed)
        network = ConfigParser({"network_def": definition}).get_parsed_content("network_def").eval()
        with torch.no_grad():  # a new network's classes are nearly equal; which is highest should not hang on rounding
            for parameter in network.parameters():
                parameter.add_(0.03 * torch.randn_like(parameter))
            labels = network(torch.rand(1, definition["in_channels"], 64, 64)).argmax(1)
        if labels.flatten().bincount().max() < 0.95 * labels.numel():
            path = folder / f"fold{len(found)}" / "model.pt"
            path.parent.mkdir()
            torch.save(network.state_dict(), path)
            found.append(network)
        if len(found) == count:
            return found
    raise AssertionError("no such network")


def source_of(bundle: str, folder: Path) -> Path:
    if bundle not in PICTURES:
        return save(folder / "scan.nii.gz", volume(3)[0])
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "scan.png")
    return folder / "scan.png"


def labels(folder: Path) -> np.ndarray:
    (file,) = folder.glob("scan_seg.*")
    return np.asarray(Image.open(file)) if file.suffix == ".png" else np.asarray(nibabel.load(file).dataobj)


class Members(torch.nn.Module):
    """The networks side by side, in float32 as the bundle runs them: that it is their mean, tests/inferers shows."""

    def __init__(self, members: list[torch.nn.Module], flips: list[tuple[int, ...]]) -> None:
        super().__init__()
        self.members = torch.nn.ModuleList(members)
        self.flips = flips

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = [net(x.flip(f)).log_softmax(1).flip(f) for net in self.members for f in self.flips]
        return reduce(torch.logaddexp, maps) - math.log(len(maps))


@pytest.mark.parametrize("bundle", BUNDLES)
def test_labels_are_those_of_the_mean_probability(bundle, tmp_path):
    members = networks(bundle, tmp_path)
    options = {**small(bundle), "dataset_dir": str(source_of(bundle, tmp_path)), "ckpt_dir": str(tmp_path)}
    knobs = {"ckpt_paths": str(tmp_path / "fold*"), "tta": "true"}
    run(bundle, "inference", "ensemble_inference", **options, **knobs, output_dir=str(tmp_path / "mean"))
    reference = {"network": Members(members, [(), (2,), (3,), (2, 3)]), "initialize": []}
    run(bundle, "inference", **options, **reference, output_dir=str(tmp_path / "members"))
    assert np.mean(labels(tmp_path / "mean") != labels(tmp_path / "members")) < 1e-3  # sums in another order


@pytest.mark.parametrize("bundle", BUNDLES)
def test_inference_uses_the_folds_of_a_cross_validation(bundle, tmp_path):
    """Their mean, and of the class that was decided on its largest component alone."""
    members = networks(bundle, tmp_path)
    models = tmp_path / "models"
    models.mkdir()
    for k in (0, 1):
        (tmp_path / f"fold{k}" / "model.pt").rename(models / f"fold{k}.pt")
    options = {**small(bundle), "dataset_dir": str(source_of(bundle, tmp_path)), "ckpt_dir": str(models)}
    content = {"checkpoints": ["fold0.pt", "fold1.pt"], "largest_component": []}
    (models / "crossval.json").write_text(json.dumps(content))
    run(bundle, "inference", **options, output_dir=str(tmp_path / "folds"))
    expected = labels(tmp_path / "folds").copy()
    reference = {"network": Members(members, [()]), "initialize": [], "ckpt_path": str(models / "fold0.pt")}
    run(bundle, "inference", **options, **reference, output_dir=str(tmp_path / "members"))
    assert np.mean(expected != labels(tmp_path / "members")) < 1e-3  # sums in another order
    around = np.ones([3] * expected.ndim)
    parts = {k: ndimage.label(expected == k, around) for k in np.unique(expected).tolist() if k}
    kept = max(parts, key=lambda k: parts[k][1])
    sizes = np.bincount(parts[kept][0].ravel())[1:]
    assert len(sizes) > 1 or bundle.startswith("qtseg")  # whose random labels hang together
    largest = [parts[kept][0] == 1 + k for k in np.flatnonzero(sizes == sizes.max())]  # of equal ones either will do
    (models / "crossval.json").write_text(json.dumps({**content, "largest_component": [kept]}))
    run(bundle, "inference", **options, output_dir=str(tmp_path / "decided"))
    found = labels(tmp_path / "decided")
    assert any((found == np.where((expected == kept) & ~part, 0, expected)).all() for part in largest)


@pytest.mark.parametrize("bundle", PARALLEL)
def test_one_checkpoint_as_without_the_overlay(bundle, tmp_path):
    networks(bundle, tmp_path)
    options = {**small(bundle), "dataset_dir": str(source_of(bundle, tmp_path))}
    one = {**options, "ckpt_path": str(tmp_path / "fold0" / "model.pt")}
    run(bundle, "inference", "ensemble_inference", **one, tta="false", output_dir=str(tmp_path / "one"))
    run(bundle, "inference", **one, precision="float32", output_dir=str(tmp_path / "plain"))  # as averages are
    knobs = {"ckpt_paths": str(tmp_path / "fold*")}
    run(bundle, "inference", "ensemble_inference", **options, **knobs, output_dir=str(tmp_path / "both"))
    assert np.mean(labels(tmp_path / "one") != labels(tmp_path / "plain")) < 1e-3  # logits, or their logarithms
    assert (labels(tmp_path / "both") != labels(tmp_path / "one")).any()


@pytest.fixture(scope="module", params=PARALLEL)
def members(request, tmp_path_factory):
    """A bundle, its data, a folder of two checkpoints, and its small options."""
    bundle, folder = request.param, tmp_path_factory.mktemp(request.param)
    networks(bundle, folder)
    if bundle in PICTURES:
        write_phantom(dataset_of(bundle), folder / "data", 16)
    else:
        write_acdc(folder / "data", [1, 2, 15, 17, 18, 19])
    return bundle, {**small(bundle), "dataset_dir": str(folder / "data"), "ckpt_dir": str(folder)}


def test_evaluation_by_one_process_and_by_two(members, tmp_path):
    bundle, options = members
    knobs = {"ckpt_paths": options["ckpt_dir"], "tta": True}
    run(bundle, "train", "evaluate", "ensemble_inference", **options, **knobs, output_dir=str(tmp_path / "one"))
    summary = json.loads((tmp_path / "one" / "summary.json").read_text())
    assert [Path(name).parent.name for name in summary["checkpoint"]] == ["fold0", "fold1"]
    single = {**options, "ckpt_path": f"{options['ckpt_dir']}/fold0/model.pt"}
    run(bundle, "train", "evaluate", **single, output_dir=str(tmp_path / "single"))
    tables = {name: list(csv.reader((tmp_path / name / "metrics.csv").open())) for name in ("one", "single")}
    assert tables["one"] != tables["single"]
    if bundle in PICTURES:  # that processes share cases out need not be tried with every network
        return
    names = ["train", "evaluate", "multi_gpu_evaluate", "ensemble_inference"]
    done = torchrun(bundle, names, **options, **knobs, output_dir=tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert list(csv.reader((tmp_path / "two" / "metrics.csv").open())) == tables["one"]


def test_errors_come_before_work(members, tmp_path):
    bundle, options = members
    torch.save(torch.nn.Conv2d(1, 5, 1).state_dict(), tmp_path / "other.pt")
    out = {**options, "output_dir": str(tmp_path / "out")}
    good = f"{options['ckpt_dir']}/fold0/model.pt"
    for ckpt_paths, words in (
        ([good, str(tmp_path / "other.pt")], r"other\.pt: its weights do not fit"),
        ([good, str(tmp_path / "none.pt")], r"none\.pt: no such weights file"),
        ([], "no checkpoint is given"),
    ):
        with pytest.raises(RuntimeError) as caught:
            run(bundle, "inference", "ensemble_inference", **out, ckpt_paths=ckpt_paths)
        cause: BaseException = caught.value
        while cause.__cause__ is not None:
            cause = cause.__cause__
        assert re.search(f"^monai_ext: .*{words}", str(cause))
    assert not (tmp_path / "out").exists()


def test_the_command_line(tmp_path):
    """As typed: a pattern, a lower-case true, and the last line of what fails."""
    bundle = "unet_dca_synapse"
    networks(bundle, tmp_path)
    scan = source_of(bundle, tmp_path)
    overlay = str(config(bundle, "inference", "ensemble_inference"))
    options = ["--image_size", "[32,32]", "--num_workers", "0", "--dataset_dir", str(scan), "--tta", "true"]
    options += ["--output_dir", str(tmp_path), "--ckpt_paths"]
    done = command("run", "--config_file", overlay, *options, f"{tmp_path}/fold*/model.pt")
    assert done.returncode == 0, done.stderr
    assert labels(tmp_path).shape == nibabel.load(scan).shape
    done = command("run", "--config_file", overlay, *options, f"{tmp_path}/nofold*/model.pt")
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1].startswith(f"monai_ext: {tmp_path}/nofold*/model.pt: no weights there")
