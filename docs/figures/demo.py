# SPDX-License-Identifier: Apache-2.0
"""Draw one axial slice of a scan, its truth and a prediction side by side.

python docs/figures/demo.py docs/images/demo.png --image scan.nii.gz --label truth.nii.gz --pred seg.nii.gz
"""

from __future__ import annotations

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import nibabel
import numpy as np

from monai_ext.data import DATASETS
from monai_ext.data.datasets.synapse import RAW_MAPPING

NAMES = DATASETS["synapse"].class_names


def upright(path: str) -> np.ndarray:
    """Voxels with the patient's right first and front first, as slices are shown."""
    return np.asarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj)[::-1, ::-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output")
    for name in ("image", "label", "pred"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    image, codes, pred = upright(args.image), upright(args.label), upright(args.pred)
    label = np.vectorize(RAW_MAPPING.get)(codes)
    k = int(
        np.argmax([len(np.unique(label[:, :, z])) * 10**6 + (label[:, :, z] > 0).sum() for z in range(label.shape[2])])
    )
    colours = plt.get_cmap("tab10").colors
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), facecolor="black")
    for axis, title, overlay in zip(axes, ("phantom CT", "truth", "prediction"), (None, label, pred)):
        axis.imshow(image[:, :, k].T, cmap="gray", vmin=-125, vmax=275)
        if overlay is not None:
            for c in np.unique(overlay[:, :, k])[1:]:
                mask = np.ma.masked_not_equal(overlay[:, :, k].T, c)
                axis.imshow(mask * 0, cmap=matplotlib.colors.ListedColormap([colours[c - 1]]), alpha=0.6)
        axis.set_title(title, color="white", fontsize=10)
        axis.axis("off")
    patches = [matplotlib.patches.Patch(color=colours[i], label=name) for i, name in enumerate(NAMES)]
    figure.legend(handles=patches, loc="lower center", ncol=8, fontsize=8, labelcolor="white", facecolor="black")
    figure.subplots_adjust(left=0, right=1, top=0.92, bottom=0.1, wspace=0.02)
    figure.savefig(args.output, dpi=90)


if __name__ == "__main__":
    main()
