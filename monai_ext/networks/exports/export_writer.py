# SPDX-License-Identifier: Apache-2.0
"""Writing a network as an exported file, and comparing what was written with the network."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn as nn

from monai_ext.networks.exports.exported_network import NOTES, import_openvino, load_export, shapes_of
from monai_ext.utils import replacing

__all__ = ["EXPORT_FORMATS", "Export", "export_network", "trace_network"]

# format -> suffix, and the packages that writing and checking it take
EXPORT_FORMATS = {
    "pt2": (".pt2", ()),
    "onnx": (".onnx", ("onnx", "onnxscript", "onnxruntime")),
    "openvino": (".xml", ("openvino", "onnx", "onnxscript")),
    "torchscript": (".ts", ()),
}
BATCHES = (1, 3)  # that are compared
MOST = 4096  # images of a batch, and multiples of a side
LARGEST = {2: 1024, 3: 256}  # side that sizes are free up to
# what a graph's nodes note of the source they come from, with paths of this machine
SOURCES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")
_translated: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # graphs as ONNX has them: for OpenVINO too


class Export(NamedTuple):
    """What became of an export: the file, for which sizes it is, and how far it is from the network.

    Attributes:
        path: the file.
        sizes: in words.
        difference: the largest of a logit, as a part of the largest logit.
        labels: share of the positions whose arg-max is the network's.
    """

    path: Path
    sizes: str
    difference: float
    labels: float


def export_network(
    network: nn.Module,
    size: Sequence[int],
    in_channels: int,
    format: str,
    path: str | os.PathLike,
    extra: Mapping[str, Any] | None = None,
    program: torch.export.ExportedProgram | None = None,
) -> Export:
    """Write a network as a file that runs without this library, if it computes what the network does.

    The batch is free, and so are sizes in multiples of the network's stride, but for a network whose graph depends on
    the size (``fixed_size`` of its class), and TorchScript, which takes whatever the network does. The file is
    loaded again and compared with the network at two batches and, where sizes are free, two sizes; it appears when
    that went well.

    Args:
        network: in evaluation mode, float32, on the CPU.
        size: of an image, each side at least twice the network's stride.
        in_channels: of an image.
        format: one of ``EXPORT_FORMATS``.
        path: the file, with the format's suffix. OpenVINO writes its weights beside it, ``.bin``.
        extra: what travels with it: name -> what JSON can hold.
        program: of :func:`trace_network`, for several formats of one network.

    Raises:
        ValueError: for another format or suffix, a package that is missing, a network that the format cannot hold, or
            a file that computes something else.

    Examples::

        >>> export_network(UNetDCA(2, 1, 9).eval(), (224, 224), 1, "pt2", "model.pt2").sizes
        'multiples of 16'
    """
    path = Path(path)
    _check_format(format, path)
    stride, free = _stride(network), _is_free(network, size)
    with torch.no_grad():
        expected = network(torch.zeros(1, in_channels, *size))
    if not isinstance(expected, torch.Tensor):
        raise ValueError(f"monai_ext: {type(network).__name__}: gives no single map. Call network.eval() first.")
    sizes: dict[str, Any] = {}
    with replacing(path) as temporary, _quietly():
        try:
            if format == "torchscript":
                graph: Any = torch.jit.script(network)
            else:
                graph = program or trace_network(network, size, in_channels)
                sizes = (_free_sizes(graph, size, in_channels, stride) if free else None) or {"fixed": list(size)}
            notes = {
                "network": type(network).__name__,
                "spatial_dims": len(size),
                "in_channels": in_channels,
                "out_channels": expected.shape[1],
                "sizes": sizes,
                "weights_shapes": shapes_of(network.state_dict()),
                "torch": torch.__version__,
            }
            texts = {name: json.dumps(value) for name, value in {**(extra or {}), NOTES: notes}.items()}
            WRITERS[format](graph, temporary, texts)
        except OSError:
            raise
        except Exception as e:  # tracers and converters may raise anything
            reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
            raise ValueError(
                f"monai_ext: {type(network).__name__} cannot be written as {format} "
                f"({type(e).__name__}: {reason:.300}). Take another format."
            ) from e
        difference, labels = _compared(network, temporary, in_channels, [size, *_other(size, sizes)])
        if format == "openvino":  # the weights first: a graph beside older ones is told by their hash
            os.replace(temporary.with_suffix(".bin"), path.with_suffix(".bin"))
    if "multiple" in sizes:
        words = f"multiples of {sizes['multiple']} from {sizes['least']} to {sizes['most']}"
    else:
        words = f"{'x'.join(map(str, size))} only" if sizes else "any that the network takes"
    return Export(path, words, difference, labels)


def _check_format(format: str, path: Path) -> None:
    if format not in EXPORT_FORMATS:
        raise ValueError(f"monai_ext: --format {format}: expected one of {', '.join(EXPORT_FORMATS)}.")
    suffix, packages = EXPORT_FORMATS[format]
    if path.suffix != suffix:
        raise ValueError(f"monai_ext: {path}: a file of format {format} ends in {suffix}.")
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        extra = "export,openvino" if format == "openvino" else "export"
        raise ValueError(
            f"monai_ext: --format {format} needs {', '.join(missing)}, which is not installed. "
            f"pip install 'monai-ext[{extra}]'."
        )


def trace_network(network: nn.Module, size: Sequence[int], in_channels: int) -> torch.export.ExportedProgram:
    """The graph of a network by ``torch.export``: the batch is free, and so are sizes where the network allows.

    Args: see :func:`export_network`.
    """
    free: dict[int, Any] = {0: torch.export.Dim("batch", min=1, max=MOST)}
    if _is_free(network, size):
        stride = _stride(network)
        for axis in range(2, len(size) + 2):
            side = torch.export.Dim(f"side{axis - 1}", min=2, max=MOST)
            free[axis] = stride * side if stride > 1 else side
    example = torch.zeros(2, in_channels, *size)
    with torch.no_grad():
        program = torch.export.export(network, (example,), dynamic_shapes=(free,))
    for node in program.graph.nodes:
        for name in SOURCES:
            node.meta.pop(name, None)
    return program


def _stride(network: nn.Module) -> int:
    return int(getattr(network, "stride", 32))


def _is_free(network: nn.Module, size: Sequence[int]) -> bool:
    stride = _stride(network)
    fixed = getattr(network, "fixed_size", False)
    return not fixed and all(side >= 2 * stride and side % stride == 0 for side in size)


def _free_sizes(
    program: torch.export.ExportedProgram, size: Sequence[int], in_channels: int, stride: int
) -> dict[str, int] | None:
    """For which sizes around one the graph is the network's, by its guards, which ONNX and OpenVINO do not have."""
    guards = getattr(program.module(), "_guards_fn", None)
    if guards is None:
        return None

    def holds(sides: Sequence[int]) -> bool:
        try:
            guards(torch.empty(2, in_channels, *sides, device="meta"))
        except AssertionError:
            return False
        return True

    axes = len(size)
    for multiple in (stride, 2 * stride, 4 * stride):
        if any(side % multiple for side in size):
            break
        least, most = min(size), max(size)
        while least - multiple >= 2 * stride and holds([least - multiple] * axes):
            least -= multiple
        while most + multiple <= LARGEST[axes] and holds([most + multiple] * axes):
            most += multiple
        grid = range(least, most + 1, multiple)
        # the box that was found, its corners and what lies between
        corners = [sides for sides in itertools.product((least, most), repeat=axes) if not holds(sides)]
        if len(grid) > 1 and not corners and all(holds([side, *size[1:]]) for side in grid):
            return {"multiple": multiple, "least": least, "most": most}
    return None


