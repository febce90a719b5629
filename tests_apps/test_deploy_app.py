# SPDX-License-Identifier: Apache-2.0
"""The MONAI Deploy application on real DICOM files: the voxels are those of the research route."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import highdicom as hd
import nibabel
import numpy as np
import pydicom
import pytest
import torch
from monai.bundle import ckpt_export
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from monai_ext.apps.deploy import deploy
from monai_ext.apps.deploy.dicom_results import volumes_ml, write_results
from monai_ext.data.files.dicom import Volume, find_series, read_volume, select_series
from tests.apps.series import compress, edit, make_mr, make_multi_frame, tilt
from tests.apps.test_deploy_series import write_report
from tests.data.files.test_dicom import AXIAL
from tests.data.files.test_dicom import ct as pixels
from tests.data.files.test_unusual_series import UNUSUAL
from tests.dciodvfy import faults_of
from tests.dicom import write_ct_series
from tests_apps.bundles import ROOT, random_weights, run_bundle
from tests_apps.studies import ct, save

BUNDLE = "dcaunet_synapse"
FORMS = {
    "plain": lambda folder: None,
    "jpeg2000": lambda folder: compress(folder, JPEG2000Lossless),
    "jpegls": lambda folder: compress(folder, JPEGLSLossless),
    "multi_frame": make_multi_frame,
}


def oblique_study(orientation: str) -> tuple[np.ndarray, np.ndarray]:
    """Voxels and affine; a coronal series runs along the patient from front to back."""
    image, _, affine = ct(5, size=40, slices=12 if orientation == "axial" else 36)
    if orientation == "coronal":
        image, affine = image.transpose(0, 2, 1)[:, :, ::3], affine[:, [0, 2, 1, 3]] @ np.diag([1.0, 1.0, 3.0, 1.0])
    return np.ascontiguousarray(image), affine


USUAL_NAMES = ["box_seg.dcm", "box_sr.dcm", "box_rtstruct.dcm", "box_volumes.json"]


def names_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def results(output: Path) -> Path:
    """The one folder with results; nothing else is left there."""
    (study,) = output.iterdir()
    (folder,) = study.iterdir()
    return folder


def label_of(file: Path, affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The segments of a DICOM SEG, each frame at the place that it states, on the grid of ``affine`` (RAS)."""
    segmentation = hd.seg.segread(file)
    label = np.zeros(shape, np.uint8)
    inverse = np.linalg.inv(np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)
    frames = np.atleast_3d(segmentation.pixel_array)
    for group, frame in zip(segmentation.PerFrameFunctionalGroupsSequence, frames):
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        x, y, z = (inverse @ [*position, 1.0])[:3]
        assert abs(x) < 1e-2
        assert abs(y) < 1e-2
        assert abs(z - round(z)) < 1e-2
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        label[:, :, round(z)][frame.T > 0] = number
    return label


@pytest.mark.parametrize(
    ("orientation", "form"),
    [
        *(("axial", form) for form in FORMS),
        *(("coronal", form) for form in ("plain", "jpeg2000", "multi_frame")),
    ],
)
def test_segments_are_the_label_of_the_bundle(bundles, orientation, form, tmp_path):
    image, affine = oblique_study(orientation)
    write_ct_series(tmp_path / "study" / "ct", image, affine)
    FORMS[form](tmp_path / "study" / "ct")
    write_report(tmp_path / "study" / "report")
    deploy(str(bundles[BUNDLE]), str(tmp_path / "study"), str(tmp_path / "out"))
    source = save(tmp_path / "ct.nii.gz", image, affine)
    expected = np.asarray(nibabel.load(run_bundle(bundles[BUNDLE], source, tmp_path / "bundle")).dataobj)
    found = label_of(results(tmp_path / "out") / f"{BUNDLE}_seg.dcm", affine, image.shape)
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found)) > 3
    summary = json.loads((results(tmp_path / "out") / f"{BUNDLE}_volumes.json").read_text())
    voxel = abs(np.linalg.det(affine)) / 1000
    for value, amount in enumerate(summary["volumes_ml"].values(), 1):
        assert amount == pytest.approx(voxel * (expected == value).sum(), abs=1e-4)


