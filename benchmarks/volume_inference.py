# SPDX-License-Identifier: Apache-2.0
"""What it costs to run a 2D network on a CT volume, beside the network: ``SliceBatchInferer`` and other routes.

    python benchmarks/volume_inference.py             # a few minutes on two cores, up to 8 GB
    python benchmarks/volume_inference.py --quick     # a minute, a smaller volume

The network is a 1x1 convolution, so that nearly all time is the route's own. From image to label map on the image's
grid:

* SliceBatchInferer, with both ways back;
* the papers' loop: each slice by ``scipy.ndimage.zoom`` of order 3 to the network's size, its labels back by order 0;
* MONAI: ``Resized``, ``SliceInferer``, ``Invertd`` of the logits, ``AsDiscrete(argmax=True)``;
* both inferers at the slices' own size, where MONAI needs neither ``Resized`` nor ``Invertd``.

Routes run alternately in one process, ``--repeats`` times. Peak memory is that of a process of its own, less what it
held before the call (Linux only).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
from monai.data import MetaTensor
from monai.inferers import SliceInferer
from monai.transforms import AsDiscrete, Invertd, Resized
from scipy import ndimage

from monai_ext.inferers import SliceBatchInferer

BATCH = 24
Route = Callable[[MetaTensor, nn.Module, int], torch.Tensor]


def bilinear(image: MetaTensor, network: nn.Module, size: int) -> torch.Tensor:
    return SliceBatchInferer(size, BATCH)(image[None], network)[0]


def nearest(image: MetaTensor, network: nn.Module, size: int) -> torch.Tensor:
    return SliceBatchInferer(size, BATCH, upsample="nearest")(image[None], network)[0]


@torch.no_grad()
def papers_loop(image: MetaTensor, network: nn.Module, size: int) -> torch.Tensor:
    volume = image[0].numpy()
    labels = np.zeros(volume.shape, dtype=np.uint8)
    height, width = volume.shape[:2]
    for i in range(volume.shape[2]):
        small = ndimage.zoom(volume[..., i], (size / height, size / width), order=3)
        label = network(torch.from_numpy(small)[None, None]).softmax(dim=1).argmax(dim=1)[0].numpy()
        labels[..., i] = ndimage.zoom(label, (height / size, width / size), order=0)
    return torch.from_numpy(labels)[None]


@torch.no_grad()
def monai_resized(image: MetaTensor, network: nn.Module, size: int) -> torch.Tensor:
    resize = Resized("image", (size, size, image.shape[3]), mode="trilinear")
    item = resize({"image": image})
    inferer = SliceInferer(roi_size=(size, size), sw_batch_size=BATCH, spatial_dim=2)
    item["pred"] = inferer(item["image"][None], network)[0]
    item = Invertd("pred", transform=resize, orig_keys="image", nearest_interp=False)(item)
    return AsDiscrete(argmax=True)(item["pred"])


def native(image: MetaTensor, network: nn.Module, size: int) -> torch.Tensor:
    return SliceBatchInferer(None, BATCH)(image[None], network)[0]


@torch.no_grad()
def monai_native(image: MetaTensor, network: nn.Module, size: int) -> torch.Tensor:
    inferer = SliceInferer(roi_size=(-1, -1), sw_batch_size=BATCH, spatial_dim=2)
    return AsDiscrete(argmax=True)(inferer(image[None], network)[0])


@torch.no_grad()
def network_resized(image: MetaTensor, network: nn.Module, size: int) -> torch.Tensor:
    for start in range(0, image.shape[3], BATCH):
        network(torch.zeros(min(BATCH, image.shape[3] - start), 1, size, size))
    return image


def network_native(image: MetaTensor, network: nn.Module, size: int) -> torch.Tensor:
    return network_resized(image, network, image.shape[1])


ROUTES: dict[str, tuple[Route, Route | None]] = {  # and the route whose labels must be the same
    "SliceBatchInferer, bilinear": (bilinear, None),
    "SliceBatchInferer, nearest": (nearest, None),
    "the papers' loop, SciPy": (papers_loop, nearest),
    "MONAI: Resized, SliceInferer, Invertd, AsDiscrete": (monai_resized, None),
    "the network alone": (network_resized, None),
    "SliceBatchInferer, native size": (native, None),
    "MONAI: SliceInferer, AsDiscrete, native size": (monai_native, native),
    "the network alone, native size": (network_native, None),
}


def load(quick: bool, classes: int) -> tuple[MetaTensor, nn.Module, int]:
    shape, size = ((192, 192, 24), 96) if quick else ((512, 512, 64), 224)
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(1, *(n // 8 for n in shape))).astype(np.float32)
    image = np.kron(coarse, np.ones((1, 8, 8, 8), dtype=np.float32))
    torch.manual_seed(0)
    return MetaTensor(torch.from_numpy(image)), nn.Conv2d(1, classes, 1), size


def resident_peak() -> float:
    """Return the highest resident memory in MiB; ``getrusage`` would count the process that started this one."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def print_peak(name: str, quick: bool, classes: int) -> None:
    image, network, size = load(quick, classes)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = resident_peak()
    ROUTES[name][0](image, network, size)
    print(resident_peak() - before)


def peak_memory(name: str, quick: bool, classes: int) -> float:
    command = [sys.executable, __file__, "--peak", name, "--classes", str(classes), *(["--quick"] if quick else [])]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller volume")
    parser.add_argument("--classes", type=int, default=9)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.peak:
        print_peak(options.peak, options.quick, options.classes)
        return
    image, network, size = load(options.quick, options.classes)
    seconds: dict[str, list[float]] = {name: [] for name in ROUTES}
    for _ in range(options.repeats):
        for name, (route, same) in ROUTES.items():
            start = time.perf_counter()
            labels = route(image, network, size)
            seconds[name].append(time.perf_counter() - start)
            if same is not None:  # but for the last row and column of the small slice, which SciPy may fill with zeros
                expected = same(image, network, size)[:, :-3, :-3]
                if not torch.equal(labels[:, :-3, :-3].to(torch.uint8), expected):
                    raise SystemExit(f"{name}: other labels than {same.__name__}")
    shape = "x".join(map(str, image.shape[1:]))
    print(f"{shape} voxels, {options.classes} classes, network at {size}x{size}, {torch.get_num_threads()} threads,")
    print(f"{options.repeats} alternating runs: median (minimum-maximum)\n")
    print("| route | seconds | memory [MiB] |\n|---|---|---|")
    for name, values in seconds.items():
        memory = peak_memory(name, options.quick, options.classes)
        print(f"| {name} | {np.median(values):.2f} ({min(values):.2f}-{max(values):.2f}) | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()
