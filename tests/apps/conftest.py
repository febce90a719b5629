# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from monai_ext.phantoms import write_brain_phantom


@pytest.fixture(scope="session")
def brain(tmp_path_factory) -> Path:
    """Five cases of four channels in nnU-Net's naming; not to be changed."""
    folder = tmp_path_factory.mktemp("raw") / "Dataset901_Brain"
    write_brain_phantom(folder, 5, progress=False, workers=1, coarse=4)
    return folder
