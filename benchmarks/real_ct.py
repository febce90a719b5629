# SPDX-License-Identifier: Apache-2.0
"""Train a bundle on some slices of one labelled CT and segment the others: does the pipeline work on real voxels?

The volume is cut along the patient's axis into blocks of 13 slices: 9 to train on, 1 unused, 2 to test on, 1 unused.
Dice is pooled over the test blocks, from the label files that inference wrote, against the label file. Training takes
place in the bundle itself, with its own commands.

    python -m benchmarks.real_ct --image ct.nii.gz --label organs.nii.gz [--steps 560] [--size 128] [--output DIR]

Labels are 0 and the classes of the bundle in their order. One patient shows that a pipeline works, not more.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk

from monai_ext.data import DATASETS
from monai_ext.metrics import label_metrics

TRAIN, TEST, GAP = 9, 2, 1


def cut(source: str, folder: Path, parts: dict[str, range]) -> dict[str, Path]:
    """Write each part of the volume as a file of its own, where it lies in the patient."""
    volume = nibabel.load(source)
    folder.mkdir(parents=True)
    for name, part in parts.items():
        nibabel.save(volume.slicer[:, :, part.start : part.stop], folder / f"{name}.nii.gz")
    return {name: folder / f"{name}.nii.gz" for name in parts}


def cut_pair(image: str, label: str, folder: Path) -> tuple[dict[str, range], dict[str, Path], dict[str, Path]]:
    """Cut a CT and its label into blocks to train and to test on: slices, image and label of each, by name.

    ``list.json`` in ``folder`` has them as cases.
    """
    depth = nibabel.load(image).shape[2]
    parts = {}
    for number, start in enumerate(range(0, depth, TRAIN + TEST + 2 * GAP)):
        parts[f"train{number}"] = range(start, min(start + TRAIN, depth))
        test = range(start + TRAIN + GAP, min(start + TRAIN + GAP + TEST, depth))
        if len(test):
            parts[f"test{number}"] = test
    images, labels = cut(image, folder / "images", parts), cut(label, folder / "labels", parts)
    cases = {
        part: [{"image": str(images[n]), "label": str(labels[n])} for n in parts if n.startswith(prefix)]
        for part, prefix in (("training", "train"), ("test", "test"))
    }
    (folder / "list.json").write_text(json.dumps(cases))
    return parts, images, labels


def bundle(configs: list[str], **options: object) -> None:
    names = str([f"bundles/dcaunet_synapse/configs/{name}.json" for name in configs])
    arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    subprocess.run([sys.executable, "-m", "monai.bundle", "run", "--config_file", names, *arguments], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", required=True)
    parser.add_argument("--label", required=True)
    parser.add_argument("--steps", type=int, default=560)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--output", default=None)
    args = parser.parse_args()
    folder = Path(args.output or tempfile.mkdtemp(prefix="real_ct_"))

    depth = nibabel.load(args.image).shape[2]
    parts, images, labels = cut_pair(args.image, args.label, folder)
    count = {part: sum(len(parts[n]) for n in parts if n.startswith(part)) for part in ("train", "test")}
    print(f"{count['train']} of {depth} slices to train on, {count['test']} to test on")

    common = {"image_size": f"[{args.size},{args.size}]", "batch_size": args.batch, "ckpt_dir": folder}
    began = time.perf_counter()
    bundle(
        ["train"],
        datalist=folder / "list.json",
        split="paper",
        epochs=round(args.steps / np.ceil(count["train"] / args.batch)),
        flip_prob=0,
        rotation=0.1,
        output_dir=folder,
        **common,
    )
    took = time.perf_counter() - began
    (folder / "scans").mkdir()
    for name in parts:
        if name.startswith("test"):
            (folder / "scans" / images[name].name).symlink_to(images[name].resolve())
    bundle(["inference"], dataset_dir=folder / "scans", output_dir=folder / "predictions", **common)

    truth, prediction = [], []
    for name in (n for n in parts if n.startswith("test")):
        source, written = (sitk.ReadImage(p) for p in (images[name], folder / "predictions" / f"{name}_seg.nii.gz"))
        for geometry in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            if not np.allclose(getattr(source, geometry)(), getattr(written, geometry)(), atol=1e-4):
                sys.exit(f"{name}: {geometry} of the label is not the source's")
        truth.append(sitk.GetArrayFromImage(sitk.ReadImage(labels[name])))
        prediction.append(sitk.GetArrayFromImage(written))
    names = DATASETS["synapse"].class_names
    dice = label_metrics(np.concatenate(prediction), np.concatenate(truth), len(names) + 1)["dice"]
    print(f"training took {took / 60:.1f} minutes; geometry of all {len(truth)} labels equals the source's")
    print("| mean | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    print(f"| {np.nanmean(dice):.3f} | " + " | ".join(f"{d:.3f}" for d in dice) + " |")


if __name__ == "__main__":
    main()
