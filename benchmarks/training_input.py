# SPDX-License-Identifier: Apache-2.0
"""Training slices per second: volumes cut in memory, beside TransUNet's file per slice and SciPy zoom.

    python -m benchmarks.training_input [--seconds 8] [--rounds 4] [--workers 2] [--size 224] [--stored 512]

Both sides serve batches of 24 slices of the same CT phantoms, enlarged to ``--stored`` pixels a side, with random
rotation and flips, resized to ``--size`` (images by a cubic, labels to the nearest). The other side is what TransUNet
made usual: one ``.npz`` file a slice with
image and label, ``scipy.ndimage.rotate`` or flips, and ``scipy.ndimage.zoom`` of order 3 and 0 for each sample. They
take turns in one run. Memory is that of all processes together (proportional set size, Linux only), with the cache of
``SliceDataset`` beside ``CacheDataset`` and the same workers; what the files need on disk is printed too.
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import CacheDataset, DataLoader
from scipy import ndimage
from torch.utils.data import Dataset

from benchmarks.machine import cpu_model
from monai_ext.data import SliceDataset, SliceSampler, load_datalist, write_phantom

BATCH = 24
CONFIG = "bundles/dcaunet_synapse/configs/train.json"


class SliceFiles(Dataset):
    """A file a slice; rotated or flipped, then zoomed, sample by sample."""

    def __init__(self, files: list[Path], size: int) -> None:
        self.files, self.size = files, size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        with np.load(self.files[index]) as data:
            image, label = data["image"], data["label"]
        if np.random.rand() > 0.5:
            turns, axis = np.random.randint(0, 4), np.random.randint(0, 2)
            image, label = (np.flip(np.rot90(a, turns), axis) for a in (image, label))
        elif np.random.rand() > 0.5:
            angle = np.random.uniform(-20, 20)
            image, label = (ndimage.rotate(a, angle, order=0, reshape=False) for a in (image, label))
        factors = (self.size / image.shape[0], self.size / image.shape[1])
        image, label = ndimage.zoom(image, factors, order=3), ndimage.zoom(label, factors, order=0)
        return {"image": torch.from_numpy(image)[None], "label": torch.from_numpy(label)[None]}


def enlarge(data: Path, side: int) -> None:
    """Slices of the size that scanners give; phantoms have fewer pixels."""
    for path in data.rglob("*.nii.gz"):
        image = nibabel.load(path)
        axis = int(np.abs(image.affine[:3, :3]).argmax(axis=1)[2])  # the one that runs along the patient
        factors = [1 if k == axis else side / n for k, n in enumerate(image.shape)]
        values = ndimage.zoom(np.asarray(image.dataobj), factors, order=1 if "img" in path.name else 0)
        affine = image.affine @ np.diag([*(1 / f for f in factors), 1])
        nibabel.save(nibabel.Nifti1Image(values, affine), path)


def preprocessing(data: Path, size: int) -> tuple[ConfigParser, dict]:
    parser = ConfigParser(ConfigParser.load_config_file(CONFIG))
    parser["dataset_dir"], parser["image_size"] = str(data), [size, size]
    return parser, load_datalist("synapse", data, split="paper")


def ours(data: Path, size: int) -> tuple[Dataset, SliceSampler]:
    parser, cases = preprocessing(data, size)
    dataset = SliceDataset(
        cases["training"],
        parser.get_parsed_content("train#preprocessing"),
        (size, size),
        parser.get_parsed_content("train#augmentation"),
        progress=False,
    )
    return dataset, SliceSampler(dataset)


def write_slices(data: Path, folder: Path, size: int) -> list[Path]:
    """As TransUNet's preprocessing: clipped to [-125, 275] HU, scaled to [0, 1], a file for each slice."""
    parser, cases = preprocessing(data, size)
    prepare = parser.get_parsed_content("train#preprocessing")
    folder.mkdir()
    files = []
    for case in cases["training"]:
        item = prepare(case)
        for k in range(item["image"].shape[-1]):
            files.append(folder / f"{case['case_id']}_slice{k:03d}.npz")
            np.savez(files[-1], image=item["image"][0, ..., k].numpy(), label=item["label"][0, ..., k].numpy())
    return files


