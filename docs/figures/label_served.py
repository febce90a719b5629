# SPDX-License-Identifier: Apache-2.0
"""Draw what MONAI Label's server answers for a scan: the scan, the label, and the label from the front.

Run with the environment of `make apps`, after `make demo`:

.venv-apps/bin/python docs/figures/label_served.py docs/images/label_served.png --bundle demo_bundle --image scan.nii.gz
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import nibabel
import numpy as np

from monai_ext.apps.anatomy import STRUCTURES
from monai_ext.data import DATASETS
from tests_apps.server import Server

NAMES = DATASETS["synapse"].class_names


def upright(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels with the patient's right first and front first, as slices are shown, and the sizes of a voxel."""
    image = nibabel.as_closest_canonical(nibabel.load(path))
    return np.asarray(image.dataobj)[::-1, ::-1], np.asarray(image.header.get_zooms()[:3])


def served_label(bundle: Path, image: Path, folder: Path) -> Path:
    """Start the server with one study, ask it for a label, and stop it."""
    studies = folder / "studies"
    studies.mkdir()
    shutil.copy(image, studies / "scan.nii.gz")
    with Server(studies, [bundle]) as server:
        answer = server.infer(bundle.name, "scan")
        answer.raise_for_status()
    label = folder / "label.nii.gz"
    label.write_bytes(answer.content)
    return label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output")
    parser.add_argument("--bundle", required=True, type=Path, help="folder of dcaunet_synapse with weights")
    parser.add_argument("--image", required=True, type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        image, spacing = upright(args.image)
        label, _ = upright(served_label(args.bundle, args.image, Path(folder)))
    body = np.argwhere((image > -300).sum(axis=2) > image.shape[2] // 3)
    (left, front), (right, back) = body.min(axis=0), body.max(axis=0) + 1
    image, label = image[left:right, front:back], label[left:right, front:back]
    organs = [label == value for value in range(1, len(NAMES) + 1)]
    depths = [
        sum(bool(organ[:, :, z].any()) * 10**6 + organ[:, :, z].sum() for organ in organs)
        for z in range(label.shape[2])
    ]
    axial = int(np.argmax(depths))
    coronal = int(np.argmax((label > 0).sum(axis=(0, 2))))
    views = [
        ("phantom CT", image[:, :, axial].T, None, spacing[1] / spacing[0]),
        ("label from the server", image[:, :, axial].T, label[:, :, axial].T, spacing[1] / spacing[0]),
        ("the same, from the front", image[:, coronal, ::-1].T, label[:, coronal, ::-1].T, spacing[2] / spacing[0]),
    ]
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.9), facecolor="black")
    for axis, (title, pixels, overlay, aspect) in zip(axes, views):
        axis.imshow(pixels, cmap="gray", vmin=-125, vmax=275, aspect=aspect)
        if overlay is not None:
            for value, name in enumerate(NAMES, 1):
                colour = np.array(STRUCTURES[name].colour) / 255
                mask = np.ma.masked_not_equal(overlay, value)
                axis.imshow(mask * 0, cmap=matplotlib.colors.ListedColormap([colour]), alpha=0.75, aspect=aspect)
        axis.set_title(title, color="white", fontsize=10)
        axis.axis("off")
    patches = [matplotlib.patches.Patch(color=np.array(STRUCTURES[n].colour) / 255, label=n) for n in NAMES]
    figure.legend(handles=patches, loc="lower center", ncol=8, fontsize=8, labelcolor="white", facecolor="black")
    figure.subplots_adjust(left=0, right=1, top=0.92, bottom=0.1, wspace=0.02)
    figure.savefig(args.output, dpi=90)


if __name__ == "__main__":
    main()
