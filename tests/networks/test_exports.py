# SPDX-License-Identifier: Apache-2.0
"""Exported files: which sizes they are for, what travels in them, and that a foreign one runs no code."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
import torch
import torch.nn as nn
from monai.data import MetaTensor

from monai_ext.networks import backends, export_extra, export_network, load_export, load_weights, ready_network
from monai_ext.networks.exports import EXPORT_FORMATS

SUFFIXES = {format: suffix for format, (suffix, _) in EXPORT_FORMATS.items()}
NOT_HERE = "openvino is not installed: pip install 'monai-ext[openvino]'"
needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason=NOT_HERE)
every = pytest.mark.parametrize(
    "format", ["pt2", "onnx", "torchscript", pytest.param("openvino", marks=needs_openvino)]
)
EXTRA = {"metadata": {"version": "0.1", "trained_with": {"image_size": [24, 16], "intensity_window": [-100, 200]}}}


class Small(nn.Module):
    """A network with a stride, whose pooling is another one where the size is no multiple of twice that."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.stride = 4
        self.first = nn.Conv2d(2, 8, 3, stride=4, padding=1)
        self.last = nn.ConvTranspose2d(8, classes, 4, stride=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.first(x))
        if y.shape[2] % 2 == 0 and y.shape[3] % 2 == 0:
            y = y + y.amax((2, 3), keepdim=True)
        return self.last(y)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Small().eval()


@pytest.fixture(scope="module")
def files(network, tmp_path_factory):
    """The network in each format."""
    folder = tmp_path_factory.mktemp("exports")
    for format, suffix in SUFFIXES.items():
        if format != "openvino" or importlib.util.find_spec("openvino"):
            export_network(network, (24, 16), 2, format, folder / f"net{suffix}", EXTRA)
    return folder


def run(network: nn.Module, size: tuple[int, ...], batch: int = 1) -> torch.Tensor:
    x = torch.rand(batch, 2, *size, generator=torch.Generator().manual_seed(batch))
    with torch.no_grad():
        return network(x)


@every
def test_what_is_written_computes_what_the_network_does(format, network, files):
    exported = load_export(files / f"net{SUFFIXES[format]}").eval().train()
    assert not exported.training or format  # told to train, it stays what it is
    for size in ((24, 16), (16, 8), (40, 64)):
        for batch in (1, 3):
            torch.testing.assert_close(run(exported, size, batch), run(network, size, batch), rtol=1e-5, atol=1e-5)
    image = MetaTensor(torch.rand(1, 2, 24, 16), affine=torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0])))
    found = exported(image)
    assert isinstance(found, MetaTensor)
    assert torch.equal(found.affine, image.affine)
    assert export_extra(files / f"net{SUFFIXES[format]}", "metadata") == EXTRA["metadata"]
    assert export_extra(files / f"net{SUFFIXES[format]}", "nothing") == {}


@pytest.mark.parametrize("format", ["pt2", "onnx", pytest.param("openvino", marks=needs_openvino)])
def test_sizes_for_which_the_graph_is_another_are_refused(format, files):
    """ONNX and OpenVINO would compute something there, and the labels would be others."""
    exported = load_export(files / f"net{SUFFIXES[format]}")
    assert exported.notes["sizes"] == {"multiple": 8, "least": 8, "most": 1024}
    for size in ((20, 16), (24, 12), (4, 8), (24, 1032)):
        with pytest.raises(ValueError, match="takes sizes in multiples of 8 from 8 to 1024, got"):
            run(exported, size)
    for shape in ((1, 3, 24, 16), (1, 2, 24, 16, 16)):
        with pytest.raises(ValueError, match="takes 2 channels and 2 spatial axes, got"):
            exported(torch.rand(shape))


def test_a_size_off_the_stride_is_the_only_one(network, tmp_path):
    made = export_network(network, (22, 16), 2, "pt2", tmp_path / "net.pt2")
    assert made.sizes == "22x16 only"
    torch.testing.assert_close(run(load_export(made.path), (22, 16), 3), run(network, (22, 16), 3))
    with pytest.raises(ValueError, match=r"takes sizes \[22, 16\], the one that it was exported at, got \[24, 16\]"):
        run(load_export(made.path), (24, 16))


