# SPDX-License-Identifier: Apache-2.0
"""Metrics beside MONAI's: straight from label maps, with named conventions, and what can be said of their means."""

from .label_maps import label_metrics
from .lesions import lesion_metrics
from .regions import compared_labels, region_masks, without_ignored
from .statistics import Comparison, Difference, compare_means, mean_interval

__all__ = [
    "Comparison",
    "Difference",
    "compare_means",
    "compared_labels",
    "label_metrics",
    "lesion_metrics",
    "mean_interval",
    "region_masks",
    "without_ignored",
]
