# SPDX-License-Identifier: Apache-2.0
"""What the datasets of polyps in colonoscopy share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from monai_ext.data.datasets.dataset_info import LESION_COLOUR, DatasetInfo, Structure
from monai_ext.phantoms.picture_cohort import write_picture_cohort
from monai_ext.phantoms.polyp import polyp_case

__all__ = ["POLYP", "polyp_dataset", "write_polyps"]

POLYP = Structure("41329004", "Polyp", LESION_COLOUR, abnormal=True)

polyp_dataset = partial(
    DatasetInfo,
    class_names=("polyp",),
    phantom_cases=80,
    modality="ES",
    structures=(POLYP,),
    label_coding="classes",
    match="touch",
)


def write_polyps(folder: Path, name: str, files: Mapping[str, tuple[Path, Path]]) -> None:
    """Write a phantom of pictures with polyps, their masks white on black; see ``write_picture_cohort``."""
    write_picture_cohort(folder, name, files, lambda case, seed, size: polyp_case(seed, size))
