# SPDX-License-Identifier: Apache-2.0
"""What a folder of scans becomes: which labels, their names, and what a stop, a bad case or a second start costs."""

from __future__ import annotations

import errno
import importlib.util
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from monai_ext.apps import segmentation
from monai_ext.apps.commands.export import export_bundle
from monai_ext.apps.segmentation import segment
from monai_ext.bundle import plain_cause, stamp, trained_with
from monai_ext.data import UnreadableCasesError, find_images, find_pictures
from monai_ext.data.files import writers
from monai_ext.networks.nets import DCAUNet, UNetDCA
from tests.bundles.runs import ROOT, write_weights
from tests.data.volumes import save, volume
from tests.dicom import write_ct_series

AFFINE = np.diag([-2.0, -2.0, 5.0, 1.0])
SMALL = {"image_size": [32, 32], "num_workers": 0}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Untrained weights whose classes all occur, and others."""
    folder = tmp_path_factory.mktemp("weights")
    for seed in (0, 1):
        write_weights(folder / f"{seed}.pt", DCAUNet(2, 1, 9), seed)
    return folder


def scans(folder: Path, count: int) -> Path:
    for k in range(count):
        save(folder / f"scan{k}.nii.gz", volume(k)[0])
    return folder


def names(folder: Path) -> list[str]:
    """What a user sees in a folder beside the records, and all that is hidden."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("run_inference"))


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def run(source: Path, output: Path, weights: Path, **more):
    return segment("dcaunet_synapse", source, output, [weights / f"{more.pop('seed', 0)}.pt"], **{**SMALL, **more})


def test_everything_below_a_folder_is_found_and_named_with_its_folders(weights, tmp_path):
    """Case 20, and one folder a patient, two folders deep, a link, and what is to be passed over."""
    source = tmp_path / "in"
    save(source / "p1.nii.gz", volume(0)[0])
    write_ct_series(source / "p2", volume(1)[0], AFFINE)
    write_ct_series(source / "p3" / "study" / "1.2.840.1", volume(2)[0], AFFINE)
    write_ct_series(source / "p3" / "study" / "1.2.840.2", volume(3)[0], AFFINE)
    save(source / "p4" / "ct.nii.gz", volume(4)[0])
    save(source / "p5" / "ct.nii.gz", volume(5)[0])
    (source / "p6").symlink_to(source / "p4")
    (source / "p5" / "round").symlink_to(source)
    save(source / ".hidden.nii.gz", volume(6)[0])
    (source / "p4" / "._ct.nii.gz").write_bytes(b"macOS")
    labels = run(source, tmp_path / "out", weights)
    assert labels.failed == []
    assert names(tmp_path / "out") == [
        "p1_seg.nii.gz",
        "p2_seg.nii.gz",
        "p3_study_1.2.840.1_seg.nii.gz",
        "p3_study_1.2.840.2_seg.nii.gz",
        "p4_ct_seg.nii.gz",
        "p5_ct_seg.nii.gz",
        "p6_ct_seg.nii.gz",
    ]
    assert [path.name for path in labels] == names(tmp_path / "out")
    for name, place in {
        "p2": "p2",
        "p3_study_1.2.840.1": "p3/study/1.2.840.1",
        "p3_study_1.2.840.2": "p3/study/1.2.840.2",
        "p4_ct": "p4/ct.nii.gz",
        "p5_ct": "p5/ct.nii.gz",
    }.items():  # each is the label of its own scan
        (alone,) = run(source / place, tmp_path / "alone", weights, overwrite=True)
        assert np.array_equal(voxels(tmp_path / "out" / f"{name}_seg.nii.gz"), voxels(alone))


def test_labels_are_not_taken_for_scans(weights, tmp_path, caplog):
    """Case 34: the output is the input, in two runs; and a label under another name, by its note."""
    source = scans(tmp_path, 2)
    run(source / "scan0.nii.gz", source / "other.nii.gz", weights)
    for _ in range(2):
        labels = run(source, source, weights, overwrite=True)
        assert [path.name for path in labels] == ["scan0_seg.nii.gz", "scan1_seg.nii.gz"]
    assert {path.name for path in labels.skipped} == {"other.nii.gz", "scan0_seg.nii.gz", "scan1_seg.nii.gz"}
    assert "passed over as labels of earlier runs: other.nii.gz, scan0_seg.nii.gz, scan1_seg.nii.gz." in caplog.text
    save(source / "other.nii.gz", volume(2)[0])  # a scan now
    assert run(source, source, weights)[0].name == "other_seg.nii.gz"


