# SPDX-License-Identifier: Apache-2.0
"""Deploy from an archive and into it: the segmentation that is fetched back is the label of the bundle."""

from __future__ import annotations

import gc
import re
import shutil
import subprocess
import weakref
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from pydicom.uid import JPEG2000Lossless

from monai_ext.apps.archive import ArchiveError
from monai_ext.apps.deploy import deploy
from monai_ext.bundle import Bundle
from tests.apps.series import compress, edit, make_mr
from tests.dicom import write_ct_series
from tests_apps.bundles import run_bundle
from tests_apps.orthanc import Orthanc, needs_orthanc
from tests_apps.studies import save
from tests_apps.test_deploy_app import label_of, oblique_study

pytestmark = needs_orthanc
CT, MR = "dcaunet_synapse", "dcaunet_acdc"


def stored_files(orthanc: Orthanc, folder: Path, **query: str) -> list[Path]:
    """Files of the series that match, as the archive gives them back."""
    folder.mkdir(parents=True, exist_ok=True)
    found = [file for series in orthanc.series(**query) for file in orthanc.files(series["ID"])]
    for number, content in enumerate(found):
        (folder / f"{number}.dcm").write_bytes(content)
    return [folder / f"{number}.dcm" for number in range(len(found))]


def assert_valid(file: Path) -> None:
    if (program := shutil.which("dciodvfy")) is not None:
        said = subprocess.run([program, file], capture_output=True, text=True).stderr
        assert not re.findall("^Error.*", said, re.MULTILINE)


@pytest.mark.parametrize(("bundle", "way"), [(CT, "STOW-RS"), (CT, "C-STORE"), (MR, "STOW-RS")])
def test_the_result_in_the_archive_is_the_label_of_the_bundle(bundles, bundle, way, tmp_path, capsys):
    image, affine = oblique_study("axial")
    write_ct_series(tmp_path / "study", image, affine)
    if bundle == MR:
        make_mr(tmp_path / "study")
    compress(tmp_path / "study", JPEG2000Lossless)
    first = pydicom.dcmread(next((tmp_path / "study").iterdir()))
    source = save(tmp_path / "ct.nii.gz", image, affine)
    expected = np.asarray(nibabel.load(run_bundle(bundles[bundle], source, tmp_path / "bundle")).dataobj)
    with Orthanc(tmp_path / "orthanc") as orthanc:
        orthanc.upload(tmp_path / "study")
        send = {"send": orthanc.dicomweb}
        if way == "C-STORE":
            send = {"send": f"localhost:{orthanc.dicom_port}", "aet": "ORTHANC"}
        arguments = str(bundles[bundle]), orthanc.dicomweb, str(tmp_path / "out")
        deploy(*arguments, study=first.StudyInstanceUID, **send)
        [seg], [sr], [rtstruct] = (stored_files(orthanc, tmp_path / m, Modality=m) for m in ("SEG", "SR", "RTSTRUCT"))
        np.testing.assert_array_equal(label_of(seg, affine, image.shape), expected)
        assert len(np.unique(expected)) > 2
        for file in (seg, sr, rtstruct):
            assert_valid(file)
        assert len(orthanc.series()) == 4  # nothing else came
        folder = tmp_path / "out" / first.StudyInstanceUID / first.SeriesInstanceUID
        names = [f"{bundle}_{end}" for end in ("rtstruct.dcm", "seg.dcm", "sr.dcm", "volumes.json")]
        assert sorted(file.name for file in folder.iterdir()) == names
        assert len(list((tmp_path / "out").rglob("*.dcm"))) == 3  # no image of the patient is left
        capsys.readouterr()
        deploy(*arguments, **send)  # what is there is sent again, and is the same object
        if way == "STOW-RS":
            assert "3 objects are in" in (said := capsys.readouterr().out)
            assert "0 of them were stored now" in said
        deploy(*arguments, **send, overwrite=True)  # made anew, it is the same object, too
        assert len(stored_files(orthanc, tmp_path / "again")) == image.shape[2] + 3


