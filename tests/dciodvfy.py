# SPDX-License-Identifier: Apache-2.0
"""A second opinion on DICOM objects: David Clunie's ``dciodvfy`` (Debian package dicom3tools)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["faults_of"]


def faults_of(file: Path) -> list[str]:
    """What it calls errors; where it is not installed, the test is skipped and says so."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian package dicom3tools)")
    done = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, timeout=60)
    lines = (done.stderr + done.stdout).splitlines()
    assert lines, f"dciodvfy says nothing of {file}"
    return [line for line in lines if line.startswith(("Error", "Abort"))]