def test_pictures_below_a_folder(tmp_path):
    for name in ("a.png", "b/a.png", "b/c/a.JPG", "a_seg.png", "b/.x.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name, format="PNG")
    found = {case["case_id"]: case["image"] for case in find_pictures(tmp_path)}
    assert found == {
        "a": f"{tmp_path}/a.png",
        "b_a": f"{tmp_path}/b/a.png",
        "b_c_a": f"{tmp_path}/b/c/a.JPG",
    }


def test_two_images_for_one_name_are_refused_before_any_work(tmp_path):
    save(tmp_path / "p" / "ct.nii.gz", volume(0)[0])
    save(tmp_path / "p_ct.nii.gz", volume(0)[0])
    with pytest.raises(ValueError, match=r"p/ct\.nii\.gz and p_ct\.nii\.gz would have one label file"):
        find_images(tmp_path)


def test_a_second_start_does_what_is_missing(weights, tmp_path):
    source, out = scans(tmp_path / "in", 3), tmp_path / "out"
    first = run(source, out, weights)
    assert (len(first.written), first.kept) == (3, [])
    expected = {path: path.read_bytes() for path in first}
    first[1].unlink()
    save(source / "scan3.nii.gz", volume(3)[0])
    second = run(source, out, weights, num_workers=1)  # a knob that changes no label
    assert second.written == [out / "scan1_seg.nii.gz", out / "scan3_seg.nii.gz"]
    assert second.kept == [out / "scan0_seg.nii.gz", out / "scan2_seg.nii.gz"]
    assert second == [out / f"scan{k}_seg.nii.gz" for k in range(4)]
    assert {path: path.read_bytes() for path in first} == expected
    record = json.loads((out / "run_inference.json").read_text())
    assert [case["case"] for case in record["cases"]] == ["scan0", "scan1", "scan2", "scan3"]
    assert [case["case_id"] for case in record["config"]["dataset"]["data"]] == ["scan0", "scan1", "scan2", "scan3"]


@pytest.mark.parametrize("change", ["weights", "knob", "image", "label", "notes"])
def test_what_is_not_of_the_same_run_is_there_already(weights, tmp_path, change):
    source, out = scans(tmp_path / "in", 1), tmp_path / "out"
    (label,) = run(source, out, weights)
    more = {}
    if change == "weights":
        more["seed"] = 1
    elif change == "knob":
        more["mirror"] = True
    elif change == "image":
        save(source / "scan0.nii.gz", volume(7)[0])
    elif change == "label":
        save(label, volume(0)[1])
    else:
        (out / "run_inference_labels.jsonl").write_text('{"name": "scan0_seg.nii.gz", "label": 3}\n[]\n{"na')
    before = label.read_bytes()
    with pytest.raises(FileExistsError, match=r"scan0_seg\.nii\.gz: is there already.*--overwrite"):
        run(source, out, weights, **more)
    assert label.read_bytes() == before
    assert run(source, out, weights, overwrite=True, **more).written == [label]
    assert run(source, out, weights, **more).kept == [label]  # the notes are whole again


def test_a_bad_case_costs_itself_only(weights, tmp_path):
    """Names that are patterns or expressions, too long a name, a folder in the way, a damaged scan: one run."""
    source, out = tmp_path / "in", tmp_path / "out"
    good = ["a::b", "st*r", "[1]", "$1+1", "@network", "%w", "a, b", "x" * 240]
    for name in good:
        save(source / f"{name}.nii.gz", volume(0)[0])
    long = "y" * 247
    save(source / f"{long}.nii", volume(0)[0])
    save(source / "folder.nii.gz", volume(0)[0])
    (out / "folder_seg.nii.gz").mkdir(parents=True)
    (source / "damaged.nii.gz").write_bytes((source / "$1+1.nii.gz").read_bytes()[:-300])
    labels = run(source, out, weights)
    assert {path.name for path in labels} == {f"{name}_seg.nii.gz" for name in good}
    reasons = {Path(image).name: reason for image, reason in labels.failed}
    assert set(reasons) == {f"{long}.nii", "folder.nii.gz", "damaged.nii.gz"}
    assert "the label's name would have 258 bytes" in reasons[f"{long}.nii"]
    assert reasons["folder.nii.gz"].endswith("folder_seg.nii.gz: is a folder, expected the place of a label file.")
    assert "damaged.nii.gz: cannot be read" in reasons["damaged.nii.gz"]
    assert all(reason.startswith("monai_ext: ") for reason in reasons.values())
    with pytest.raises(UnreadableCasesError, match="^monai_ext: 3 of 11 cases failed: "):
        labels.check()
    assert not [name for name in names(out) if name.startswith(".")]
    record = json.loads((out / "run_inference.json").read_text())
    hashes = {case["case"]: case["image"] for case in record["cases"]}
    assert len({hashes[name] for name in good}) == 1


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_label_that_cannot_be_put_in_its_place_costs_that_case(weights, tmp_path, monkeypatch, number):
    replace = os.replace

    def refuse(source, target):
        if str(target).endswith("out/scan1_seg.nii.gz"):
            raise OSError(number, os.strerror(number), str(target))
        replace(source, target)

    monkeypatch.setattr(segmentation.os, "replace", refuse)
    labels = run(scans(tmp_path / "in", 3), tmp_path / "out", weights)
    assert [path.name for path in labels] == ["scan0_seg.nii.gz", "scan2_seg.nii.gz"]
    assert labels.failed[0][1].startswith(f"monai_ext: {tmp_path}/out/scan1_seg.nii.gz: permission denied")
    assert names(tmp_path / "out") == ["scan0_seg.nii.gz", "scan2_seg.nii.gz"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_disk_that_is_full_ends_the_run_with_what_is_finished(weights, tmp_path, monkeypatch, number):
    written = []

    def to_filename(self, filename, **kwargs):
        if len(written) == 2:
            Path(filename).write_bytes(b"half")
            raise OSError(number, os.strerror(number))
        written.append(filename)
        nibabel.Nifti1Image.to_filename(self, filename, **kwargs)

    source, out = scans(tmp_path / "in", 4), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(writers._Nifti, "to_filename", to_filename)
        with pytest.raises(ValueError, match=rf"^monai_ext: {out}/.*finished labels are kept") as ended:
            run(source, out, weights)
    assert len(str(ended.value).splitlines()) == 1
    assert "--resume" not in str(ended.value)
    assert names(out) == ["scan0_seg.nii.gz", "scan1_seg.nii.gz"]
    again = run(source, out, weights)
    assert [path.name for path in again.written] == ["scan2_seg.nii.gz", "scan3_seg.nii.gz"]
    assert names(out) == [f"scan{k}_seg.nii.gz" for k in range(4)]


# starts segment, and stops itself with a signal while label number STOP is written, or between its note and its name
CHILD = """
import os, sys, signal, monai_ext.__main__ as cli
from monai_ext.apps import segmentation
number, place, stop = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
# what started the tests may ignore them, as nohup does
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
count = 0
def stopping(function):
    def call(*args, **kwargs):
        global count
        count += place != "name" or str(args[1]).endswith("out/scan2_seg.nii.gz")
        if count == (1 if place == "name" else stop):
            os.kill(os.getpid(), number)
        return function(*args, **kwargs)
    return call
if place == "name":
    segmentation.os.replace = stopping(os.replace)
elif place == "note":
    segmentation.note_label = stopping(segmentation.note_label)
else:
    from monai_ext.data.files import writers
    writers._Nifti.to_filename = stopping(writers._Nifti.to_filename)
sys.argv = ["monai_ext", *sys.argv[4:]]
cli.main()
"""


def stopped(number: int, place: str, stop: int, arguments: list[str], **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(CHILD), str(int(number)), place, str(stop)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, **options)


@pytest.mark.parametrize(
    ("number", "place", "workers"),
    [
        (signal.SIGKILL, "write", 0),
        (signal.SIGKILL, "name", 1),
        (signal.SIGKILL, "note", 0),
        (signal.SIGTERM, "write", 1),
        (signal.SIGHUP, "name", 0),
        (signal.SIGINT, "write", 0),
    ],
)
def test_a_stop_at_the_third_of_four_labels(weights, tmp_path, number, place, workers):
    source, out = scans(tmp_path / "in", 4), tmp_path / "out"
    arguments = ["segment", "dcaunet_synapse", str(source), str(out), "--checkpoint", str(weights / "0.pt")]
    arguments += ["--image_size", "[32,32]", "--num_workers", str(workers)]
    done = stopped(number, place, 3, arguments)
    assert done.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGINT: 1}[number]
    visible = [name for name in names(out) if not name.startswith(".")]
    assert visible == ["scan0_seg.nii.gz", "scan1_seg.nii.gz"]
    assert [voxels(out / name).shape for name in visible] == [(24, 20, 6)] * 2
    if number != signal.SIGKILL:
        assert names(out) == visible
        assert "monai_ext: stopped." in done.stderr
    first = {name: (out / name).stat().st_mtime_ns for name in visible}
    deadline = time.monotonic() + 60  # a worker that is left may hold on for some seconds
    while True:
        try:
            labels = run(source, out, weights)
            break
        except BlockingIOError:
            assert time.monotonic() < deadline
            time.sleep(0.5)
    assert [path.name for path in labels.written] == ["scan2_seg.nii.gz", "scan3_seg.nii.gz"]
    assert {name: (out / name).stat().st_mtime_ns for name in visible} == first
    assert names(out) == [f"scan{k}_seg.nii.gz" for k in range(4)]


def test_two_at_once_in_one_folder(weights, tmp_path):
    """The second is told; the first is not disturbed."""
    source, out = scans(tmp_path / "in", 2), tmp_path / "out"
    with segmentation.locked(out, segmentation.LOCK):
        code = f"""
            import sys, monai_ext.__main__ as cli
            sys.argv = ["monai_ext", "segment", "dcaunet_synapse", {str(source)!r}, {str(out)!r},
                        "--checkpoint", {str(weights / "0.pt")!r}]
            cli.main()
        """
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"monai_ext: {out}: in use by process {os.getpid()} on ")
    assert names(out) == []
    assert len(run(source, out, weights)) == 2


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_workers_of_every_start_method(weights, tmp_path, method):
    source, out = scans(tmp_path / "in", 2), tmp_path / "out"
    code = f"""
        import multiprocessing, sys
        import monai_ext.__main__ as cli
        if __name__ == "__main__":
            multiprocessing.set_start_method({method!r})
            sys.argv = ["monai_ext", "segment", "dcaunet_synapse", {str(source)!r}, {str(out)!r}, "--num_workers", "1",
                        "--checkpoint", {str(weights / "0.pt")!r}, "--image_size", "[32,32]"]
            cli.main()
    """
    script = tmp_path / "start.py"
    script.write_text(textwrap.dedent(code))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-W", "ignore", script], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "without workers" not in done.stderr
    assert names(out) == ["scan0_seg.nii.gz", "scan1_seg.nii.gz"]
    plain = run(source, tmp_path / "plain", weights)
    for path in plain:
        assert np.array_equal(voxels(path), voxels(out / path.name))


