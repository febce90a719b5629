# SPDX-License-Identifier: Apache-2.0
"""What ``new`` makes of one's own scans: its recipes, on slices held out and on what another patient would be.

    python -m benchmarks.own_data --image ct.nii.gz --label organs.nii.gz --output DIR \
        [--recipes paper,strong] [--steps 224] [--seeds 0,1,2] [--batch 8] [--size 64 --pixel 6]

A labelled CT, with the classes of the Synapse bundle in their order, is cut along the patient's axis into blocks of 13
slices: 9 to train on, 1 unused, 2 to test on, 1 unused. ``new`` makes a bundle of the blocks, with its defaults or
``--recipe paper``, which is trained by its documented command. Its labels are scored on the test blocks as they are,
with contrast medium, and as two other scanners would show them (``benchmarks/other_scanner.py``); Dice is pooled over
the blocks. Equal steps for all: seconds say nothing on a machine that others use. ``--size`` and ``--pixel`` (in mm, of
the strong recipe, whose plan has a spacing) make it quicker than what ``new`` plans.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np

from benchmarks.machine import cpu_model
from benchmarks.other_scanner import contrast_medium, scanner
from monai_ext.data import DATASETS
from monai_ext.metrics import label_metrics

BLOCK, TRAIN, TEST = 13, 9, slice(10, 12)
NAMES = list(DATASETS["synapse"].class_names)
FIVE = ("aorta", "left kidney", "right kidney", "liver", "spleen")
SCANNERS = {"scanner A": (1, 0.8, 512), "scanner B": (2, 2.0, 250)}  # seed, mm a pixel, pixels a side


def save(folder: Path, name: str, voxels: np.ndarray, affine: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.round(voxels).astype(np.int16), affine), folder / f"{name}.nii.gz")


def write_blocks(image: str, label: str, folder: Path) -> int:
    """Blocks to train on, with a list of them, and a folder of scans for each way to test; the number of slices."""
    volumes = [nibabel.as_closest_canonical(nibabel.load(path)) for path in (image, label)]
    affine = volumes[0].affine
    hu, organs = (np.asarray(volume.dataobj).astype(np.float32) for volume in volumes)
    cases: list[dict[str, str]] = []
    count, last = 0, ""
    # the block nearest to the head validates
    for number, start in enumerate(range(0, hu.shape[2], BLOCK)):
        origin = affine @ np.block([[np.eye(3), np.array([[0], [0], [start]])], [0, 0, 0, 1]])
        train = slice(start, start + TRAIN)
        save(folder / "images", f"train{number}", hu[..., train], origin)
        save(folder / "labels", f"train{number}", organs[..., train], origin)
        cases.append({part: f"{part}s/train{number}.nii.gz" for part in ("image", "label")})
        count += hu[..., train].shape[2] if start + BLOCK < hu.shape[2] else 0
        test = slice(start + TEST.start, start + TEST.stop)
        if hu[..., test].shape[2] < 2 or not organs[..., test].any():
            continue
        lifted = contrast_medium(hu[..., test], organs[..., test], NAMES)
        last = f"block{number}"
        for way, voxels in (("held out", hu[..., test]), ("contrast", lifted)):
            save(folder / way / "images", f"block{number}", voxels, origin)
            save(folder / way / "labels", f"block{number}", organs[..., test], origin)
        for way, (seed, pixel, side) in SCANNERS.items():
            # the patient faces up: to the left and to the back, as other_scanner has it
            turned = (volume[::-1, ::-1] for volume in (lifted, organs[..., test]))
            spacing = float(np.linalg.norm(affine[:3, 0]))
            seen, truth = scanner(*turned, spacing, np.random.default_rng(seed), pixel, side)
            grid = np.diag([-pixel, -pixel, np.linalg.norm(affine[:3, 2]), 1])
            save(folder / way / "images", f"block{number}", seen, grid)
            save(folder / way / "labels", f"block{number}", truth, grid)
    listed = {
        "labels": {str(i): name for i, name in enumerate(["background", *NAMES])},
        "training": cases[:-1],
        "validation": cases[-1:],
        "test": [{part: f"held out/{part}s/{last}.nii.gz" for part in ("image", "label")}],
    }
    (folder / "list.json").write_text(json.dumps(listed))
    return count


def command(*arguments: object) -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-m", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def dice(prediction: Path, truth: Path) -> np.ndarray:
    pairs = [
        (nibabel.load(prediction / f"{path.name.split('.')[0]}_seg.nii.gz"), nibabel.load(path))
        for path in sorted(truth.glob("*.nii.gz"))
    ]
    for found, label in pairs:
        if not np.allclose(found.affine, label.affine, atol=1e-4) or found.shape != label.shape:
            sys.exit(f"{prediction}: a label does not lie where its scan does")
    found, label = (np.concatenate([np.asarray(pair[i].dataobj).astype(int) for pair in pairs], axis=2) for i in (0, 1))
    return label_metrics(found, label, len(NAMES) + 1, metrics="dice")["dice"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", required=True)
    parser.add_argument("--label", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--recipes", default="paper,strong")
    parser.add_argument("--steps", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--size", type=int, default=None)
    parser.add_argument("--pixel", type=float, default=None)
    args = parser.parse_args()
    folder = Path(args.output).resolve()
    slices = write_blocks(args.image, args.label, folder)
    print(f"{cpu_model()}; {slices} slices to train on, {args.steps} steps of {args.batch}")
    print("| recipe | seed | scans | mean of five | mean of all | " + " | ".join(NAMES) + " |")
    print("|---" * (len(NAMES) + 5) + "|", flush=True)
    for recipe in args.recipes.split(","):
        made = folder / "bundles" / recipe
        if not made.exists():
            command("monai_ext", "new", "--name", recipe, "--datalist", folder / "list.json", "--recipe", recipe,
                    "--where", folder)  # fmt: skip
        for seed in map(int, args.seeds.split(",")):
            trained = folder / f"{recipe}{seed}"
            knobs = [] if args.size is None else ["--image_size", f"[{args.size},{args.size}]"]
            if args.pixel is not None and recipe == "strong":
                knobs += ["--spacing", f"[{args.pixel},{args.pixel}]"]
            epochs = round(args.steps / (slices // args.batch))
            command("monai.bundle", "run", "--config_file", made / "configs" / "train.json", "--epochs", epochs,
                    "--batch_size", args.batch, "--seed", seed, "--ckpt_dir", trained, "--output_dir", trained,
                    "--resume", (trained / "last.pt").exists(), *knobs)  # fmt: skip
            for way in ("held out", "contrast", *SCANNERS):
                found = trained / way
                command("monai_ext", "segment", "--bundle", made, "--input", folder / way / "images", "--output", found,
                        "--checkpoint", trained / "model.pt")  # fmt: skip
                scores = dict(zip(NAMES, dice(found, folder / way / "labels"), strict=True))
                means = f"{np.nanmean([scores[name] for name in FIVE]):.3f} | {np.nanmean(list(scores.values())):.3f}"
                each = " | ".join(f"{scores[name]:.2f}" for name in NAMES)
                print(f"| {recipe} | {seed} | {way} | {means} | {each} |", flush=True)


if __name__ == "__main__":
    main()
