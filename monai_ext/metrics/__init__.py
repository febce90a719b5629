# SPDX-License-Identifier: Apache-2.0
"""Metrics beside MONAI's: straight from label maps, with named conventions."""

from .label_maps import label_metrics
from .lesions import lesion_metrics

__all__ = ["label_metrics", "lesion_metrics"]
