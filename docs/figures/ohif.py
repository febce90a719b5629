# SPDX-License-Identifier: Apache-2.0
"""Take a picture of OHIF's page of the server, after a click had a model segment a study of an Orthanc.

Run with the environment of `make apps`, after `make demo`, where Orthanc and Chromium are installed:

.venv-apps/bin/python docs/figures/ohif.py docs/images/ohif.png --bundle demo_bundle --image scan.nii.gz
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
import pydicom

from tests.apps.series import edit
from tests.dicom import write_ct_series
from tests_apps.browser import Browser, segment_in_ohif
from tests_apps.orthanc import Orthanc
from tests_apps.server import Server


def name_patient(ds: pydicom.Dataset) -> None:
    ds.PatientID, ds.PatientName, ds.StudyDate, ds.StudyTime = "phantom-1", "Phantom", "20260102", "101500"
    ds.StudyDescription = "Abdomen"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--bundle", required=True, type=Path, help="folder of dcaunet_synapse with weights")
    parser.add_argument("--image", required=True, type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = nibabel.load(args.image)
        write_ct_series(folder / "series", np.asarray(image.dataobj).round().astype(np.int16), image.affine)
        edit(folder / "series", name_patient)
        with Orthanc(folder / "orthanc") as archive:
            archive.upload(folder / "series")
            server = Server(archive.dicomweb, [args.bundle], app=str(folder / "app"))
            with server, Browser(folder) as browser:
                segment_in_ohif(browser, server.url, "phantom-1", args.bundle.name)
                time.sleep(12)  # until the page's notes are gone
                browser.picture(args.output)


if __name__ == "__main__":
    main()
