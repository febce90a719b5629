# SPDX-License-Identifier: Apache-2.0
"""Does each network learn from scratch? The same slices, steps and optimiser for all, MONAI's BasicUNet beside them.

    python -m benchmarks.learning [--networks NAME ...] [--steps 150] [--size 96] [--image ct.nii.gz --label l.nii.gz]
    python -m benchmarks.learning --networks DCAUNet --precision float32 bfloat16 --seeds 0 1 2 --cases 8

Trains on 70 % of the slices of one labelled volume (in blocks, with an unused slice between training and test) and
prints the mean Dice over the classes of the other slices after a third, two thirds and all of the steps. Without a
volume, training and test slices come from different cases of the CT phantom. The second line asks whether a network
learns the same in bfloat16 (add a real CT): if precisions differ less than seeds, its class may have
``bfloat16_training = True``.
"""

from __future__ import annotations

import argparse
import inspect
import itertools
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
import torch
import torch.nn as nn
from monai.losses import DiceCELoss
from monai.networks.nets import BasicUNet

from monai_ext.data import load_datalist, write_phantom
from monai_ext.inferers import TrainingInferer
from monai_ext.losses import MutationLoss
from monai_ext.metrics import label_metrics
from monai_ext.networks import nets
from monai_ext.networks.utils import init_weights
from monai_ext.transforms import MapLabelsd, resize_slices

CLASSES = 9
BATCH = 8
ENCODERS = ("DCAUNetEncoder", "FPNEncoder", "PVTv2")
COLOUR = ("QTSeg", "DoubleUNetDCA")  # networks for three channels
SMALL = {"EMCADNet": {"encoder": "pvt_v2_b0"}, "XAttnResEMCAD": {"encoder": "pvt_v2_b0"}}


def volume(image: str, label: str, mapping: dict[int, int] | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Axial slices ``(N, 1, H, W)`` in [0, 1] and their classes."""
    scan, truth = (nibabel.as_closest_canonical(nibabel.load(path)) for path in (image, label))
    x = torch.from_numpy(np.asarray(scan.dataobj, dtype=np.float32)).movedim(-1, 0)[:, None]
    y = MapLabelsd("y", CLASSES, mapping)({"y": torch.from_numpy(np.asarray(truth.dataobj).astype(np.int64))})["y"]
    return ((x + 125) / 400).clamp(0, 1), y.movedim(-1, 0)[:, None]


def slices_of_one(image: str, label: str, size: int) -> list[torch.Tensor]:
    x, y = volume(image, label, None)
    block = np.arange(len(x)) % 13
    train, test = block < 9, (block > 9) & (block < 12)
    parts = (x[train], y[train], x[test], y[test])
    return [resize_slices(p, (size, size), "cubic" if i % 2 == 0 else "nearest") for i, p in enumerate(parts)]


def slices_of_phantoms(size: int, count: int) -> list[torch.Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        write_phantom("synapse", folder, cases=count)
        cases = load_datalist("synapse", folder, split="paper")
        parts: list[torch.Tensor] = []
        for part in ("training", "test"):
            pairs = [volume(case["image"], case["label"], cases["label_mapping"]) for case in cases[part]]
            parts.append(torch.cat([resize_slices(x, (size, size), "cubic") for x, _ in pairs]))
            parts.append(torch.cat([resize_slices(y, (size, size), "nearest") for _, y in pairs]))
    return parts


def build(name: str, size: int) -> nn.Module:
    if name == "BasicUNet":
        return BasicUNet(spatial_dims=2, in_channels=1, out_channels=CLASSES)
    network = getattr(nets, name)
    arguments = {"in_channels": 1, "out_channels": CLASSES, "img_size": (size, size), **SMALL.get(name, {})}
    if name in COLOUR:
        arguments["in_channels"] = 3
    known = inspect.signature(network).parameters
    return network(**{k: v for k, v in arguments.items() if k in known})


def train(
    name: str, init: str, parts: list[torch.Tensor], size: int, steps: int, precision: str, seed: int
) -> tuple[list[float], float]:
    """Dice after each third of the steps, and the processor's seconds a step."""
    torch.manual_seed(seed)
    net = build(name, size)
    if init == "other":
        # the alternative: PyTorch's defaults where the network has init_weights, and the reverse
        if name == "DCAUNet":
            net.apply(lambda m: m.reset_parameters() if hasattr(m, "reset_parameters") else None)
        else:
            net.apply(init_weights)
    channels = 3 if name in COLOUR else 1
    x, y, x_test, y_test = parts
    loss = DiceCELoss(to_onehot_y=True, softmax=True, squared_pred=True, batch=True)
    supervised = MutationLoss()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, steps, power=0.9)
    rng = np.random.default_rng(seed)
    inferer = TrainingInferer(precision)
    dice, seconds = [], 0.0
    for step in range(1, steps + 1):
        began = time.process_time()
        chosen = rng.integers(len(x), size=BATCH)
        net.train()
        output = inferer(x[chosen].expand(-1, channels, -1, -1), net)
        optimizer.zero_grad()
        (loss(output, y[chosen]) if torch.is_tensor(output) else supervised(output, y[chosen])).backward()
        optimizer.step()
        schedule.step()
        seconds += time.process_time() - began
        if step in (steps // 3, 2 * steps // 3, steps):
            net.eval()
            with torch.no_grad():
                found = [net(b.expand(-1, channels, -1, -1)).argmax(1, keepdim=True) for b in x_test.split(BATCH)]
            dice.append(
                float(
                    np.nanmean(label_metrics(torch.cat(found)[:, 0], y_test[:, 0], CLASSES, metrics=("dice",))["dice"])
                )
            )
    return dice, seconds / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    everything = ["BasicUNet", *(name for name in nets.__all__ if name not in ENCODERS)]
    parser.add_argument("--networks", nargs="+", default=everything, choices=everything)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--init", choices=("default", "other"), default="default")
    parser.add_argument("--precision", nargs="+", default=["float32"], choices=("float32", "bfloat16"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--cases", type=int, default=5, help="of the phantom")
    parser.add_argument("--image")
    parser.add_argument("--label")
    args = parser.parse_args()
    parts = (
        slices_of_one(args.image, args.label, args.size) if args.image else slices_of_phantoms(args.size, args.cases)
    )
    source = Path(args.image).name if args.image else "phantom data, no clinical meaning"
    print(
        f"{source}; {len(parts[0])} slices to train on, {len(parts[2])} to test, {args.size}x{args.size}, batch {BATCH}"
    )
    print(f"initialisation: {args.init}; torch {torch.__version__}, {torch.get_num_threads()} thread(s)\n")
    thirds = " | ".join(f"step {args.steps * k // 3}" for k in (1, 2, 3))
    print(f"| network | parameters | precision | seed | {thirds} | processor s/step |")
    print("|---" * 8 + "|")
    for name, seed, precision in itertools.product(args.networks, args.seeds, args.precision):
        dice, seconds = train(name, args.init, parts, args.size, args.steps, precision, seed)
        count = sum(p.numel() for p in build(name, args.size).parameters())
        print(
            f"| {name} | {count / 1e6:.2f} M | {precision} | {seed} | "
            + " | ".join(f"{d:.3f}" for d in dice)
            + f" | {seconds:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
