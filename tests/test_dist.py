# SPDX-License-Identifier: Apache-2.0
"""The wheel, installed apart from any checkout: its bundles are listed, copied, trained, used, and never written to."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.bundles.runs import BUNDLES, ROOT
from tests.data.volumes import save, volume

SMALL = ["--epochs", "1", "--batch_size", "8", "--image_size", "[32,32]", "--num_workers", "0"]


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    """A wheel and an sdist, built from a copy: a build leaves folders in its source."""
    folder = tmp_path_factory.mktemp("dist")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, os.fsdecode(tracked).split("\0")):
        if (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(folder / "source")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def installed(dist) -> Path:
    (wheel,) = dist.glob("*.whl")
    site = dist / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True)
    return site


def run(installed: Path, cwd: Path, *words: str) -> str:
    home = cwd / "home"  # caches and results of a user who has none yet
    home.mkdir(exist_ok=True)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("XDG_")}
    environment |= {
        "PYTHONPATH": str(installed),
        "HOME": str(home),
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-W", "ignore", *words]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


def test_what_travels(dist):
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for bundle in BUNDLES:
        inside = {name.partition(f"bundles/{bundle}/")[2] for name in names if f"bundles/{bundle}/" in name}
        tracked = subprocess.run(["git", "ls-files", f"bundles/{bundle}"], cwd=ROOT, capture_output=True, text=True)
        assert inside == {name.partition(f"bundles/{bundle}/")[2] for name in tracked.stdout.split()}
    page = subprocess.run(["git", "ls-files", "monai_ext/apps/view/page"], cwd=ROOT, capture_output=True, text=True)
    assert {"monai_ext/apps/view/page/LICENSE.niivue"} < set(page.stdout.split()) <= set(names)
    assert not [name for name in names if name.endswith((".pt", ".pyc")) or name.startswith(("tests", "benchmarks"))]
    with tarfile.open(sdist) as archive:
        kept = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.py", "constraints.txt", "Makefile", "LICENSE", "tests/test_docs.py", "docs/index.md"} <= kept
    assert {f"bundles/{bundle}/configs/train.json" for bundle in BUNDLES} <= kept


@pytest.mark.slow
def test_outside_any_checkout(installed, tmp_path):
    before = files(installed)
    where = run(installed, tmp_path, "-c", "import monai_ext; print(monai_ext.__file__)")
    assert Path(where.strip()).is_relative_to(installed)
    listed = run(installed, tmp_path, "-m", "monai_ext", "bundles")
    assert [line.split()[0] for line in listed.splitlines()[2:11]] == BUNDLES

    # a copy to edit, under a name of its own; with MONAI's command on the phantom's layout
    run(installed, tmp_path, "-m", "monai_ext", "bundles", "copy", "dcaunet_synapse", "mine")
    run(installed, tmp_path, "-m", "monai_ext", "phantom", "synapse", "data", "--cases", "6")
    train = ["-m", "monai.bundle", "run", "--dataset_dir", "data", *SMALL, "--config_file"]
    run(installed, tmp_path, *train, "mine/configs/train.json")
    assert (tmp_path / "mine" / "models" / "model.pt").is_file()

    # the bundle that is in the package itself: what it makes lies with the user
    run(installed, tmp_path, *train, str(installed / "monai_ext/bundles/dcaunet_synapse/configs/train.json"))
    (made,) = (tmp_path / "home").rglob("model.pt")

    image, affine = volume(seed=1, shape=(20, 18, 5))[0], np.diag([2.0, -2.0, 5.0, 1.0])
    save(tmp_path / "scan.nii.gz", image, affine)
    segment = ["-m", "monai_ext", "segment", "--input", "scan.nii.gz", "--num_workers", "0"]
    run(installed, tmp_path, *segment, "--bundle", "dcaunet_synapse", "--output", "a")
    run(installed, tmp_path, *segment, "--bundle", "mine", "--checkpoint", str(made), "--output", "b")
    first, second = (nibabel.load(tmp_path / name / "scan_seg.nii.gz") for name in "ab")
    assert first.shape == image.shape
    np.testing.assert_allclose(first.affine, affine, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(first.dataobj), np.asarray(second.dataobj))

    raw = Path("data/RawData/Training")
    new = ["--images", str(raw / "img"), "--labels", str(raw / "label"), "--bundle", "unet_dca_synapse"]
    run(installed, tmp_path, "-m", "monai_ext", "new", "--name", "own", *new)
    assert (tmp_path / "bundles" / "own" / "configs" / "train.json").is_file()
    assert files(installed) == before


def test_copies_are_whole_or_not_there(tmp_path, monkeypatch):
    from monai_ext.apps.commands import COMMANDS

    COMMANDS["bundles"]("copy", "qtseg_busi", str(tmp_path / "a"))
    source = ROOT / "bundles" / "qtseg_busi"
    copied = {path.relative_to(tmp_path / "a") for path in files(tmp_path / "a") if path.is_file()}
    assert copied == {path.relative_to(source) for part in ("configs", "docs") for path in files(source / part)} | {
        Path("LICENSE")
    }
    with pytest.raises(FileExistsError, match="is there already"):
        COMMANDS["bundles"]("copy", "qtseg_busi", str(tmp_path / "a"))
    with pytest.raises(ValueError, match="bundles copy NAME DIR"):
        COMMANDS["bundles"]("copy", "qtseg_busi")
    with pytest.raises(FileNotFoundError, match="no bundle 'qtseg_bus'"):
        COMMANDS["bundles"]("copy", "qtseg_bus", str(tmp_path / "b"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]
