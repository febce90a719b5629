# SPDX-License-Identifier: Apache-2.0
"""Bundles inside MONAI Label: an annotator segments, corrects and retrains from 3D Slicer or OHIF."""

from __future__ import annotations

from monai_ext.apps.label.command import label

__all__ = ["label"]
