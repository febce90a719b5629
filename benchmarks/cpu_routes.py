# SPDX-License-Identifier: Apache-2.0
"""What runs a network fastest on this processor, and what that costs in labels: ``backend`` and ``precision``.

    python -m benchmarks.cpu_routes                                  # every bundle, random weights: speed alone
    python -m benchmarks.cpu_routes --bundle dcaunet_synapse --checkpoint runs/first/model.pt \\
        --input /data/scans --labels /data/labels                    # trained weights: Dice of each route, too

Routes take turns in one process, ``--repeats`` times; what is made once (compiling, converting) is left out of the time
and said. With random weights the share of equal labels says little: their logits are nearly equal. With trained ones,
Dice against the labels given (``<name>.nii.gz``, values of the bundle) decides: a network whose Dice stays within 0.1
points per class, and 0.03 in the mean, may have ``bfloat16_inference = True``. ``torch auto`` is what bundles take.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from pathlib import Path
from statistics import median

import nibabel
import numpy as np
import torch

from benchmarks.machine import cpu_model
from monai_ext.apps.segmentation import segment
from monai_ext.bundle import Bundle
from monai_ext.metrics import label_metrics
from monai_ext.networks import ready_network
from monai_ext.networks.backends import has_bfloat16

ROUTES = (
    ("torch", "float32"),
    ("torch", "auto"),
    ("torch", "bfloat16"),
    ("compile", "float32"),
    ("compile", "bfloat16"),
    ("onnxruntime", "float32"),
    ("openvino", "float32"),
    ("openvino", "bfloat16"),
)


def speed(bundle: Bundle, weights: Path, batch: int, repeats: int) -> None:
    """Seconds of a batch at the size that the weights were trained with, and how many labels are equal to eager's."""
    parser = bundle.parser("inference", ckpt_path=str(weights))
    size = parser.get_parsed_content("image_size")
    size = [size] * 2 if isinstance(size, int) else size
    network = parser.get_parsed_content("network_def")
    x = torch.rand(batch, bundle.in_channels, *size, generator=torch.Generator().manual_seed(0))
    routes, took, labels = {}, {}, {}
    for backend, precision in ROUTES:
        start = time.perf_counter()
        try:
            routes[backend, precision] = ready_network(
                copy.deepcopy(network), weights, backend=backend, precision=precision, refuse_zero=False
            )
            with torch.no_grad():
                labels[backend, precision] = routes[backend, precision](x).argmax(1)
        except ValueError as e:
            routes.pop((backend, precision), None)
            print(f"  {backend} {precision}: {e}")
        took[backend, precision] = (time.perf_counter() - start, [])
    for _ in range(repeats):
        for route, ready in routes.items():
            start = time.perf_counter()
            with torch.no_grad():
                ready(x)
            took[route][1].append(time.perf_counter() - start)
    plain = took["torch", "float32"][1]
    for route in routes:
        first, rounds = took[route]
        ratios = sorted(a / b for a, b in zip(plain, rounds))
        equal = float((labels[route] == labels["torch", "float32"]).double().mean())
        print(
            f"  {route[0]:12s}{route[1]:10s}{median(rounds):8.3f} s  {median(ratios):5.2f} times as fast "
            f"({ratios[0]:.2f}-{ratios[-1]:.2f})  first call {first:6.1f} s  equal labels {equal:.4%}",
            flush=True,
        )


def dice(bundle: Bundle, weights: Path, images: Path, labels: Path) -> None:
    """Mean Dice per class of each route's labels, in points of 100, and its difference from eager's in float32."""
    classes = len(bundle.channel_def)
    plain = None
    for backend, precision in ROUTES:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            try:
                made = segment(bundle.folder, images, folder, [weights], backend=backend, precision=precision)
                made.check()
            except (ValueError, OSError, RuntimeError) as e:
                print(f"  {backend} {precision}: {str(e).splitlines()[0]}")
                continue
            seconds = time.perf_counter() - start
            scores = []
            for path in made:
                name = path.name.replace("_seg.nii.gz", ".nii.gz")
                maps = [np.asarray(nibabel.load(file).dataobj).round() for file in (path, labels / name)]
                scores.append(label_metrics(maps[0], maps[1], classes, metrics="dice")["dice"])
        means = 100 * np.nanmean(np.stack(scores), axis=0)
        plain = means if plain is None else plain
        apart = np.abs(means - plain)
        print(
            f"  {backend:12s}{precision:10s}{seconds:8.1f} s  Dice {np.nanmean(means):.3f}, "
            f"mean apart {abs(np.nanmean(means) - np.nanmean(plain)):.3f}, a class at most {np.nanmax(apart):.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", action="append", help="name or folder; by default all")
    parser.add_argument("--checkpoint", type=Path, help="trained weights of the one bundle")
    parser.add_argument("--input", type=Path, help="images, for Dice")
    parser.add_argument("--labels", type=Path, help="their labels, of the same names")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{cpu_model()}, {torch.get_num_threads()} threads, bfloat16: {'yes' if has_bfloat16() else 'no'}")
    names = arguments.bundle or list(Bundle.known())
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            bundle = Bundle.find(name)
            weights = arguments.checkpoint
            if weights is None:
                torch.manual_seed(0)
                weights = Path(folder, f"{bundle.name}.pt")
                torch.save(bundle.parser().get_parsed_content("network_def").state_dict(), weights)
            print(bundle.name)
            speed(bundle, weights, arguments.batch, arguments.repeats)
            if arguments.input and arguments.labels:
                dice(bundle, weights, arguments.input, arguments.labels)


if __name__ == "__main__":
    main()
