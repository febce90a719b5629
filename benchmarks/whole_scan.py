# SPDX-License-Identifier: Apache-2.0
"""A CT of 512x512x148, or a picture, from command to label: whole processes of ``segment`` beside an older commit's.

    python -m benchmarks.whole_scan --against DIR                  # DIR: a checkout of another commit
    python -m benchmarks.whole_scan --against DIR --bundle unet_dca_synapse --checkpoint model.pt --image ct.nii.gz
    python -m benchmarks.whole_scan --against DIR --bundle qtseg_busi   # a phantom's picture
    python -m benchmarks.whole_scan --files 10                     # one run of ten files beside ten runs of one

Sides take turns, ``--repeats`` times; the first round warms the disk's cache and is not counted. With
``--precision float32`` labels must be equal voxel by voxel; else what differs is printed. Without a checkpoint weights
are random: their labels are noise, which costs more to bring to full size than those of trained ones. Peak memory is
that of the process (Linux).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import nibabel
import numpy as np
import torch
from PIL import Image

from benchmarks.machine import cpu_model
from benchmarks.volume_files import make_scan
from monai_ext.bundle import Bundle
from monai_ext.data import load_datalist, write_phantom

HERE = Path(__file__).resolve().parents[1]
Measured = tuple[float, float, float]  # seconds, seconds of the processor, MiB


def process(command: list[str], library: Path) -> Measured:
    """Run a command with a checkout's library."""
    started = time.perf_counter()
    running = subprocess.Popen(
        command,
        cwd=library,
        env={**os.environ, "PYTHONPATH": str(library)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    errors = running.stderr.read() if running.stderr else b""
    _, status, used = os.wait4(running.pid, 0)
    running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise SystemExit(f"{library}: {errors.decode()[-1000:]}")
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def segment(library: Path, bundle: str, image: Path, output: Path, weights: Path, *options: str) -> Measured:
    """Run the command of a checkout in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "monai_ext", "segment", bundle, str(image), str(output)]
    return process([*command, "--checkpoint", str(weights), *options], library)


def voxels(file: Path) -> np.ndarray:
    """What a volume or a picture holds."""
    if ".nii" in file.suffixes:
        return np.asarray(nibabel.load(file).dataobj)
    return np.asarray(Image.open(file))


def told(values: list[float], digits: int = 2) -> str:
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def against(other: Path, bundle: str, image: Path, weights: Path, repeats: int, options: list[str]) -> None:
    sides = {"this": HERE, "other": other.resolve()}
    measured: dict[str, list[Measured]] = {name: [] for name in sides}
    labels: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(repeats + 1):
            for name, library in sides.items():
                output = Path(folder, name, str(turn))
                result = segment(library, bundle, image, output, weights, *(options if name == "this" else []))
                if turn:
                    measured[name].append(result)
                labels[name] = voxels(next(output.glob("*_seg.*")))
    different = float((labels["this"] != labels["other"]).mean())
    print("| side | s | s of the processor | memory, MiB |\n|---|---|---|---|")
    for name, runs in measured.items():
        seconds, cpu, memory = (list(column) for column in zip(*runs))
        print(f"| {name} | {told(seconds)} | {told(cpu)} | {told(memory, 0)} |")
    ratios = [theirs[0] / ours[0] for ours, theirs in zip(measured["this"], measured["other"])]
    print(f"\n{told(ratios)} times as fast; {different:.4%} of the voxels differ")
    if different and "float32" in options:
        raise SystemExit("labels are not equal")


def many(count: int, bundle: str, image: Path, weights: Path, repeats: int, options: list[str]) -> None:
    together, alone = [], []
    with tempfile.TemporaryDirectory() as folder:
        scans = Path(folder, "scans")
        scans.mkdir()
        for number in range(count):
            (scans / f"scan{number}{''.join(image.suffixes)}").symlink_to(image.resolve())
        for turn in range(repeats):
            together.append(segment(HERE, bundle, scans, Path(folder, f"all{turn}"), weights, *options))
            runs = [
                segment(HERE, bundle, scan, Path(folder, f"one{turn}"), weights, *options)
                for scan in sorted(scans.iterdir())
            ]
            alone.append((sum(run[0] for run in runs), sum(run[1] for run in runs), max(run[2] for run in runs)))
    print(f"| {count} files | s | s of the processor | memory, MiB |\n|---|---|---|---|")
    for name, runs in (("one run", together), (f"{count} runs", alone)):
        seconds, cpu, memory = (list(column) for column in zip(*runs))
        print(f"| {name} | {told(seconds)} | {told(cpu)} | {told(memory, 0)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="a checkout of another commit")
    parser.add_argument("--files", type=int, help="compare one run of so many files with as many runs")
    parser.add_argument("--bundle", default="dcaunet_synapse")
    parser.add_argument("--checkpoint", type=Path, help="trained weights; by default random ones")
    parser.add_argument("--image", type=Path, help="by default noise and smooth organs, or a phantom's picture")
    parser.add_argument("--precision", help="of this side, such as bfloat16")
    parser.add_argument("--quick", action="store_true", help="a smaller volume")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    if not arguments.against and not arguments.files:
        parser.error("give --against DIR or --files N")
    options = ["--precision", arguments.precision] if arguments.precision else []
    with tempfile.TemporaryDirectory() as folder:
        image, weights = arguments.image, arguments.checkpoint
        bundle = Bundle.find(arguments.bundle)
        if image is None and bundle.pictures:
            dataset = bundle.default("dataset_name")
            write_phantom(dataset, Path(folder, dataset), 40)
            image = Path(load_datalist(dataset, Path(folder, dataset))["training"][0]["image"])
        elif image is None:
            image = Path(folder, "ct.nii.gz")
            make_scan(image, arguments.quick)
        if weights is None:
            torch.manual_seed(0)
            weights = Path(folder, "model.pt")
            torch.save(bundle.parser().get_parsed_content("network_def").state_dict(), weights)
        shape = "x".join(map(str, voxels(image).shape))
        print(f"{cpu_model()}, {torch.get_num_threads()} threads; {arguments.bundle}, {shape} voxels\n")
        given = (arguments.bundle, image.resolve(), weights.resolve(), arguments.repeats, options)
        if arguments.against:
            against(arguments.against, *given)
        if arguments.files:
            many(arguments.files, *given)


if __name__ == "__main__":
    main()