def _other(size: Sequence[int], sizes: Mapping[str, int]) -> list[list[int]]:
    """Another size to compare at, where there is one."""
    if "multiple" not in sizes:
        return []
    step, least = sizes["multiple"], sizes["least"]
    return [[side - step if side - step >= least else side + step for side in size]]


def _write_torchscript(program: Any, path: Path, texts: Mapping[str, str]) -> None:
    torch.jit.save(program, str(path), _extra_files={f"{name}.json": text for name, text in texts.items()})


def _write_pt2(program: torch.export.ExportedProgram, path: Path, texts: Mapping[str, str]) -> None:
    torch.export.save(program, path, extra_files={f"{name}.json": text for name, text in texts.items()})


def _write_onnx(program: torch.export.ExportedProgram, path: Path, texts: Mapping[str, str]) -> None:
    import onnx

    if program not in _translated:
        _translated[program] = torch.onnx.export(
            program, (), input_names=["image"], output_names=["pred"], verbose=False, external_data=False
        )
    model = _translated[program].model_proto
    onnx.helper.set_model_props(model, dict(texts))
    for node in model.graph.node:
        del node.metadata_props[:]  # where in the source each comes from
    onnx.save(model, path)


def _write_openvino(program: torch.export.ExportedProgram, path: Path, texts: Mapping[str, str]) -> None:
    openvino = import_openvino()
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        # OpenVINO's own reader of torch.export's programs lacks the operators on sizes
        _write_onnx(program, Path(folder, "model.onnx"), {})
        model = openvino.convert_model(Path(folder, "model.onnx"))
        openvino.save_model(model, Path(folder, "model.xml"), compress_to_fp16=False)
        weights = hashlib.sha256(Path(folder, "model.bin").read_bytes()).hexdigest()
        notes = json.dumps({**json.loads(texts[NOTES]), "weights": weights})
        for name, text in {**texts, NOTES: notes}.items():
            model.set_rt_info(text, [NOTES, name])
        openvino.save_model(model, path, compress_to_fp16=False)


WRITERS = {"pt2": _write_pt2, "onnx": _write_onnx, "openvino": _write_openvino, "torchscript": _write_torchscript}


def _compared(network: nn.Module, path: Path, in_channels: int, sizes: Sequence[Sequence[int]]) -> tuple[float, float]:
    """The largest difference of a logit as a part of the largest, and the share of equal labels.

    Raises:
        ValueError: if the file is further from the network than float32 in another order can be.
    """
    exported = load_export(path)
    generator = torch.Generator().manual_seed(1)
    difference, equal, count = 0.0, 0, 0
    for size in sizes:
        for batch in BATCHES:
            x = torch.rand(batch, in_channels, *size, generator=generator)
            with torch.no_grad():
                expected, found = network(x), exported(x)
            if found.shape != expected.shape:
                raise ValueError(
                    f"monai_ext: {path.name}: gives {list(found.shape)}, the network {list(expected.shape)}."
                )
            difference = max(difference, float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30)))
            equal += int((_labels(found) == _labels(expected)).sum())
            count += _labels(expected).numel()
    if not difference < 1e-3:
        raise ValueError(
            f"monai_ext: {path.name}: computes something else than the network (a logit differs by {difference:.1g} of "
            "the largest). Take another format."
        )
    return difference, equal / count


def _labels(logits: torch.Tensor) -> torch.Tensor:
    return logits.argmax(1) if logits.shape[1] > 1 else logits[:, 0] > 0


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what exporters and converters say of their own insides."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "openvino", "onnxscript", "onnx_ir")]
    levels = [log.level for log in loggers]
    try:
        for log in loggers:
            log.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(loggers, levels):
            log.setLevel(level)