def test_mr(bundles, tmp_path):
    image, affine = oblique_study("axial")
    write_ct_series(tmp_path / "study", image, affine)
    make_mr(tmp_path / "study")
    deploy(str(bundles["dcaunet_acdc"]), str(tmp_path / "study"), str(tmp_path / "out"))
    source = save(tmp_path / "mr.nii.gz", image, affine)
    expected = np.asarray(nibabel.load(run_bundle(bundles["dcaunet_acdc"], source, tmp_path / "bundle")).dataobj)
    found = label_of(results(tmp_path / "out") / "dcaunet_acdc_seg.dcm", affine, image.shape)
    np.testing.assert_array_equal(found, expected)


def test_other_programs_can_read_the_result(bundles, tmp_path):
    """Codes, names and colours of the organs, references to the source images, and surfaces."""
    image, affine = oblique_study("axial")
    write_ct_series(tmp_path / "study", image, affine)
    edit(tmp_path / "study", lambda ds: setattr(ds, "PatientID", "P7"))
    deploy(str(bundles[BUNDLE]), str(tmp_path / "study"), str(tmp_path / "out"), stl=True)
    segmentation = hd.seg.segread(results(tmp_path / "out") / f"{BUNDLE}_seg.dcm")
    assert segmentation.PatientID == "P7"
    assert segmentation.Modality == "SEG"
    coded = {s.SegmentLabel: s.SegmentedPropertyTypeCodeSequence[0] for s in segmentation.SegmentSequence}
    assert {name: str(code.CodeValue) for name, code in coded.items()} == {
        "aorta": "15825003",
        "gallbladder": "28231008",
        "left kidney": "64033007",
        "right kidney": "64033007",
        "liver": "10200004",
        "pancreas": "15776009",
        "spleen": "78961009",
        "stomach": "69695003",
    }
    side = coded["left kidney"].SegmentedPropertyTypeModifierCodeSequence[0]
    assert (side.CodeValue, side.CodeMeaning) == ("7771000", "Left")
    for segment in segmentation.SegmentSequence:
        assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "91723000"
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        assert len(segment.RecommendedDisplayCIELabValue) == 3
    assert len(segmentation.get_source_image_uids()) == image.shape[2]


def test_surfaces_lie_where_the_organs_are(tmp_path):
    import trimesh

    image, affine = oblique_study("axial")
    write_ct_series(tmp_path / "study", image, affine)
    volume = read_volume(select_series(find_series(tmp_path / "study"), "CT"))
    label = np.zeros(volume.array.shape[::-1], np.uint8)
    label[3:8, 10:30, 5:25] = 5
    metadata = json.loads((ROOT / "bundles" / BUNDLE / "configs" / "metadata.json").read_text())
    files = write_results(tmp_path / "out", "box", metadata, label, volume, stl=True)
    assert [file.name for file in files] == [*USUAL_NAMES[:3], "box_liver.stl", USUAL_NAMES[3]]
    surface = trimesh.load(results(tmp_path / "out") / "box_liver.stl")
    liver = volumes_ml(label, volume.affine, {"liver": 5})["liver"]
    assert surface.volume / 1000 == pytest.approx(liver, rel=0.02)  # of a box only the edges are cut
    middle = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine @ [14.5, 19.5, 5.0, 1.0]
    np.testing.assert_allclose(surface.center_mass, middle[:3], atol=0.1)