@pytest.mark.parametrize("place", ["output", "checkpoint"])
def test_paths_that_are_expressions_to_a_config(weights, tmp_path, monkeypatch, place):
    monkeypatch.chdir(scans(tmp_path, 1))
    for name in ("$1+1", "%w.pt", "@device"):
        if place == "checkpoint":
            Path(name).write_bytes((weights / "0.pt").read_bytes())
            labels = segment("dcaunet_synapse", "scan0.nii.gz", "out", [name], overwrite=True, **SMALL)
            assert labels == [Path("out/scan0_seg.nii.gz")]
        else:
            labels = segment("dcaunet_synapse", "scan0.nii.gz", name, [weights / "0.pt"], **SMALL)
            assert labels == [Path(name, "scan0_seg.nii.gz")]
        assert labels[0].is_file()


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """One network, by its weights and in each format, with a size and a window of its own in the file."""
    folder = tmp_path_factory.mktemp("exports")
    torch.manual_seed(0)
    network = UNetDCA(2, 1, 9, features=(8, 16), attention=False)
    for parameter in network.parameters():  # several classes occur
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter)
    state = stamp(network.state_dict(), {"image_size": [48, 32], "intensity_window": [-50, 150]})
    torch.save(state, folder / "model.pt")
    bundle = shutil.copytree(ROOT / "bundles" / "unet_dca_synapse" / "configs", folder / "bundle" / "configs").parent
    config = json.loads((bundle / "configs" / "inference.json").read_text())
    config["network_def"] |= {"features": [8, 16], "attention": False}
    (bundle / "configs" / "inference.json").write_text(json.dumps(config))
    for format, suffix in (("pt2", "pt2"), ("onnx", "onnx"), ("torchscript", "ts"), ("openvino", "xml")):
        if format != "openvino" or importlib.util.find_spec("openvino"):
            said = export_bundle(bundle, folder / f"model.{suffix}", folder / "model.pt", format)
            assert re.search(r"at most \d\.\de[+-]\d\d of the largest, and (100\.0|99\.9)\d+% of the labels", said), (
                said
            )
    return folder


