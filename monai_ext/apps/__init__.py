# SPDX-License-Identifier: Apache-2.0
"""What a person starts: reports of an evaluation."""

from monai_ext.apps.report import SegmentationReport

__all__ = ["SegmentationReport"]
