# SPDX-License-Identifier: Apache-2.0
"""The GPU script on a CPU: what it writes, and that it goes on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from monai_ext.utils import read_json
from tests.bundles.runs import ROOT

pytestmark = pytest.mark.slow

# parts that fail in every way a part can; in a process of its own, since processes are forked from it
BREAK = """
import os, sys, time
from benchmarks.gpu import __main__ as gpu

def raises(job):
    yield "good", 0, lambda: [{"what": "good", "s": 1.5}]
    yield "bad", 0, lambda: 1 / 0
    yield "late", 1e9, lambda: [{"what": "late"}]
    raise ValueError("no more")

def dies(job):
    yield "gone", 0, lambda: os._exit(3)

def hangs(job):
    yield "stuck", 0, lambda: time.sleep(600)

def weights(job):  # what check has a process of its own for
    yield "weights", 0, lambda: gpu.make_weights(job, "DCAUNet")

for name, steps in {"rates": raises, "volume": dies, "metrics": hangs, "check": weights}.items():
    gpu.PARTS[name] = (steps, 2 if steps is hangs else 200)
sys.exit(gpu.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    output = tmp_path_factory.mktemp("gpu") / "gpu.json"
    options = ["--device", "cpu", "--tiny", "--rounds", "2", "--output", str(output)]
    parts = ["rates", "volume", "metrics", "check", "training", "networks"]
    command = [sys.executable, "-c", BREAK, *options, "--part", *parts]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    return done, read_json(output, "report"), output.with_suffix(".md").read_text()


def test_a_failing_part_does_not_stop_the_rest(run):
    done, content, tables = run
    assert done.returncode == 1, done.stderr
    rows = {name: part["rows"] for name, part in content["parts"].items()}
    assert rows["rates"] == [
        {"what": "good", "s": 1.5},
        {"what": "bad", "failed": "ZeroDivisionError: division by zero"},
        {"what": "late", "not run": "time"},
        {"what": "bad", "failed": "ValueError: no more"},
    ]
    assert rows["volume"] == [{"what": "gone", "failed": "the process ended with status 3"}]
    assert rows["metrics"] == [{"what": "stuck", "not run": "stopped at the limit of time, in this step or after it"}]
    assert content["parts"]["metrics"]["seconds"] < 30
    assert [row["what"] for row in rows["training"] if "failed" not in row] == [
        "DCAUNet, float32",
        "DCAUNet, bfloat16",
    ]
    assert "| good | 1.5 |" in tables
    assert "* bad: failed (ZeroDivisionError: division by zero)" in tables
    assert "* stuck: not run (stopped at the limit of time, in this step or after it)" in tables


def test_labels_are_compared_with_those_of_trained_weights(run):
    _, content, tables = run
    assert content["machine"]["torch"] and content["options"]["device"] == "cpu"
    (trained,) = content["parts"]["check"]["rows"]
    first, *others = content["parts"]["networks"]["rows"]
    assert [row["what"] for row in others] == ["DCAUNet, bfloat16", "DCAUNet, bfloat16, channels last"]
    assert first["weights"] == "trained"
    # the weights that training left, of which it had Dice in bfloat16
    assert others[0]["Dice"] == pytest.approx(trained["Dice"], abs=1e-3)
    assert first["speed"] == 1 and first["labels differing %"] == 0
    assert all(0 < row["labels differing %"] < 50 and row["ms"] > 0 for row in others)
    assert f"| DCAUNet, float32 | trained | {first['first s']:.4g} | {first['ms']:.4g} | 1 |" in tables
