# SPDX-License-Identifier: Apache-2.0
"""Which DICOM series are segmented, what volume they make, and why others are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import EnhancedSRStorage, generate_uid

from monai_ext.bundle import Bundle
from monai_ext.data import VolumeReader
from monai_ext.data.files.dicom import find_series, read_volume, select_series
from tests.apps.series import edit, make_mr, make_multi_frame, tilt
from tests.data.volumes import rotation, volume
from tests.dicom import write_ct_series

AXIAL = rotation(20) @ np.diag([-0.8, -0.9, 2.5, 1.0])
CORONAL = AXIAL[:, [0, 2, 1, 3]]


@pytest.fixture
def image():
    return volume(seed=3, shape=(9, 7, 6))[0]


def read(folder: Path, modality: str = "CT"):
    return read_volume(select_series(find_series(folder), modality))


@pytest.mark.parametrize("affine", [AXIAL, CORONAL], ids=["axial", "coronal"])
@pytest.mark.parametrize("multi_frame", [False, True])
def test_volume_lies_where_the_series_was_written(image, affine, multi_frame, tmp_path):
    write_ct_series(tmp_path, image, affine)
    if multi_frame:
        make_multi_frame(tmp_path)
    found = read(tmp_path)
    # slices are sorted along the normal, which may turn the third axis
    there = affine.copy()
    if np.linalg.det(affine[:3, :3]) * np.linalg.det(found.affine[:3, :3]) < 0:
        there[:3, 3] += 5 * there[:3, 2]
        there[:3, 2] *= -1
        image = image[..., ::-1]
    np.testing.assert_allclose(found.affine, there, atol=1e-6)
    np.testing.assert_array_equal(found.array, image.astype(np.float32))


def test_volume_is_that_of_the_folder_reader(image, tmp_path):
    write_ct_series(tmp_path, image, AXIAL)
    found, (array, meta) = read(tmp_path), VolumeReader().get_data((str(tmp_path),))
    np.testing.assert_array_equal(found.array, array)
    np.testing.assert_allclose(found.affine, meta["affine"], atol=1e-6)


def test_axial_series_is_found_beside_others(image, tmp_path):
    """A localiser, a report and a file that is no DICOM lie in the study, too."""
    write_ct_series(tmp_path / "axial", image, AXIAL)
    write_ct_series(tmp_path / "localiser", image[..., :3], CORONAL)
    edit(tmp_path / "localiser", lambda ds: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    write_report(tmp_path / "report")
    (tmp_path / "notes.txt").write_text("no DICOM")
    assert read(tmp_path).array.shape == image.shape


def write_report(folder: Path) -> None:
    write_ct_series(folder, volume(shape=(4, 4, 1))[0], AXIAL)

    def change(ds):
        del ds.PixelData
        ds.Modality, ds.SOPClassUID = "SR", EnhancedSRStorage

    edit(folder, change)


def test_one_of_several_is_chosen_by_name(image, tmp_path):
    for name, number in (("thin", 3), ("thick", 4)):
        write_ct_series(tmp_path / name, image, AXIAL)

        def change(ds, name=name, number=number):
            ds.SeriesNumber, ds.SeriesDescription = number, name

        edit(tmp_path / name, change)
    found = find_series(tmp_path)
    with pytest.raises(ValueError, match=r"2 DICOM series could be .* choose one with --series.*'thick'.*'thin'"):
        select_series(found, "CT")
    uid = select_series(found, "CT", "thick").uid
    assert select_series(found, "CT", "4").uid == select_series(found, "CT", uid).uid == uid
    with pytest.raises(ValueError, match="no series 'thinner'; there are: .*'thin'"):
        select_series(found, "CT", "thinner")


def test_modality_of_another_bundle(image, tmp_path):
    write_ct_series(tmp_path, image, AXIAL)
    with pytest.raises(
        ValueError, match=r"no MR series to segment\. CT series 1 \(6 images\): no MR images \(CT Image"
    ):
        read(tmp_path, "MR")
    make_mr(tmp_path)
    assert read(tmp_path, "MR").array.shape == image.shape


def remove_one(folder):
    (folder / "slice002.dcm").unlink()


def mix_sizes(folder):
    path = folder / "slice003.dcm"
    ds = pydicom.dcmread(path)
    ds.Rows, ds.PixelData = 4, ds.PixelData[: 4 * ds.Columns * 2]
    ds.save_as(path)


def mix_orientations(folder):
    path = folder / "slice003.dcm"
    ds = pydicom.dcmread(path)
    ds.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    ds.save_as(path)


def repeat(folder):
    """A second phase of every slice, under the same series."""
    for path in sorted(folder.glob("*.dcm")):
        ds = pydicom.dcmread(path)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.save_as(folder / f"again_{path.name}")


def lose_position(folder):
    edit(folder, lambda ds: delattr(ds, "ImagePositionPatient"))


def cut_pixels(folder):
    edit(folder, lambda ds: setattr(ds, "PixelData", ds.PixelData[:20]))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (remove_one, r"1 slice\(s\) missing: 5 mm between slices 2 and 3 of 5 \(images 2 and 4\), elsewhere 2.5 mm"),
        (mix_sizes, "7x9 and 4x9 pixels: the series is mixed"),
        (mix_orientations, "different orientations .* the series is mixed"),
        (repeat, "up to 2 images lie at one place: several phases"),
        (lose_position, r"image 1 .* has no Image Position \(Patient\)"),
        (cut_pixels, r"slice000\.dcm: cannot be read \(7x9 pixels promised"),
    ],
)
def test_faulty_series_is_refused_with_its_reason(image, damage, reason, tmp_path):
    write_ct_series(tmp_path, image, AXIAL)
    damage(tmp_path)
    with pytest.raises(ValueError, match=reason) as e:
        read(tmp_path)
    assert str(e.value).startswith(f"monai_ext: {tmp_path}")


def test_folders_without_a_series(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        find_series(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="no DICOM series .the folder is empty."):
        find_series(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(FileNotFoundError, match=r"no DICOM series .1 file\(s\), none of them DICOM"):
        find_series(tmp_path)
    write_report(tmp_path / "report")
    with pytest.raises(ValueError, match=r"no CT series to segment\. SR series 1 .*no CT images \(Enhanced SR"):
        read(tmp_path)


def test_small_tilt_and_rounding_are_no_faults(image, tmp_path):
    write_ct_series(tmp_path, image, AXIAL)
    tilt(tmp_path, 0.2)
    assert read(tmp_path).array.shape == image.shape


def test_model_of_a_container(tmp_path):
    """Deploy's runners name a folder that holds the model."""
    with pytest.raises(FileNotFoundError, match="no bundle"):
        Bundle.find(tmp_path)
    bundle = tmp_path / "dcaunet_synapse"
    (bundle / "configs").mkdir(parents=True)
    (bundle / "configs" / "metadata.json").write_text("{}")
    (bundle / "models").mkdir()
    (bundle / "models" / "model.ts").write_bytes(b"")  # of the bundle, not a second model
    assert Bundle.find(tmp_path).folder == Bundle.find(bundle).folder == bundle
    (tmp_path / "other.ts").write_bytes(b"")
    assert Bundle.find(tmp_path / "other.ts").exported == tmp_path / "other.ts"
    with pytest.raises(ValueError, match=r"found dcaunet_synapse, other\.ts"):
        Bundle.find(tmp_path)