def test_an_export_in_the_place_of_weights_gives_the_same_labels(exports, tmp_path):
    """With the size and the window that travel in it; another bundle's is refused before any label."""
    scan = scans(tmp_path, 1)
    (expected,) = segment(exports / "bundle", scan, tmp_path / "pt", [exports / "model.pt"], num_workers=0)
    assert len(np.unique(voxels(expected))) > 2
    (other,) = segment(exports / "bundle", scan, tmp_path / "o", [exports / "model.pt"], num_workers=0, image_size=64)
    assert not np.array_equal(voxels(other), voxels(expected))
    for file in sorted({*exports.glob("model.*")} - {*exports.glob("*.pt"), *exports.glob("*.bin")}):
        assert trained_with(file) == {"image_size": [48, 32], "intensity_window": [-50, 150]}
        (label,) = segment(exports / "bundle", scan, tmp_path / file.suffix[1:], [file], num_workers=0)
        # float32 in another order may turn a tie of two logits
        assert (voxels(label) == voxels(expected)).mean() > 0.9999, file.suffix
    with pytest.raises(ValueError, match="is an exported network; averages, .* take weights"):
        segment(exports / "bundle", scan, tmp_path / "tta", [exports / "model.pt2"], tta=True)
    with pytest.raises(Exception) as refused:
        segment("dcaunet_synapse", scan, tmp_path / "not", [exports / "model.pt2"], num_workers=0)
    assert "is an export of UNetDCA, whose weights do not fit DCAUNet" in (plain_cause(refused.value) or "")
    other = segment(
        exports / "bundle", scan, tmp_path / "odd", [exports / "model.pt2"], num_workers=0, image_size=[50, 33]
    )
    assert list(other) == []
    assert "takes sizes in multiples of 2 from" in other.failed[0][1]


