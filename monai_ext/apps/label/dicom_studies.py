# SPDX-License-Identifier: Apache-2.0
"""DICOM series among the studies, as the NIfTI files that MONAI Label lists, sends to viewers and trains on."""

from __future__ import annotations

import logging
from pathlib import Path

import nibabel

from monai_ext.data.files.dicom import image_folders, read_series
from monai_ext.utils import replacing

__all__ = ["convert_series"]

logger = logging.getLogger(__name__)


def convert_series(studies: Path) -> list[Path]:
    """Write every folder below ``studies`` that holds a DICOM series as one NIfTI file, where there is none yet.

    ``STUDIES/patient1/ct/*.dcm`` becomes ``STUDIES/patient1_ct.nii.gz``: the same voxels on the same grid. A series
    that is refused (slices are missing, two series in one folder) is left out with its reason in the log.

    Returns:
        the files written.
    """
    written = []
    sources: dict[Path, Path] = {}
    for path in image_folders(studies, without=("labels",)):
        parts = path.relative_to(studies).parts or (studies.resolve().name,)
        target = studies / ("_".join(parts) + ".nii.gz")
        if (other := sources.setdefault(target, path)) != path:
            logger.warning("monai_ext: %s: would have the name of %s. Rename a folder. Left out.", path, other)
            continue
        if target.exists():
            continue
        try:
            array, affine = read_series(str(path))
        except (OSError, ValueError) as e:
            logger.warning("%s Left out.", e)
            continue
        image = nibabel.Nifti1Image(array, affine)  # no qform, which could not hold a tilt
        image.header.set_xyzt_units("mm")
        with replacing(target) as temporary:
            nibabel.save(image, temporary)
        logger.info("monai_ext: %s written from %s", target, path)
        written.append(target)
    return written
