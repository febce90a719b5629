# SPDX-License-Identifier: Apache-2.0
"""What MONAI Label 0.8.5 lacks beside current packages. Each part can go when upstream no longer needs it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

import torch

__all__ = ["prepare_imports"]

_kept: list[torch.library.Library] = []  # a library that is collected takes its operators along


def prepare_imports() -> None:
    """Make ``import monailabel`` work; call it first. Does nothing where the packages fit as they are."""
    _empty_pydicom_seg()
    _torchvision_without_operators()


def _empty_pydicom_seg() -> None:
    """pydicom-seg 0.4.1 needs pydicom 2. Label imports it at start-up, but only reads DICOM SEG with it."""
    if "pydicom_seg" not in sys.modules and importlib.util.find_spec("pydicom_seg") is None:
        sys.modules["pydicom_seg"] = ModuleType("pydicom_seg")


def _torchvision_without_operators() -> None:
    """A CUDA build of torchvision beside a CPU build of torch fails for two operators, which Label never calls."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as e:
        if "torchvision::nms" not in str(e):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)
        importlib.import_module("torchvision")