def test_pt2_and_torchscript_need_nothing_of_this_library(files, network, tmp_path):
    torch.save(run(network, (24, 16), 3), tmp_path / "expected.pt")
    code = textwrap.dedent(f"""
        import sys, torch
        sys.modules["monai_ext"] = sys.modules["monai"] = None
        x = torch.rand(3, 2, 24, 16, generator=torch.Generator().manual_seed(3))
        expected = torch.load({str(tmp_path / "expected.pt")!r})
        program = torch.export.load({str(files / "net.pt2")!r}).module()
        script = torch.jit.load({str(files / "net.ts")!r})
        for network in (program, script):
            torch.testing.assert_close(network(x), expected)
    """)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == 0, found.stderr


def test_no_path_of_this_machine_travels(files):
    for file in files.iterdir():
        content = [file.read_bytes()]
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                # TorchScript keeps the source's lines for its errors
                content = [archive.read(name) for name in archive.namelist() if not name.endswith(".debug_pkl")]
        assert not any(os.fsencode(Path(__file__).parent) in part for part in content), file.name


def test_bad_requests(network, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="--format pt3: expected one of pt2, onnx, openvino, torchscript"):
        export_network(network, (24, 16), 2, "pt3", tmp_path / "net.pt2")
    with pytest.raises(ValueError, match=r"net\.pt2: a file of format onnx ends in \.onnx"):
        export_network(network, (24, 16), 2, "onnx", tmp_path / "net.pt2")
    with pytest.raises(ValueError, match="gives no single map"):
        export_network(Twice(network), (24, 16), 2, "pt2", tmp_path / "net.pt2")

    class ByValue(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) if x.sum() > 0 else super().forward(-x)

    with pytest.raises(ValueError, match="ByValue cannot be written as pt2 .*Take another format") as e:
        export_network(ByValue().eval(), (24, 16), 2, "pt2", tmp_path / "net.pt2")
    assert "\n" not in str(e.value)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"--format openvino needs openvino.*pip install 'monai-ext\[export,openvino\]'"
    ):
        export_network(network, (24, 16), 2, "openvino", tmp_path / "net.xml")
    with pytest.raises(ValueError, match=r"needs onnxruntime, which is not installed\. pip install 'monai-ext\[export"):
        (tmp_path / "net.onnx").write_bytes(b"")
        load_export(tmp_path / "net.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


class Twice(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [self.network(x)] * 2


def refused(path: Path, pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern) as e:
        load_export(path)
    assert str(e.value).startswith(f"monai_ext: {path}: ")
    assert "\n" not in str(e.value)


@every
def test_damaged_files_and_others(format, files, tmp_path):
    suffix = SUFFIXES[format]
    source = files / f"net{suffix}"
    for name in ("short", "text", "empty"):
        if format == "openvino":
            shutil.copy(source.with_suffix(".bin"), tmp_path / f"{name}.bin")
    (tmp_path / f"short{suffix}").write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])
    (tmp_path / f"text{suffix}").write_text("no network")
    (tmp_path / f"empty{suffix}").touch()
    for name in ("short", "text", "empty"):
        refused(tmp_path / f"{name}{suffix}", "no exported network, or damaged .*monai_ext export")
    with pytest.raises(FileNotFoundError, match="no such exported network"):
        load_export(tmp_path / f"nothing{suffix}")
    with pytest.raises(ValueError, match="is an exported network, expected a weights file"):
        load_weights(Small(), source)


def test_a_flipped_bit_is_found_in_archives(files, tmp_path):
    for suffix in (".pt2", ".ts"):
        content = bytearray((files / f"net{suffix}").read_bytes())
        with zipfile.ZipFile(files / f"net{suffix}") as archive:
            largest = max(archive.infolist(), key=lambda entry: entry.file_size * ("/data/" in entry.filename))
        content[largest.header_offset + 200] ^= 1
        (tmp_path / f"net{suffix}").write_bytes(content)
        refused(tmp_path / f"net{suffix}", "CRC|checksum|damaged")


# a program whose children's ends are signals, as they are where a DataLoader has workers
RELEASED = """
import gc, signal, subprocess, sys, threading
import torch
from monai_ext.networks import load_export

import faulthandler
faulthandler.enable()
signal.signal(signal.SIGCHLD, lambda number, frame: None)
held = [load_export(sys.argv[1])]
held[0](torch.rand(1, 2, 24, 16))
other = threading.Thread(target=lambda: (held.clear(), gc.collect()))
other.start()
other.join()
subprocess.run(["true"])
print("alive")
"""


