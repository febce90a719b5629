# SPDX-License-Identifier: Apache-2.0
"""MONAI bundles for clinical 2D/3D segmentation, and the library they share.

Subpackages mirror MONAI's own and are imported on first use, so that ``import monai_ext`` costs nothing.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from monai_ext.bundle import bundle_root

if TYPE_CHECKING:
    from monai_ext import (
        apps,
        data,
        engines,
        handlers,
        inferers,
        losses,
        metrics,
        networks,
        phantoms,
        transforms,
        utils,
    )

# ONNX Runtime reports to its maker since 1.29, unless it is told before it is imported
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "apps",
    "bundle_root",
    "data",
    "engines",
    "handlers",
    "inferers",
    "losses",
    "metrics",
    "networks",
    "phantoms",
    "transforms",
    "utils",
]


def __getattr__(name: str) -> Any:
    if name in __all__:  # a subpackage: all else of it is here
        return importlib.import_module(f"monai_ext.{name}")
    raise AttributeError(f"module 'monai_ext' has no attribute {name!r}")