def test_exported_model(bundles, tmp_path):
    bundle = Path(shutil.copytree(bundles[BUNDLE], tmp_path / "bundles" / BUNDLE))
    config = bundle / "configs" / "inference.json"
    # an export computes in float32; by itself a bundle takes bfloat16 where a processor has it
    config.write_text(json.dumps({**json.loads(config.read_text()), "precision": "float32"}))
    model = tmp_path / f"{BUNDLE}.ts"
    ckpt_export(
        "network_def",
        filepath=str(model),
        ckpt_file=str(bundle / "models" / "model.pt"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "inference.json"),
    )
    image, affine = oblique_study("axial")
    write_ct_series(tmp_path / "study", image, affine)
    deploy(str(model), str(tmp_path / "study"), str(tmp_path / "exported"))
    deploy(str(bundle), str(tmp_path / "study"), str(tmp_path / "folder"))
    deploy(str(bundle), str(tmp_path / "study"), str(tmp_path / "checkpoint"), checkpoint=str(model))
    labels = [
        label_of(results(tmp_path / name) / f"{BUNDLE}_seg.dcm", affine, image.shape)
        for name in ("folder", "exported", "checkpoint")
    ]
    for other in labels[1:]:
        assert (labels[0] == other).mean() > 0.9999  # TorchScript may fuse operations
    with pytest.raises(FileNotFoundError, match=r"nothing\.pt2: no such model\. Give another --checkpoint"):
        deploy(str(bundle), str(tmp_path / "study"), str(tmp_path / "none"), checkpoint=str(tmp_path / "nothing.pt2"))
    with pytest.raises(ValueError, match=r"is a model already\. Give the bundle's folder, or no --checkpoint"):
        deploy(str(model), str(tmp_path / "study"), str(tmp_path / "none"), checkpoint=str(model))


def remove_one(study: Path) -> None:
    (study / "slice004.dcm").unlink()


def mix(study: Path) -> None:
    """Slices of another series under the same UID."""
    image, affine = oblique_study("coronal")
    write_ct_series(study / "other", image[..., :3], affine)
    uid = pydicom.dcmread(study / "slice000.dcm").SeriesInstanceUID
    edit(study / "other", lambda ds: setattr(ds, "SeriesInstanceUID", uid))


def only_report(study: Path) -> None:
    empty(study)
    write_report(study)


