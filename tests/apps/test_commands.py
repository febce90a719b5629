# SPDX-License-Identifier: Apache-2.0
"""The command line as a user types it."""

from __future__ import annotations

import functools
import inspect
import json
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from PIL import Image

from monai_ext.__main__ import main
from monai_ext.apps.commands import COMMANDS
from monai_ext.networks.nets import DCAUNet, QTSeg
from tests.bundles.runs import BUNDLES, ROOT, run, write_weights
from tests.data.volumes import rotation, save, volume, write_raw_synapse
from tests.dicom import write_ct_series

SMALL = ("--image_size", "[32,32]", "--num_workers", "0")


@pytest.fixture
def cli(monkeypatch, capsys):
    """Run a command in this process; returns exit status (or its message), what it printed."""

    def call(*arguments: object) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["monai_ext", *map(str, arguments)])
        status: object = 0
        try:
            main()
        except SystemExit as e:
            status = e.code
        return status, capsys.readouterr().out

    return call


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Untrained weights whose classes all occur."""
    folder = tmp_path_factory.mktemp("weights")
    for name, network in {"volumes": DCAUNet(2, 1, 9), "pictures": QTSeg(2, 3, 2)}.items():
        write_weights(folder / f"{name}.pt", network)
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_texts_stay_as_they_were_typed_and_no_is_no(name, monkeypatch, capsys):
    """For every command: a folder called 2024, and --force no."""
    seen = {}
    signature = inspect.signature(COMMANDS[name])

    @functools.wraps(COMMANDS[name])  # with what Fire is told of it
    def command(*given, **options):
        seen.update(signature.bind(*given, **options).arguments)

    words, expected = [], {}
    for key, parameter in signature.parameters.items():
        if parameter.annotation in ("str", "str | None"):
            several = parameter.kind is parameter.VAR_POSITIONAL
            words += ["2024"] if several or parameter.default is parameter.empty else [f"--{key}", "2024"]
            expected[key] = ("2024",) if several else "2024"
        elif parameter.annotation == "bool":
            words += [f"--{key}", "no"]
            expected[key] = False
    monkeypatch.setitem(COMMANDS, name, command)
    monkeypatch.setattr(sys, "argv", ["monai_ext", name, *words])
    main()
    assert {key: seen[key] for key in expected} == expected


def segment(cli, bundle, source, target, weights, *more):
    kind = "pictures" if bundle == "qtseg_busi" else "volumes"
    size = ("--image_size", "64", "--num_workers", "0") if kind == "pictures" else SMALL
    return cli("segment", bundle, source, target, "--checkpoint", weights / f"{kind}.pt", *size, *more)


def test_every_command_explains_itself():
    for name, command in COMMANDS.items():
        described = inspect.getdoc(command)
        for parameter in inspect.signature(command).parameters:
            assert f"    {parameter}: " in described, (name, parameter)


def test_help_does_not_wait_for_pytorch():
    code = "import sys; import monai_ext.__main__; print('torch' in sys.modules, 'monai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_bundles_lists_all(cli):
    status, out = cli("bundles")
    assert status == 0
    assert all(name in out for name in BUNDLES)


def test_every_format_gives_the_same_labels_on_its_own_grid(cli, weights, tmp_path):
    """NIfTI, NRRD, MetaImage, a folder and a DICOM series of one oblique scan, and the bundle's own inference."""
    affine = rotation(6) @ np.diag([-2.0, -2.0, 5.0, 1.0])
    source = save(tmp_path / "in" / "scan.nii.gz", volume(5)[0], affine)
    write_ct_series(tmp_path / "series", volume(5)[0], affine)
    for suffix in ("nrrd", "mha"):
        sitk.WriteImage(sitk.ReadImage(source), tmp_path / f"other.{suffix}")
    results = {}
    for given, output, made in (
        (source, tmp_path / "label.nii", "label.nii"),
        (tmp_path / "other.nrrd", tmp_path / "label.nrrd", "label.nrrd"),
        (tmp_path / "other.mha", tmp_path / "label.mha", "label.mha"),
        (tmp_path / "in", tmp_path / "out", "out/scan_seg.nii.gz"),
        (tmp_path / "series", tmp_path / "out", "out/series_seg.nii.gz"),
    ):
        status, out = segment(cli, "dcaunet_synapse", given, output, weights)
        assert status == 0
        assert out.strip() == str(tmp_path / made)
        results[made] = sitk.ReadImage(tmp_path / made)
    run(
        "dcaunet_synapse",
        "inference",
        image_size=[32, 32],
        num_workers=0,
        dataset_dir=str(source),
        output_dir=str(tmp_path / "bundle"),
        ckpt_path=str(weights / "volumes.pt"),
    )
    expected = sitk.ReadImage(tmp_path / "bundle" / "scan_seg.nii.gz")
    assert len(np.unique(sitk.GetArrayFromImage(expected))) > 3
    scan = sitk.ReadImage(source)
    for name, found in results.items():
        assert found.GetPixelID() == sitk.sitkUInt8, name
        np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(expected), err_msg=name)
        for part in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            np.testing.assert_allclose(getattr(found, part)(), getattr(scan, part)(), atol=1e-3, err_msg=name)
    assert not list(tmp_path.rglob(".segment-*"))


