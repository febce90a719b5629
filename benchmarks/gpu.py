# SPDX-License-Identifier: Apache-2.0
"""On a GPU: the networks in fp32, bf16, channels-last, compiled and as CUDA graphs; a CT volume from file to file;
copies beside the network; training steps; metrics of CUDA tensors; peak memory.

    python -m benchmarks.gpu [--part networks volume copies training metrics] [--rounds 10]

Needs one CUDA GPU of 16 GB or more, and a compiler for ``torch.compile``; TensorRT is timed where ``torch_tensorrt`` is
installed. Variants of one network take turns in one run, after a warm-up of each; labels are compared with fp32's: with
new weights every class is nearly as likely, so what bf16 changes shows only with ``--checkpoint`` (DCAUNet's) and a
``--scan``, such as ``demo/model.pt`` and ``demo/data/RawData/Training/img/img0001.nii.gz`` after ``make demo``.
``--device cpu --tiny`` only shows that the script runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import nibabel
import numpy as np
import torch
import torch.nn as nn
from monai.bundle import ConfigParser
from monai.losses import DiceCELoss

from monai_ext.inferers.upsampled_labels import upsampled_labels
from monai_ext.losses import MutationLoss
from monai_ext.metrics import label_metrics
from monai_ext.networks import load_weights, nets
from monai_ext.transforms import resize_slices

PARTS = ("networks", "volume", "copies", "training", "metrics")
# network, its arguments, image size, batch: as the bundles have them
METHODS: list[tuple[str, dict, int, int]] = [
    ("DCAUNet", {"in_channels": 1, "out_channels": 9}, 224, 24),
    ("UNetDCA", {"in_channels": 1, "out_channels": 9, "img_size": 224}, 224, 24),
    ("QTSeg", {"in_channels": 3, "out_channels": 2}, 512, 8),
    ("XAttnResUNet", {"in_channels": 1, "out_channels": 9}, 224, 24),
    ("XAttnResEMCAD", {"in_channels": 1, "out_channels": 9}, 224, 24),
]
Step = Callable[[], object]


def compiled(network: nn.Module, tiny: bool, **options: str) -> Callable:
    # a try of the script needs the graph, not minutes of code generation
    return torch.compile(network, backend="aot_eager") if tiny else torch.compile(network, **options)


def build(name: str, arguments: dict, device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    return getattr(nets, name)(spatial_dims=2, **arguments).to(device)


def seconds(step: Step, device: torch.device) -> float:
    if device.type != "cuda":
        start = time.perf_counter()
        step()
        return time.perf_counter() - start
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3


def in_turns(steps: dict[str, Step], rounds: int, device: torch.device) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        for _ in range(3):  # compilation, graph capture, choice of kernels
            step()
    for i in range(rounds):
        for name in steps if i % 2 else reversed(steps):
            times[name].append(seconds(steps[name], device))
    return times


def memory_of(step: Step, device: torch.device) -> float:
    """Peak MiB while it runs."""
    if device.type != "cuda":
        return float("nan")
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / 2**20


def variants(network: nn.Module, x: torch.Tensor, device: torch.device, tiny: bool) -> dict[str, Step]:
    network.eval()
    last = x.contiguous(memory_format=torch.channels_last)

    def run(function: Callable, inputs: torch.Tensor, bf16: bool) -> Step:
        @torch.no_grad()
        def step() -> torch.Tensor:
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                return function(inputs)

        return step

    found = {
        "fp32": run(network, x, False),
        "bf16": run(network, x, True),
        "bf16, channels last": run(network, last, True),
        "bf16, compiled": run(compiled(network, tiny), x, True),
        "bf16, compiled, channels last": run(compiled(network, tiny), last, True),
    }
    if device.type == "cuda":
        found["bf16, compiled, CUDA graphs"] = run(compiled(network, tiny, mode="reduce-overhead"), x, True)
    if importlib.util.find_spec("torch_tensorrt"):
        import torch_tensorrt

        engine = torch_tensorrt.compile(network, inputs=[x], enabled_precisions={torch.float32, torch.half})
        found["TensorRT, fp16"] = run(engine, x, False)
    return found


def networks(device: torch.device, rounds: int, tiny: bool) -> None:
    print("\n| network, forward | variant | ms | against fp32: median (range) | labels as fp32 | peak MiB |")
    print("|---|---|---|---|---|---|")
    for name, arguments, size, batch in METHODS[:1] if tiny else METHODS:
        size, batch = (64, 2) if tiny else (size, batch)
        network = build(name, arguments, device)
        x = torch.rand(batch, arguments["in_channels"], size, size, device=device)
        steps = variants(network, x, device, tiny)
        times = in_turns(steps, rounds, device)
        expected = steps["fp32"]().argmax(dim=1)
        for variant, values in times.items():
            ratios = [a / b for a, b in zip(times["fp32"], values, strict=True)]
            equal = (steps[variant]().argmax(dim=1) == expected).float().mean().item()
            print(
                f"| {name} {batch}x{arguments['in_channels']}x{size}x{size} | {variant} | {1e3 * median(values):.2f} | "
                f"x{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) | {100 * equal:.3f} % | "
                f"{memory_of(steps[variant], device):.0f} |",
                flush=True,
            )


def volume(device: torch.device, rounds: int, tiny: bool, scan: Path | None, checkpoint: Path | None) -> None:
    """The bundle's own steps on one CT, of noise by default, timed apart; files lie in memory where /dev/shm is."""
    shape = (64, 64, 8) if tiny else (512, 512, 148)
    parser = ConfigParser(ConfigParser.load_config_file("bundles/dcaunet_synapse/configs/inference.json"))
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        file = Path(folder) / "ct.nii.gz"
        if scan is None:
            voxels = np.random.default_rng(0).normal(40, 60, shape).astype(np.int16)
            voxels[:8] = -1000
            nibabel.save(nibabel.Nifti1Image(voxels, np.diag([0.8, 0.8, 3.0, 1.0])), file)
        else:
            shutil.copy(scan, file)
            shape = nibabel.load(file).shape
        parser["output_dir"], parser["device"] = folder, f"$torch.device('{device}')"
        if tiny:
            parser["image_size"] = [32, 32] if checkpoint is None else [96, 96]
        network = build("DCAUNet", METHODS[0][1], device).eval()
        if checkpoint is not None:
            load_weights(network, checkpoint)
        before, after = (parser.get_parsed_content(name) for name in ("preprocessing", "postprocessing"))
        inferer = parser.get_parsed_content("inferer")
        print("\n| one CT, NIfTI to NIfTI | read s | network and slices s | write s | all s | labels as fp32 |")
        print("|---|---|---|---|---|---|")
        expected: torch.Tensor | None = None
        with torch.no_grad():
            for variant, function, bf16 in (
                ("fp32", network, False),
                ("bf16", network, True),
                ("bf16, compiled", compiled(network, tiny), True),
            ):
                parts: list[list[float]] = []
                for i in range(rounds // 2 + 2):
                    marks = [time.perf_counter()]
                    item = before({"image": str(file)})
                    marks.append(time.perf_counter())
                    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                        item["pred"] = inferer(item["image"][None], function)[0]
                    if device.type == "cuda":
                        torch.cuda.synchronize()
                    marks.append(time.perf_counter())
                    labels = item["pred"].clone()
                    after(item)
                    marks.append(time.perf_counter())
                    if i > 1:
                        parts.append(np.diff(marks).tolist())
                expected = labels if expected is None else expected
                row = [median(values) for values in zip(*parts, strict=True)]
                equal = (labels == expected).float().mean().item()
                cells = " | ".join(f"{value:.2f}" for value in (*row, sum(row)))
                print(f"| {variant}, {'x'.join(map(str, shape))} | {cells} | {100 * equal:.3f} % |", flush=True)


def copies(device: torch.device, rounds: int, tiny: bool) -> None:
    """Slices there and labels back, one after the other, and from pinned memory on streams beside the network's."""
    if device.type != "cuda":
        print("\ncopies: nothing to overlap without a GPU")
        return
    count, side, size = (8, 64, 32) if tiny else (148, 512, 224)
    network = build("DCAUNet", METHODS[0][1], device).eval()
    batches = torch.rand(count, 1, side, side).split(METHODS[0][3])
    pinned = [batch.pin_memory() for batch in batches]
    labels = torch.empty((count, 1, side, side), dtype=torch.uint8, pin_memory=True)
    there, back = torch.cuda.Stream(), torch.cuda.Stream()

    @torch.no_grad()
    def predict(batch: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            scores = network(resize_slices(batch, (size, size), "cubic"))
        return upsampled_labels(scores.float(), (side, side))

    def in_order() -> torch.Tensor:
        return torch.cat([predict(batch.to(device)).cpu() for batch in batches])

    def overlapped() -> torch.Tensor:
        main = torch.cuda.current_stream()
        arrived = []
        with torch.cuda.stream(there):
            for batch in pinned:
                arrived.append((batch.to(device, non_blocking=True), there.record_event()))
        for (batch, event), target in zip(arrived, labels.split(METHODS[0][3]), strict=True):
            main.wait_event(event)
            batch.record_stream(main)  # its memory stays until the network has read it
            found = predict(batch)
            back.wait_stream(main)
            with torch.cuda.stream(back):
                target.copy_(found, non_blocking=True)
            found.record_stream(back)
        torch.cuda.synchronize()
        return labels

    torch.testing.assert_close(overlapped(), in_order(), rtol=0, atol=0)
    times = in_turns({"in order": in_order, "overlapped": overlapped}, rounds, device)
    ratios = [a / b for a, b in zip(times["in order"], times["overlapped"], strict=True)]
    print("\n| copies and network, bf16 | in order ms | pinned, own streams ms | ratio: median (range) |")
    print("|---|---|---|---|")
    print(
        f"| {count} slices of {side}x{side} | {1e3 * median(times['in order']):.1f} | "
        f"{1e3 * median(times['overlapped']):.1f} | x{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) |"
    )


def training(device: torch.device, rounds: int, tiny: bool) -> None:
    print("\n| training step | fp32 ms | bf16 ms | ratio: median (range) | peak MiB fp32, bf16 |")
    print("|---|---|---|---|---|")
    plain = DiceCELoss(to_onehot_y=True, softmax=True)
    supervised = MutationLoss()
    for name, arguments, size, batch in METHODS[:1] if tiny else METHODS:
        size, batch = (64, 2) if tiny else (size, batch)
        x = torch.rand(batch, arguments["in_channels"], size, size, device=device)
        y = torch.randint(0, arguments["out_channels"], (batch, 1, size, size), device=device)
        steps: dict[str, Step] = {}
        for bf16 in (False, True):
            network = build(name, arguments, device).train()
            optimizer = torch.optim.AdamW(network.parameters(), 1e-4, fused=True)

            def step(network=network, optimizer=optimizer, bf16=bf16, x=x, y=y) -> None:
                optimizer.zero_grad()
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    output = network(x)
                    loss = plain(output, y) if isinstance(output, torch.Tensor) else supervised(output, y)
                loss.backward()
                optimizer.step()

            steps["bf16" if bf16 else "fp32"] = step
        times = in_turns(steps, rounds, device)
        ratios = [a / b for a, b in zip(times["fp32"], times["bf16"], strict=True)]
        print(
            f"| {name} {batch}x{arguments['in_channels']}x{size}x{size} | {1e3 * median(times['fp32']):.1f} | "
            f"{1e3 * median(times['bf16']):.1f} | x{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) | "
            f"{memory_of(steps['fp32'], device):.0f}, {memory_of(steps['bf16'], device):.0f} |",
            flush=True,
        )


def metrics(device: torch.device, rounds: int, tiny: bool) -> None:
    """Dice and HD95 of label maps on the device: what their way to the CPU costs."""
    shape = (48, 48, 24) if tiny else (512, 512, 148)
    grid = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in shape), indexing="ij")
    truth = torch.zeros(shape, dtype=torch.uint8)
    for i in range(8):
        centre = (0.5 * np.cos(i), 0.5 * np.sin(i), 0.1 * i - 0.4)
        ball = sum((axis - c) ** 2 for axis, c in zip(grid, centre)) < 0.04
        truth[ball] = i + 1
    found = truth.roll(3, dims=0)
    options = {"num_classes": 9, "spacing": (0.8, 0.8, 3.0)}
    here = label_metrics(found, truth, **options)
    there = label_metrics(found.to(device), truth.to(device), **options)
    for key, values in here.items():
        np.testing.assert_array_equal(np.asarray(values), np.asarray(there[key]))
    near, far = found.to(device), truth.to(device)
    steps: dict[str, Step] = {
        "CPU": lambda: label_metrics(found, truth, **options),
        str(device): lambda: label_metrics(near, far, **options),
    }
    times = in_turns(steps, max(2, rounds // 3), device)
    print("\n| Dice and HD95, 8 organs | s |\n|---|---|")
    for name, values in times.items():
        print(f"| {'x'.join(map(str, shape))} on {name} | {median(values):.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--scan", type=Path, help="a NIfTI file for the part volume")
    parser.add_argument("--checkpoint", type=Path, help="weights of DCAUNet for the part volume")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small inputs, one network")
    args = parser.parse_args()
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            "This needs a CUDA GPU and a PyTorch built for it. (--device cpu --tiny only tries the script.)"
        )
    title = torch.cuda.get_device_name() if device.type == "cuda" else "CPU, a try of the script: no figures to quote"
    print(f"{title}; torch {torch.__version__}, CUDA {torch.version.cuda}")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    for part in args.part:
        files = (args.scan, args.checkpoint) if part == "volume" else ()
        globals()[part](device, args.rounds, args.tiny, *files)


if __name__ == "__main__":
    main()
