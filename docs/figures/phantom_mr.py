# SPDX-License-Identifier: Apache-2.0
"""Draw short-axis slices of the cardiac MR phantom from apex to base, without and with its labels.

python docs/figures/phantom_mr.py docs/images/phantom_mr.png [--patients 61 81]
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

from monai_ext.phantoms import mr_phantom_case

HEIGHTS = (0.08, 0.28, 0.48, 0.68, 0.88)  # of the slices, as a share of the way from the first to the last
COLOURS = ListedColormap(["tab:blue", "gold", "tab:red"])


def draw(axes: NDArray, title: str, image: nib.Nifti1Image, label: nib.Nifti1Image) -> None:
    """One row without and one with the labels, the patient's right first and the front on top."""
    voxels, classes = (
        np.asarray(nib.as_closest_canonical(part).dataobj)[::-1, ::-1].astype(float) for part in (image, label)
    )
    for column, height in enumerate(HEIGHTS):
        k = round(height * (voxels.shape[2] - 1))
        for row in range(2):
            axes[row, column].imshow(voxels[:, :, k].T, cmap="gray", vmin=0, vmax=np.percentile(voxels, 99.7))
            axes[row, column].axis("off")
        mask = np.ma.masked_equal(classes[:, :, k].T, 0)
        axes[1, column].imshow(mask, cmap=COLOURS, vmin=1, vmax=3, alpha=0.5, interpolation="nearest")
    axes[0, 0].text(2, 2, title, color="white", fontsize=9, va="top")
    axes[0, 0].set_zorder(1)  # or the next column covers the end of the title


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--patients", type=int, nargs="+", default=[61, 81])
    arguments = parser.parse_args()
    frames = [(patient, phase) for patient in arguments.patients for phase in ("ED", "ES")]
    figure, axes = plt.subplots(2 * len(frames), len(HEIGHTS), figsize=(12, 4.2 * len(frames)), facecolor="black")
    for i, (patient, phase) in enumerate(frames):
        case = mr_phantom_case(patient)
        pair = (nib.Nifti1Image(voxels[phase], case.affine) for voxels in (case.images, case.labels))
        title = f"phantom {patient:03d}, {case.info['Group']}, {phase} (no clinical data)"
        draw(axes[2 * i : 2 * i + 2], title, *pair)
    figure.subplots_adjust(0.002, 0.002, 0.998, 0.998, 0.01, 0.01)
    figure.savefig(arguments.output, dpi=60, facecolor="black", pil_kwargs={"optimize": True})


if __name__ == "__main__":
    main()