def test_a_picture_keeps_its_size(cli, weights, tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (70, 90, 3), dtype=np.uint8)).save(tmp_path / "scan one.png")
    status, _ = segment(cli, "qtseg_busi", tmp_path / "scan one.png", tmp_path / "out", weights)
    assert status == 0
    with Image.open(tmp_path / "out" / "scan one_seg.png") as mask:
        assert mask.size == (90, 70)


BAD = {
    "unknown bundle": (("dcaunet_synaps", "ct.nii.gz", "out"), "Did you mean 'dcaunet_synapse'?"),
    "no model": (("dcaunet_synapse", "ct.nii.gz", "out", "--ckpt_path", "none.pt"), "none.pt: no model yet. Train one"),
    "no input": (("dcaunet_synapse", "nothing", "out"), "nothing: no such file or folder"),
    "picture": (("dcaunet_synapse", "picture.png", "out"), "dcaunet_synapse segments volumes"),
    "volume": (("qtseg_busi", "ct.nii.gz", "out"), "qtseg_busi segments 2D pictures"),
    "one slice of a series": (("dcaunet_synapse", "slice.dcm", "out"), "For a DICOM series give its folder"),
    "4D": (("dcaunet_synapse", "4d.nii.gz", "out"), "4d.nii.gz: 8x8x3x2, expected a volume of three dimensions"),
    "MR": (("dcaunet_synapse", "mr.nii.gz", "out"), "does not look like CT: values from 0"),
    "constant": (("dcaunet_synapse", "flat.nii.gz", "out"), "flat.nii.gz: every value is 0"),
    "damaged": (("dcaunet_synapse", "cut.nii.gz", "out"), "cut.nii.gz: cannot be read"),
    "knob": (("dcaunet_synapse", "ct.nii.gz", "out", "--batchsize", "3"), "no knob 'batchsize'"),
    "format": (("dcaunet_synapse", "ct.nii.gz", "out.png"), "labels of this bundle are written as .nii.gz"),
    "file for folder": (("dcaunet_synapse", "both", "label.nii.gz"), "one file for 2 images"),
    "same name": (("dcaunet_synapse", "twins", "out"), "a.nii and a.nii.gz would have one label file"),
    "there already": (("dcaunet_synapse", "ct.nii.gz", "full"), "ct_seg.nii.gz: is there already"),
    "file in the way": (("dcaunet_synapse", "ct.nii.gz", "4d.nii.gz/out"), "4d.nii.gz/out: cannot be written to"),
    "other weights": (("dcaunet_synapse", "ct.nii.gz", "out", "--checkpoint", "wrong.pt"), "do not fit DCAUNet"),
    "no weights": (("dcaunet_synapse", "ct.nii.gz", "out", "--checkpoint", "junk.pt"), "no PyTorch file"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(cli, weights, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    image = volume(1)[0]
    save(tmp_path / "ct.nii.gz", image)
    for name in ("both/a.nii.gz", "both/b.nii.gz", "twins/a.nii.gz", "twins/a.nii", "full/ct_seg.nii.gz"):
        save(tmp_path / name, image)
    save(tmp_path / "4d.nii.gz", np.zeros((8, 8, 3, 2), np.int16))
    save(tmp_path / "mr.nii.gz", image - image.min())
    save(tmp_path / "flat.nii.gz", np.zeros((8, 8, 3), np.int16))
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "ct.nii.gz").read_bytes()[:-800])
    Image.new("RGB", (40, 40)).save(tmp_path / "picture.png")
    (tmp_path / "slice.dcm").write_bytes(b"\0" * 128 + b"DICM")
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "wrong.pt")
    (tmp_path / "junk.pt").write_bytes(b"junk")
    before = sorted(tmp_path.rglob("*"))
    arguments, message = BAD[case]
    more = () if "pt" in " ".join(arguments) else ("--checkpoint", weights / "volumes.pt")
    size = ("--image_size", "32") if arguments[0] == "qtseg_busi" else SMALL
    status, out = cli("segment", *arguments, *more, *size)
    assert isinstance(status, str)
    assert status.startswith("monai_ext: ")
    assert message in status
    assert "Traceback" not in status + out
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before and path.is_file()] == []


