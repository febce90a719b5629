# SPDX-License-Identifier: Apache-2.0
"""However a scan is stored, every voxel of the patient gets the same label, and left stays left."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser
from monai.data import decollate_batch, list_data_collate
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from monai_ext.data import VolumeReader, load_datalist
from monai_ext.data.files.volume_reader import read_geometry
from monai_ext.utils import plain_cause
from tests.bundles.runs import config
from tests.data.volumes import RAS, save, volume

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
LEFT, RIGHT = 1, 2
# every way of storing three axes: an order, and a direction for each
STORED = st.tuples(st.permutations((("L", "R"), ("P", "A"), ("S", "I"))), st.tuples(*[st.integers(0, 1)] * 3)).map(
    lambda item: tuple(pair[flip] for pair, flip in zip(*item))
)
# a 2D network sees the planes that were acquired; tests/transforms/test_slice_orientation.py has the other planes
AXIAL = st.tuples(*[st.floats(0.3, 6)] * 3).map(lambda mm: (*(s for s in mm if s != max(mm)), *[max(mm)] * 3)[:3])
DTYPES = ("<i2", ">i2", "<f4", ">f4", "<f8", "<i4", "<u2")
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


class KnowsLeft(torch.nn.Module):
    """Bright voxels of slices ``(B, 1, X, Y)`` in LPS: to the left of the middle class 1, to the right class 2."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bright = x > 0.7
        left = (torch.arange(x.shape[2]) >= x.shape[2] / 2).view(1, 1, -1, 1)
        return torch.cat([torch.full_like(x, 0.5), (bright & left).to(x), (bright & ~left).to(x)], dim=1)


class Pipeline:
    """A bundle's own loading, preprocessing, inferer, inversion and writer around a network of a few lines."""

    def __init__(self, bundle: str, folder: Path) -> None:
        parser = ConfigParser(ConfigParser.load_config_files(config(bundle, "inference")))
        parser["output_dir"], parser["image_size"] = str(folder / "out"), None
        self.before, self.after, self.inferer = (
            parser.get_parsed_content(part) for part in ("preprocessing", "postprocessing", "inferer")
        )

    def __call__(self, path: Path) -> nibabel.Nifti1Image:
        batch = list_data_collate([self.before({"image": str(path)})])
        batch["pred"] = self.inferer(batch["image"], KnowsLeft())
        (item,) = decollate_batch(batch)
        self.after(item)
        return nibabel.load(path.parent / "out" / f"{path.name.split('.')[0]}_seg.nii.gz")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return Pipeline("dcaunet_synapse", tmp_path_factory.getbasetemp() / "geometry")


def patient(seed: int = 0, size: tuple[int, int, int] = (16, 14, 6)) -> tuple[np.ndarray, np.ndarray]:
    """HU in LPS with organs on both sides, and the labels that they should get."""
    rng = np.random.default_rng(seed)
    image = rng.integers(-60, 60, size)
    image[0] = -1000
    organs = rng.random(size) < 0.15
    image[organs] = 250
    left = (np.arange(size[0]) >= size[0] / 2)[:, None, None]
    return image, np.where(organs, np.where(left, LEFT, RIGHT), 0)


def turned(angles: tuple[float, float, float]) -> np.ndarray:
    result = np.eye(4)
    for axis, degrees in enumerate(angles):
        angle = np.deg2rad(degrees)
        turn = np.eye(4)
        i, j = (k for k in range(3) if k != axis)
        turn[[i, i, j, j], [i, j, i, j]] = [np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)]
        result = result @ turn
    return result