def loader(dataset: Dataset, workers: int, **kwargs: Any) -> DataLoader:
    return DataLoader(dataset, batch_size=BATCH, num_workers=workers, **kwargs)


def batches(source: DataLoader, sampler: SliceSampler | None) -> Iterator[dict]:
    epoch = 0
    while True:
        if sampler is not None:
            sampler.set_epoch(epoch)
        yield from source
        epoch += 1


def rate(source: Iterator[dict], seconds: float) -> float:
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        count += len(next(source)["image"])
    return count / (time.perf_counter() - began)


def memory(kind: str, data: Path, size: int, workers: int) -> float:
    """MiB of all processes of a loader that has served an epoch."""
    code = f"from benchmarks.training_input import serve; serve({kind!r}, {str(data)!r}, {size}, {workers})"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def serve(kind: str, data: str, size: int, workers: int) -> None:
    """Fill a cache, serve an epoch, and print the memory of this process and its workers while they live."""
    parser, cases = preprocessing(Path(data), size)
    before = _memory()
    if kind == "ours":
        dataset, sampler = ours(Path(data), size)
        source = loader(dataset, workers, sampler=sampler)
    else:
        prepare = parser.get_parsed_content("train#preprocessing")
        cached = CacheDataset(cases["training"], prepare, num_workers=1, progress=False)
        source = DataLoader(cached, batch_size=1, num_workers=workers)
    peak = 0.0
    for _ in source:
        peak = max(peak, _memory())
    print(peak - before)


def _memory() -> float:
    """Proportional set size of this process and its workers, MiB: a page that several share is counted once."""
    processes = ["self", *(str(child.pid) for child in multiprocessing.active_children())]
    rollups = [Path(f"/proc/{process}/smaps_rollup").read_text().splitlines() for process in processes]
    return sum(int(line.split()[1]) for lines in rollups for line in lines if line.startswith("Pss:")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--stored", type=int, default=512, help="pixels a side of the volumes' slices")
    parser.add_argument("--cases", type=int, default=6)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{cpu_model()}, torch {torch.__version__}, {args.workers} workers; phantom data, no clinical meaning\n")
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "synapse"
        write_phantom("synapse", data, args.cases)
        enlarge(data, args.stored)
        files = write_slices(data, Path(scratch) / "train_npz", args.size)
        shape = nibabel.load(load_datalist("synapse", data, split="paper")["training"][0]["image"]).shape
        on_disk = sum(file.stat().st_size for file in files) / 2**20
        dataset, sampler = ours(data, args.size)
        sides = {
            "ours": batches(loader(dataset, args.workers, sampler=sampler), sampler),
            "files": batches(loader(SliceFiles(files, args.size), args.workers, shuffle=True), None),
        }
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for source in sides.values():
            next(source)  # workers are there
        for i in range(args.rounds):
            for name in sides if i % 2 else reversed(sides):
                rates[name].append(rate(sides[name], args.seconds))
        ratios = [a / b for a, b in zip(rates["ours"], rates["files"], strict=True)]
        print(f"{len(files)} slices, the first volume {'x'.join(map(str, shape))}, to {args.size}x{args.size}")
        print("| | slices a second | files on disk, MiB |\n|---|---|---|")
        print(f"| SliceDataset | {median(rates['ours']):.0f} | 0 |")
        print(f"| a file a slice, SciPy | {median(rates['files']):.0f} | {on_disk:.0f} |")
        print(f"\nratio {median(ratios):.1f} ({min(ratios):.1f}-{max(ratios):.1f}), {args.rounds} rounds\n")
        print("| cache | MiB with 0 workers | with 2 | with 4 |\n|---|---|---|---|")
        for kind, title in (("ours", "SliceDataset"), ("monai", "CacheDataset")):
            used = [memory(kind, data, args.size, workers) for workers in (0, 2, 4)]
            print(f"| {title} | " + " | ".join(f"{value:.0f}" for value in used) + " |", flush=True)


if __name__ == "__main__":
    main()
