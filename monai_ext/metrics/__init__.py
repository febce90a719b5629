# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from monai_ext.metrics.label_maps import label_metrics

__all__ = ["label_metrics"]
