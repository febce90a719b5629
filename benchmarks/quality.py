# SPDX-License-Identifier: Apache-2.0
"""Can a label be trusted, without a truth? ``segment --quality true`` on phantoms whose truth is known.

    python -m benchmarks.quality --output DIR [--bundle dcaunet_synapse] [--epochs 10]

Writes CT phantoms of 96x96 pixels and 24 slices, trains the bundle on 18 of them, calibrates it on 12 others, and then
asks it about

* 40 more patients, of which half are corrupted: noise, motion, metal, missing slices, another window, another phantom
  (heart MR). Prints how the expected Dice follows the true one (Spearman), how often that lies in the interval, and the
  area under the risk-coverage curve beside those of entropy, of the truth itself, and of chance;
* 24 images unlike CT of the abdomen: noise, inverted grey, values shifted by 1024 and times 10, a head, heart MR;
* 40 sound scans of other spacing, orientation and field of view.

Calibration damages its cases, too, but with none of these kinds but noise. What is in DIR already is kept.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import nibabel
import numpy as np
from scipy.stats import spearmanr

from benchmarks.machine import cpu_model
from monai_ext.apps.label.uncertainty import uncertainty
from monai_ext.apps.quality import Assessor, calibrate, quality_file
from monai_ext.apps.segmentation import segment
from monai_ext.bundle import Bundle
from monai_ext.data import DATASETS
from monai_ext.metrics import label_metrics
from monai_ext.phantoms import ct_phantom_case, ct_phantom_case_ids, mr_phantom_case, mr_phantom_ids, write_ct_phantom

PIXELS, SLICES = 96, 24
CORRUPTED = ("noise", "motion", "metal", "missing slices", "window", "other phantom")
UNLIKE = ("noise", "inverted", "shifted by 1024", "times 10", "head", "heart MR")
SOUND = ("spacing", "orientation", "less field", "more field")


def cohort(folder: Path) -> Path:
    """Three cohorts of 30 patients, and the list to train and calibrate with."""
    for seed in range(3):
        write_ct_phantom(folder / f"cohort{seed}", 30, seed, False, 1, PIXELS, SLICES)

    def cases(numbers: tuple[int, ...], seed: int = 0) -> list[dict[str, str]]:
        pairs = (paths(folder, seed, number) for number in numbers)
        return [{"image": str(image), "label": str(label)} for image, label in pairs]

    training, held_out = ct_phantom_case_ids()
    codes = mapping(folder)
    content = {
        "label_mapping": {str(code): number for code, number in codes.items()},
        "training": cases(training),
        "validation": cases(held_out),
        "test": cases(held_out[:1], 1),
    }
    (folder / "list.json").write_text(json.dumps(content))
    return folder / "list.json"


def mapping(folder: Path) -> dict[int, int]:
    """From the publisher's codes to classes."""
    return DATASETS["synapse"].find(folder / "cohort0").label_mapping or {}


def paths(folder: Path, seed: int, number: int) -> tuple[Path, Path]:
    place = folder / f"cohort{seed}" / "RawData/Training"
    return place / f"img/img{number:04d}.nii.gz", place / f"label/label{number:04d}.nii.gz"


def corrupted(hu: np.ndarray, axis: int, kind: str, rng: np.random.Generator) -> np.ndarray:
    """HU after something went wrong; ``axis`` is that of the slices."""
    v = np.moveaxis(hu.astype(np.float32), axis, 0).copy()
    if kind == "noise":
        v += rng.normal(0, rng.uniform(60, 200), v.shape)
    elif kind == "motion":  # parts of k-space are of a patient who has moved
        k, count = np.fft.fft(v, axis=1), v.shape[1]
        for _ in range(3):
            start, shift = rng.integers(0, count // 2), rng.uniform(4, 12)
            part = slice(start, start + count // 5)
            k[:, part] *= np.exp(-2j * np.pi * np.fft.fftfreq(count)[part] * shift)[None, :, None]
        v = np.fft.ifft(k, axis=1).real
    elif kind == "metal":
        rows, columns = np.mgrid[: v.shape[1], : v.shape[2]]
        for _ in range(2):
            y, x = rng.uniform(0.3, 0.7, 2) * v.shape[1:]
            radius = np.hypot(rows - y, columns - x)
            streaks = np.cos(12 * np.arctan2(rows - y, columns - x) + rng.uniform(0, 6))
            v += rng.uniform(500, 1200) * streaks * np.exp(-radius / 25)
            v[:, radius < 3] = 3000
    elif kind == "missing slices":
        v[rng.choice(len(v), int(len(v) * rng.uniform(0.3, 0.6)), replace=False)] = -1000
    elif kind == "window":  # stored as a lung or a narrow window shows it
        low, high = ((-1000, -200), (20, 90))[rng.integers(2)]
        v = np.clip(v, low, high)
    return np.moveaxis(np.round(v).astype(np.int16), 0, axis)


def unlike(hu: np.ndarray, affine: np.ndarray, kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    if kind == "noise":
        hu = rng.integers(-1000, 1000, hu.shape)
    elif kind == "inverted":
        hu = -hu.astype(int)
    elif kind == "shifted by 1024":
        hu = hu.astype(int) + 1024
    elif kind == "times 10":
        hu = hu.astype(int) * 10
    elif kind == "head":
        grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, side) for side in hu.shape), indexing="ij"))
        radius = np.sqrt((grid**2).sum(axis=0)) / rng.uniform(0.7, 0.9)
        hu = np.select([radius < 0.85, radius < 0.95, radius < 1], [rng.normal(35, 8, hu.shape), 900, 30], -1000)
    else:
        return heart(rng)
    return np.clip(np.round(hu), -32000, 32000).astype(np.int16), affine


