# SPDX-License-Identifier: Apache-2.0
"""The sets of data to compare on, each as nnU-Net's second version has a dataset: folders, names, ``dataset.json``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.own_data.blocks import NAMES, write_blocks
from monai_ext.phantoms import write_brain_phantom, write_fine_vessels

__all__ = ["COHORTS", "Cohort"]


class Cohort(NamedTuple):
    """``write`` fills a folder from the arguments of the command line; ``slices``: surfaces are compared in slices.

    Few CPU seconds ask for small steps: ``batch`` is of ours (24 by default); ``memory`` (GB) of nnU-Net's plan, 0 for
    its default. That gives CT and MR 2 to 9 slices or patches by itself, but pictures two of 768x768.
    """

    folder: str
    title: str
    write: Callable[[Path, str, str, bool], None]
    batch: int
    memory: float = 0
    pictures: bool = False
    slices: bool = False


def _ct(folder: Path, image: str, label: str, tiny: bool) -> None:
    blocks = folder.with_name("blocks")
    write_blocks(image, label, blocks)
    for source, part in ((blocks, "Tr"), (blocks / "held out", "Ts")):
        for kind, channel in (("images", "_0000"), ("labels", "")):
            target = folder / f"{kind}{part}"
            target.mkdir(parents=True, exist_ok=True)
            for path in sorted((source / kind).glob("*.nii.gz")):
                shutil.copyfile(path, target / f"{path.name.split('.')[0]}{channel}.nii.gz")
    about = {
        "channel_names": {"0": "CT"},
        "labels": {name: value for value, name in enumerate(["background", *NAMES])},
        "numTraining": len(list((folder / "labelsTr").iterdir())),
        "file_ending": ".nii.gz",
    }
    # the split of the blocks' own list
    listed = json.loads((blocks / "list.json").read_text())
    parts = {
        part: [{"image": f"imagesTr/{name}_0000.nii.gz", "label": f"labelsTr/{name}.nii.gz"} for name in names]
        for part in ("training", "validation")
        if (names := [Path(case["image"]).name.split(".")[0] for case in listed[part]])
    }
    tests = sorted(path.name for path in (folder / "labelsTs").iterdir())
    parts["test"] = [{"image": f"imagesTs/{t[:-7]}_0000.nii.gz", "label": f"labelsTs/{t}"} for t in tests]
    (folder / "list.json").write_text(json.dumps({**parts, "labels": listed["labels"], "modality": {"0": "CT"}}))
    (folder / "dataset.json").write_text(json.dumps(about))


def _mr(folder: Path, image: str, label: str, tiny: bool) -> None:
    write_brain_phantom(folder, num_cases=10 if tiny else 15, progress=False, coarse=3 if tiny else 1.5)


def _pictures(folder: Path, image: str, label: str, tiny: bool) -> None:
    write_fine_vessels(folder, num_cases=8, size=(384, 512) if tiny else (768, 1024))


COHORTS = {
    "ct": Cohort("Dataset001_CT", "one real CT, in blocks", _ct, 4, slices=True),
    "mr": Cohort("Dataset002_MR", "four-channel MR phantom, regions", _mr, 8),
    "pictures": Cohort("Dataset003_Pictures", "big-picture phantom", _pictures, 2, 1, pictures=True),
}
