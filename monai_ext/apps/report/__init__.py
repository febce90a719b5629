# SPDX-License-Identifier: Apache-2.0
"""The report of an evaluation: ``metrics.csv``, ``summary.json`` and one self-contained ``report.html``."""

from .handler import SegmentationReport

__all__ = ["SegmentationReport"]
