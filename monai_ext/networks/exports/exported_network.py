# SPDX-License-Identifier: Apache-2.0
"""An exported file in the place of a network, and what travels in it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn as nn
from monai.data import MetaTensor

from monai_ext.networks.exports.guarded_pt2 import extra_of, guarded_program

__all__ = [
    "NOTES",
    "RUNTIMES",
    "ExportedNetwork",
    "export_extra",
    "import_openvino",
    "is_export",
    "load_export",
    "shapes_of",
]

NOTES = "monai_ext"  # what an export says of itself: network, channels, classes, sizes, versions
# suffix -> what runs it, and the package that has it
RUNTIMES = {".pt2": None, ".ts": None, ".onnx": "onnxruntime", ".xml": "openvino"}
Run = Callable[[torch.Tensor], torch.Tensor]


def is_export(path: Any) -> bool:
    """Whether a path is, by its name, that of an exported network and not of weights."""
    return isinstance(path, (str, os.PathLike)) and Path(path).suffix in RUNTIMES


class ExportedNetwork(nn.Module):
    """A network out of a file that :func:`export_network` wrote, in the place of the one it was made of.

    It is in evaluation mode, and stays there: training mode changes nothing in it. A ``.pt2`` and a ``.ts`` run where
    ``to`` puts them; ONNX Runtime and OpenVINO compute on the CPU, and the logits come back to the input's device.

    Args:
        run: computes logits of images, both float32.
        notes: what the file says of itself.
        source: the file, for errors.

    Raises:
        ValueError: on a call, if the input has another number of channels or axes, or a size that the file was not
            exported for.

    Shape:
        - input: ``(B, channels, *spatial)``
        - output: ``(B, classes, *spatial)``, logits
    """

    def __init__(self, run: Run, notes: Mapping[str, Any], source: str) -> None:
        super().__init__()
        self.run = run  # a module's parameters become this one's
        self.notes = dict(notes)
        if isinstance(run, torch.jit.ScriptModule):  # of MONAI's ckpt_export, which notes nothing
            self.notes.setdefault("weights_shapes", shapes_of(run.state_dict()))
        self.source = source

    def train(self, mode: bool = True) -> ExportedNetwork:
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self._check(x)
        plain = x.as_tensor() if isinstance(x, MetaTensor) else x
        try:
            y = self.run(plain.float())
        except AssertionError as e:  # of torch.export's guards
            raise ValueError(
                f"monai_ext: {self.source}: exported for other sizes than {list(x.shape[2:])} "
                f"({str(e).splitlines()[0]}). Export it again at that size, or use the weights."
            ) from e
        return MetaTensor(y).copy_meta_from(x) if isinstance(x, MetaTensor) else y

    def _check(self, x: torch.Tensor) -> None:
        channels, sizes = self.notes.get("in_channels"), self.notes.get("sizes", {})
        axes = self.notes.get("spatial_dims", x.dim() - 2)
        if x.dim() != axes + 2 or channels not in (None, x.shape[1]):
            raise ValueError(
                f"monai_ext: {self.source}: takes {channels} channels and {axes} spatial axes, got {list(x.shape)}."
            )
        fixed, multiple = sizes.get("fixed"), sizes.get("multiple", 1)
        least, most = sizes.get("least", 1), sizes.get("most", float("inf"))
        expected = None
        if fixed is not None and list(x.shape[2:]) != list(fixed):
            expected = f"{fixed}, the one that it was exported at"
        elif any(side % multiple or not least <= side <= most for side in x.shape[2:]):
            expected = f"in multiples of {multiple} from {least} to {most}"
        if expected:
            raise ValueError(
                f"monai_ext: {self.source}: takes sizes {expected}, got {list(x.shape[2:])}. Export it again at that "
                "size, or use the weights."
            )


def shapes_of(state_dict: Mapping[str, torch.Tensor]) -> str:
    """A hash of the names and shapes of weights: of another network, number of channels or classes it is another."""
    found = sorted((key, list(value.shape)) for key, value in state_dict.items())
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def load_export(path: str | os.PathLike, bfloat16: bool = False) -> ExportedNetwork:
    """A file that :func:`export_network` wrote, as a network on the CPU.

    A ``.pt2`` runs no code of its own: its parts are compared with what an exported network may hold. A ``.ts`` is a
    program, take it only from whom you trust; ONNX and OpenVINO files are read by their libraries.

    Args:
        path: the file.
        bfloat16: let OpenVINO compute in it; the other formats compute as they were exported.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is none, is damaged, was written by another version, or its library is not installed.

    Examples::

        >>> load_export("model.pt2")(torch.rand(2, 1, 224, 224)).shape
        torch.Size([2, 9, 224, 224])
    """
    path = _existing(path)
    try:
        run, notes = _load_openvino(path, bfloat16) if path.suffix == ".xml" else LOADERS[path.suffix](path)
    except Exception as e:  # a damaged file may raise anything
        raise _unreadable(path, e) from e
    return ExportedNetwork(run, notes, str(path))


def export_extra(path: str | os.PathLike, name: str) -> dict[str, Any]:
    """What travels in an export: ``"metadata"`` and ``"inference"`` of its bundle, or ``"monai_ext"``, its own notes.

    Returns:
        it, empty if the file has nothing of that name.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or its library is not installed.
    """
    path = _existing(path)
    try:
        if path.suffix == ".onnx":
            found = _onnx_texts(_onnx_session(path, quick=True)).get(name)
        elif path.suffix == ".xml":
            found = _openvino_texts(_openvino_model(path)).get(name)
        else:
            found = extra_of(path, name)
    except Exception as e:
        raise _unreadable(path, e) from e
    return dict(found) if isinstance(found, Mapping) else {}


def _existing(path: str | os.PathLike) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"monai_ext: {path}: no such exported network.")
    if path.suffix not in RUNTIMES:
        raise ValueError(f"monai_ext: {path}: expected the name of an export, ending in {', '.join(RUNTIMES)}.")
    package = RUNTIMES[path.suffix]
    if package and importlib.util.find_spec(package) is None:
        extra = "openvino" if package == "openvino" else "export"
        raise ValueError(
            f"monai_ext: {path}: needs {package}, which is not installed. pip install 'monai-ext[{extra}]', or use "
            "the weights."
        )
    return path


def _unreadable(path: Path, error: Exception) -> ValueError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].removeprefix("monai_ext: ")
    written = ""
    if path.suffix in (".pt2", ".ts"):
        try:
            version = (extra_of(path, NOTES) or {}).get("torch")
        except Exception:  # damaged, which the reason says
            version = None
        if version is not None and version != torch.__version__:
            written = f" It was written by PyTorch {version}, this is {torch.__version__}."
    return ValueError(
        f"monai_ext: {path}: no exported network, or damaged ({reason:.300}).{written} Write it again with "
        "'python -m monai_ext export'."
    )


def _load_pt2(path: Path) -> tuple[Run, dict[str, Any]]:
    return _Quiet(guarded_program(path).module()), extra_of(path, NOTES) or {}


def _load_torchscript(path: Path) -> tuple[Run, dict[str, Any]]:
    with zipfile.ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"checksum of {damaged}")
    return torch.jit.load(str(path), map_location="cpu").eval(), extra_of(path, NOTES) or {}


class _Quiet(nn.Module):
    """A program of ``torch.export``, which refuses to be told that it evaluates."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program.requires_grad_(False)

    def train(self, mode: bool = True) -> _Quiet:
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.program(x)


