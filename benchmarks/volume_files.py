# SPDX-License-Identifier: Apache-2.0
"""From a NIfTI file of a CT to a NIfTI file of labels, beside the network: the bundle, the papers' loop, and MONAI.

    python -m benchmarks.volume_files             # some minutes on two cores, up to 8 GB
    python -m benchmarks.volume_files --quick     # a minute, a smaller volume

The network is a mean over 9x9 pixels and a 1x1 convolution: outlines as organs have them, and next to no time of its
own; what it takes is measured and taken off.

* the bundle: ``dcaunet_synapse``'s ``inference.json`` as it is, but for the network, with labels from interpolated
  logits (its own way) or at the network's size (the papers');
* the papers' loop: each slice by ``scipy.ndimage.zoom`` of order 3 to the network's size, its labels back by order 0;
* MONAI: ``LoadImaged``, ``Orientationd``, ``ScaleIntensityRanged``, ``Resized``, ``SliceInferer``, ``Invertd`` of the
  logits, ``AsDiscreted``, ``SaveImaged``.

Routes run alternately in one process, ``--repeats`` times. The loop's file must hold the bundle's labels, but for a
margin of rows and columns, the last of which SciPy fills with zeros. Peak memory is that of a process of its own over
what it held before (Linux only).
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import torch
import torch.nn as nn
from monai.bundle import ConfigParser
from monai.data import Dataset
from monai.inferers import SliceInferer
from monai.transforms import (
    AsDiscreted,
    Compose,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    Orientationd,
    Resized,
    SaveImaged,
    ScaleIntensityRanged,
)
from scipy import ndimage

from benchmarks.machine import cpu_model, memory_taken

CONFIG = Path(__file__).resolve().parents[1] / "bundles" / "dcaunet_synapse" / "configs" / "inference.json"
SIZE, BATCH = 224, 24
MARGIN = 16  # voxels; what the zeros that SciPy writes into its last row and column spread to in the network
Route = Callable[[Path, Path, nn.Module], None]


def bundle(source: Path, folder: Path, network: nn.Module, upsample: str = "bilinear") -> None:
    parser = ConfigParser()
    parser.read_config(str(CONFIG))
    parser.update(
        {
            "network": network,
            "image_size": [SIZE, SIZE],
            "batch_size": BATCH,
            "dataset#data": ({"image": str(source)},),
            "output_dir": str(folder),
            "inferer#upsample": upsample,
        }
    )
    parser.get_parsed_content("evaluator").run()


def bundle_nearest(source: Path, folder: Path, network: nn.Module) -> None:
    bundle(source, folder, network, "nearest")


@torch.no_grad()
def papers_loop(source: Path, folder: Path, network: nn.Module) -> None:
    scan = nibabel.load(source)
    volume = (np.clip(scan.get_fdata(dtype=np.float32), -125, 275) + 125) / 400
    volume = volume[::-1, ::-1]  # the file is RAS, the network sees LPS
    labels = np.zeros(volume.shape, dtype=np.uint8)
    height, width = volume.shape[:2]
    for i in range(volume.shape[2]):
        small = ndimage.zoom(volume[..., i], (SIZE / height, SIZE / width), order=3)
        label = network(torch.from_numpy(small)[None, None]).softmax(dim=1).argmax(dim=1)[0].numpy()
        labels[..., i] = ndimage.zoom(label, (height / SIZE, width / SIZE), order=0)
    nibabel.save(nibabel.Nifti1Image(labels[::-1, ::-1], scan.affine), folder / "scan_seg.nii.gz")


@torch.no_grad()
def monai(source: Path, folder: Path, network: nn.Module) -> None:
    load = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="LPS", labels=None),
            ScaleIntensityRanged("image", -125, 275, 0.0, 1.0, clip=True),
            Resized("image", (SIZE, SIZE, -1), mode="trilinear"),
        ]
    )
    save = Compose(
        [
            Invertd("pred", transform=load, orig_keys="image", nearest_interp=False, to_tensor=True),
            AsDiscreted("pred", argmax=True),
            SaveImaged(
                "pred",
                output_dir=folder,
                output_postfix="seg",
                output_dtype=np.uint8,
                separate_folder=False,
                print_log=False,
            ),
        ]
    )
    item = Dataset([{"image": str(source)}], load)[0]
    inferer = SliceInferer(roi_size=(SIZE, SIZE), sw_batch_size=BATCH, spatial_dim=2)
    item["pred"] = inferer(item["image"][None], network)[0]
    save(item)


@torch.no_grad()
def network_alone(source: Path, folder: Path, network: nn.Module) -> None:
    depth = nibabel.load(source).shape[2]
    for start in range(0, depth, BATCH):
        network(torch.zeros(min(BATCH, depth - start), 1, SIZE, SIZE))


NETWORK = "the network alone"
ROUTES: dict[str, Route] = {
    "the bundle, interpolated logits": bundle,
    "the bundle, labels at the network's size": bundle_nearest,
    "the papers' loop, SciPy": papers_loop,
    "MONAI": monai,
    NETWORK: network_alone,
}


def make_network(classes: int) -> nn.Module:
    """Bands of intensity, smoothed."""
    network = nn.Sequential(nn.AvgPool2d(9, 1, 4), nn.Conv2d(1, classes, 1)).eval()
    centres = torch.linspace(0, 1, classes)
    with torch.no_grad():  # the class whose centre is the nearest: 2xc - c^2 is the largest
        network[1].weight.copy_(2 * centres.view(-1, 1, 1, 1))
        network[1].bias.copy_(-(centres**2))
    return network


def make_scan(path: Path, quick: bool) -> None:
    """A CT-like volume of smooth organs and noise, in whole HU."""
    shape = (192, 192, 24) if quick else (512, 512, 148)
    rng = np.random.default_rng(0)
    smooth = ndimage.zoom(rng.normal(40, 120, size=(12, 12, 8)), np.divide(shape, (12, 12, 8)), order=1)
    values = (smooth + rng.normal(0, 12, size=smooth.shape)).round().astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([0.8, 0.8, 2.5, 1])), path)


def labels_of(folder: Path) -> np.ndarray:
    return np.asarray(nibabel.load(next(folder.glob("*_seg.nii.gz"))).dataobj)


def print_peak(name: str, source: Path, classes: int) -> None:
    network = make_network(classes)
    with tempfile.TemporaryDirectory() as folder:
        print(memory_taken(lambda: ROUTES[name](source, Path(folder), network)))


def peak_memory(name: str, source: Path, classes: int) -> float:
    command = [sys.executable, "-m", "benchmarks.volume_files", "--peak", name, str(source), "--classes", str(classes)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller volume")
    parser.add_argument("--classes", type=int, default=9)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    if options.peak:
        print_peak(options.peak[0], Path(options.peak[1]), options.classes)
        return
    network = make_network(options.classes)
    seconds: dict[str, list[float]] = {name: [] for name in ROUTES}
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "scan.nii.gz"
        make_scan(source, options.quick)
        for _ in range(options.repeats):
            for name, route in ROUTES.items():
                folder = Path(scratch) / name
                folder.mkdir(exist_ok=True)
                start = time.perf_counter()
                route(source, folder, network)
                seconds[name].append(time.perf_counter() - start)
        ours, loop = (labels_of(Path(scratch) / name)[MARGIN:, MARGIN:] for name in list(ROUTES)[1:3])
        different = float((ours != loop).mean())
        if different > 1e-5:
            raise SystemExit(f"the loop's labels differ in {different:.2e} of the voxels")
        shape = "x".join(map(str, labels_of(Path(scratch) / "MONAI").shape))
        print(f"{cpu_model()}, {torch.get_num_threads()} threads; {shape} voxels, {options.classes} classes;")
        print(f"{options.repeats} alternating runs: median (minimum-maximum), less the network's own time,")
        print(f"{np.median(seconds[NETWORK]):.2f} s\n")
        print("| route | seconds | over the bundle's | memory, MiB |\n|---|---|---|---|")
        alone = np.array(seconds.pop(NETWORK))
        first = np.array(seconds["the bundle, labels at the network's size"]) - alone
        for name, values in seconds.items():
            own = np.array(values) - alone
            ratio = own / first
            memory = peak_memory(name, source, options.classes)
            print(
                f"| {name} | {np.median(own):.2f} ({own.min():.2f}-{own.max():.2f}) "
                f"| x{np.median(ratio):.2f} ({ratio.min():.2f}-{ratio.max():.2f}) | {memory:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