def test_a_process_that_serves_many_studies_keeps_none_of_their_networks(bundles, tmp_path, monkeypatch):
    write_ct_series(tmp_path / "study", *oblique_study("axial"))
    built, build = [], Bundle.network

    def network(self: Bundle, *args: object, **options: object) -> torch.nn.Module:
        built.append(weakref.ref(made := build(self, *args, **options)))
        return made

    monkeypatch.setattr(Bundle, "network", network)
    deploy(str(bundles[CT]), str(tmp_path / "study"), str(tmp_path / "out"))
    gc.collect()
    assert [network() for network in built] == [None]


def test_results_that_cannot_be_sent_are_kept_and_go_with_the_next_run(bundles, tmp_path, monkeypatch):
    monkeypatch.setattr("monai_ext.apps.deploy.exchange.WAITS", ())
    image, affine = oblique_study("axial")
    write_ct_series(tmp_path / "study", image, affine)
    orthanc = Orthanc(tmp_path / "orthanc")
    arguments = str(bundles[CT]), str(tmp_path / "study"), str(tmp_path / "out")
    with pytest.raises(ArchiveError, match="cannot be reached.* results are kept in .*; the same command sends them"):
        deploy(*arguments, send=orthanc.dicomweb)
    [seg] = (tmp_path / "out").rglob("*_seg.dcm")
    kept = seg.read_bytes()
    with orthanc, monkeypatch.context() as patch:
        patch.setattr("monai_ext.apps.deploy.operators.BundleOperator.compute", None)  # nothing is segmented
        deploy(*arguments, send=orthanc.dicomweb)
        [stored] = stored_files(orthanc, tmp_path / "back", Modality="SEG")
        assert pydicom.dcmread(stored).SOPInstanceUID == pydicom.dcmread(seg).SOPInstanceUID
        state = torch.load(bundles[CT] / "models/model.pt", weights_only=True)
        torch.save({key: value + 1 for key, value in state.items()}, tmp_path / "other.pt")
        with pytest.raises(FileExistsError, match="results are of other weights, so they are not sent"):
            deploy(*arguments, send=orthanc.dicomweb, checkpoint=str(tmp_path / "other.pt"))
    assert seg.read_bytes() == kept
    with pytest.raises(FileExistsError, match="results of this series already"):
        deploy(*arguments)


def test_a_series_of_two_patients_is_refused_on_the_way_from_an_archive(bundles, tmp_path):
    write_ct_series(tmp_path / "study", *oblique_study("axial"))
    edit(tmp_path / "study", lambda ds: setattr(ds, "PatientID", "b" if ds.InstanceNumber > 5 else "a"))
    with Orthanc(tmp_path / "orthanc") as orthanc:
        orthanc.upload(tmp_path / "study")
        study = orthanc.series()[0]["StudyInstanceUID"]
        with pytest.raises(ValueError, match="of several patients"):
            deploy(str(bundles[CT]), orthanc.dicomweb, str(tmp_path / "out"), study=study)
        with pytest.raises(ValueError, match="images of 2 patients .their IDs: A, B"):
            deploy(str(bundles[CT]), str(tmp_path / "study"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"study": "1.2"}, "--study 1.2 is for an archive, but --input is no address"),
        ({"aet": "PACS"}, "--aet names the archive to which results are sent. Give --send HOST:PORT"),
        ({"send": "host:104"}, "Give its application entity title with --aet"),
    ],
)
def test_options_that_do_not_fit(bundles, options, reason, tmp_path):
    write_ct_series(tmp_path / "study", *oblique_study("axial"))
    with pytest.raises(ValueError, match=reason):
        deploy(str(bundles[CT]), str(tmp_path / "study"), str(tmp_path / "out"), **options)
    assert not (tmp_path / "out").exists()
