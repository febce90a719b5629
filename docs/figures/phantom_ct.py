# SPDX-License-Identifier: Apache-2.0
"""Draw axial slices of the CT phantom, without and with its labels, beside those of a real CT if one is given.

python docs/figures/phantom_ct.py docs/images/phantom_ct.png [--cases 3 8] [--image ct.nii.gz --label label.nii.gz]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
from matplotlib.colors import ListedColormap
from numpy.typing import NDArray

from monai_ext.phantoms import ct_phantom_case

WINDOW = (-125, 275)
HEIGHTS = (0.2, 0.35, 0.5, 0.65, 0.8)  # of the slices, as a share of the way from the lowest to the highest label
COLOURS = ListedColormap([*plt.get_cmap("tab20").colors[:14]])


def upright(image: nib.Nifti1Image, label: nib.Nifti1Image) -> tuple[NDArray, NDArray, float]:
    """Voxels with the patient's right first, front first, feet first, as slices are shown; and rows per column."""
    image, label = nib.as_closest_canonical(image), nib.as_closest_canonical(label)
    spacing = image.header.get_zooms()
    return (
        np.asarray(image.dataobj)[::-1, ::-1],
        np.asarray(label.dataobj)[::-1, ::-1],
        float(spacing[1] / spacing[0]),
    )


def draw(axes: NDArray, title: str, image: NDArray, label: NDArray, aspect: float) -> None:
    """One row without and one with the labels."""
    present = np.flatnonzero(label.any((0, 1)))
    body = image > -300
    left, right = np.flatnonzero(body.any((1, 2)))[[0, -1]]
    front, back = np.flatnonzero(body.any((0, 2)))[[0, -1]]
    image, label = (a[left : right + 1, front : back + 1] for a in (image, label))
    for column, height in enumerate(HEIGHTS):
        k = int(present[0] + height * (present[-1] - present[0]))
        for row in range(2):
            axes[row, column].imshow(image[:, :, k].T, cmap="gray", vmin=WINDOW[0], vmax=WINDOW[1], aspect=aspect)
            axes[row, column].axis("off")
        mask = np.ma.masked_equal(label[:, :, k].T, 0)
        axes[1, column].imshow(mask, cmap=COLOURS, vmin=0, vmax=13, alpha=0.55, interpolation="nearest", aspect=aspect)
    axes[0, 0].text(0, 0, title, color="white", fontsize=10, va="top")
    axes[0, 0].set_zorder(1)  # or the next column covers the end of the title


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--cases", type=int, nargs="+", default=[3, 8])
    parser.add_argument("--image", type=Path, help="a real CT to draw below")
    parser.add_argument("--label", type=Path, help="its labels")
    arguments = parser.parse_args()
    rows = []
    for case in arguments.cases:
        made = ct_phantom_case(case)
        pair = nib.Nifti1Image(made.image, made.affine), nib.Nifti1Image(made.label, made.affine)
        rows.append((f"phantom, case {case:04d} (no clinical data)", *upright(*pair)))
    if arguments.image and arguments.label:
        rows.append((arguments.image.name, *upright(nib.load(arguments.image), nib.load(arguments.label))))
    columns = len(HEIGHTS)
    figure, axes = plt.subplots(2 * len(rows), columns, figsize=(2.4 * columns, 3.5 * len(rows)), facecolor="black")
    for i, row in enumerate(rows):
        draw(axes[2 * i : 2 * i + 2], *row)
    figure.subplots_adjust(0.002, 0.002, 0.998, 0.998, 0.01, 0.02)
    figure.savefig(arguments.output, dpi=100, facecolor="black")


if __name__ == "__main__":
    main()
