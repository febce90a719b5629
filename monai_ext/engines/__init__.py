# SPDX-License-Identifier: Apache-2.0
"""Additions to MONAI's training loop."""

from .multi_scale import PrepareBatchMultiScale

__all__ = ["PrepareBatchMultiScale"]