def test_force_and_overwrite(cli, weights, tmp_path):
    image = volume(1)[0]
    source = save(tmp_path / "mr.nii.gz", image - image.min())
    assert segment(cli, "dcaunet_synapse", source, tmp_path / "out", weights, "--force")[0] == 0
    again = ("dcaunet_synapse", source, tmp_path / "out", weights, "--force", "--mirror", "true")
    assert "there already" in segment(cli, *again)[0]
    status, _ = segment(cli, "dcaunet_synapse", source, tmp_path / "out", weights, "--force", "--overwrite")
    assert status == 0


def test_the_process_ends_with_one_line_and_a_status(tmp_path):
    arguments = [sys.executable, "-m", "monai_ext", "segment", "dcaunet_synaps", "x", "y"]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    done = subprocess.run([*arguments, "--debug"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_datasets_lists_and_suggests(cli):
    status, out = cli("datasets")
    assert status == 0
    assert "synapse" in out
    assert "fives" in out
    assert "Did you mean 'synapse'?" in cli("datasets", "check", "synaps", "somewhere")[0]
    assert "expected 'datasets', or" in cli("datasets", "chekc")[0]


def test_a_check_counts_what_is_there(cli, tmp_path):
    data = write_raw_synapse(tmp_path, [5, 6, 7, 1])
    status, out = cli("datasets", "check", "synapse", data)
    assert status == 0
    assert out.startswith("2 training, 1 validation, 1 test cases")
    liver = next(line for line in out.splitlines() if line.startswith("liver"))
    voxels = [(volume(case)[1] == 6).sum() for case in (5, 6, 7, 1)]
    assert liver.split()[1:] == ["4", f"{np.median(voxels) * 20 / 1000:.1f}"]


def test_a_check_counts_each_part(cli, tmp_path):
    data = write_raw_synapse(tmp_path, [5, 6, 7, 1])
    labels = data / "RawData/Training/label"
    for case in (5, 6, 7):  # liver has code 6: left to the test case
        label = volume(case)[1]
        save(labels / f"label{case:04d}.nii.gz", np.where(label == 6, 0, label))
    status, out = cli("datasets", "check", "synapse", data)
    assert status == 0
    liver, counts = (line.split() for line in out.splitlines() if line.startswith("liver"))
    assert liver[1] == "1"
    assert counts[1:] == ["0", "0", "1"]
    assert "note: no training case and no validation case has liver, test cases have; it cannot be learnt" in out
    assert "no test case" not in out
    (data / "list.json").write_text(
        json.dumps(
            {"training": [{"image": f"img/img{c}.nii.gz", "label": f"label/label{c}.nii.gz"} for c in ("0005", "0006")]}
        )
    )
    options = ("--datalist", str(data / "list.json"), "--num_classes", "14", "--modality", "CT")
    status, out = cli("datasets", "check", "synapse", str(data / "RawData/Training"), *options)
    assert status == 0
    assert "note: no test case: nothing can be evaluated" in out
    assert next(line for line in out.splitlines() if line.startswith("class 13")).split()[2] == "2"
    for wrong, message in (
        (("--num_classes", "x"), "num_classes must be 2 to 256, got 'x'"),
        (("--modality", "XY"), "modality must be CT or MR, got 'XY'"),
        (("--excluded", "5"), "there is no option --excluded, but --datalist"),
    ):
        assert message in str(cli("datasets", "check", "synapse", data, *wrong)[0])


def test_a_check_tells_every_problem(cli, tmp_path):
    data = write_raw_synapse(tmp_path, [5, 6, 7, 9, 1, 2])
    images, labels = (data / "RawData/Training" / name for name in ("img", "label"))
    (images / "img0001.nii.gz").write_bytes((images / "img0005.nii.gz").read_bytes())
    image, label = volume(6)
    save(labels / "label0006.nii.gz", label + 90)
    save(images / "img0007.nii.gz", image - image.min())
    save(labels / "label0009.nii.gz", label[:, :, 1:])
    save(labels / "label0002.nii.gz", label * 0)
    holed = volume(2)[0]
    holed[:, :, 2] = -1000
    save(images / "img0002.nii.gz", holed)
    status, out = cli("datasets", "check", "synapse", data)
    assert status == "monai_ext: 3 problems to put right before training."
    for line in (
        f"problem: {labels / 'label0006.nii.gz'}: label values [90",
        f"problem: {labels / 'label0009.nii.gz'}: 24x20x5 voxels",
        "problem: the same image: training case 0005, test case 0001",
        f"note: {images / 'img0007.nii.gz'}: does not look like CT",
        f"note: {labels / 'label0002.nii.gz'}: empty",
        f"note: {images / 'img0002.nii.gz'}: 1 of 6 slices (2) hold one value only between others",
    ):
        assert line in out


def test_report_prints_what_was_evaluated(cli, tmp_path):
    def write(folder, dice, phantom):
        scores = {"dice": {"mean": dice}, "hd95": {"mean": 2.5}, "missed": 1}
        summary = {
            "title": "Net on data",
            "phantom": phantom,
            "data": "phantom data, no clinical meaning",
            "number_of_cases": 4,
            "class_names": ["liver"],
            "conventions": {"monai": {"hd95_unit": "mm", "overall": scores, "classes": {"liver": scores}}},
        }
        folder.mkdir()
        (folder / "summary.json").write_text(json.dumps(summary))

    write(tmp_path / "a", 0.5, True)
    write(tmp_path / "b", 0.625, False)
    status, out = cli("report", tmp_path / "a", tmp_path / "b")
    assert status == 0
    assert out.count("phantom data, no clinical meaning") == 1
    assert ["liver", "0.500", "2.50", "1", "0.625", "2.50", "1"] in [line.split() for line in out.splitlines()]
    assert "no convention 'transunet'" in cli("report", tmp_path / "a", "--convention", "transunet")[0]
    assert "no summary.json" in cli("report", tmp_path)[0]


def test_phantom_says_what_it_is(cli, tmp_path):
    status, out = cli("phantom", "fives", tmp_path / "p", "--cases", 5)
    assert status == 0
    assert "no clinical meaning" in out
    assert (tmp_path / "p" / "PHANTOM.json").is_file()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_no_error(cli, command):
    assert cli(command, "--help")[0] == 0


def test_segment_leaves_a_record_that_starts_it_again(cli, weights, tmp_path):
    save(tmp_path / "$print(1).nii.gz", volume(1)[0])
    status, _ = segment(cli, "dcaunet_synapse", tmp_path / "$print(1).nii.gz", tmp_path / "out", weights)
    assert status == 0
    record = tmp_path / "out" / "run_inference.json"
    assert json.loads(record.read_text())["config"]["output_dir"] == str(tmp_path / "out")
    assert cli("reproduce", record)[0] == 0
    first, again = (
        sitk.GetArrayFromImage(sitk.ReadImage(folder / "$print(1)_seg.nii.gz"))
        for folder in (tmp_path / "out", tmp_path / "out" / "reproduced")
    )
    assert np.array_equal(first, again)