def stored_as(array: np.ndarray, affine: np.ndarray, codes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The same patient with axes that run as ``codes`` say; ``array`` runs LPS."""
    change = ornt_transform(axcodes2ornt(("L", "P", "S")), axcodes2ornt(codes))
    return apply_orientation(array, change), affine @ inv_ornt_aff(change, array.shape)


@QUICK
@given(
    codes=STORED,
    spacing=AXIAL,
    angles=st.tuples(*[st.floats(-14, 14)] * 3),
    offset=st.tuples(*[st.floats(-400, 400)] * 3),
    dtype=st.sampled_from(DTYPES),
    crop=st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 3), st.integers(0, 5)),
    suffix=st.sampled_from([".nii", ".nii.gz", ".nrrd", ".mha"]),
    seed=st.integers(0, 5),
)
def test_labels_do_not_depend_on_how_a_scan_is_stored(
    pipeline, tmp_path_factory, codes, spacing, angles, offset, dtype, crop, suffix, seed
):
    folder = tmp_path_factory.getbasetemp() / "geometry"
    folder.mkdir(exist_ok=True)
    image, _ = patient(seed)
    image = image[crop[0] : 16 - crop[1], crop[2] :, crop[3] :]
    left = (np.arange(len(image)) >= len(image) / 2)[:, None, None]
    expected = np.where(image == 250, np.where(left, LEFT, RIGHT), 0)
    affine = turned(angles) @ LPS @ np.diag([*spacing, 1.0])
    affine[:3, 3] = offset
    array, stored_affine = stored_as(image, affine, codes)
    wanted, _ = stored_as(expected, affine, codes)
    if dtype == "<u2":  # values above 0 only, and a slope and an intercept that bring them back
        array = (array + 1000) * 2
    path = folder / "scan.nii"
    header = nibabel.Nifti1Header(endianness=">" if dtype[0] == ">" else "<")
    nifti = nibabel.Nifti1Image(array.astype(dtype), stored_affine, header)
    nifti.header.set_data_dtype(dtype)
    content = bytearray(nifti.to_bytes())
    if dtype == "<u2":
        content[112:120] = np.array([0.5, -1000], "<f4").tobytes()
    path.write_bytes(content)
    if suffix != ".nii":
        sitk.WriteImage(sitk.ReadImage(path), folder / f"scan{suffix}") if suffix != ".nii.gz" else None
        if suffix == ".nii.gz":
            nibabel.save(nibabel.load(path), folder / "scan.nii.gz")
        path = folder / f"scan{suffix}"
    label = pipeline(path)
    np.testing.assert_array_equal(np.asarray(label.dataobj), wanted)
    np.testing.assert_allclose(label.affine, stored_affine, atol=2e-3)
    # in the patient, as another library sees it: x grows to the right
    for side, sign in ((LEFT, 1), (RIGHT, -1)):
        voxels = np.argwhere(np.asarray(label.dataobj) == side)
        middle = affine @ [(len(image) - 1) / 2, 0, 0, 1]
        places = nibabel.affines.apply_affine(label.affine, voxels) - middle[:3]
        assert (sign * places @ affine[:3, 0] >= -1e-2 * spacing[0] ** 2).all()
    assert tuple(io_orientation(label.affine)[:, 0]) == tuple(io_orientation(stored_affine)[:, 0])


def test_the_mr_bundle_keeps_sides_too(tmp_path):
    pipeline = Pipeline("dcaunet_acdc", tmp_path)
    image, _ = patient(1)
    labels = []
    for codes in (("R", "A", "S"), ("L", "P", "S"), ("S", "L", "A")):
        array, affine = stored_as(image - image.min(), LPS @ np.diag([1.5, 1.5, 8, 1]), codes)
        label = pipeline(save(tmp_path / "scan.nii.gz", array.astype(np.int16), affine))
        labels.append(nibabel.as_closest_canonical(label).get_fdata())
    assert np.unique(labels[0]).size == 3
    np.testing.assert_array_equal(labels[1], labels[0])
    np.testing.assert_array_equal(labels[2], labels[0])


def nifti(path: Path, array: np.ndarray, **fields) -> Path:
    image = nibabel.Nifti1Image(array, RAS)
    header = image.header
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.binaryblock + b"\0" * 4 + array.tobytes("F"))
    return path


def meta_image(path: Path, **fields) -> Path:
    image = volume()[0]
    values = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "0 0 0",
        "ElementSpacing": "2 2 5",
        "DimSize": "24 20 6",
        "ElementType": "MET_SHORT",
        "ElementDataFile": "LOCAL",
    } | fields
    values["ElementDataFile"] = values.pop("ElementDataFile")  # ends the header
    text = "".join(f"{name} = {value}\n" for name, value in values.items() if value)
    path.write_bytes(text.encode() + image.tobytes("F"))
    return path


def nrrd(path: Path, **fields) -> Path:
    values = {"type": "short", "dimension": "3", "space": "left-posterior-superior", "sizes": "24 20 6"}
    values |= {"space directions": "(2,0,0) (0,2,0) (0,0,5)", "endian": "little", "encoding": "raw"} | fields
    text = "".join(f"{name}: {value}\n" for name, value in values.items() if value)
    path.write_bytes(f"NRRD0004\n{text}\n".encode() + volume()[0].tobytes("F"))
    return path


VOLUME = volume()[0]
MIRRORED = {"qform_code": 1, "quatern_b": 0, "quatern_c": 1, "quatern_d": 0, "pixdim": [1, 2, 2, 5, 0, 0, 0, 0]}
REFUSED = {
    "no orientation": ("a.nii", lambda p: nifti(p, VOLUME, sform_code=0, qform_code=0), "left and right are unknown"),
    "sform of zeros": (
        "a.nii",
        lambda p: nifti(p, VOLUME, srow_x=[0] * 4, srow_y=[0] * 4, srow_z=[0] * 4),
        "missing, singular",
    ),
    "sform that is not finite": ("a.nii", lambda p: nifti(p, VOLUME, srow_x=[np.nan] * 4), "left and right are"),
    "two orientations": ("a.nii", lambda p: nifti(p, VOLUME, **MIRRORED), "its sform says that the axes run RAS"),
    "qform with zero spacing": (
        "a.nii",
        lambda p: nifti(p, VOLUME, sform_code=0, qform_code=1, pixdim=[1, 0, 2, 5, 0, 0, 0, 0]),
        "voxels of [0.0, 2.0, 5.0] mm",
    ),
    "qform with negative spacing": (
        "a.nii",
        lambda p: nifti(p, VOLUME, sform_code=0, qform_code=1, pixdim=[1, -2, 2, 5, 0, 0, 0, 0]),
        "voxels of [-2.0, 2.0, 5.0] mm",
    ),
    "4D": ("a.nii.gz", lambda p: save(p, np.stack([VOLUME] * 2, axis=-1)), "24x20x6x2, expected a volume of three"),
    "RGB": ("a.nii.gz", lambda p: save(p, np.zeros((8, 8, 4), [(c, "u1") for c in "RGB"])), "colour values"),
    "complex": ("a.nii.gz", lambda p: save(p, VOLUME.astype(np.complex64)), "values of type complex64"),
    "mha, negative spacing": ("a.mha", lambda p: meta_image(p, ElementSpacing="-2 2 5"), "not positive"),
    "mha, zero spacing": ("a.mha", lambda p: meta_image(p, ElementSpacing="0 2 5"), "not positive"),
    "mha, no orientation": ("a.mha", lambda p: meta_image(p, TransformMatrix=""), "left and right are unknown"),
    "mha, 4D": ("a.mha", lambda p: meta_image(p, NDims="4", DimSize="24 10 6 2"), "a.mha: "),
    "mha, colour": ("a.mha", lambda p: meta_image(p, ElementNumberOfChannels="3"), "values per voxel"),
    "nrrd, no space": ("a.nrrd", lambda p: nrrd(p, space=""), "a.nrrd: "),
    "nrrd, no directions": ("a.nrrd", lambda p: nrrd(p, **{"space directions": ""}), "left and right are unknown"),
    "nrrd, metres": ("a.nrrd", lambda p: nrrd(p, **{"space units": '"m" "m" "m"'}), "space units m, expected mm"),
    "nrrd, zero spacing": ("a.nrrd", lambda p: nrrd(p, **{"space directions": "(0,0,0) (0,2,0) (0,0,5)"}), "a.nrrd: "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_geometry_that_is_none_is_refused_alike_in_training_and_inference(tmp_path, pipeline, case):
    name, make, message = REFUSED[case]
    path = make(tmp_path / name)
    listed = [{"image": name, "label": name}]
    (tmp_path / "cases.json").write_text(json.dumps({"training": listed}))
    told = []
    for read in (
        lambda: load_datalist("synapse", datalist=tmp_path / "cases.json", split="paper"),  # training, evaluation
        lambda: pipeline.before({"image": str(path)}),  # inference, segment
        lambda: VolumeReader().get_data((str(path),)),
    ):
        with pytest.raises((ValueError, RuntimeError)) as refused:
            read()
        told.append(plain_cause(refused.value))
    assert told[0] == told[1] == told[2]
    assert message in told[0]
    assert str(path) in told[0]


def test_who_knows_the_orientation_can_say_it(tmp_path, monkeypatch, caplog):
    path = nifti(tmp_path / "a.nii", VOLUME, sform_code=0, qform_code=0)
    monkeypatch.setenv("MONAI_EXT_ORIENTATION", "LPS")
    with caplog.at_level(logging.WARNING):
        _, affine = read_geometry(str(path))
    np.testing.assert_allclose(affine[:3, :3], np.diag([-2.0, -2.0, 5.0]))
    assert "taken as LPS" in caplog.text
    monkeypatch.setenv("MONAI_EXT_ORIENTATION", "LLS")
    with pytest.raises(ValueError, match="left and right are unknown"):
        read_geometry(str(path))


def test_sform_is_used_where_qform_lies_elsewhere_with_a_warning(tmp_path, caplog):
    moved = {"qform_code": 1, "quatern_b": 0, "quatern_c": 0, "quatern_d": 0, "qoffset_x": 4}
    path = nifti(tmp_path / "a.nii", VOLUME, **moved, pixdim=[1, 2, 2, 5, 0, 0, 0, 0])
    with caplog.at_level(logging.WARNING):
        _, affine = read_geometry(str(path))
    np.testing.assert_allclose(affine, RAS)
    assert "sform and qform differ by up to 4 mm; the sform is used" in caplog.text


@pytest.mark.parametrize("space", ["left-posterior-superior", "RAS", "left-anterior-superior"])
def test_every_space_of_nrrd(tmp_path, space):
    """The first axis is stored towards what the name of the space calls first."""
    path = nrrd(tmp_path / "a.nrrd", space=space)
    affine = VolumeReader().get_data((str(path),))[1]["affine"]
    signs = {"left-posterior-superior": (-1, -1, 1), "RAS": (1, 1, 1), "left-anterior-superior": (-1, 1, 1)}[space]
    np.testing.assert_allclose(affine[:3, :3], np.diag(np.multiply(signs, (2.0, 2.0, 5.0))))
