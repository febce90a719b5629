# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from typing import Any

import nibabel
import numpy as np
from isal import igzip
from monai.data import NibabelWriter, PILWriter
from PIL import Image

from monai_ext.data.files.affines import has_right_angles, largest_shift, spacing_of, to_itk
from monai_ext.data.files.memory_order import fortran_ordered
from monai_ext.utils import replacing

__all__ = ["AtomicItkWriter", "AtomicNibabelWriter", "AtomicPictureWriter"]


class _Nifti(nibabel.Nifti1Image):
    """Packed by ISA-L: a tenth of the time, the size of gzip's level 1. Equal images give equal files."""

    def set_qform(self, affine: Any, code: Any = None, *args: Any, **kwargs: Any) -> None:
        super().set_qform(affine, code, *args, **kwargs)
        # a sheared volume's sform is all there is: programs that prefer the qform would misplace the voxels
        sheared = largest_shift(self.get_qform(), affine, self.shape[:3]) > 0.01 * spacing_of(affine).min()
        if code and sheared:
            self.header["qform_code"] = 0

    def to_filename(self, filename: str | os.PathLike, **kwargs: Any) -> None:
        if not str(filename).lower().endswith(".gz"):
            super().to_filename(filename, **kwargs)
            return
        with open(filename, "wb") as file, igzip.IGzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as archive:
            self.to_stream(archive)


class AtomicNibabelWriter(NibabelWriter):
    """MONAI's NIfTI writer for ``SaveImaged(writer=...)``; an interrupted run leaves no half-written file."""

    def set_data_array(self, *args: Any, **kwargs: Any) -> None:
        super().set_data_array(*args, **kwargs)
        # MONAI drops trailing axes of length 1; a volume of one slice keeps its third
        self.data_obj = self.data_obj.reshape(*self.data_obj.shape, *(1,) * (3 - self.data_obj.ndim))

    @classmethod
    def create_backend_obj(cls, data_array: Any, affine: Any = None, dtype: Any = None, **kwargs: Any) -> Any:
        image = super().create_backend_obj(data_array, affine, dtype, **kwargs)
        # the order of the file, which nibabel is slow to bring about slice by slice
        return _Nifti(fortran_ordered(np.asanyarray(image.dataobj)), image.affine, image.header)

    def write(self, filename: str | os.PathLike, verbose: bool = False, **kwargs: Any) -> None:
        with replacing(filename) as temporary:
            super().write(temporary, verbose=verbose, **kwargs)


class AtomicItkWriter(AtomicNibabelWriter):
    """The same for NRRD and MetaImage (``.nrrd``, ``.mha``); ITK keeps geometry in LPS.

    Raises:
        ValueError: if the axes are not at right angles, as those of a CT with a tilted gantry: viewers that read these
            formats put the voxels elsewhere.
    """

    def write(self, filename: str | os.PathLike, verbose: bool = False, **kwargs: Any) -> None:
        if not has_right_angles(np.asarray(self.affine)):
            raise ValueError(
                f"monai_ext: {filename}: the axes of this scan are not at right angles (a tilted gantry?), which NRRD "
                "and MetaImage have no place for in most viewers. Write it as .nii.gz."
            )
        import SimpleITK as sitk

        image = to_itk(np.asarray(self.data_obj, dtype=self.output_dtype), np.asarray(self.affine))
        with replacing(filename) as temporary:
            sitk.WriteImage(image, str(temporary), useCompression=True)


# classes 0, 1, 2, ... in viewers; two classes look like the black and white masks of most datasets
PALETTE = (0, 0, 0, 255, 255, 255, 214, 39, 40, 44, 160, 44, 31, 119, 180, 255, 127, 14, 148, 103, 189, 140, 86, 75)


class AtomicPictureWriter(PILWriter):
    """Write a label map ``(H, W)`` as a palette PNG: pixels hold the classes, viewers show colours.

    For ``SaveImaged(writer=...)`` and arrays as ``PictureReader`` lays them out: upright, as viewers show the image,
    and without an orientation of its own, so that it fits wherever a viewer turns the image. Leaves no half-written
    file.
    """

    def write(self, filename: str | os.PathLike, verbose: bool = False, **kwargs: Any) -> None:
        classes = np.asarray(self.data_obj, dtype=np.uint8)
        picture = Image.fromarray(classes.reshape(classes.shape[:2]))
        picture.putpalette(PALETTE)
        with replacing(filename) as temporary:
            picture.save(temporary)
