# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from monai.transforms import LoadImage

from monai_ext.data import VolumeReader, find_images, read_geometry
from tests.data.volumes import RAS, rotation, save, volume, write_preprocessed_synapse
from tests.dicom import write_ct_series

AFFINES = {
    "ras": RAS,
    "lps": np.diag([-2.0, -2.0, 5.0, 1.0]),
    "oblique": rotation(8) @ RAS,
    "axial first": RAS[:, [2, 0, 1, 3]],
    "shifted": RAS + np.array([[0, 0, 0, 11.5], [0, 0, 0, -7], [0, 0, 0, 3], [0, 0, 0, 0]]),
}


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_every_format_gives_the_same_voxels_and_geometry(tmp_path, affine, suffix):
    image, _ = volume()
    path = save(tmp_path / "a.nii.gz", image, affine)
    if "nii" not in suffix:
        path = tmp_path / f"a{suffix}"
        sitk.WriteImage(sitk.ReadImage(tmp_path / "a.nii.gz"), path)
    elif suffix == ".nii":
        path = save(tmp_path / "a.nii", image, affine)
    loaded = LoadImage(reader=VolumeReader)(path)
    np.testing.assert_array_equal(loaded.numpy(), image)
    np.testing.assert_allclose(loaded.affine, affine, atol=1e-5)
    shape, header_affine = read_geometry(str(path))
    assert shape == image.shape
    np.testing.assert_allclose(header_affine, affine, atol=1e-5)


@pytest.mark.parametrize("degrees", [0, 12])
def test_dicom_series_is_the_nifti_of_the_same_patient(tmp_path, degrees):
    image, _ = volume()
    affine = rotation(degrees) @ np.diag([-2.0, -2.0, 5.0, 1.0])
    write_ct_series(tmp_path / "series", image, affine)
    loaded = LoadImage(reader=VolumeReader)(tmp_path / "series")
    np.testing.assert_array_equal(loaded.numpy(), image)
    np.testing.assert_allclose(loaded.affine, affine, atol=1e-4)


def test_scaled_values_are_applied(tmp_path):
    image, _ = volume()
    path = save(tmp_path / "a.nii", image)
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([0.5, -1000], "<f4").tobytes()  # scl_slope, scl_inter
    path.write_bytes(content)
    np.testing.assert_allclose(VolumeReader().get_data((path,))[0], image * 0.5 - 1000)


def test_preprocessed_files_come_back_in_hu(tmp_path):
    root = write_preprocessed_synapse(tmp_path / "synapse", [5], [8])
    image, label = volume(8)
    for name, case in (("train_npz/case0005_slice*.npz", 5), ("test_vol_h5/case0008.npy.h5", 8)):
        image, label = volume(case)
        array, meta = VolumeReader().get_data((f"{root / name}::image",))
        np.testing.assert_allclose(array, np.clip(image, -125, 275), atol=1e-3)
        assert read_geometry(f"{root / name}::image")[0] == image.shape == tuple(meta["spatial_shape"])
        array, _ = VolumeReader().get_data((f"{root / name}::label",))
        np.testing.assert_array_equal(array, label % 9)


def test_truncated_archive_is_found_from_the_header(tmp_path):
    path = save(tmp_path / "a.nii.gz", volume(shape=(64, 64, 32))[0])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"a\.nii\.gz: cannot be read .*damaged or cut off"):
        read_geometry(str(path))
    with pytest.raises(ValueError, match=r"a\.nii\.gz: cannot be read"):
        VolumeReader().get_data((path,))


def test_truncated_plain_nifti_and_garbage(tmp_path):
    path = save(tmp_path / "a.nii", volume(shape=(64, 64, 32))[0])
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(ValueError, match=r"a\.nii: cannot be read"):
        VolumeReader().get_data((path,))
    for name, content in (("b.nii.gz", gzip.compress(b"nothing")), ("c.nrrd", b"nothing"), ("d.nii", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}: cannot be read"):
            VolumeReader().get_data((tmp_path / name,))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((8, 8), np.int16), "8x8, expected a volume of three dimensions"),
        (np.zeros((8, 8, 4, 2), np.int16), "8x8x4x2, expected a volume"),
        (np.zeros((8, 8, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "colour values"),
    ],
)
def test_not_a_volume(tmp_path, array, message):
    save(tmp_path / "a.nii.gz", array)
    with pytest.raises(ValueError, match=rf"a\.nii\.gz: {message}"):
        VolumeReader().get_data((tmp_path / "a.nii.gz",))


def test_a_trailing_axis_of_one_is_dropped(tmp_path):
    save(tmp_path / "a.nii.gz", volume()[0][..., None])
    array, _ = VolumeReader().get_data((tmp_path / "a.nii.gz",))
    np.testing.assert_array_equal(array, volume()[0])


def test_no_geometry(tmp_path):
    image = nibabel.Nifti1Image(volume()[0], None)
    image.header["sform_code"], image.header["qform_code"] = 1, 0
    image.header["srow_x"] = image.header["srow_y"] = image.header["srow_z"] = 0
    (tmp_path / "a.nii").write_bytes(image.header.binaryblock + b"\0" * 4 + volume()[0].tobytes("F"))
    with pytest.raises(ValueError, match="left and right are unknown"):
        VolumeReader().get_data((tmp_path / "a.nii",))


def test_dicom_folder_errors(tmp_path):
    image, _ = volume()
    write_ct_series(tmp_path / "gap", image, RAS)
    sorted((tmp_path / "gap").iterdir())[3].unlink()
    with pytest.raises(
        ValueError, match=r"gap: CT series 1 \(5 images\): 1 slice\(s\) missing: 10 mm between slices 3 and 4"
    ):
        VolumeReader().get_data((tmp_path / "gap",))
    for name in ("one", "two"):
        write_ct_series(tmp_path / "mixed", image, RAS, prefix=name)
    with pytest.raises(ValueError, match="mixed: 2 DICOM series"):
        VolumeReader().get_data((tmp_path / "mixed",))


def test_find_images(tmp_path):
    for name in ("b.nii.gz", "a.nrrd", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [item["image"] for item in find_images(tmp_path)] == [str(tmp_path / "a.nrrd"), str(tmp_path / "b.nii.gz")]
    assert find_images(tmp_path / "a.nrrd") == [{"image": str(tmp_path / "a.nrrd")}]
    write_ct_series(tmp_path / "studies/one", volume()[0], RAS)
    assert find_images(tmp_path / "studies") == [{"image": str(tmp_path / "studies/one")}]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty: no volume found"):
        find_images(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        find_images(tmp_path / "nowhere")