def _onnx_session(path: Path, quick: bool = False) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is raised as well
    options.intra_op_num_threads = torch.get_num_threads()
    if quick:  # nothing is computed with it
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _onnx_texts(session: Any) -> dict[str, Any]:
    return {
        name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items() if text[:1] == "{"
    }


def _load_onnx(path: Path) -> tuple[Run, dict[str, Any]]:
    session = _onnx_session(path)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(f"{len(inputs)} inputs and {len(outputs)} outputs, expected one image and one map")
    name = inputs[0].name

    def run(x: torch.Tensor) -> torch.Tensor:
        (y,) = session.run(None, {name: np.ascontiguousarray(x.detach().cpu().numpy())})
        return torch.from_numpy(y).to(x.device)

    return run, _onnx_texts(session).get(NOTES, {})


def _openvino_model(path: Path) -> Any:
    return _openvino_core().read_model(path)


@cache
def _openvino_core() -> Any:
    """One for the whole process, never released.

    The CPU plugin moves the signal stack of the thread that loads it to memory of its own, and unmaps that when the
    last core is released. Where the garbage collector does so in another thread, the next signal, such as that of a
    DataLoader's worker that ended, would find no stack and kill the process.
    """
    return import_openvino().Core()


def import_openvino() -> Any:
    """OpenVINO without its reports to its maker, which begin with its import and ask nobody."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # as if it were not installed
    import openvino

    return openvino


def _openvino_texts(model: Any) -> dict[str, Any]:
    if not model.has_rt_info([NOTES]):
        return {}
    texts = model.get_rt_info([NOTES])
    texts = getattr(texts, "value", texts)
    return {name: json.loads(getattr(text, "value", text)) for name, text in texts.items()}


def _load_openvino(path: Path, bfloat16: bool = False) -> tuple[Run, dict[str, Any]]:
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise ValueError(f"{weights.name} is missing beside it")
    model = _openvino_model(path)
    notes = _openvino_texts(model).get(NOTES, {})
    if notes.get("weights") != hashlib.sha256(weights.read_bytes()).hexdigest():
        raise ValueError(f"{weights.name} is not the one that was written with it")
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",  # else it takes what the processor has
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = _openvino_core().compile_model(model, "CPU", settings)

    def run(x: torch.Tensor) -> torch.Tensor:
        y = compiled(np.ascontiguousarray(x.detach().cpu().numpy()))[0]
        return torch.from_numpy(np.array(y)).to(x.device)  # the next call overwrites what it gave

    return run, notes


LOADERS: dict[str, Callable[[Path], tuple[Run, dict[str, Any]]]] = {
    ".pt2": _load_pt2,
    ".ts": _load_torchscript,
    ".onnx": _load_onnx,
}
