# SPDX-License-Identifier: Apache-2.0
"""Does a 3D overlay learn? Train it for minutes on the CT phantom, and beat what intensity alone tells.

    python -m benchmarks.three_d [--bundle dcaunet_synapse] [--steps 400] [--output DIR]

Configs and handlers are the bundle's own; network and patch are small, and the learning rate suits so few steps. The
baseline is that of benchmarks/bundles.py. Phantom data, no clinical meaning.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.bundles import intensity_dice, run
from monai_ext.data import DATASETS, load_datalist, write_phantom

CASES = 12  # of the phantom: 7 to train on, 5 to test
NETWORKS = {
    "dcaunet_synapse": {"channels": "[32,64,128,256]", "depths": "[1,1,2,1]"},
    "unet_dca_synapse": {"features": "[8,16,32,64]"},
    "xattnres_unet_synapse": {"features": "[8,16,32,64]"},
}
BATCH = 2
PATCHES = 8  # of each volume an epoch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="dcaunet_synapse", choices=list(NETWORKS))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--patch", default="[96,96,32]")
    parser.add_argument("--learning_rate", default="1e-3")
    parser.add_argument("--output", default=None)
    args = parser.parse_args()
    root = Path(args.output or tempfile.mkdtemp(prefix="three_d_"))
    data = root / "data"
    write_phantom("synapse", data, CASES)
    cases = load_datalist("synapse", data, split="paper")
    epochs = max(1, round(args.steps * BATCH / (PATCHES * len(cases["training"]))))
    common = {
        **{f"network_def#{key}": value for key, value in NETWORKS[args.bundle].items()},
        "image_size": args.patch,
        "batch_size": str(BATCH),
        "dataset_dir": str(data),
        "output_dir": str(root),
        "ckpt_dir": str(root),
        "split": "paper",
    }
    light = {"rotation": "0.1", "flip_prob": "0", "patches_per_volume": str(PATCHES)}
    began = time.perf_counter()
    options = {**common, **light, "learning_rate": args.learning_rate, "epochs": str(epochs)}
    run(args.bundle, ["train", "train_3d"], options)
    minutes = (time.perf_counter() - began) / 60
    run(args.bundle, ["train", "train_3d", "evaluate"], common)
    summary = json.loads((root / "summary.json").read_text())
    overall = summary["conventions"]["monai"]["overall"]["dice"]["mean"]
    base = intensity_dice(cases, len(DATASETS["synapse"].class_names) + 1)
    steps = epochs * PATCHES * len(cases["training"]) // BATCH
    print(f"phantom data, no clinical meaning; torch {torch.__version__}, {torch.get_num_threads()} thread(s)\n")
    print("| bundle | training and test cases | patch | steps | minutes | intensity | Dice | margin |")
    print("|---|---|---|---|---|---|---|---|")
    print(
        f"| {args.bundle} | {len(cases['training'])}, {len(cases['test'])} | {args.patch} | {steps} | {minutes:.1f}"
        f" | {base:.3f} | {overall:.3f} | {overall - base:+.3f} |"
    )


if __name__ == "__main__":
    main()
