# SPDX-License-Identifier: Apache-2.0
"""Metrics beside MONAI's: straight from label maps, with named conventions."""

from .label_maps import label_metrics
from .regions import compared_labels, region_masks, without_ignored

__all__ = ["compared_labels", "label_metrics", "region_masks", "without_ignored"]
