# SPDX-License-Identifier: Apache-2.0
"""Studies shared out among processes: the labels of one process, one record, and what the end of one of them costs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch.distributed as dist
from torch.utils.data import Dataset

from monai_ext.apps import segmentation
from monai_ext.apps.segmentation import segment
from monai_ext.bundle import join_processes
from monai_ext.data import CaseLoader
from monai_ext.networks.nets import DCAUNet
from tests.bundles.runs import ROOT, config, write_weights
from tests.data.volumes import save, volume

TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
KNOBS = ["--image_size", "[32,32]", "--num_workers", "0"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "0.pt", DCAUNet(2, 1, 9))


def scans(folder: Path, count: int, shape: tuple[int, ...] = (24, 20, 6)) -> Path:
    for k in range(count):
        save(folder / f"scan{k:02d}.nii.gz", volume(k, shape)[0])
    return folder


def command(source: Path, output: Path, weights: Path) -> list[str]:
    words = ["--bundle", "dcaunet_synapse", "--input", str(source), "--output", str(output)]
    return [*TWO, "monai_ext", "segment", *words, "--checkpoint", str(weights), *KNOBS]


def labels(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(nibabel.load(path).dataobj) for path in folder.glob("*_seg.nii.gz")}


def cases(folder: Path) -> list[str]:
    return [case["case"] for case in json.loads((folder / "run_inference.json").read_text())["cases"]]


def test_two_processes_give_the_labels_of_one(weights, tmp_path):
    source = scans(tmp_path / "in", 3)
    (source / "bad.nii.gz").write_bytes(b"no scan")
    two = tmp_path / "two"
    done = subprocess.run(command(source, two, weights), cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 1  # of all, when all are done
    assert done.stderr.count("monai_ext: 1 of 4 cases failed: ") == 2
    assert sorted(done.stdout.split()) == [str(two / f"scan{k:02d}_seg.nii.gz") for k in range(3)]
    (source / "bad.nii.gz").unlink()
    one = segment("dcaunet_synapse", source, tmp_path / "one", [weights], image_size=[32, 32], num_workers=0)
    expected, found = labels(tmp_path / "one"), labels(two)
    assert found.keys() == expected.keys() == {path.name for path in one}
    for name, label in expected.items():
        np.testing.assert_array_equal(found[name], label)
    assert cases(two) == ["bad", "scan00", "scan01", "scan02"]
    assert not [path for path in two.iterdir() if path.name.startswith(".")]
    # each noted its own; one process knows what both have done
    notes = sorted(path.name for path in two.glob("*.jsonl"))
    assert notes == ["run_inference_labels.1.jsonl", "run_inference_labels.jsonl"]
    again = segment("dcaunet_synapse", source, two, [weights], image_size=[32, 32], num_workers=0)
    assert (len(again), again.written) == (3, [])


def test_the_bundle_s_own_inference(weights, tmp_path):
    source = scans(tmp_path / "in", 3)
    words = ["monai.bundle", "run", "--config_file", *config("dcaunet_synapse", "inference"), *KNOBS]
    words += ["--dataset_dir", str(source), "--output_dir", str(tmp_path / "two"), "--ckpt_path", str(weights)]
    done = subprocess.run([*TWO, *words], cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    segment("dcaunet_synapse", source, tmp_path / "one", [weights], image_size=[32, 32], num_workers=0)
    expected, found = labels(tmp_path / "one"), labels(tmp_path / "two")
    assert found.keys() == expected.keys()
    assert all((found[name] == label).all() for name, label in expected.items())
    assert cases(tmp_path / "two") == ["scan00", "scan01", "scan02"]


@pytest.mark.slow
def test_the_end_of_one_process_costs_its_current_study(weights, tmp_path):
    source, output = scans(tmp_path / "in", 30, (96, 96, 40)), tmp_path / "out"
    process = subprocess.Popen(
        command(source, output, weights), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    other = output / "run_inference_labels.1.jsonl"
    try:
        deadline = time.monotonic() + 300
        while not (other.is_file() and other.read_text().count("\n") >= 2):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        before = {path: path.stat().st_mtime_ns for path in output.glob("*_seg.nii.gz")}
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        (second,) = (pid for pid in workers if b"RANK=1" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
        os.kill(int(second), signal.SIGKILL)
        told = process.communicate(timeout=300)[0]
    finally:
        process.kill()
        process.wait()
    assert process.returncode, told
    made = labels(output)
    assert len(before) <= len(made) < 30
    again = subprocess.run(command(source, output, weights), cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(labels(output)) == len(again.stdout.split()) == 30
    assert len(cases(output)) == 30
    assert not [path for path in output.iterdir() if path.name.startswith(".")]
    noted = "".join(path.read_text() for path in output.glob("*.jsonl"))
    assert 30 <= noted.count("\n") <= 32  # at most what each was at when it ended is done twice


@pytest.fixture
def alone(tmp_path):
    """A group of one process."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_a_process_that_is_told_to_end_finishes_its_case(alone):
    with pytest.raises(SystemExit) as ended, segmentation._finishing() as stop_if_asked:
        os.kill(os.getpid(), signal.SIGTERM)
        done = True
        stop_if_asked()
    assert done
    assert ended.value.code == 128 + signal.SIGTERM


def test_each_case_is_one_process_s(monkeypatch):
    class Cases(Dataset):
        data = [{"image": f"{k}"} for k in range(5)]

        def __len__(self):
            return len(self.data)

        def __getitem__(self, index):
            return {"number": index}

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        shares.append([int(batch["number"]) for batch in CaseLoader(Cases(), batch_size=1)])
    assert shares == [[0, 2, 4], [1, 3]]


def test_half_an_environment(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=r"^monai_ext: WORLD_SIZE is 2, but RANK, MASTER_ADDR, MASTER_PORT is not set"):
        join_processes()
