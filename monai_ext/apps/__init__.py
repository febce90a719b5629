# SPDX-License-Identifier: Apache-2.0
"""What a person starts: the command line, reports of an evaluation, and the glue to MONAI Label and MONAI Deploy.

Imported on first use, so that ``python -m monai_ext --help`` does not wait for PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monai_ext.apps.report import SegmentationReport

__all__ = ["SegmentationReport"]


def __getattr__(name: str) -> Any:
    if name == "SegmentationReport":
        from monai_ext.apps.report import SegmentationReport

        return SegmentationReport
    raise AttributeError(f"module 'monai_ext.apps' has no attribute {name!r}")
