# SPDX-License-Identifier: Apache-2.0
"""What runs a network in inference: PyTorch as it is or compiled, ONNX Runtime or OpenVINO, in float32 or bfloat16."""

from __future__ import annotations

import copy
import hashlib
import importlib
import importlib.util
import logging
import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from monai.data import MetaTensor

from monai_ext.networks.exports import EXPORT_FORMATS, export_network, is_export, load_export
from monai_ext.networks.exports.exported_network import shapes_of
from monai_ext.networks.utils import check_option
from monai_ext.networks.weights import load_weights
from monai_ext.utils.knobs import BACKENDS, PRECISIONS

__all__ = ["has_bfloat16", "ready_network"]

logger = logging.getLogger(__name__)

CONVERTED = {"onnxruntime": ("onnx", "export"), "openvino": ("openvino", "export,openvino")}  # format, extra of pip


def ready_network(
    network: nn.Module,
    weights: str | os.PathLike,
    device: torch.device | str = "cpu",
    backend: str = "auto",
    precision: str = "auto",
    refuse_zero: bool = True,
) -> nn.Module:
    """The network with its weights on a device, in evaluation mode, as what runs fastest there with the same labels.

    ``"auto"`` is PyTorch as it is: it compiles and converts nothing. Its precision is float32; on a processor that
    computes in bfloat16, those parts of a network take it with which Dice was seen to stay the same
    (``bfloat16_inference`` of the class: True for all, or patterns of the names of its modules). What cannot be had on
    this machine is told in the log and the plain way is gone; a package that is missing for a backend that was asked
    for is an error.

    Args:
        network: as built; its weights are replaced.
        weights: a weights file; or an export of this network, see :func:`~monai_ext.networks.exports.load_export`,
            which runs by itself: ``backend`` and ``precision`` must then be ``"auto"``.
        device: where to compute.
        backend: ``"auto"``, ``"torch"``, ``"compile"`` (``torch.compile`` with frozen weights), ``"openvino"`` or
            ``"onnxruntime"``. The last two compute on a CPU; what they are given is made on the first call, and kept
            in the user's cache under the hash of the weights.
        precision: ``"auto"``, ``"float32"`` or ``"bfloat16"``. On a GPU ``"auto"`` is what the caller's autocast says.
        refuse_zero: as for :func:`~monai_ext.networks.load_weights`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file does not fit, or a backend is unknown, is not installed, or cannot compute there.

    Examples::

        >>> net = ready_network(DCAUNet(2, 1, 9), "models/model.pt", precision="bfloat16")
    """
    check_option("ready_network", "backend", backend, BACKENDS)
    check_option("ready_network", "precision", precision, PRECISIONS)
    device = torch.device(device)
    if is_export(weights):
        for knob, value in (("backend", backend), ("precision", precision)):
            if value != "auto":
                raise ValueError(
                    f"monai_ext: --{knob} {value}: {weights} is an export, which runs by itself. Leave --{knob} out, "
                    "or give the weights that it was made of."
                )
        return _fitting_export(network, weights).to(device)
    _check_backend(backend, precision, device)
    load_weights(network, weights, refuse_zero=refuse_zero)
    network = network.to(device).eval()
    half = _is_half(device, precision)
    plain = backend in ("auto", "torch") and getattr(network, "spatial_dims", 2) == 2  # where Dice was compared
    if precision == "auto" and device.type == "cpu" and plain and has_bfloat16():
        parts = getattr(network, "bfloat16_inference", False)
        half = parts is True
        _parts_in_bfloat16(network, parts if isinstance(parts, tuple) else ())
    if backend in CONVERTED:
        return _Converted(network, backend, half)
    if half or (precision == "float32" and device.type != "cpu"):  # where a caller's autocast may be another
        network = _InPrecision(network, half)
    return _Compiled(network) if backend == "compile" else network