def heart(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    made = mr_phantom_case(int(rng.choice(mr_phantom_ids())), int(rng.integers(100)), PIXELS)
    return made.images["ED"], made.affine


def sound(folder: Path, kind: str, number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    if kind == "spacing":
        made = ct_phantom_case(number, 5, int(rng.integers(72, 200)), int(rng.integers(14, 60)))
        return made.image, made.affine
    hu, _, affine = read(*paths(folder, 2, number))
    axis = slice_axis(affine)
    if kind == "orientation":
        order = rng.permutation(3)
        hu, affine = hu.transpose(order), affine[:, [*order, 3]]
        flip = np.diag([-1.0, 1, 1, 1])
        flip[0, 3] = hu.shape[0] - 1
        return np.ascontiguousarray(hu[::-1]), affine @ flip
    inside = [k for k in range(3) if k != axis]
    if kind == "less field":
        cut = [slice(None)] * 3
        for k in inside:
            low, high = (rng.uniform(0, 0.15, 2) * hu.shape[k]).astype(int)
            cut[k] = slice(low, hu.shape[k] - high)
        return np.ascontiguousarray(hu[tuple(cut)]), affine
    more = [(0, 0) if k == axis else (int(rng.uniform(0.05, 0.2) * hu.shape[k]),) * 2 for k in range(3)]
    return np.pad(hu, more, constant_values=-1000), affine


def read(image: Path, label: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scan = nibabel.load(image)
    return np.asarray(scan.dataobj), np.asarray(nibabel.load(label).dataobj).astype(int), scan.affine


def slice_axis(affine: np.ndarray) -> int:
    return int(np.argmax(np.abs(affine[2, :3])))


def save(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)


def write_scans(folder: Path) -> None:
    numbers = [*ct_phantom_case_ids()[0], *ct_phantom_case_ids()[1]]
    codes = mapping(folder)
    table = np.array([codes.get(code, 0) for code in range(14)], np.uint8)
    for k in range(40):
        rng = np.random.default_rng(k)
        hu, label, affine = read(*paths(folder, 1 if k < 20 else 2, numbers[k % 20]))
        kind = "sound" if k < 20 else CORRUPTED[k % len(CORRUPTED)]
        if kind == "other phantom":
            hu, affine = heart(rng)
            label = np.zeros(hu.shape, int)
        elif kind != "sound":
            hu = corrupted(hu, slice_axis(affine), kind, rng)
        save(folder / "scored" / f"{kind.replace(' ', '-')}_{k:02d}.nii.gz", hu, affine)
        save(folder / "truth" / f"{kind.replace(' ', '-')}_{k:02d}.nii.gz", table[label], affine)
    for k in range(24):
        rng = np.random.default_rng(k)
        hu, _, affine = read(*paths(folder, 2, numbers[k]))
        kind = UNLIKE[k % len(UNLIKE)]
        save(folder / "unlike" / f"{kind.replace(' ', '-')}_{k:02d}.nii.gz", *unlike(hu, affine, kind, rng))
    for k in range(40):
        kind = SOUND[k % len(SOUND)]
        made = sound(folder, kind, numbers[k % 30], np.random.default_rng(k))
        save(folder / "sound" / f"{kind.replace(' ', '-')}_{k:02d}.nii.gz", *made)
    (folder / "scans.done").touch()


def area(trust: np.ndarray, risk: np.ndarray) -> float:
    """Under the risk-coverage curve: the mean risk of what is trusted most, over all shares of it."""
    ordered = risk[np.argsort(-trust, kind="stable")]
    return float((np.cumsum(ordered) / np.arange(1, len(ordered) + 1)).mean())


def dice_of(pred: Path, truth: Path, classes: int) -> float:
    maps = [np.asarray(nibabel.load(path).dataobj).astype(int) for path in (pred, truth)]
    scores = np.asarray(label_metrics(*maps, classes, metrics="dice")["dice"])
    return float(np.nanmean(scores)) if np.isfinite(scores).any() else 0.0


def kind_of(path: str | Path) -> str:
    return Path(path).name.partition("_")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True)
    parser.add_argument("--bundle", default="dcaunet_synapse")
    parser.add_argument("--epochs", type=int, default=10)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    folder = Path(args.output).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    listed, weights, bundle = cohort(folder), folder / "run" / "model.pt", Bundle.find(args.bundle)
    knobs = {"device": "cpu", "num_workers": 0}
    if not (folder / "trained").exists():
        subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "--config_file", bundle.config_file("train"),
             "--datalist", listed, "--image_size", f"[{PIXELS},{PIXELS}]", "--batch_size", "8", "--epochs",
             str(args.epochs), "--val_interval", str(args.epochs), "--output_dir", weights.parent, "--ckpt_dir",
             weights.parent], check=True)  # fmt: skip
        (folder / "trained").touch()
    print(f"{cpu_model()}; {bundle.name}, {args.epochs} epochs of 54 steps")
    if not quality_file(weights).is_file():
        start = time.process_time()
        calibrate(args.bundle, weights, datalist=str(listed), **knobs)
        print(f"calibrated in {time.process_time() - start:.0f} seconds of CPU", flush=True)
    if not (folder / "scans.done").exists():
        write_scans(folder)

    assess = Assessor(bundle, [weights], "cpu")
    prepare = bundle.parser("inference", ckpt_path=str(weights), **knobs).get_parsed_content("preprocessing")
    inferer, network = assess.lookers[0].inferer, bundle.network(weights)
    start, count = time.process_time(), 0
    for name in ("unlike", "sound"):
        flagged: dict[str, list[bool]] = defaultdict(list)
        for path in sorted((folder / name).glob("*.nii.gz")):
            flagged[kind_of(path)].append(assess.distance(prepare({"image": str(path)})["image"][None]) > 1)
            count += 1
        total = [one for found in flagged.values() for one in found]
        each = ", ".join(f"{kind} {sum(found)}/{len(found)}" for kind, found in flagged.items())
        print(f"{name}: {sum(total)} of {len(total)} flagged ({each})", flush=True)
    print(f"{(time.process_time() - start) / count:.2f} seconds of CPU an image to read it and look at it", flush=True)

    start = time.process_time()
    labels = segment(args.bundle, folder / "scored", folder / "labels", [weights], force=True, **knobs)
    middle = time.process_time()
    told = segment(args.bundle, folder / "scored", folder / "told", [weights], force=True, quality=True, **knobs)
    end = time.process_time()
    labels.check()
    told.check()
    same = all(a.read_bytes() == b.read_bytes() for a, b in zip(labels, told, strict=True))
    each = (end - 2 * middle + start) / len(told)
    print(f"labels equal with and without: {same}; {each:.1f} seconds of CPU more a case", flush=True)

    rows = []
    for label in told:
        image = folder / "scored" / label.name.replace("_seg", "")
        entropy = uncertainty(prepare({"image": str(image)})["image"][None], network, inferer)
        quality = told.quality[label]
        dice = dice_of(label, folder / "truth" / image.name, max(bundle.channel_def) + 1)
        rows.append((kind_of(image), dice, quality["expected_dice"], *quality["interval"], entropy, quality["flag"]))
    (folder / "rows.json").write_text(json.dumps(rows))
    table(rows)