def test_backends_give_the_same_labels(exports, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    scan, weights = scans(tmp_path, 1), [exports / "model.pt"]
    (expected,) = segment(exports / "bundle", scan, tmp_path / "pt", weights, num_workers=0)
    for backend in ("torch", "onnxruntime", *(("openvino",) if importlib.util.find_spec("openvino") else ())):
        for _ in range(2):  # the second time from what the first one left under the weights' hash
            caplog.clear()
            (label,) = segment(
                exports / "bundle", scan, tmp_path / backend, weights, overwrite=True, num_workers=0, backend=backend
            )
            assert (voxels(label) == voxels(expected)).mean() > 0.9999, backend
        assert "is being converted" not in caplog.text
    with pytest.raises(Exception) as refused:
        segment(exports / "bundle", scan, tmp_path / "no", weights, num_workers=0, backend="tensorrt")
    assert "--backend tensorrt: expected one of auto, torch" in (plain_cause(refused.value) or "")


def test_names_as_nnunet_has_them(weights, tmp_path):
    """So its own evaluation finds each label by the name of the true one; an image is never replaced."""
    source = tmp_path / "imagesTs"
    for name in ("liver_001_0000.nii.gz", "liver_002_0000.nii.gz", "spleen.nii.gz"):
        save(source / name, volume(len(name))[0])
    labels = run(source, tmp_path / "out", weights, naming="nnunet")
    expected = ["liver_001.nii.gz", "liver_002.nii.gz", "spleen.nii.gz"]
    assert names(tmp_path / "out") == expected == [path.name for path in labels]
    plain = run(source, tmp_path / "plain", weights)
    for own, other in zip(labels, plain):
        np.testing.assert_array_equal(voxels(own), voxels(other))
    assert run(source, tmp_path / "out", weights, naming="nnunet").written == []
    # known as labels by their notes, not by their names
    assert {Path(case["image"]).parent.name for case in find_images(tmp_path)} == {"imagesTs"}
    before = (source / "spleen.nii.gz").read_bytes()
    with pytest.raises(ValueError, match=r"^monai_ext: .*spleen\.nii\.gz: this label would replace an image"):
        run(source, source, weights, naming="nnunet", overwrite=True)
    assert (source / "spleen.nii.gz").read_bytes() == before
    save(source / "liver_001.nii.gz", volume(0)[0])
    with pytest.raises(ValueError, match=r"^monai_ext: .*several images would have the label liver_001\.nii\.gz"):
        run(source, tmp_path / "twice", weights, naming="nnunet")
    with pytest.raises(ValueError, match=r"^monai_ext: --naming 'nnUNet': expected seg or nnunet"):
        run(source, tmp_path / "odd", weights, naming="nnUNet")