def empty(study: Path) -> None:
    for path in study.glob("*.dcm"):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (remove_one, r"1 slice\(s\) missing"),
        (mix, "the series is mixed"),
        (only_report, "no CT series to segment"),
        (empty, "no DICOM series .the folder is empty."),
    ],
    ids=["missing slice", "mixed series", "non-image object", "empty folder"],
)
def test_faulty_study_gives_its_reason_and_no_file(bundles, damage, reason, tmp_path):
    write_ct_series(tmp_path / "study", *oblique_study("axial"))
    damage(tmp_path / "study")
    with pytest.raises((ValueError, FileNotFoundError), match=reason):
        deploy(str(bundles[BUNDLE]), str(tmp_path / "study"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_weights_of_another_network_are_refused(bundles, tmp_path):
    other = tmp_path / BUNDLE
    (other / "models").mkdir(parents=True)
    (other / "configs").symlink_to(bundles[BUNDLE] / "configs")
    torch.save(random_weights(bundles["unet_dca_synapse"], 0), other / "models" / "model.pt")
    write_ct_series(tmp_path / "study", *oblique_study("axial"))
    with pytest.raises(ValueError, match="its weights do not fit DCAUNet"):
        deploy(str(other), str(tmp_path / "study"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_unknown_bundle(tmp_path):
    with pytest.raises(FileNotFoundError, match="no bundle 'dcaunet_sinapse': neither"):
        deploy("dcaunet_sinapse", str(tmp_path), str(tmp_path / "out"))


def test_container_entry(bundles, tmp_path):
    """As MONAI Deploy's runners start it; an error is its last line and nothing else."""
    write_ct_series(tmp_path / "study", *oblique_study("axial"))
    places = {"INPUT": tmp_path / "study", "OUTPUT": tmp_path / "out", "MODEL": bundles[BUNDLE]}
    environment = {**os.environ, **{f"HOLOSCAN_{name}_PATH": str(place) for name, place in places.items()}}
    command = [sys.executable, "-m", "monai_ext.apps.deploy"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(results(tmp_path / "out") / f"{BUNDLE}_volumes.json")
    remove_one(tmp_path / "study")
    environment["HOLOSCAN_OUTPUT_PATH"] = str(tmp_path / "none")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "1 slice(s) missing" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("form", ["plain", "multi_frame"])
def test_a_tilted_series_and_its_results(form, tmp_path):
    """The segments lie on the source's own planes; mL and surfaces are those of the sheared volume."""
    import trimesh

    image, affine = oblique_study("axial")
    write_ct_series(tmp_path / "study", image, affine)
    tilt(tmp_path / "study", 15)
    FORMS[form](tmp_path / "study")
    volume = read_volume(select_series(find_series(tmp_path / "study"), "CT"))
    label = np.zeros(volume.array.shape[::-1], np.uint8)
    label[3:8, 10:30, 5:25] = 5
    metadata = json.loads((ROOT / "bundles" / BUNDLE / "configs" / "metadata.json").read_text())
    write_results(tmp_path / "out", "box", metadata, label, volume, stl=True)
    found = label_of(results(tmp_path / "out") / "box_seg.dcm", volume.affine, volume.array.shape)
    np.testing.assert_array_equal(found, label.T)
    voxel = np.linalg.norm(affine[:3, 0]) * np.linalg.norm(affine[:3, 1]) * np.linalg.norm(affine[:3, 2]) / 1000
    liver = json.loads((results(tmp_path / "out") / "box_volumes.json").read_text())["volumes_ml"]["liver"]
    assert liver == pytest.approx(5 * 20 * 20 * voxel, abs=1e-3)  # slices slide on each other: none is lost
    surface = trimesh.load(results(tmp_path / "out") / "box_liver.stl")
    assert surface.volume / 1000 == pytest.approx(liver, rel=0.02)
    middle = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine @ [14.5, 19.5, 5.0, 1.0]
    np.testing.assert_allclose(surface.center_mass, middle[:3], atol=0.1)


def test_names_in_other_scripts_and_values_that_dicom_does_not_allow(tmp_path):
    image, affine = oblique_study("axial")
    write_ct_series(tmp_path / "study", image, affine)

    def change(ds: pydicom.Dataset) -> None:
        ds.SpecificCharacterSet, ds.PatientName = ["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"
        ds.PatientSex, ds.StudyDate, ds.SliceThickness, ds.SeriesNumber = "U", "2020.1.2", None, 2147483647

    with pydicom.config.disable_value_validation():
        edit(tmp_path / "study", change)
    volume = read_volume(select_series(find_series(tmp_path / "study"), "CT"))
    label = np.zeros(volume.array.shape[::-1], np.uint8)
    label[3:8, 10:30, 5:25] = 5
    metadata = json.loads((ROOT / "bundles" / BUNDLE / "configs" / "metadata.json").read_text())
    write_results(tmp_path / "out", "box", metadata, label, volume)
    found = hd.seg.segread(results(tmp_path / "out") / "box_seg.dcm")
    assert str(found.PatientName) == "Yamada^Tarou=山田^太郎"
    assert not found.PatientSex
    assert not found.StudyDate
    assert 0 < found.SeriesNumber < 2**31


def boxed(folder: Path, seed: int = 5) -> tuple[np.ndarray, Volume, dict]:
    """A label of one organ for the series in a folder, and what ``write_results`` takes beside it."""
    volume = read_volume(select_series(find_series(folder), "CT"))
    label = np.zeros(volume.array.shape[::-1], np.uint8)
    label[: seed + 1, 10:30, 5:25] = 5
    return label, volume, json.loads((ROOT / "bundles" / BUNDLE / "configs" / "metadata.json").read_text())


@pytest.mark.parametrize("name", UNUSUAL)
def test_results_of_an_unusual_series_can_be_read_back(name, tmp_path):
    write_ct_series(tmp_path / "ct", pixels(), AXIAL)
    with pydicom.config.disable_value_validation():
        UNUSUAL[name](tmp_path / "ct")
    label, volume, metadata = boxed(tmp_path / "ct", 2)
    write_results(tmp_path / "out", "box", metadata, label, volume)
    segmentation = hd.seg.segread(results(tmp_path / "out") / "box_seg.dcm")
    found = segmentation.get_volume(combine_segments=True)
    inverse = np.linalg.inv(np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine)
    ours = np.zeros_like(label)
    for k, j, i in np.argwhere(found.array):  # each voxel at the place that the SEG gives it
        z, y, x = np.rint((inverse @ found.affine @ [k, j, i, 1.0])[:3]).astype(int)[::-1]
        ours[z, y, x] = found.array[k, j, i]
    np.testing.assert_array_equal(ours, label)
    assert -(2**31) <= int(segmentation.SeriesNumber) < 2**31
    assert re.fullmatch("[MFO]?", segmentation.PatientSex or "")
    assert re.fullmatch(r"(\d{8})?", str(segmentation.StudyDate or ""))


def test_results_of_two_patients_lie_in_two_folders(tmp_path):
    for patient in ("a", "b"):
        write_ct_series(tmp_path / patient, *oblique_study("axial"))
        edit(tmp_path / patient, lambda ds, patient=patient: setattr(ds, "PatientID", patient))
        label, volume, metadata = boxed(tmp_path / patient)
        written = write_results(tmp_path / "out", "box", metadata, label, volume, stl=True)
        first = volume.frames[0].source
        folder = tmp_path / "out" / first.StudyInstanceUID / first.SeriesInstanceUID
        assert written == [folder / name for name in (*USUAL_NAMES[:3], "box_liver.stl", USUAL_NAMES[3])]
        assert sorted(folder.iterdir()) == sorted(written)
        assert {pydicom.dcmread(file).PatientID for file in written if file.suffix == ".dcm"} == {patient}
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_results_that_are_there_are_kept_or_replaced_as_a_whole(tmp_path):
    write_ct_series(tmp_path / "ct", *oblique_study("axial"))
    label, volume, metadata = boxed(tmp_path / "ct")
    write_results(tmp_path / "out", "box", metadata, label, volume, stl=True)
    folder = results(tmp_path / "out")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(FileExistsError, match=r"results of this series already\. Give .*--overwrite true"):
        write_results(tmp_path / "out", "other", metadata, label, volume)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    write_results(tmp_path / "out", "other", metadata, label, volume, overwrite=True)
    assert names_of(results(tmp_path / "out")) == {name.replace("box", "other") for name in USUAL_NAMES}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_that_fails_in_writing_leaves_what_was_there(overwrite, tmp_path, monkeypatch):
    write_ct_series(tmp_path / "ct", *oblique_study("axial"))
    label, volume, metadata = boxed(tmp_path / "ct")
    if overwrite:
        write_results(tmp_path / "out", "box", metadata, label, volume)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    monkeypatch.setattr("monai_ext.apps.deploy.dicom_results.write_json", full)  # the SEG is written by then
    with pytest.raises(OSError, match="No space left"):
        write_results(tmp_path / "out", "new", metadata, label, volume, overwrite=overwrite)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    assert (tmp_path / "out").exists() == overwrite


def test_existing_results_are_refused_before_inference(bundles, tmp_path, monkeypatch):
    write_ct_series(tmp_path / "study", *oblique_study("axial"))
    label, volume, metadata = boxed(tmp_path / "study")
    write_results(tmp_path / "out", "box", metadata, label, volume)
    arguments = str(bundles[BUNDLE]), str(tmp_path / "study"), str(tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr("monai_ext.apps.deploy.operators.BundleOperator.compute", None)
        with pytest.raises(FileExistsError, match="monai_ext: .*--overwrite true") as e:
            deploy(*arguments)
    assert "\n" not in str(e.value)
    deploy(*arguments, overwrite="true")
    assert names_of(results(tmp_path / "out")) == {name.replace("box", BUNDLE) for name in USUAL_NAMES}


@pytest.mark.parametrize("form", ["plain", "tilted", "multi_frame"])
def test_the_report_has_the_voxels_times_their_volume(form, tmp_path):
    image, affine = oblique_study("axial")
    write_ct_series(tmp_path / "ct", image, affine)
    edit(tmp_path / "ct", lambda ds: setattr(ds, "PatientName", "Phantom^P"))
    {**FORMS, "tilted": lambda folder: tilt(folder, 15)}[form](tmp_path / "ct")
    label, volume, metadata = boxed(tmp_path / "ct")
    label[7:9, 3:7, 4:9] = 3
    seg, sr, rtstruct, summary = write_results(tmp_path / "out", "box", metadata, label, volume)
    for file in (seg, sr, rtstruct):
        assert faults_of(file) == []
    report, segmentation = hd.sr.srread(sr), hd.seg.segread(seg)
    assert (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag) == (
        *("COMPLETE", "UNVERIFIED", "PRELIMINARY"),
    )
    groups = report.content.get_volumetric_roi_measurement_groups()
    names = ["aorta", "gallbladder", "left kidney", "right kidney", "liver", "pancreas", "spleen", "stomach"]
    assert [group.tracking_identifier for group in groups] == names
    amounts = json.loads(summary.read_text())["volumes_ml"]
    voxel = abs(np.linalg.det(volume.affine)) / 1000
    for value, group in enumerate(groups, 1):
        (measured,) = group.get_measurements(name=codes.SCT.Volume)
        assert measured.value == pytest.approx(voxel * (label == value).sum(), abs=1e-4)
        assert measured.value == amounts[names[value - 1]]
        assert measured.unit == Code("mL", "UCUM", "milliliter")
        reference = group.referenced_segment
        assert reference.referenced_sop_instance_uid == segmentation.SOPInstanceUID
        assert reference.referenced_segment_numbers == [value]
        described = segmentation.get_segment_description(value)
        assert group.tracking_uid == described.tracking_uid
        assert group.finding_type == described.segmented_property_type
    assert [name for name, amount in amounts.items() if amount] == ["left kidney", "liver"]
    assert groups[2].finding_sites[0].laterality == codes.SCT.Left
    written = report.to_json()
    for words in ("Research only; not for diagnosis or treatment.", "Algorithm Name", "Artificial Intelligence"):
        assert words in written


def test_what_is_written_can_be_chosen(tmp_path):
    write_ct_series(tmp_path / "ct", *oblique_study("axial"))
    label, volume, metadata = boxed(tmp_path / "ct")
    for k, (chosen, names) in enumerate(
        {
            "rtstruct": ["box_rtstruct.dcm", "box_volumes.json"],
            " SEG, stl": ["box_seg.dcm", "box_liver.stl", "box_volumes.json"],
            "stl": ["box_liver.stl", "box_volumes.json"],
        }.items()
    ):
        written = write_results(tmp_path / str(k), "box", metadata, label, volume, results=chosen)
        assert [path.name for path in written] == names
        summary = json.loads(written[-1].read_text())
        assert ("segmentation_sop_instance_uid" in summary) == ("box_seg.dcm" in names)
    for chosen, reason in (
        ("seg,nifti", "--results: 'nifti', expected some of seg,rtstruct,sr,stl"),
        ("sr", "sr refers to the segments of seg. Add seg"),
    ):
        with pytest.raises(ValueError, match=f"monai_ext: .*{reason}"):
            write_results(tmp_path / "none", "box", metadata, label, volume, results=chosen)
    assert not (tmp_path / "none").exists()


def test_a_class_without_a_code_is_refused_before_inference(bundles, tmp_path, monkeypatch):
    bundle = shutil.copytree(bundles[BUNDLE], tmp_path / "own")
    file = bundle / "configs" / "metadata.json"
    file.write_text(file.read_text().replace('"5": "liver"', '"5": "duodenal cap"'))
    write_ct_series(tmp_path / "study", *oblique_study("axial"))
    with monkeypatch.context() as patch:
        patch.setattr("monai_ext.apps.deploy.operators.BundleOperator.compute", None)
        with pytest.raises(ValueError, match="class 'duodenal cap' has no coded term.*--results stl"):
            deploy(str(bundle), str(tmp_path / "study"), str(tmp_path / "out"))
    deploy(str(bundle), str(tmp_path / "study"), str(tmp_path / "out"), results="stl")
    assert "duodenal cap" in json.loads((results(tmp_path / "out") / "own_volumes.json").read_text())["volumes_ml"]


def test_results_of_weights_of_a_phantom_say_so(bundles, tmp_path):
    bundle = shutil.copytree(bundles[BUNDLE], tmp_path / BUNDLE)
    (bundle / "models" / "model.cases.json").write_text('{"phantom": true, "cases": []}')
    write_ct_series(tmp_path / "study", *oblique_study("axial"))
    deploy(str(bundle), str(tmp_path / "study"), str(tmp_path / "out"))
    note = "Research only; not for diagnosis or treatment. Trained on phantom data, no clinical meaning."
    folder = results(tmp_path / "out")
    assert json.loads((folder / f"{BUNDLE}_volumes.json").read_text())["note"] == note
    assert note in hd.sr.srread(folder / f"{BUNDLE}_sr.dcm").to_json()
    assert note in pydicom.dcmread(folder / f"{BUNDLE}_rtstruct.dcm").StructureSetDescription
