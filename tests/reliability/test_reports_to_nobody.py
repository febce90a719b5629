# SPDX-License-Identifier: Apache-2.0
"""A hospital's machine tells nobody outside what runs on it: libraries that report their use are kept from it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bundles.runs import ROOT

# what is told first leaves an identifier or a queue in the user's folder, with or without a network
SCRIPT = """
import sys
from pathlib import Path
import monai_ext
import torch
from monai_ext.networks import export_network, ready_network
network = torch.nn.Conv2d(1, 2, 3, padding=1)
network.stride = 1
for format, suffix in (("onnx", ".onnx"), ("openvino", ".xml")):
    path = Path(sys.argv[1], "net" + suffix)
    export_network(network.eval(), (32, 32), 1, format, path)
    ready_network(network, path)(torch.rand(1, 1, 32, 32))
"""


def test_exports_leave_nothing_in_the_users_folder(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    home, out = tmp_path / "home", tmp_path / "out"
    home.mkdir()
    out.mkdir()
    hidden = ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")  # some report nothing in a CI
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    environment |= {"HOME": str(home), "PYTHONPATH": str(ROOT), "MPLCONFIGDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-W", "ignore", "-c", SCRIPT, str(out)], env=environment, check=True, timeout=300)
    assert len(list(out.iterdir())) >= 3
    assert [str(path) for path in Path(home).rglob("*") if path.is_file()] == []
