# SPDX-License-Identifier: Apache-2.0
"""Bundles as MONAI Deploy applications: a DICOM series in, DICOM SEG and volumes out."""

from __future__ import annotations

from monai_ext.apps.deploy.command import deploy

__all__ = ["deploy"]
