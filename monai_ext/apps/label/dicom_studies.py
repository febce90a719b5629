# SPDX-License-Identifier: Apache-2.0
"""DICOM series among the studies, as the NIfTI files that MONAI Label lists, sends to viewers and trains on."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np

from monai_ext.data.files.dicom import image_folders, read_series
from monai_ext.utils import replacing

__all__ = ["SeriesFolders", "write_volume"]

logger = logging.getLogger(__name__)
SETTLED = 5.0  # seconds without a change, after which a series that is being copied is taken to be whole


def write_volume(file: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """A series that was read, as a NIfTI file; without a qform, which could not hold a tilt."""
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    with replacing(file) as temporary:
        nibabel.save(image, temporary)


class SeriesFolders:
    """The folders below the studies that hold DICOM images, and the NIfTI files that stand for them.

    ``STUDIES/patient1/ct/*.dcm`` becomes ``STUDIES/patient1_ct.nii.gz``: the same voxels on the same grid. A series
    that is refused (slices are missing, two series in one folder) is left out with its reason in the log.
    """

    def __init__(self, studies: Path) -> None:
        self.studies = studies
        # as a folder was when it was last converted or refused, and the file written
        self._seen: dict[Path, tuple[float, int]] = {}

    def named(self) -> Iterator[tuple[Path, Path]]:
        """Each folder with the NIfTI file that stands for it; of two with one name, the first."""
        sources: dict[Path, Path] = {}
        for path in image_folders(self.studies, without=("labels",)):
            parts = path.relative_to(self.studies).parts or (self.studies.resolve().name,)
            target = self.studies / ("_".join(parts) + ".nii.gz")
            if (other := sources.setdefault(target, path)) == path:
                yield path, target
            elif path not in self._seen:
                self._seen[path] = (0, 0)
                logger.warning("monai_ext: %s: would have the name of %s. Rename a folder. Left out.", path, other)

    def source_of(self, file: Path) -> Path | None:
        """The folder whose series a NIfTI file stands for."""
        return next((path for path, target in self.named() if target.name == file.name), None)

    def convert(self, settled: float = SETTLED) -> tuple[list[Path], bool]:
        """Write those that have no file yet; those that others still write, later.

        A series that went on growing after all, behind a slow network, is written anew, unless its file was changed.

        Args:
            settled: seconds for which nothing may have changed in a folder.

        Returns:
            the files written, and whether a folder was left for later.
        """
        written, later = [], False
        for path, target in self.named():
            newest = _newest(path)
            before, mine = self._seen.get(path, (0.0, 0))
            if newest == before or (target.exists() and target.stat().st_mtime_ns != mine):
                continue
            if settled and time.time() - newest < settled:
                later = True
                continue
            self._seen[path] = (newest, 0)
            try:
                write_volume(target, *read_series(str(path)))
            except (OSError, ValueError) as e:
                logger.warning("%s Left out.", e)
                continue
            self._seen[path] = (newest, target.stat().st_mtime_ns)
            logger.info("monai_ext: %s written from %s", target, path)
            written.append(target)
        return written, later


def _newest(folder: Path) -> float:
    """When something in a folder changed last; not the time that a copy keeps of its original."""
    places = [folder, *folder.iterdir()] if os.access(folder, os.R_OK) else [folder]
    return max(place.lstat().st_ctime for place in places)
