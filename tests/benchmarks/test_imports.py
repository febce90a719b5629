# SPDX-License-Identifier: Apache-2.0
"""The docs cite benchmarks: each must start as they print it, and say what it does."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [path.parent.name for path in (ROOT / "benchmarks").glob("*/__main__.py")]
NAMES = sorted([path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem != "__init__"] + PACKAGES)


@pytest.mark.parametrize("name", NAMES)
def test_imports_and_tells_how_to_run_it(name):
    module = importlib.import_module(f"benchmarks.{name}")
    started = importlib.import_module(f"benchmarks.{name}.__main__") if name in PACKAGES else module
    assert f"python -m benchmarks.{name}" in module.__doc__ or not hasattr(started, "main")


def test_docs_cite_benchmarks_that_are_there():
    cited = set()
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        cited |= set(re.findall(r"benchmarks[./](\w+)", page.read_text(encoding="utf-8")))
    assert cited <= set(NAMES)
