# SPDX-License-Identifier: Apache-2.0
"""MONAI Label's own server on a real archive: query, segment, save, read back, train, next sample."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import nibabel
import numpy as np
import pydicom
import pytest
import requests

from monai_ext.apps.anatomy import STRUCTURES
from monai_ext.data import DATASETS
from monai_ext.phantoms import mr_phantom_case
from tests.apps.series import edit, make_mr
from tests.dciodvfy import faults_of
from tests.dicom import write_compressed, write_ct_series
from tests_apps.browser import LABELMAP, Browser, needs_browser, segment_in_ohif
from tests_apps.bundles import run_bundle, write_bundle
from tests_apps.dicom_seg import segments_of
from tests_apps.orthanc import Orthanc, needs_orthanc
from tests_apps.server import Server
from tests_apps.studies import ct, oblique, save

pytestmark = needs_orthanc
BUNDLES = {"CT": "dcaunet_synapse", "MR": "dcaunet_acdc"}
CLASSES = {"CT": DATASETS["synapse"].class_names, "MR": DATASETS["acdc"].class_names}


@dataclass
class Scan:
    """A series as it was sent to the archive, and what a person would draw on it."""

    uid: str
    study: str
    folder: Path
    label: np.ndarray
    affine: np.ndarray


def without_rescaling(ds: pydicom.Dataset) -> None:
    """MR has none, as a rule."""
    ds.PixelData = (ds.pixel_array + int(ds.RescaleIntercept)).astype("<i2").tobytes()
    del ds.RescaleSlope, ds.RescaleIntercept


def write_scan(folder: Path, modality: str, compressed: bool) -> Scan:
    if modality == "CT":
        image, label, affine = ct(7 if compressed else 5)
        label = label % 9  # the phantom has more organs than the bundle
    else:
        case = mr_phantom_case(2 if compressed else 1, in_plane=48, slices=6)
        image, label, affine = case.images["ED"], case.labels["ED"], oblique(case.affine, 5)
    write_ct_series(folder, np.asarray(image), affine)
    if modality == "MR":
        make_mr(folder)
        edit(folder, without_rescaling)
    patient = f"{modality}{int(compressed)}/../x"  # a name that would be a path

    def of_patient(ds: pydicom.Dataset) -> None:
        ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex = patient, "Phantom", "", ""
        ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = "20200102", "101500", "", "1"
        ds.ReferringPhysicianName = ""

    edit(folder, of_patient)
    for path in sorted(folder.glob("*.dcm")) if compressed else ():
        write_compressed(path, "JPEG2000")
    first = pydicom.dcmread(next(iter(sorted(folder.glob("*.dcm")))))
    return Scan(first.SeriesInstanceUID, first.StudyInstanceUID, folder, np.asarray(label, np.uint8), affine)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return {modality: write_bundle(folder, name, size=32) for modality, name in BUNDLES.items()}


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> dict[tuple[str, bool], Scan]:
    folder = tmp_path_factory.mktemp("scans")
    return {(m, c): write_scan(folder / f"{m}{c}", m, c) for m in BUNDLES for c in (False, True)}


@pytest.fixture(scope="module")
def orthanc(scans, tmp_path_factory) -> Iterator[Orthanc]:
    with Orthanc(tmp_path_factory.mktemp("orthanc")) as archive:
        archive.upload(*(scan.folder for scan in scans.values()))
        yield archive


@pytest.fixture(scope="module")
def served(orthanc, bundles, tmp_path_factory) -> Iterator[Server]:
    with Server(orthanc.dicomweb, bundles.values(), app=str(tmp_path_factory.mktemp("label") / "app")) as server:
        yield server


def voxels(answer: requests.Response, file: Path) -> nibabel.Nifti1Image:
    assert answer.status_code == 200, answer.text
    file.write_bytes(answer.content)
    return nibabel.load(file)


def submit(server: Server, scan: Scan, modality: str, tmp_path: Path) -> np.ndarray:
    """Save a label as 3D Slicer does: segments numbered in the order of its list, which is another; as it was drawn."""
    names = list(reversed(CLASSES[modality]))
    drawn = np.zeros_like(scan.label)
    for number, name in enumerate(names, start=1):
        drawn[scan.label == CLASSES[modality].index(name) + 1] = number
    file = save(tmp_path / "drawn.nii.gz", drawn, scan.affine)
    answer = server.save_label(scan.uid, file, label_info=[{"name": n, "idx": i} for i, n in enumerate(names, 1)])
    assert answer.status_code == 200, answer.text
    return drawn


def test_next_sample_and_training(orthanc, served, scans, tmp_path):
    """A labelled study is not offered again, at once; each model is given, and learns from, the series of its kind."""
    for modality, bundle in BUNDLES.items():
        labelled, other = scans[modality, False].uid, scans[modality, True].uid
        submit(served, scans[modality, False], modality, tmp_path)
        for _ in range(2):
            chosen = served.next_sample("uncertainty", model=bundle)
            assert chosen.status_code == 200, chosen.text
            assert chosen.json()["id"] == other
            assert 0 < chosen.json()["uncertainty"] <= 1
            assert Path(chosen.json()["path"]).is_relative_to(served.app / "archive")
        for strategy in ("random", "first"):
            assert served.next_sample(strategy).json()["id"] != labelled
        first = served.weights(bundle).read_bytes()
        served.train(bundle, max_epochs=1, val_split=0)
        task = served.wait_for_training()
        assert task["status"] == "DONE", task["details"]
        assert served.weights(bundle).read_bytes() != first
        assert '"studies": 1' in task["details"][-1]
        served.weights(bundle).write_bytes(first)


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "JPEG2000"])
@pytest.mark.parametrize("modality", BUNDLES)
def test_segment_save_and_read_back(orthanc, served, bundles, scans, modality, compressed, tmp_path):
    scan = scans[modality, compressed]
    bundle = BUNDLES[modality]
    total = served.ask("/info/").json()["datastore"]["total"]
    assert total == len(scans)

    # the image is the series, and the label is that of the bundle
    image = voxels(served.ask("/datastore/image", image=scan.uid), tmp_path / "image.nii.gz")
    np.testing.assert_allclose(image.affine, scan.affine, atol=1e-4)
    found = voxels(served.infer(bundle, scan.uid), tmp_path / "label.nii.gz")
    expected = nibabel.load(run_bundle(bundles[modality], scan.folder, tmp_path / "bundle"))
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(expected.dataobj))
    assert len(np.unique(np.asarray(found.dataobj))) > 1

    # as DICOM SEG, too, with the bundle's names, whatever the voxels hold
    seg = tmp_path / "infer.dcm"
    answer = served.infer(bundle, scan.uid, output="dicom_seg")
    assert answer.status_code == 200, answer.text
    seg.write_bytes(answer.content)
    assert faults_of(seg) == []
    masks = segments_of(seg, scan.affine, scan.label.shape)
    assert tuple(masks) == CLASSES[modality]
    for value, name in enumerate(CLASSES[modality], start=1):
        np.testing.assert_array_equal(masks[name], np.asarray(found.dataobj) == value)
    assert {s.SegmentAlgorithmType for s in hd.seg.segread(seg).SegmentSequence} == {"AUTOMATIC"}
    # what the annotator drew is in the archive under the right names, codes and colours
    before = {one["ID"] for one in orthanc.series(Modality="SEG")}
    drawn = submit(served, scan, modality, tmp_path)
    (stored,) = [one for one in orthanc.series(Modality="SEG") if one["ID"] not in before]
    assert stored["StudyInstanceUID"] == scan.study
    (content,) = orthanc.files(stored["ID"])
    file = tmp_path / "stored.dcm"
    file.write_bytes(content)
    assert faults_of(file) == []
    masks = segments_of(file, scan.affine, scan.label.shape)
    for segment in hd.seg.segread(file).SegmentSequence:
        name = str(segment.SegmentLabel)
        np.testing.assert_array_equal(masks[name], scan.label == CLASSES[modality].index(name) + 1)
        assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == STRUCTURES[name].code
        assert segment.SegmentAlgorithmType == "SEMIAUTOMATIC"

    # and comes back as it was drawn, at once and after the copies are removed
    back = voxels(served.ask("/datastore/label", label=scan.uid, tag="final"), tmp_path / "back.nii.gz")
    np.testing.assert_array_equal(np.asarray(back.dataobj), drawn)
    assert requests.delete(f"{served.url}/datastore/image", params={"id": scan.uid}, timeout=60).status_code == 200
    assert not [path for path in served.app.rglob(f"*{scan.uid}*") if path.is_file()]
    back = voxels(served.ask("/datastore/label", label=scan.uid, tag="final"), tmp_path / "again.nii.gz")
    np.testing.assert_array_equal(np.asarray(back.dataobj), drawn)
    info = served.ask("/datastore/label/info", label=scan.uid, tag="final").json()
    assert [segment["name"] for segment in info["label_info"]] == list(reversed(CLASSES[modality]))

    file = tmp_path / "again.dcm"
    file.write_bytes(served.ask("/datastore/label", label=scan.uid, tag="final", output="dicom_seg").content)
    assert pydicom.dcmread(file) == pydicom.dcmread(tmp_path / "stored.dcm")  # the archive's own


def test_what_is_not_there_is_404(served, scans):
    for uid in ("1.2.3.4", "ct", "patient_series"):
        for path in ("/datastore/image", "/datastore/image/info"):
            assert served.ask(path, image=uid).status_code == 404, path
        assert served.ask("/datastore/label", label=uid, tag="final").status_code == 404
        assert served.ask("/datastore/label/info", label=uid, tag="final").status_code == 404
        assert served.infer(BUNDLES["CT"], uid).status_code == 404
        assert requests.delete(f"{served.url}/datastore/image", params={"id": uid}, timeout=60).status_code == 404
    assert served.ask("/datastore/label", label=scans["CT", True].uid, tag="other").status_code == 404


def test_an_archive_that_goes_away_is_said_and_comes_back(orthanc, served, scans, tmp_path):
    scan = scans["CT", False]
    requests.delete(f"{served.url}/datastore/image", params={"id": scan.uid}, timeout=60)
    stored = len(orthanc.series(Modality="SEG"))
    orthanc.kill()
    try:
        label = save(tmp_path / "label.nii.gz", scan.label, scan.affine)
        for answer in (
            served.ask("/info/"),
            served.ask("/datastore/image", image=scan.uid),
            served.infer(BUNDLES["CT"], scan.uid),
            served.next_sample("first"),
            served.save_label(scan.uid, label, model=BUNDLES["CT"]),
        ):
            assert answer.status_code == 503, answer.text
            assert answer.json()["detail"].startswith(f"monai_ext: {orthanc.dicomweb}: the archive cannot be reached")
    finally:
        orthanc.start()
    assert served.infer(BUNDLES["CT"], scan.uid).status_code == 200
    assert len(orthanc.series(Modality="SEG")) == stored


def test_series_that_are_refused_stop_nothing(orthanc, served, scans, tmp_path):
    """A slice is missing, and its name comes first."""
    folder = tmp_path / "gap"
    image, _, affine = ct(6)
    write_ct_series(folder, image, affine)
    (folder / "slice004.dcm").unlink()
    uid = "1.2.3.0"

    def first_by_name(ds: pydicom.Dataset) -> None:
        ds.SeriesInstanceUID = uid

    edit(folder, first_by_name)
    orthanc.upload(folder)
    answer = served.infer(BUNDLES["CT"], uid)
    assert answer.status_code == 500
    assert "1 slice(s) missing" in answer.json()["detail"]
    for strategy in ("first", "uncertainty", "random"):
        chosen = served.next_sample(strategy)
        assert chosen.status_code == 200, chosen.text
        assert chosen.json().get("id") != uid
    (study,) = [
        one["ParentStudy"]
        for one in [
            requests.get(f"{orthanc.url}/series/{orthanc.series(SeriesInstanceUID=uid)[0]['ID']}", timeout=60).json()
        ]
    ]
    requests.delete(f"{orthanc.url}/studies/{study}", timeout=60)
    assert served.infer(BUNDLES["CT"], uid).status_code == 404


def test_a_segmentation_by_a_program_is_no_label(orthanc, served, scans, tmp_path):
    scan = scans["MR", True]
    before = served.ask("/datastore/label/info", label=scan.uid, tag="final")
    answer = served.infer(BUNDLES["MR"], scan.uid, output="dicom_seg")
    (tmp_path / "seg.dcm").write_bytes(answer.content)
    orthanc.upload(tmp_path / "seg.dcm")
    after = served.ask("/datastore/label/info", label=scan.uid, tag="final")
    assert (before.status_code, before.json()) == (after.status_code, after.json())


def test_labels_that_do_not_fit_are_refused(orthanc, served, scans, tmp_path):
    scan = scans["CT", True]
    stored = len(orthanc.series(Modality="SEG"))
    fits = save(tmp_path / "fits.nii.gz", scan.label, scan.affine)
    other = save(tmp_path / "other.nii.gz", scan.label[:, :, 1:], scan.affine)
    for file, params, reason in (
        (fits, {}, "does not say what its values mean"),
        (other, {"model": BUNDLES["CT"]}, "another grid than its series"),
        (fits, {"label_info": [{"name": "liver"}]}, "without a segment of that number"),
        (fits, {"label_info": [{"name": f"heart {i}"} for i in range(9)]}, "has no coded term"),
    ):
        answer = served.save_label(scan.uid, file, **params)
        assert answer.status_code == 400, answer.text
        assert reason in answer.json()["detail"]
    assert len(orthanc.series(Modality="SEG")) == stored


@needs_browser
def test_a_click_in_ohif_shows_the_label_where_it_is(served, bundles, scans, tmp_path):
    """The page that MONAI Label brings along, in a real browser: study list, image, segmentation."""
    scan = scans["CT", True]
    with Browser(tmp_path) as browser:
        segment_in_ohif(browser, served.url, "CT1/../x", BUNDLES["CT"])
        shown = browser.run(f"return {LABELMAP}")
        browser.picture(tmp_path / "ohif.png")
    expected = nibabel.load(run_bundle(bundles["CT"], scan.folder, tmp_path / "bundle"))
    label = np.asarray(expected.dataobj)
    # the page numbers the classes of all models in the order of their names
    names = sorted({*CLASSES["CT"], *CLASSES["MR"]})
    number = {value: names.index(name) + 1 for value, name in enumerate(CLASSES["CT"], start=1)}
    values = np.array(shown["values"]).reshape(shown["shape"][::-1]).T
    lps = np.eye(4)
    lps[:3, :3] = np.array(shown["direction"]).reshape(3, 3).T * np.array(shown["spacing"])
    lps[:3, 3] = shown["origin"]
    to_label = np.linalg.inv(expected.affine) @ np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps
    places = to_label[:3, :3] @ np.indices(values.shape).reshape(3, -1) + to_label[:3, 3:]
    np.testing.assert_allclose(places, np.round(places), atol=0.01)
    i, j, k = np.round(places).astype(int)
    np.testing.assert_array_equal(values.ravel(), np.vectorize({0: 0, **number}.get)(label[i, j, k]))


def test_only_dicomweb_is_passed_on_to_the_archive(orthanc, bundles, scans, tmp_path):
    """With the query, without this server's token; and not what else the archive answers."""
    token = "t" * 32
    shown = {"Authorization": f"Bearer {token}"}
    with Server(orthanc.dicomweb, [bundles["CT"]], app=str(tmp_path / "app"), token=token) as server:
        proxy = f"{server.url}/proxy/dicom"
        scan = scans["MR", False]

        def ask(path: str, **params) -> requests.Response:
            return requests.get(f"{proxy}/{path}", params=params, headers=shown, timeout=60)

        assert requests.get(f"{proxy}/qido/studies", timeout=60).status_code == 401
        found = ask("qido/studies", StudyInstanceUID=scan.study).json()
        assert [one["0020000D"]["Value"] for one in found] == [[scan.study]]
        assert len(ask(f"wado/studies/{scan.study}/series/{scan.uid}/metadata").json()) == scan.label.shape[2]
        for path in ("system", "qido/../../system", "instances/../../tools/reset", "qido/%2e%2e/%2e%2e/system", ""):
            assert ask(path).status_code in (400, 404), path
        posted = requests.post(f"{proxy}/wado/studies/{scan.study}/series", headers=shown, data=b"x", timeout=60)
        assert posted.status_code == 404
