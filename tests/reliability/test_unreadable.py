# SPDX-License-Identifier: Apache-2.0
"""One damaged scan among many: the others are segmented, the end says which is missing."""

from __future__ import annotations

import json
import subprocess
import sys

import nibabel
import numpy as np
import pytest
import torch
from ignite.handlers import ProgressBar
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, ScaleIntensityRanged

from monai_ext.__main__ import main
from monai_ext.apps import SegmentationReport
from monai_ext.data import CaseLoader, UnreadableCasesError, VolumeReader, find_images
from monai_ext.networks.nets import DCAUNet
from monai_ext.transforms import CheckVolumed
from tests.bundles.runs import ROOT, config, write_weights
from tests.data.volumes import save, volume


def folder_of(tmp_path, good: int, bad: tuple[int, ...]):
    for k in range(good + len(bad)):
        path = save(tmp_path / "scans" / f"scan{k}.nii.gz", volume(k)[0])
        if k in bad:
            path.write_bytes(path.read_bytes()[:-500])
    return tmp_path / "scans"


def loader_of(folder, workers: int) -> CaseLoader:
    load = Compose([LoadImaged("image", reader=VolumeReader), EnsureChannelFirstd("image")])
    return CaseLoader(Dataset(find_images(folder), load), batch_size=1, num_workers=workers)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("bad", [(), (0,), (3,), (6,), (0, 1, 2, 3, 4, 5, 6)])
def test_each_readable_case_comes_once(tmp_path, workers, bad):
    loader = loader_of(folder_of(tmp_path, 7 - len(bad), bad), workers)
    seen = []
    evaluator = SupervisedEvaluator(
        torch.device("cpu"),
        loader,
        torch.nn.Identity(),
        postprocessing=lambda item: seen.append(item["image"].meta["filename_or_obj"]) or item,
        val_handlers=[ProgressBar(), loader],
    )
    for _ in range(2):  # and again: nothing is left over from the first run
        seen.clear()
        evaluator.run()
        names = [f"scan{k}.nii.gz" for k in range(7) if k not in bad]
        assert [name.rpartition("/")[2] for name in seen] == names
        assert [name.rpartition("/")[2] for name, _ in loader.failed] == [f"scan{k}.nii.gz" for k in bad]
    if bad:
        with pytest.raises(UnreadableCasesError, match=f"^monai_ext: {len(bad)} of 7 cases failed: .*cut off"):
            loader.raise_failed()
    else:
        loader.raise_failed()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "model.pt", DCAUNet(2, 1, 9))


def test_inference_writes_the_others_and_ends_with_one_line(tmp_path, weights):
    folder = folder_of(tmp_path, 2, (1,))
    arguments = ["--dataset_dir", folder, "--output_dir", tmp_path / "out", "--ckpt_path", weights]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", *config("dcaunet_synapse", "inference")]
    done = subprocess.run(
        [*command, *map(str, arguments), "--image_size", "[32,32]", "--num_workers", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"monai_ext: 1 of 3 cases failed: {folder / 'scan1.nii.gz'}: cannot be read")
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == [
        "scan0_seg.nii.gz",
        "scan2_seg.nii.gz",
    ]


def test_segment_writes_the_others_and_ends_with_one_line(tmp_path, weights, monkeypatch, capsys):
    folder = folder_of(tmp_path, 2, (1,))
    # names that are expressions to a config
    (folder / "scan0.nii.gz").rename(folder / "$print(1) or @network.nii.gz")
    monkeypatch.chdir(folder)
    arguments = ["segment", "dcaunet_synapse", ".", str(tmp_path / "out"), "--checkpoint", str(weights)]
    monkeypatch.setattr(sys, "argv", ["monai_ext", *arguments, "--image_size", "[32,32]", "--num_workers", "0"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert str(ended.value.code).startswith("monai_ext: 1 of 3 cases failed: scan1.nii.gz: cannot be read")
    made = sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz"))
    assert made == ["$print(1) or @network_seg.nii.gz", "scan2_seg.nii.gz"]
    assert capsys.readouterr().out.split("\n")[:2] == [str(tmp_path / "out" / name) for name in made]
    for name in made:
        assert np.asarray(nibabel.load(tmp_path / "out" / name).dataobj).shape == (24, 20, 6)


def test_a_scan_of_another_modality_is_noted_in_the_report(tmp_path):
    image, label = volume(3)
    source = save(tmp_path / "scan.nii.gz", image - image.min())  # no value below 0, as in MR
    load = Compose(
        [
            LoadImaged("image", reader=VolumeReader),
            EnsureChannelFirstd("image"),
            CheckVolumed("image", "CT"),
            ScaleIntensityRanged("image", -125, 275, 0, 1, clip=True),
        ]
    )
    truth = torch.from_numpy(label % 2)[None]
    cases = [{**load({"image": str(source)}), "label": truth, "case_id": "7"}]
    evaluator = SupervisedEvaluator(
        torch.device("cpu"),
        DataLoader(cases, batch_size=1),
        torch.nn.Identity(),
        postprocessing=lambda item: {**item, "pred": item["label"]},
        val_handlers=[SegmentationReport(str(tmp_path / "out"), ["organ"])],
    )
    evaluator.run()
    notes = json.loads((tmp_path / "out" / "summary.json").read_text())["notes"]
    assert [note for note in notes if note.startswith("Case 7: does not look like CT: values from 0")]
    assert "does not look like CT" in (tmp_path / "out" / "report.html").read_text()
