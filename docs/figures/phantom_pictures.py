# SPDX-License-Identifier: Apache-2.0
"""Draw one row of pictures of every picture phantom, with the outlines of the objects.

python docs/figures/phantom_pictures.py docs/images/phantom_pictures.png [--seed 0] [--columns 4]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from monai_ext.phantoms import (
    PictureCase,
    breast_nodule_case,
    gland_case,
    nuclei_case,
    polyp_case,
    skin_lesion_case,
    vessel_case,
)

# one after the other along the row
ROWS: dict[str, tuple[Callable[[int], PictureCase], ...]] = {
    "skin_lesion_case": (skin_lesion_case,),
    "polyp_case": (polyp_case,),
    "breast_nodule_case": (
        breast_nodule_case,
        partial(breast_nodule_case, malignant=True),
        partial(breast_nodule_case, nodules=2),
    ),
    "nuclei_case": (nuclei_case, nuclei_case, partial(nuclei_case, stain="fluorescence")),
    "gland_case": (gland_case,),
    "vessel_case": (vessel_case,),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="of the first column")
    parser.add_argument("--columns", type=int, default=4)
    arguments = parser.parse_args()
    size = (1.95 * arguments.columns * 4 / 3, 1.95 * len(ROWS) + 0.3)
    figure, axes = plt.subplots(len(ROWS), arguments.columns, figsize=size, facecolor="black", squeeze=False)
    for row, (name, generators) in zip(axes, ROWS.items()):
        for column, axis in enumerate(row):
            case = generators[column % len(generators)](arguments.seed + column)
            axis.imshow(case.image)
            for number in range(1, int(case.objects.max()) + 1):
                axis.contour(case.objects == number, [0.5], colors="lime", linewidths=0.6)
            axis.axis("off")
        label = {"boxstyle": "square,pad=0.2", "facecolor": "black", "linewidth": 0}
        row[0].text(3, 4, name, color="white", fontsize=8, va="top", bbox=label)
    edge = 0.3 / size[1]
    figure.text(
        0.5, edge / 2, "phantom data, no clinical meaning", color="white", fontsize=10, ha="center", va="center"
    )
    figure.subplots_adjust(0.002, edge, 0.998, 1 - 0.002, 0.01, 0.01)
    figure.savefig(arguments.output, dpi=75, facecolor="black")


if __name__ == "__main__":
    main()
