# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.own_data``: recipes and plans of ``new`` on one CT and two cohorts of phantoms."""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import benchmarks.own_data
from benchmarks.machine import cpu_model
from benchmarks.own_data.scores import score
from benchmarks.own_data.studies import STUDIES, Study
from monai_ext.bundle import Bundle
from monai_ext.utils import read_json, write_json

# recipe, and whether every scan is brought to the planned pixel; without, slices are squeezed to squares
VARIANTS = {"paper": ("paper", False), "squares": ("strong", False), "strong": ("strong", True)}


def command(*arguments: object) -> None:
    run = subprocess.run([sys.executable, "-W", "ignore", "-m", *map(str, arguments)], capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments[:4]))}: {run.stderr[-1500:]}")


def make_bundle(folder: Path, recipe: str, new: list[str]) -> Path:
    """A bundle of the data; ``paper``, too, has the network of the defaults."""
    made = folder / "bundles" / recipe
    if made.exists():
        return made
    if recipe == "strong":
        command("monai_ext", "new", "--name", recipe, *new, "--recipe", recipe, "--where", folder)
        return made
    own = read_json(make_bundle(folder, "strong", new) / "configs" / "train.json", "config")["network_def"]
    network = own["_target_"].rpartition(".")[2]
    command("monai_ext", "new", "--name", recipe, *new, "--recipe", recipe, "--network", network, "--where", folder)
    for part in ("train", "inference"):
        file = made / "configs" / f"{part}.json"
        config = read_json(file, "config")
        config["network_def"] |= {key: value for key, value in own.items() if key == "features"}
        write_json(file, config)
    return made


def knobs_of(bundle: Path, planned: bool, side: int) -> list[str]:
    """Slices of ``side`` x ``side`` pixels that show what the plan's do, or squares."""
    size = ["--image_size", f"[{side},{side}]"]
    parser = Bundle(bundle).parser("train")
    spacing = parser.get_parsed_content("spacing") if "spacing" in parser.get() else None
    if spacing is None:
        return size
    pixel = max(spacing) * max(parser.get_parsed_content("image_size")) / side
    return [*size, "--spacing", f"[{pixel:.4g},{pixel:.4g}]" if planned else "$None"]


def run(args: argparse.Namespace, study: Study, data: Path, bundle: Path, variant: str, seed: int,
        ways: dict[str, Path]) -> dict[str, Any]:  # fmt: skip
    """Train once, and the scores of each way to test; what is done is not done again."""
    trained = data.parent / f"{data.name}-{variant}-{seed}"
    done = trained / "scores.json"
    if done.exists():
        return dict(read_json(done, "scores"))
    # the schedule goes down with each epoch; the last is validated, and kept
    length = max(1, args.steps // args.epochs)
    command("monai.bundle", "run", "--config_file", bundle / "configs" / "train.json", "--epochs", args.epochs,
            "--val_interval", args.epochs, "--train#trainer#epoch_length", length, "--batch_size", args.batch,
            "--seed", seed, "--ckpt_dir", trained, "--output_dir", trained, "--num_workers", 0,
            "--resume", (trained / "last.pt").exists(),
            *knobs_of(bundle, VARIANTS[variant][1], args.size))  # fmt: skip
    found: dict[str, Any] = {}
    for way, folder in ways.items():
        images, labels = (folder / part for part in study.parts)
        output = trained / way
        naming = ["--naming", "nnunet"] if study.parts[0] == "imagesTs" else []
        command("monai_ext", "segment", "--bundle", bundle, "--input", images, "--output", output, *naming,
                "--checkpoint", trained / "model.pt", "--overwrite")  # fmt: skip
        if not naming:
            for path in output.glob("*_seg.nii.gz"):
                path.rename(path.with_name(path.name.replace("_seg.", ".")))
        found[way] = score(data, output, labels, study.slices)
    write_json(done, found)
    return found


def told(values: list[float]) -> str:
    """The mean, and each seed's."""
    each = ", ".join(f"{value:.3f}" for value in values)
    return f"{np.mean(values):.3f} ({each})" if len(values) > 1 else each


def table(study: Study, found: dict[tuple[str, int], dict[str, Any]]) -> str:
    classes = list(next(iter(next(iter(found.values())).values()))["dice of"])
    head = ["recipe", "scans", *(["mean of five"] if study.some else []), "Dice", "NSD", *classes]
    lines = [f"{study.title}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for variant in VARIANTS:
        runs = [scores for (name, _), scores in sorted(found.items()) if name == variant]
        for way in runs[0] if runs else []:
            if any(way not in scores for scores in runs):
                continue
            of = [scores[way]["dice of"] for scores in runs]
            means = [told([float(np.nanmean([one[name] for name in study.some])) for one in of])] if study.some else []
            means += [told([scores[way][key] for scores in runs]) for key in ("dice", "nsd")]
            each = [_mean([one[name] for one in of]) for name in classes]
            lines.append(f"| {' | '.join([variant, way, *means, *each])} |")
    return "\n".join(lines) + "\n"


def _mean(values: list[float]) -> str:
    known = [value for value in values if not math.isnan(value)]
    return f"{np.mean(known):.2f}" if known else "none"


def main() -> None:
    parser = argparse.ArgumentParser(description=benchmarks.own_data.__doc__.splitlines()[0])
    parser.add_argument("--image")
    parser.add_argument("--label")
    parser.add_argument("--output", required=True)
    parser.add_argument("--data", default=",".join(STUDIES))
    parser.add_argument("--recipes", default=",".join(VARIANTS))
    parser.add_argument("--steps", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    output = Path(args.output).resolve()
    print(f"{cpu_model()}; {args.steps} steps of {args.batch} at {args.size}x{args.size}", flush=True)
    sections: dict[str, str] = {}
    for name in args.data.split(","):
        study, data = STUDIES[name], output / name
        new, ways = study.write(data, args.image, args.label)
        bundles = {recipe: make_bundle(data, recipe, new) for recipe, _ in map(VARIANTS.get, args.recipes.split(","))}
        found: dict[tuple[str, int], dict[str, Any]] = {}
        with ThreadPoolExecutor(args.jobs) as pool:
            jobs = {
                (variant, seed): pool.submit(run, args, study, data, bundles[VARIANTS[variant][0]], variant, seed, ways)
                for seed in map(int, args.seeds.split(","))
                for variant in args.recipes.split(",")
            }
            for key, job in jobs.items():
                found[key] = job.result()
                sections[name] = table(study, found)
                (output / "results.md").write_text("\n".join(sections.values()))
    print((output / "results.md").read_text())


if __name__ == "__main__":
    main()
