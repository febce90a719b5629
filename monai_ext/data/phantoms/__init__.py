# SPDX-License-Identifier: Apache-2.0
"""Seeded generators of small, labelled cohorts in the layouts of public datasets: no clinical data."""

from __future__ import annotations

from monai_ext.data.phantoms.cohort import read_marker
from monai_ext.data.phantoms.ct_abdomen import CTCase, ct_phantom_case, ct_phantom_case_ids, write_ct_phantom

__all__ = ["CTCase", "ct_phantom_case", "ct_phantom_case_ids", "read_marker", "write_ct_phantom"]