def has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16 (AVX512-BF16 or AMX), and so gains by it."""
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def _is_half(device: torch.device, precision: str) -> bool:
    if precision == "bfloat16" and device.type == "cpu" and not has_bfloat16():
        logger.warning("monai_ext: --precision bfloat16: this processor does not compute in it; float32 is taken.")
        return False
    return precision == "bfloat16"


def _check_backend(backend: str, precision: str, device: torch.device) -> None:
    if backend not in CONVERTED:
        return
    format, extra = CONVERTED[backend]
    missing = [package for package in EXPORT_FORMATS[format][1] if importlib.util.find_spec(package) is None]
    if missing:
        raise ValueError(
            f"monai_ext: --backend {backend} needs {', '.join(missing)}, which is not installed. "
            f"pip install 'monai-ext[{extra}]', or give --backend torch."
        )
    if device.type != "cpu":
        raise ValueError(f"monai_ext: --backend {backend} computes on the CPU, got --device {device}.")
    if backend == "onnxruntime" and precision == "bfloat16":
        raise ValueError("monai_ext: --backend onnxruntime computes in float32. Give --precision float32 or auto.")


def _fitting_export(network: nn.Module, path: str | os.PathLike) -> nn.Module:
    """The network in an export, if it is of the same kind, channels and classes as the one that a bundle builds."""
    exported = load_export(path)
    if exported.notes.get("weights_shapes") != shapes_of(network.state_dict()):
        raise ValueError(
            f"monai_ext: {path}: is an export of {exported.notes.get('network', 'another network')}, whose weights do "
            f"not fit {type(network).__name__}. Is it of another network, number of channels or classes?"
        )
    return exported


class _InPrecision(nn.Module):
    """A network in one precision, whatever the caller's autocast says; logits are float32."""

    def __init__(self, network: nn.Module, half: bool) -> None:
        super().__init__()
        self.network, self.in_bfloat16 = network, half

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.in_bfloat16):
            return self.network(x).float()


def _parts_in_bfloat16(network: nn.Module, patterns: tuple[str, ...]) -> None:
    """Let the parts of these names compute in bfloat16, weights and all; what goes in and comes out is float32."""
    for name, part in network.named_modules():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            part.to(torch.bfloat16)
            part.register_forward_pre_hook(lambda _, given: tuple(x.to(torch.bfloat16) for x in given))
            part.register_forward_hook(lambda _, given, y: y.float())


class _OrPlain(nn.Module):
    """A faster way, and the network itself from the first call on that the faster way fails."""

    what = ""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.failed = False

    def faster(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.failed:
            plain = x.as_tensor() if isinstance(x, MetaTensor) else x
            try:
                y = self.faster(plain)
                return MetaTensor(y).copy_meta_from(x) if isinstance(x, MetaTensor) else y
            except torch.cuda.OutOfMemoryError:
                raise
            except Exception as e:  # compilers and converters may raise anything
                self.failed = True
                reason = (str(e).strip().splitlines() or [type(e).__name__])[0].removeprefix("monai_ext: ")
                logger.warning(
                    "monai_ext: --backend %s does not work here, torch is taken (%.300s).", self.what, reason
                )
        return self.network(x)


class _Compiled(_OrPlain):
    """By ``torch.compile`` with frozen weights; a smaller last batch is filled up, so that nothing is compiled anew."""

    what = "compile"

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(_cache("compile", network)))
        self.compiled = torch.compile(network, dynamic=False, options={"freezing": True})
        self.batches: dict[tuple[int, ...], int] = {}

    def faster(self, x: torch.Tensor) -> torch.Tensor:
        size = self.batches.setdefault(tuple(x.shape[1:]), len(x))
        if len(x) > size:
            return torch.cat([self.faster(part) for part in x.split(size)])
        filled = torch.cat([x, x[:1].expand(size - len(x), *x.shape[1:])]) if len(x) < size else x
        with torch.no_grad():
            return self.compiled(filled)[: len(x)]


class _Converted(_OrPlain):
    """By OpenVINO or ONNX Runtime, from a file that is made on the first call and kept under the weights' hash."""

    def __init__(self, network: nn.Module, backend: str, half: bool) -> None:
        super().__init__(network)
        self.what = backend
        self.in_bfloat16 = half
        self.loaded: Any = None

    def faster(self, x: torch.Tensor) -> torch.Tensor:
        size = tuple(x.shape[1:])
        if self.loaded is None or self.loaded[0] != size:
            self.loaded = size, self._load(size)
        return self.loaded[1](x)

    def _load(self, size: tuple[int, ...]) -> nn.Module:
        format = CONVERTED[self.what][0]
        version = importlib.import_module(self.what).__version__
        folder = _cache(self.what, version, size, self.network)
        path = folder / f"network{EXPORT_FORMATS[format][0]}"
        try:
            return load_export(path, self.in_bfloat16)
        except (ValueError, FileNotFoundError):  # not made yet, or damaged
            logger.warning("monai_ext: the network is being converted for %s, once for these weights.", self.what)
        folder.mkdir(parents=True, exist_ok=True)
        plain = copy.deepcopy(self.network)
        export_network(plain, size[1:], size[0], format, path)
        return load_export(path, self.in_bfloat16)


def _cache(*parts: Any) -> Path:
    """Where in the user's cache what is made of a network lies: by its weights, versions and what else counts."""
    digest = hashlib.sha256()
    for part in ("1", torch.__version__, *parts):
        if isinstance(part, nn.Module):
            digest.update(repr(part).encode())
            for key, value in part.state_dict().items():
                digest.update(key.encode())
                digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        else:
            digest.update(f"{part};".encode())
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "monai_ext" / "networks" / digest.hexdigest()[:32]
