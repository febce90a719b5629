# SPDX-License-Identifier: Apache-2.0
"""Seeded generators of small, labelled cohorts in the layouts of public datasets: no clinical data."""

from __future__ import annotations

from monai_ext.phantoms.brain_mr import (
    BRAIN_CHANNELS,
    BRAIN_LABELS,
    BrainCase,
    brain_phantom_case,
    write_brain_phantom,
)
from monai_ext.phantoms.cardiac_mr import MRCase, mr_phantom_case, mr_phantom_ids, write_mr_phantom
from monai_ext.phantoms.cohort import PHANTOM_NOTE, read_marker
from monai_ext.phantoms.ct_abdomen import CTCase, ct_phantom_case, ct_phantom_case_ids, write_ct_phantom
from monai_ext.phantoms.drawing import PictureCase
from monai_ext.phantoms.fine_vessels import fine_vessel_case, write_fine_vessels
from monai_ext.phantoms.glands import gland_case
from monai_ext.phantoms.nuclei import nuclei_case
from monai_ext.phantoms.polyp import polyp_case
from monai_ext.phantoms.skin import skin_lesion_case
from monai_ext.phantoms.ultrasound import breast_nodule_case
from monai_ext.phantoms.vessels import vessel_case

__all__ = [
    "BRAIN_CHANNELS",
    "BRAIN_LABELS",
    "PHANTOM_NOTE",
    "BrainCase",
    "CTCase",
    "MRCase",
    "PictureCase",
    "brain_phantom_case",
    "breast_nodule_case",
    "ct_phantom_case",
    "ct_phantom_case_ids",
    "fine_vessel_case",
    "gland_case",
    "mr_phantom_case",
    "mr_phantom_ids",
    "nuclei_case",
    "polyp_case",
    "read_marker",
    "skin_lesion_case",
    "vessel_case",
    "write_brain_phantom",
    "write_ct_phantom",
    "write_fine_vessels",
    "write_mr_phantom",
]
