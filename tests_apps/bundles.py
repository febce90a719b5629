# SPDX-License-Identifier: Apache-2.0
"""Bundles with weights and small slices, and what they write when run as bundles."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import torch
from monai.bundle import ConfigParser, ConfigWorkflow

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = sorted(path.parents[1].name for path in (ROOT / "bundles").glob("*/configs/metadata.json"))


def write_bundle(folder: Path, name: str, size: int | None = None, seed: int = 0) -> Path:
    """A copy of a bundle with seeded random weights; ``size`` replaces the size of its slices or pictures."""
    bundle = folder / name
    shutil.copytree(ROOT / "bundles" / name / "configs", bundle / "configs")
    for config in ("inference", "train"):
        path = bundle / "configs" / f"{config}.json"
        text = path.read_text()
        if size is not None:
            text = re.sub(r'"img_size": \[\d+, \d+\]', f'"img_size": [{size}, {size}]', text)
            text = re.sub(r"('image_size', )\[\d+, \d+\]", rf"\1[{size}, {size}]", text)
            text = re.sub(r"('image_size', )\d+", rf"\g<1>{size}", text)
        path.write_text(text)
    (bundle / "models").mkdir()
    torch.save(random_weights(bundle, seed), bundle / "models" / "model.pt")
    return bundle


@torch.no_grad()
def random_weights(bundle: Path, seed: int) -> dict[str, torch.Tensor]:
    """Seeded weights of a network that sees more than one class in noise."""
    parser = ConfigParser(json.loads((bundle / "configs" / "inference.json").read_text()))
    config = parser["network_def"]
    for attempt in range(20):
        torch.manual_seed(seed + 1000 * attempt)
        network = ConfigParser({"network": config}).get_parsed_content("network").eval()
        x = torch.nn.functional.interpolate(torch.rand(1, config["in_channels"], 8, 8), 64)
        if network(x).argmax(dim=1).unique().numel() > 1:
            break
    return network.state_dict()


def run_bundle(bundle: Path, source: Path, output: Path) -> Path:
    """``python -m monai.bundle run --config_file .../inference.json --dataset_dir ...``: the label file."""
    workflow = ConfigWorkflow(
        str(bundle / "configs" / "inference.json"),
        workflow_type="inference",
        bundle_root=str(bundle),
        dataset_dir=str(source),
        output_dir=str(output),
        num_workers=0,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    (label,) = output.glob("*_seg.*")
    return label
