# SPDX-License-Identifier: Apache-2.0
"""Big pictures with thin vessels, in the layout of nnU-Net's second version: what is lost where they are shrunk.

Colour alone does not find them (``benchmarks.picture_honesty``'s baselines on 5 cases of 384x512, mean Dice): k-means
that knows the truth 0.13 (0.15 at best), the best threshold 0.11, ranks 0.18.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from monai_ext.phantoms.drawing import PictureCase
from monai_ext.phantoms.picture_cohort import save_picture, write_picture_cohort
from monai_ext.phantoms.vessels import vessel_case
from monai_ext.utils import replacing

__all__ = ["FINE_SIZE", "fine_vessel_case", "write_fine_vessels"]

FINE_SIZE = (1536, 2048)
THIN = 0.4  # the finest vessels are 3 to 4 pixels wide in 2048, and less than one in 512
HELD_OUT = 4  # every fourth case is for testing


def fine_vessel_case(seed: int, size: tuple[int, int] = FINE_SIZE) -> PictureCase:
    """A fundus picture whose vessels are as thin as on a big sensor; the same seed and size give the same pixels.

    Examples::

        >>> fine_vessel_case(0, (384, 512)).image.shape
        (384, 512, 3)
    """
    return vessel_case(seed, size, THIN)


def write_fine_vessels(
    folder: str | os.PathLike[str], num_cases: int = 8, seed: int = 0, size: tuple[int, int] = FINE_SIZE
) -> None:
    """Write a cohort of big pictures: ``dataset.json``, ``imagesTr/eye_001_0000.png``, ``labelsTr/eye_001.png``, ...

    Every fourth case lies in ``imagesTs`` and ``labelsTs``. ``PHANTOM.json`` tells readers that this is no clinical
    data.

    Args:
        folder: where to write; made if need be.
        num_cases: number of pictures, at least 4.
        seed: another seed, another cohort.
        size: height and width of the pictures.

    Raises:
        ValueError: for too few cases, or if ``folder`` holds other data, or another cohort. They are left alone.
    """
    if num_cases < HELD_OUT:
        raise ValueError(f"monai_ext: num_cases must be at least {HELD_OUT}, got {num_cases}.")
    files = {}
    for case in range(1, num_cases + 1):
        part, name = "Tr" if case % HELD_OUT else "Ts", f"eye_{case:03d}"
        files[name] = Path(f"images{part}", f"{name}_0000.png"), Path(f"labels{part}", f"{name}.png")

    def save_label(path: Path, made: PictureCase) -> None:
        save_picture(path, (made.objects > 0).astype(np.uint8))

    def draw(case: str, case_seed: int, _: tuple[int, int]) -> PictureCase:
        return fine_vessel_case(case_seed, size)

    name = f"fine vessels {size[0]}x{size[1]}"
    write_picture_cohort(Path(folder), name, files, draw, save_label, seed=seed)
    about = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {"background": 0, "vessel": 1},
        "numTraining": sum(image.parent.name == "imagesTr" for image, _ in files.values()),
        "file_ending": ".png",
        "name": "fine vessels phantom",
        "description": "phantom data, no clinical meaning",
    }
    with replacing(Path(folder) / "dataset.json") as temporary:
        temporary.write_text(json.dumps(about, indent=4) + "\n", encoding="utf-8")
