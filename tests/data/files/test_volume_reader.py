# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage

from monai_ext.apps.new_bundle import pair_files
from monai_ext.data import AtomicItkWriter, AtomicNibabelWriter, VolumeReader, find_images, read_geometry
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
    with pytest.raises(ValueError, match=r"gap: CT series 1 .*: 1 slice\(s\) missing: 10 mm between slices 3 and 4"):
        VolumeReader().get_data((tmp_path / "gap",))
    for name in ("one", "two"):
        write_ct_series(tmp_path / "mixed", image, RAS, prefix=name)
    with pytest.raises(ValueError, match="mixed: 2 DICOM series"):
        VolumeReader().get_data((tmp_path / "mixed",))


def test_volumes_of_other_formats_are_cases_that_say_how_to_convert_them(tmp_path):
    for name in ("scan.nii.gz", "a.hdr", "a.img", "b.mgz", "c.nii.bz2", "d.nrrd.gz", "all.zip", "notes.txt", "._d.mgz"):
        (tmp_path / name).write_bytes(b"")
    found = {Path(item["image"]).name for item in find_images(tmp_path)}
    assert found == {"scan.nii.gz", "a.hdr", "b.mgz", "c.nii.bz2", "d.nrrd.gz"}
    with pytest.raises(ValueError, match="Convert it with mri_convert"):
        VolumeReader().get_data((tmp_path / "b.mgz",))
    with pytest.raises(ValueError, match=r"a\.hdr: is one half .* Save the pair as one file"):
        pair_files(tmp_path, tmp_path)


