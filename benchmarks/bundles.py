# SPDX-License-Identifier: Apache-2.0
"""Does each bundle learn? Train it for a few minutes on its phantom, and beat what intensity alone tells.

    python -m benchmarks.bundles [--bundles NAME ...] [--output DIR]

Training, evaluation and their options are the bundle's own, with small pictures, few steps and the learning rate that
these ask for. The baseline knows the training cases too: a table from intensity (or colour) to the likeliest class,
with the weight of each class's frequency that does best on them. Phantom data, no clinical meaning.
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from monai.bundle import ConfigParser

from monai_ext.data import DATASETS, MaskReader, PictureReader, VolumeReader, load_datalist, write_phantom
from monai_ext.metrics import label_metrics
from monai_ext.transforms import MapLabelsd

#: bundle -> cases of the phantom, steps, and what its configs are given
BUDGETS: dict[str, tuple[int, int, dict[str, str]]] = {
    "dcaunet_acdc": (20, 240, {"image_size": "[96,96]", "batch_size": "8", "learning_rate": "1e-3", "rotation": "0.1"}),
    "qtseg_busi": (80, 260, {"image_size": "128", "batch_size": "8", "learning_rate": "1e-3", "rotation": "0.2"}),
    "xattnres_emcad_clinicdb": (80, 220, {"image_size": "[128,128]", "batch_size": "8", "learning_rate": "5e-4"}),
    "doubleunet_dca_kvasir": (80, 220, {"image_size": "[64,64]", "batch_size": "8", "learning_rate": "1e-3"}),
    "qtseg_isic2016": (80, 260, {"image_size": "128", "batch_size": "8", "learning_rate": "1e-3", "rotation": "0.2"}),
    "dcaunet_synapse": (12, 300, {"image_size": "[96,96]", "batch_size": "8", "rotation": "0.1"}),
    "unet_dca_synapse": (12, 240, {"image_size": "[96,96]", "batch_size": "6", "learning_rate": "1e-3"}),
    "xattnres_emcad_synapse": (12, 240, {"image_size": "[96,96]", "batch_size": "6", "learning_rate": "5e-4"}),
    "xattnres_unet_synapse": (12, 240, {"image_size": "[64,64]", "batch_size": "6", "learning_rate": "5e-4"}),
}
BINS = 24


def run(bundle: str, names: list[str], options: dict[str, str]) -> None:
    files = str([f"bundles/{bundle}/configs/{name}.json" for name in names])
    arguments = [part for key, value in options.items() for part in (f"--{key}", value)]
    subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "--config_file", files, *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def read(case: dict, cases: dict, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Bin of every voxel or pixel, and its class."""
    if cases["label_coding"]:
        image = PictureReader().get_data((case["image"],))[0].astype(np.int64) * 8 // 256
        files = case["label"] if isinstance(case["label"], list) else [case["label"]]
        return image @ np.array([64, 8, 1]), MaskReader(cases["label_coding"], classes).get_data(files)[0]
    image = VolumeReader().get_data((case["image"],))[0].astype(np.float32)
    low, high = (-125, 275) if image.min() < -500 else np.percentile(image, (0.5, 99.5))
    label = torch.from_numpy(VolumeReader().get_data((case["label"],))[0].astype(np.int64))
    mapped = MapLabelsd("y", classes, cases["label_mapping"])({"y": label})["y"].numpy()
    return (np.clip((image - low) / (high - low), 0, 1) * (BINS**2 - 1)).astype(np.int64), mapped


def intensity_dice(cases: dict, classes: int) -> float:
    counts = np.zeros((512 if cases["label_coding"] else BINS**2, classes))
    for case in cases["training"]:
        bins, label = read(case, cases, classes)
        np.add.at(counts, (bins.ravel(), label.ravel()), 1)
    frequency = counts.sum(0) / counts.sum()

    def dice(part: str, weight: float) -> float:
        table = ((counts + 1e-9) / frequency**weight).argmax(1)
        found = []
        for case in cases[part]:
            bins, label = read(case, cases, classes)
            found.append(label_metrics(table[bins], label, classes, metrics=("dice",))["dice"])
        return float(np.nanmean(found))

    weight = max((0, 0.25, 0.5, 0.75, 1), key=lambda w: dice("training", w))
    return dice("test", weight)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundles", nargs="+", default=list(BUDGETS), choices=list(BUDGETS))
    parser.add_argument("--output", default=None)
    args = parser.parse_args()
    root = Path(args.output or tempfile.mkdtemp(prefix="bundles_"))
    print(f"phantom data, no clinical meaning; torch {torch.__version__}, {torch.get_num_threads()} thread(s)\n")
    print("| bundle | training and test cases | steps | minutes | intensity | Dice | margin |")
    print("|---|---|---|---|---|---|---|")
    for bundle in args.bundles:
        count, steps, options = BUDGETS[bundle]
        config = ConfigParser()
        config.read_config(f"bundles/{bundle}/configs/train.json")
        dataset = config["dataset_name"]
        data, folder = root / "data" / dataset, root / bundle
        write_phantom(dataset, data, count)
        folder.mkdir(parents=True, exist_ok=True)
        cases = load_datalist(dataset, data, split="paper", split_file=folder / "split.json")
        classes = len(DATASETS[dataset].class_names) + 1
        slices = len(cases["training"])
        if not cases["label_coding"]:
            slices = sum(read(case, cases, classes)[0].shape[-1] for case in cases["training"])
        epochs = max(1, round(steps * ast.literal_eval(options["batch_size"]) / slices))
        paths = {"dataset_dir": data, "output_dir": folder, "ckpt_dir": folder}
        common = {**options, **{k: str(v) for k, v in paths.items()}, "split": "paper"}
        began = time.perf_counter()
        light = {"flip_prob": "0", "foreground_weight": "1"} if dataset == "synapse" else {}
        run(bundle, ["train"], {**common, **light, "epochs": str(epochs)})
        minutes = (time.perf_counter() - began) / 60
        run(bundle, ["train", "evaluate"], common)
        summary = json.loads((folder / "summary.json").read_text())
        dice, base = summary["conventions"]["monai"]["overall"]["dice"]["mean"], intensity_dice(cases, classes)
        done = epochs * (slices // int(options["batch_size"]))
        print(
            f"| {bundle} | {len(cases['training'])}, {len(cases['test'])} | {done}"
            f" | {minutes:.1f} | {base:.3f} | {dice:.3f} | {dice - base:+.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
