# SPDX-License-Identifier: Apache-2.0
"""Turn the attributes of a ``BaseNetworkTest`` into parameters of its tests."""

from __future__ import annotations

import pytest


def _name(case: dict) -> str:
    return "-".join(f"{k}={v}" for k, v in case.items()).replace(" ", "")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    suite = metafunc.cls
    if suite is None or not hasattr(suite, "network"):
        return
    if {"case", "size"} <= set(metafunc.fixturenames):
        pairs = [(case, size) for case in suite.cases for size in suite.sizes[case["spatial_dims"]]]
        metafunc.parametrize(("case", "size"), pairs, ids=[f"{_name(c)}-{'x'.join(map(str, s))}" for c, s in pairs])
    elif "first_case" in metafunc.fixturenames:
        first: dict[int, dict] = {}
        for case in suite.cases:
            first.setdefault(case["spatial_dims"], case)
        metafunc.parametrize("first_case", list(first.values()), ids=[f"{dims}d" for dims in first])
    elif "bad_argument" in metafunc.fixturenames:
        metafunc.parametrize("bad_argument", suite.bad_arguments, ids=[_name(a) for a, _ in suite.bad_arguments])