@needs_openvino
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals of children")
def test_openvino_released_by_another_thread_leaves_signals_their_stack(files):
    command = [sys.executable, "-W", "ignore", "-c", RELEASED, str(files / "net.xml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


@needs_openvino
def test_openvino_weights_of_another_export(network, files, tmp_path):
    shutil.copy(files / "net.xml", tmp_path / "net.xml")
    refused(tmp_path / "net.xml", "net.bin is missing beside it")
    content = bytearray((files / "net.bin").read_bytes())
    content[5] ^= 1
    (tmp_path / "net.bin").write_bytes(content)
    refused(tmp_path / "net.xml", "net.bin is not the one that was written with it")


def test_onnx_whose_weights_lie_elsewhere(files, tmp_path):
    import onnx

    model = onnx.load(files / "net.onnx")
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="weights.data", size_threshold=256)
    torch.testing.assert_close(
        run(load_export(tmp_path / "net.onnx"), (24, 16)), run(load_export(files / "net.onnx"), (24, 16))
    )
    (tmp_path / "weights.data").unlink()
    refused(tmp_path / "net.onnx", "no exported network, or damaged .*weights.data")


class Touch:
    """What runs when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


def changed(source: Path, target: Path, change: dict[str, bytes]) -> Path:
    """A copy of an archive with other files in it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        for name in old.namelist():
            inside = name.partition("/")[2]
            new.writestr(name, change.pop(inside) if inside in change else old.read(name))
        for inside, content in change.items():
            new.writestr(f"{root}/{inside}", content)
    return target


def read(path: Path, name: str) -> dict:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(next(entry for entry in archive.namelist() if entry.endswith(f"/{name}"))))


def test_a_foreign_pt2_runs_no_code(files, tmp_path):
    source, mark = files / "net.pt2", tmp_path / "mark"
    model, config = "models/model.json", "data/weights/model_weights_config.json"
    pickled = io.BytesIO()
    torch.save(((Touch(mark),), {}), pickled)
    call = f"__import__('pathlib').Path({str(mark)!r}).touch()"

    def graph(change) -> dict[str, bytes]:
        content = read(source, "model.json")
        change(content["graph_module"]["graph"], content)
        return {model: json.dumps(content).encode()}

    def target(g, _):
        g["nodes"][0]["target"] = "torch.os.system"

    def file_target(g, _):
        g["nodes"][0]["target"] = "torch.ops.aten.from_file.default"

    def size(g, _):
        (first, *_others) = g["tensor_values"].values()
        first["sizes"][0] = {"as_expr": {"expr_str": call, "hint": None}}

    def bound(_, content):
        content["range_constraints"] = {call: {"min_val": 1, "max_val": 2}}

    def guard(_, content):
        content["guards_code"] = [f"{call} or True"]

    def name(g, _):
        g["nodes"][0]["outputs"][0]["as_tensor"]["name"] = f"a\n{call}\nb"

    def specification(_, content):
        content["graph_module"]["signature"]["in_spec"] = (
            '[1, {"type": "os.system", "context": "x", "children_spec": []}]'
        )

    weights = read(source, "model_weights_config.json")
    next(iter(weights["config"].values()))["use_pickle"] = True
    attacks = {
        "pickled inputs": {"data/sample_inputs/model.pt": pickled.getvalue()},
        "pickled weights": {config: json.dumps(weights).encode(), "data/weights/weight_0": pickled.getvalue()},
        "old pickled weights": {"data/weights/model.pt": pickled.getvalue()},
        "compiled code": {"data/aotinductor/model/x.so": b"x"},
        "an object": {"data/constants/opaque_obj_0": pickle.dumps(Touch(mark))},
        **{part.__name__: graph(part) for part in (target, file_target, size, bound, guard, name, specification)},
    }
    for attack, change in attacks.items():
        refused(changed(source, tmp_path / f"{attack}.pt2".replace(" ", "_"), dict(change)), "no exported network")
        assert not mark.exists(), attack
    # that these are attacks: PyTorch itself runs them
    for attack in ("pickled_inputs", "size"):
        with pytest.raises(Exception):  # noqa: B017  whatever comes after
            torch.export.load(tmp_path / f"{attack}.pt2").module()(0)
        assert mark.exists(), attack
        mark.unlink()


