# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.own_data``: both recipes of ``new`` on a CT."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np

import benchmarks.own_data
from benchmarks.machine import cpu_model
from benchmarks.own_data.blocks import FIVE, NAMES, SCANNERS, write_blocks
from monai_ext.metrics import label_metrics


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
    parser = argparse.ArgumentParser(description=benchmarks.own_data.__doc__.splitlines()[0])
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
