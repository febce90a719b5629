# SPDX-License-Identifier: Apache-2.0
"""Run a bundle as a user does: on the command line, or through MONAI's own functions with the same arguments."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from monai.bundle import ConfigWorkflow

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.parents[1].name for path in (ROOT / "bundles").glob("*/configs/metadata.json"))


def write_weights(file: Path, network: torch.nn.Module, seed: int = 0) -> Path:
    """Untrained weights with which all classes occur."""
    torch.manual_seed(seed)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    torch.save(network.state_dict(), file)
    return file


def config(bundle: str, *names: str) -> list[str]:
    return [str(ROOT / "bundles" / bundle / "configs" / f"{name}.json") for name in names]


def run(bundle: str, *names: str, **override) -> ConfigWorkflow:
    """``python -m monai.bundle run --config_file ... --key value`` in this process."""
    workflow_type = "inference" if names == ("inference",) else "training"
    workflow = ConfigWorkflow(config(bundle, *names), workflow_type=workflow_type, **override)
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return workflow


def command(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    """``python -m monai.bundle ...`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "monai.bundle", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


def same_weights(first: Path, second: Path) -> bool:
    one, other = (torch.load(file, weights_only=True) for file in (first, second))
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())