def table(rows: list[tuple]) -> None:
    kinds = [row[0] for row in rows]
    dice, expected, low, high, entropy = (np.array([row[k] for row in rows]) for k in range(1, 6))
    print("| scans | cases | Dice | expected | in the interval | flags |\n|---|---|---|---|---|---|")
    for kind in dict.fromkeys(kinds):
        own = np.array([k == kind for k in kinds])
        flags = defaultdict(int)
        for row in rows:
            if row[0] == kind:
                flags[row[6]] += 1
        inside = ((low <= dice) & (dice <= high))[own].sum()
        said = ", ".join(f"{count} {flag}" for flag, count in flags.items())
        print(f"| {kind} | {own.sum()} | {dice[own].mean():.3f} | {expected[own].mean():.3f} | {inside} | {said} |")
    risk = 1 - dice
    rng = np.random.default_rng(0)
    chance = [area(rng.permutation(len(risk)), risk) for _ in range(1000)]
    print(f"Spearman: expected Dice {spearmanr(expected, dice)[0]:.3f}, entropy {spearmanr(-entropy, dice)[0]:.3f}")
    print(
        f"area under the risk-coverage curve: expected Dice {area(expected, risk):.3f}, entropy "
        f"{area(-entropy, risk):.3f}, chance {np.mean(chance):.3f} ({np.quantile(chance, 0.025):.3f} to "
        f"{np.quantile(chance, 0.975):.3f}), the truth {area(dice, risk):.3f}"
    )


if __name__ == "__main__":
    main()
