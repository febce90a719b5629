# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests_apps.bundles import BUNDLES, write_bundle
from tests_apps.server import Server
from tests_apps.studies import write_studies


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    """Name -> folder of every bundle of the collection, with random weights and small slices."""
    folder = tmp_path_factory.mktemp("bundles")
    return {name: write_bundle(folder, name, size=64) for name in BUNDLES}


@pytest.fixture(scope="session")
def served(bundles, tmp_path_factory) -> Iterator[Server]:
    """MONAI Label's server with all bundles and a few studies."""
    studies = write_studies(tmp_path_factory.mktemp("label") / "studies")
    with Server(studies, bundles.values()) as server:
        server.wait_for("patient_series")
        yield server
