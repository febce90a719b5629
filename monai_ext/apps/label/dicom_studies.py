# SPDX-License-Identifier: Apache-2.0
"""DICOM series among the studies, as the NIfTI files that MONAI Label lists, sends to viewers and trains on."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import nibabel
import numpy as np
from monai.utils import MetaKeys

from monai_ext.data import VolumeReader
from monai_ext.utils import replacing

__all__ = ["convert_series"]

logger = logging.getLogger(__name__)


def convert_series(studies: Path) -> list[Path]:
    """Write every folder below ``studies`` that holds a DICOM series as one NIfTI file, where there is none yet.

    ``STUDIES/patient1/ct/*.dcm`` becomes ``STUDIES/patient1_ct.nii.gz``: the same voxels on the same grid. A series
    that cannot be used (slices are missing, two series in one folder) is left out with its reason in the log.

    Returns:
        the files written.
    """
    written = []
    for folder, names, files in os.walk(studies):
        names[:] = sorted(name for name in names if not name.startswith(".") and name != "labels")
        path = Path(folder)
        if path == studies or not any(_is_dicom(path / name) for name in files):
            continue
        target = studies / ("_".join(path.relative_to(studies).parts) + ".nii.gz")
        if target.exists():
            continue
        try:
            array, meta = VolumeReader().get_data((str(path),))
        except ValueError as e:
            logger.warning("%s Left out.", e)
            continue
        image = nibabel.Nifti1Image(np.ascontiguousarray(array), meta[MetaKeys.AFFINE])
        image.header.set_xyzt_units("mm")
        with replacing(target) as temporary:
            nibabel.save(image, temporary)
        logger.info("monai_ext: %s written from %s", target, path)
        written.append(target)
    return written


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