def test_another_version_is_said(files, tmp_path):
    notes = {**read(files / "net.pt2", "monai_ext.json"), "torch": "2.99"}
    graph = read(files / "net.pt2", "model.json")
    graph["schema_version"]["major"] += 90
    change = {"models/model.json": json.dumps(graph).encode(), "extra/monai_ext.json": json.dumps(notes).encode()}
    path = changed(files / "net.pt2", tmp_path / "net.pt2", change)
    refused(path, rf"written by PyTorch 2\.99, this is {torch.__version__[:3]}")


def test_exports_in_the_place_of_weights(files, network):
    for suffix in (".pt2", ".onnx", ".ts"):
        ready = ready_network(Small(), files / f"net{suffix}")
        torch.testing.assert_close(run(ready, (24, 16)), run(network, (24, 16)), rtol=1e-5, atol=1e-5)
        with pytest.raises(ValueError, match="is an export of .*whose weights do not fit Small"):
            ready_network(Small(classes=4), files / f"net{suffix}")
    with pytest.raises(ValueError, match=r"--backend compile: .*net\.pt2 is an export, which runs by itself"):
        ready_network(Small(), files / "net.pt2", backend="compile")


@pytest.fixture
def weights(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "model.pt")
    return tmp_path / "model.pt"


def test_precision(network, weights, monkeypatch, caplog):
    expected = run(network, (24, 16))
    assert torch.equal(run(ready_network(Small(), weights), (24, 16)), expected)
    monkeypatch.setattr(backends, "has_bfloat16", lambda: True)
    half = run(ready_network(Small(), weights, precision="bfloat16"), (24, 16))
    assert half.dtype == torch.float32
    assert not torch.equal(half, expected)
    torch.testing.assert_close(half, expected, rtol=0.05, atol=0.05)
    # auto takes it for a network that says so, on a processor that has it
    monkeypatch.setattr(Small, "bfloat16_inference", True, raising=False)
    assert torch.equal(run(ready_network(Small(), weights), (24, 16)), half)
    assert torch.equal(run(ready_network(Small(), weights, precision="float32"), (24, 16)), expected)
    monkeypatch.setattr(backends, "has_bfloat16", lambda: False)
    for precision in ("auto", "bfloat16"):
        assert torch.equal(run(ready_network(Small(), weights, precision=precision), (24, 16)), expected)
    assert caplog.text.count("this processor does not compute in it; float32 is taken") == 1


def test_a_backend_that_fails_leaves_the_work_to_the_network(network, weights, monkeypatch, caplog):
    def fail(*args, **kwargs):
        def call(x):
            raise RuntimeError("no compiler\nhere")

        return call

    monkeypatch.setattr(torch, "compile", fail)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(weights.parent))
    ready = ready_network(Small(), weights, backend="compile")
    for _ in range(2):
        assert torch.equal(run(ready, (24, 16)), run(network, (24, 16)))
    assert caplog.text.count("--backend compile does not work here, torch is taken (no compiler)") == 1


def test_compiled_batches_are_filled_up_and_split(network, weights, monkeypatch):
    seen = []

    def record(net, **kwargs):
        def call(x):
            seen.append(len(x))
            return net(x)

        return call

    monkeypatch.setattr(torch, "compile", record)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(weights.parent))
    ready = ready_network(Small(), weights, backend="compile")
    for batch in (4, 3, 9):
        torch.testing.assert_close(run(ready, (24, 16), batch), run(network, (24, 16), batch))
    assert seen == [4, 4, 4, 4, 4]


def test_backends_that_cannot_be_had(weights, monkeypatch):
    with pytest.raises(ValueError, match="backend must be one of 'auto', 'torch', .*got 'tensorrt'"):
        ready_network(Small(), weights, backend="tensorrt")
    with pytest.raises(ValueError, match="--backend onnxruntime computes in float32"):
        ready_network(Small(), weights, backend="onnxruntime", precision="bfloat16")
    with pytest.raises(ValueError, match="--backend onnxruntime computes on the CPU, got --device cuda"):
        ready_network(Small(), weights, "cuda", backend="onnxruntime")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="--backend openvino needs openvino, .*, which is not installed. pip install"):
        ready_network(Small(), weights, backend="openvino")