def test_find_images(tmp_path):
    for name in ("b.nii.gz", "a.nrrd", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [item["image"] for item in find_images(tmp_path)] == [str(tmp_path / "a.nrrd"), str(tmp_path / "b.nii.gz")]
    assert [item["image"] for item in find_images(tmp_path / "a.nrrd")] == [str(tmp_path / "a.nrrd")]
    write_ct_series(tmp_path / "studies/one", volume()[0], RAS)
    assert [item["image"] for item in find_images(tmp_path / "studies")] == [str(tmp_path / "studies/one")]
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/scans.zip").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"empty: no volume found"):
        find_images(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        find_images(tmp_path / "nowhere")


SOUND = {
    "metres": (
        lambda p: unit(p, "meter"),
        r"a\.nii: its unit \(xyzt_units\) is metres, expected mm\. .*scale its affine",
    ),
    "micrometres": (lambda p: unit(p, "micron"), r"a\.nii: its unit \(xyzt_units\) is micrometres, expected mm"),
    "nrrd, micrometres": (
        lambda p: nrrd(p, **{"space units": '"um" "um" "um"'}),
        r"space units um, expected mm\. Multiply",
    ),
    "mha, micrometres": (
        lambda p: meta_image(p, DistanceUnits="um"),
        r"a\.mha: DistanceUnits um, expected mm\. Multiply",
    ),
    "mha, two orientations": (
        lambda p: meta_image(p, Rotation="1 0 0 0 0 1 0 1 0"),
        "Rotation 1 0 0 .*, but TransformM",
    ),
    "mha, text": (lambda p: meta_image(p, BinaryData="False"), "voxels written as text, .* Save it again, as one file"),
    "mhd, voxels elsewhere": (
        lambda p: meta_image(p, ElementDataFile="../b.raw"),
        r"lie in '\.\./b\.raw', expected a file in",
    ),
    "mhd, voxels missing": (
        lambda p: meta_image(p, ElementDataFile="b c.raw"),
        "lie in 'b c.raw', .* Put that beside it",
    ),
    "nrrd, text": (
        lambda p: nrrd(p, encoding="ascii"),
        "encoding 'ascii', expected raw or gzip. Save it again, as one",
    ),
    "nrrd, spacings": (lambda p: nrrd(p, spacings="2 2 5"), "spacings beside a space, expected space directions"),
    "nrrd, colour": (
        lambda p: nrrd(
            p,
            dimension="4",
            sizes="3 8 20 6",
            kinds="RGB-color domain domain domain",
            **{"space directions": "none (2,0,0) (0,2,0) (0,0,5)"},
        ),
        r"3 values per voxel \(RGB-color\), expected 1 \(no colour, no series\)",
    ),
    "overlapping segments": (
        lambda p: segments(p, "2 12 20 6"),
        r"a\.seg\.nrrd: a segmentation of 3D Slicer in 2 layers, since its segments overlap, .* export the segments as",
    ),
    "no segment": (lambda p: segments(p, "1 1 1 1"), "a segmentation of 3D Slicer without any segment"),
    "series": (
        lambda p: save(p / "a.nii.gz", np.zeros((4, 4, 3, 2))),
        "4x4x3x2, .* Save the one that is meant as a file",
    ),
    "pair": (
        lambda p: pair(p, "a.hdr"),
        r"a\.hdr: is one half of a NIfTI or Analyze pair, .* Save the pair as one file",
    ),
    "pair, image": (lambda p: pair(p, "a.img"), r"a\.img: is one half of a NIfTI or Analyze pair"),
    "pair, renamed": (lambda p: pair(p, "a.hdr").rename(p / "a.nii"), r"a\.nii: is one half of a NIfTI .*, its header"),
    "FreeSurfer": (lambda p: freesurfer(p), r"a\.mgz: is a volume of FreeSurfer, .* Convert it with mri_convert"),
    "note of macOS": (
        lambda p: content(p / "._a.nii.gz", b"\0\5\x16\7" + bytes(300)),
        "is a note of macOS about the file",
    ),
    "Git LFS": (
        lambda p: content(p / "a.nrrd", b"version https://git-lfs.github.com/spec/v1\n"),
        "is a pointer of Git LFS",
    ),
    "web page": (
        lambda p: content(p / "a.nii.gz", b"<!DOCTYPE html>"),
        "is a web page, not the file. Download it again",
    ),
}


def content(path, data):
    path.write_bytes(data)
    return path


def unit(folder, name):
    image = nibabel.Nifti1Image(volume()[0], RAS)
    image.header.set_xyzt_units(name)
    nibabel.save(image, folder / "a.nii")
    return folder / "a.nii"


def nrrd(folder, name="a.nrrd", notes="", **fields):
    values = {"type": "short", "dimension": "3", "space": "left-posterior-superior", "sizes": "24 20 6"}
    values |= {"space directions": "(2,0,0) (0,2,0) (0,0,5)", "endian": "little", "encoding": "raw"} | fields
    text = "".join(f"{key}: {value}\n" for key, value in values.items())
    return content(folder / name, f"NRRD0004\n{text}{notes}\n".encode() + volume()[0].tobytes("F"))


def segments(folder, sizes):
    shape = {"dimension": "4", "sizes": sizes, "kinds": "list domain domain domain"}
    shape["space directions"] = "none (2,0,0) (0,2,0) (0,0,5)"
    return nrrd(
        folder, "a.seg.nrrd", "Segmentation_MasterRepresentation:=Binary labelmap\nSegment0_Layer:=0\n", **shape
    )


def meta_image(folder, **fields):
    values = {"NDims": "3", "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "0 0 0", "ElementSpacing": "2 2 5"}
    values |= {"DimSize": "24 20 6", "ElementType": "MET_SHORT"} | fields
    values["ElementDataFile"] = values.pop("ElementDataFile", "LOCAL")  # ends the header
    text = "".join(f"{name} = {value}\n" for name, value in values.items())
    return content(folder / "a.mha", text.encode() + volume()[0].tobytes("F"))


def pair(folder, name):
    nibabel.save(nibabel.Nifti1Pair(volume()[0], RAS), folder / "a.hdr")
    return folder / name


def freesurfer(folder):
    nibabel.save(nibabel.MGHImage(volume()[0].astype(np.int32), RAS), folder / "a.mgz")
    return folder / "a.mgz"


@pytest.mark.parametrize("case", SOUND)
def test_a_sound_file_that_is_not_read_is_told_from_a_damaged_one(tmp_path, case):
    make, message = SOUND[case]
    path = str(make(tmp_path))
    for read in (lambda: VolumeReader().get_data((path,)), lambda: read_geometry(path)):
        with pytest.raises(ValueError, match=message) as refused:
            read()
        assert str(refused.value).startswith(f"monai_ext: {path}: ")
        assert "damaged" not in str(refused.value) and str(refused.value).endswith(".")


def test_hidden_files_are_no_volumes(tmp_path):
    save(tmp_path / "p.nii.gz", volume()[0])
    for name in ("._p.nii.gz", ".p.nii.gz"):
        content(tmp_path / name, b"\0\5\x16\7" + bytes(300))
    assert [item["image"] for item in find_images(tmp_path)] == [str(tmp_path / "p.nii.gz")]


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii.gz"])
def test_a_label_of_a_tilted_scan_is_written_where_it_can_be_placed(tmp_path, suffix):
    tilted = RAS.copy()
    tilted[1, 2] = 1.2
    label = MetaTensor(torch.ones(1, 4, 5, 6), affine=torch.tensor(tilted))
    writer = (AtomicNibabelWriter if suffix == ".nii.gz" else AtomicItkWriter)(output_dtype=np.uint8)
    writer.set_data_array(label, channel_dim=0)
    writer.set_metadata(label.meta, resample=False)
    if suffix == ".nii.gz":
        writer.write(tmp_path / f"a{suffix}")
        np.testing.assert_allclose(VolumeReader().get_data((tmp_path / f"a{suffix}",))[1]["affine"], tilted, atol=1e-6)
    else:
        with pytest.raises(
            ValueError, match=rf"a\{suffix}: the axes of this scan are not at right angles .* \.nii\.gz\."
        ):
            writer.write(tmp_path / f"a{suffix}")
        assert not list(tmp_path.iterdir())
