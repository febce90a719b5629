# SPDX-License-Identifier: Apache-2.0
"""A real archive on loopback: Orthanc with its DICOMweb plug-in, which a test can end and start again."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import requests

from tests_apps.server import free_port

PROGRAM = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
PLUGINS = [Path(folder, "libOrthancDicomWeb.so") for folder in ("/usr/share/orthanc/plugins", "/usr/lib/orthanc")]
PLUGIN = next((path for path in PLUGINS if path.exists()), None)
needs_orthanc = pytest.mark.skipif(
    not Path(PROGRAM).is_file() or PLUGIN is None,
    reason="Orthanc with its DICOMweb plug-in is not installed (Debian: orthanc, orthanc-dicomweb)",
)


class Orthanc:
    """A running Orthanc; a context, or ``start`` and ``stop``. What was stored is there again after a new start.

    Args:
        folder: for its configuration, its storage and its log; one archive each.
        aet: its DICOM application entity title.
        options: more of its configuration, such as ``{"DicomModalities": {...}}``.

    Attributes:
        url: address of its REST interface, such as ``http://127.0.0.1:40001``.
        dicomweb: address of its DICOMweb interface.
        dicom_port: port of C-STORE.
        log: the file of its messages.
    """

    def __init__(self, folder: Path, aet: str = "ORTHANC", options: Mapping[str, Any] | None = None) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.aet = aet
        self.port, self.dicom_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.dicomweb = f"{self.url}/dicom-web"
        self.log = self.folder / "orthanc.log"
        self.process: subprocess.Popen[bytes] | None = None
        config = {
            "Name": "test",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "Plugins": [str(PLUGIN)],
            "HttpPort": self.port,
            "DicomPort": self.dicom_port,
            "DicomAet": aet,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAlwaysAllowStore": True,
            "DicomCheckCalledAet": False,
            "UnknownSopClassAccepted": True,
            "StableAge": 1,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False},
            **(options or {}),
        }
        self.config = self.folder / "orthanc.json"
        self.config.write_text(json.dumps(config, indent=1))

    def __enter__(self) -> Orthanc:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> Orthanc:
        """Return when it answers; raise RuntimeError with the end of its log where it does not."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [PROGRAM, str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
            )
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if requests.get(f"{self.dicomweb}/studies", timeout=30).ok:
                    return self
            except requests.ConnectionError:
                time.sleep(0.1)
        self.kill()
        raise RuntimeError(f"Orthanc did not start:\n{self.log.read_text(errors='replace')[-3000:]}")

    def stop(self) -> None:
        """As its service is stopped (SIGTERM)."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=60)

    def kill(self) -> None:
        """As a power cut ends it (SIGKILL)."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def upload(self, *sources: Path) -> list[str]:
        """Store files, and all files below folders; Orthanc's own names of the instances."""
        stored = []
        for file in (
            file for source in sources for file in ([source] if source.is_file() else sorted(source.rglob("*")))
        ):
            if file.is_dir():
                continue
            answer = requests.post(f"{self.url}/instances", data=file.read_bytes(), timeout=60)
            answer.raise_for_status()
            stored.append(answer.json()["ID"])
        return stored

    def series(self, **query: str) -> list[dict[str, str]]:
        """The main tags of its series that match, such as ``series(Modality="SEG")``, with the study's UID."""
        find = {"Level": "Series", "Query": query, "Expand": True}
        found = requests.post(f"{self.url}/tools/find", json=find, timeout=60).json()
        return [
            {
                **requests.get(f"{self.url}/studies/{one['ParentStudy']}", timeout=60).json()["MainDicomTags"],
                **one["MainDicomTags"],
                "ID": one["ID"],
            }
            for one in found
        ]

    def files(self, series: str) -> list[bytes]:
        """The stored files of a series, by Orthanc's own name of it (``ID`` of ``series()``)."""
        there = requests.get(f"{self.url}/series/{series}", timeout=60).json()["Instances"]
        return [requests.get(f"{self.url}/instances/{name}/file", timeout=60).content for name in there]
