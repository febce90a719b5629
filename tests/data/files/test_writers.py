# SPDX-License-Identifier: Apache-2.0
"""Labels lie where they should for every program that reads them."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from monai.data import MetaTensor

from monai_ext.data import AtomicNibabelWriter, VolumeReader
from tests.data.volumes import rotation

OBLIQUE = rotation(20) @ np.diag([-0.8, -0.9, 2.5, 1.0])
CORNER = (39, 35, 19)


def tilted(degrees: float) -> np.ndarray:
    affine = OBLIQUE.copy()
    affine[:3, 2] += np.tan(np.deg2rad(degrees)) * 2.5 * OBLIQUE[:3, 1] / 0.9
    return affine


def write(path, affine: np.ndarray) -> np.ndarray:
    label = np.random.default_rng(0).integers(0, 5, (40, 36, 20)).astype(np.uint8)
    writer = AtomicNibabelWriter(output_dtype=np.uint8)
    writer.set_data_array(MetaTensor(label[None], affine=affine), channel_dim=0)
    writer.set_metadata({"affine": affine}, resample=False)
    writer.write(path)
    return label


@pytest.mark.parametrize("degrees", [0, 0.01, 1, 5, 20, -30])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_no_reader_misplaces_a_label(tmp_path, degrees, suffix):
    affine = tilted(degrees)
    path = tmp_path / f"label{suffix}"
    label = write(path, affine)
    image = nibabel.load(path)
    np.testing.assert_array_equal(np.asarray(image.dataobj), label)
    np.testing.assert_allclose(image.get_sform(coded=True)[0], affine, atol=1e-5)
    assert int(image.header["qform_code"]) == (1 if abs(degrees) < 0.1 else 0)
    array, meta = VolumeReader().get_data((str(path),))
    np.testing.assert_array_equal(array, label)
    np.testing.assert_allclose(meta["affine"], affine, atol=1e-5)
    where = (affine @ [*CORNER, 1.0])[:3] * [-1, -1, 1]
    try:
        found = sitk.ReadImage(path)
    except RuntimeError as e:  # ITK holds no sheared volume, and says so
        assert "orthonormal" in str(e)
        assert abs(degrees) > 0.1
    else:
        np.testing.assert_allclose(found.TransformIndexToPhysicalPoint(CORNER), where, atol=0.05)
