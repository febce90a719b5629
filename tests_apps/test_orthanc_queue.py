# SPDX-License-Identifier: Apache-2.0
"""New studies of an Orthanc are segmented unattended: each once, whatever is killed, and none stops another."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
import requests

from tests.apps.series import edit, make_mr
from tests.dicom import write_ct_series
from tests_apps.bundles import ROOT, write_bundle
from tests_apps.orthanc import Orthanc, needs_orthanc
from tests_apps.studies import ct

pytestmark = needs_orthanc
BUNDLE = "dcaunet_synapse"
PROGRAM = ROOT / "tools" / "orthanc" / "segment_new_studies.py"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles"), BUNDLE, size=64)


class Service:
    """The program as its service keeps it: started again whenever it has ended."""

    def __init__(self, folder: Path, bundle: Path, orthanc: Orthanc, *options: str) -> None:
        self.output, self.log = folder / "results", folder / "service.log"
        self.command = [sys.executable, str(PROGRAM), "--bundles", str(bundle), "--output", str(self.output)]
        self.command += ["--orthanc", orthanc.url, "--poll", "0.2", "--wait", "0.2", *options]
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> Service:
        with self.log.open("a") as log:
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=environment)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def kill(self) -> None:
        self.__exit__()
        self.__enter__()

    def wait_for(self, what: Callable[[], bool], seconds: float = 300) -> None:
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, self.log.read_text()
            if self.process.poll() is not None:
                self.__enter__()
            time.sleep(0.1)


def write_study(folder: Path, patient: str) -> str:
    """A small CT study; its UID."""
    image, _, affine = ct(5, size=32, slices=5)
    write_ct_series(folder, image, affine)
    edit(folder, lambda ds: setattr(ds, "PatientID", patient))
    return str(pydicom.dcmread(next(folder.iterdir())).StudyInstanceUID)


def states(orthanc: Orthanc) -> dict[str, str]:
    """Study -> what its CT series is noted to be."""
    found = {}
    for series in orthanc.series(Modality="CT"):
        answer = requests.get(f"{orthanc.url}/series/{series['ID']}/metadata/4200", timeout=60)
        found[series["StudyInstanceUID"]] = json.loads(answer.text)[BUNDLE]["state"] if answer.ok else ""
    return found


@pytest.mark.skipif(shutil.which("storescu") is None, reason="dcmtk is not installed (Debian: dcmtk)")
def test_twelve_studies_sent_at_once_and_three_kills(bundle, tmp_path):
    studies = {write_study(tmp_path / "sent" / f"{i:02d}", f"P{i}") for i in range(12)}
    torn = write_study(tmp_path / "sent" / "torn", "torn")  # fails each time it is tried
    (tmp_path / "sent" / "torn" / "slice002.dcm").unlink()
    write_study(tmp_path / "sent" / "mr", "mr")  # for which there is no bundle
    make_mr(tmp_path / "sent" / "mr")
    derived = write_study(tmp_path / "sent" / "derived", "derived")
    edit(tmp_path / "sent" / "derived", lambda ds: setattr(ds, "ImageType", ["DERIVED", "SECONDARY", "MIP"]))
    old = write_study(tmp_path / "old", "old")  # was there before the service was

    with Orthanc(tmp_path / "orthanc") as orthanc:
        orthanc.upload(tmp_path / "old")
        with Service(tmp_path, bundle, orthanc, "--tries", "4") as service:
            service.wait_for((service.output / "changes.json").exists)
            store = ["storescu", "-aec", "ORTHANC", "+sd", "+r", "127.0.0.1", str(orthanc.dicom_port)]
            subprocess.run([*store, tmp_path / "sent"], check=True, timeout=120)

            def results() -> Counter:
                return Counter(series["StudyInstanceUID"] for series in orthanc.series(Modality="SEG"))

            service.wait_for(lambda: "begun" in states(orthanc).values())  # in the middle of a study
            service.kill()
            for number in (4, 8):
                service.wait_for(lambda number=number: len(results()) >= number)
                service.kill()
            ended = {**dict.fromkeys(studies, "stored"), torn: "given up", derived: "passed over", old: ""}
            service.wait_for(lambda: states(orthanc) == ended)
            service.wait_for(lambda: orthanc_is_stable(orthanc))
            time.sleep(1)  # nothing is made of its own results
        assert results() == dict.fromkeys(studies, 1)
        for modality in ("SR", "RTSTRUCT"):
            found = Counter(series["StudyInstanceUID"] for series in orthanc.series(Modality=modality))
            assert found == dict.fromkeys(studies, 1)
        assert all(len(orthanc.files(series["ID"])) == 1 for series in orthanc.series(Modality="SEG"))
    log = service.log.read_text()
    assert f"{BUNDLE}: given up, try 4 of 4: monai_ext: " in log
    assert "1 slice(s) missing" in log
    assert "passed over, monai_ext: " in log
    assert "image type MIP" in log
    left = [path.name for path in service.output.rglob("*") if path.is_file()]
    assert [name for name in left if name[0] != "."] == ["changes.json"]  # the others are locks
    assert not [path for path in (service.output / BUNDLE).glob("*") if path.name[0] != "."]


def orthanc_is_stable(orthanc: Orthanc) -> bool:
    return all(study["IsStable"] for study in requests.get(f"{orthanc.url}/studies?expand", timeout=60).json())


def test_an_archive_that_is_killed_and_comes_back(bundle, tmp_path):
    """It never tells that what came before it was killed has become stable."""
    orthanc = Orthanc(tmp_path / "orthanc", options={"StableAge": 3600})
    first, second = write_study(tmp_path / "first", "P1"), write_study(tmp_path / "second", "P2")
    with orthanc:
        orthanc.upload(tmp_path / "first")
    with Service(tmp_path, bundle, orthanc, "--since", "0") as service:
        service.wait_for(lambda: "Orthanc cannot be reached" in service.log.read_text())
        with orthanc:
            service.wait_for(lambda: states(orthanc) == {first: "stored"})
            orthanc.upload(tmp_path / "second")
            orthanc.kill()
            orthanc.start()
            service.wait_for(lambda: states(orthanc) == {first: "stored", second: "stored"})
            found = Counter(series["StudyInstanceUID"] for series in orthanc.series(Modality="SEG"))
            assert found == {first: 1, second: 1}


def test_what_is_wrong_with_a_bundle_is_said_before_a_study_is_taken(tmp_path):
    command = [sys.executable, str(PROGRAM), "--bundles", str(ROOT / "bundles" / BUNDLE), "--output", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert run.returncode == 1
    assert re.fullmatch("monai_ext: .*no weights.*", run.stderr.splitlines()[-1])
