# SPDX-License-Identifier: Apache-2.0
"""What a GPU makes of the networks, the bundles and a CT from file to file: one command, at most eight minutes.

    python -m benchmarks.gpu [--output gpu.json] [--minutes 8] [--part check training ...]

Needs one CUDA GPU of 80 GB, for ``torch.compile`` a C compiler, and no network: scans are phantoms, weights
come from seeds. Writes ``gpu.json`` and its tables, ``gpu.md``. Each part runs in a process of its own, with a time
limit: one that fails, crashes or hangs is reported, and the next begins. What no longer fits is reported as not run.
The exit status is 1 if anything failed.

* ``check``: outputs and gradients of every network against the CPU's; at the same time, short trainings for the
  weights of later parts, and each bundle's own training, evaluation and inference, with its own options
* ``rates``: matrix products and copies, what the card can do
* ``training``: steps and memory in float32, float16 (as the bundles train) and bfloat16
* ``networks``: the forward pass in every precision, with these weights: time, memory, labels, Dice
* ``volume``: a CT of 512x512x148 from file to file, in steps and by the command line; a batch too large for the memory
* ``metrics``, ``copies``: Dice and HD95 of CUDA tensors; copies on streams of their own
* ``compiled``: CUDA graphs and ``torch.compile``, last, since compiling takes longest

Timed variants take turns after a warm-up of each; ratios are medians of ratios in turn. ``--device cpu --tiny`` only
shows that the script runs.
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import contextlib
import gc
import inspect
import math
import multiprocessing
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

STARTED = time.monotonic()  # before the imports, which take their share of the minutes
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # asking for a GPU must not keep children from using it

import nibabel
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from monai.bundle import ConfigParser
from monai.losses import DiceCELoss

from benchmarks.learning import volume as slices_of
from benchmarks.machine import cpu_model
from monai_ext.data import load_datalist, write_phantom
from monai_ext.inferers import SliceBatchInferer
from monai_ext.inferers.upsampled_labels import upsampled_labels
from monai_ext.losses import MutationLoss
from monai_ext.metrics import label_metrics
from monai_ext.networks import load_weights, nets
from monai_ext.transforms import MapLabelsd, resize_slices
from monai_ext.utils import read_json, replacing, write_json

ROOT = Path(__file__).resolve().parents[1]
CLASSES = 9
Row = dict[str, Any]
Step = Callable[[], Any]
#: what is computed in it under autocast, and whether float32 products may use the matrix units' short mantissa
PRECISIONS: dict[str, tuple[torch.dtype | None, bool]] = {
    "float32": (None, False),
    "TF32": (None, True),
    "float16": (torch.float16, False),
    "bfloat16": (torch.bfloat16, False),
}


class Method(NamedTuple):
    """A bundle's network, with the size, batch and (for so few steps) a learning rate that suits it."""

    name: str
    arguments: dict[str, Any]
    size: int = 224
    batch: int = 24
    learning_rate: float = 5e-4


METHODS = (
    Method("DCAUNet", {"in_channels": 1, "out_channels": CLASSES}, learning_rate=1e-3),
    Method("UNetDCA", {"in_channels": 1, "out_channels": CLASSES, "img_size": 224}),
    Method("QTSeg", {"in_channels": 3, "out_channels": 2}, size=512, batch=8),
    Method("XAttnResUNet", {"in_channels": 1, "out_channels": CLASSES}),
    Method("XAttnResEMCAD", {"in_channels": 1, "out_channels": CLASSES}),
)


@dataclass(frozen=True)
class Job:
    """What every part is given."""

    device: torch.device
    tiny: bool
    rounds: int
    folder: Path
    deadline: float

    def left(self) -> float:
        return self.deadline - time.monotonic()

    @property
    def methods(self) -> tuple[Method, ...]:
        if not self.tiny:
            return METHODS
        return (METHODS[0]._replace(size=64, batch=2),)

    @property
    def precisions(self) -> list[str]:
        return list(PRECISIONS) if self.device.type == "cuda" else ["float32", "bfloat16"]


Steps = Iterator[tuple[str, float, Callable[[], list[Row]]]]


# what several parts use


@contextlib.contextmanager
def precision(name: str, device: torch.device) -> Iterator[None]:
    dtype, short = PRECISIONS[name]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = short
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        yield


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds(step: Step, device: torch.device) -> float:
    wait(device)
    start = time.perf_counter()
    step()
    wait(device)
    return time.perf_counter() - start


def in_turns(steps: dict[str, Step], rounds: int, device: torch.device) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        for _ in range(3):  # choice of kernels
            step()
    for i in range(rounds):
        for name in steps if i % 2 else reversed(steps):
            times[name].append(seconds(steps[name], device))
    return times


def compared(times: list[float], base: list[float]) -> Row:
    ratios = [b / t for b, t in zip(base, times, strict=True)]
    return {"ms": 1e3 * median(times), "speed": median(ratios), "range": f"{min(ratios):.2f}-{max(ratios):.2f}"}


def memory_of(step: Step, device: torch.device, network: nn.Module) -> float | None:
    """Peak MiB while it runs, the network's weights counted and other data that is there not."""
    if device.type != "cuda":
        step()
        return None
    others = torch.cuda.memory_allocated() - sum(p.numel() * p.element_size() for p in network.parameters())
    torch.cuda.reset_peak_memory_stats()
    step()
    wait(device)
    return (torch.cuda.max_memory_allocated() - others) / 2**20


def build(name: str, arguments: dict[str, Any], device: torch.device | str) -> nn.Module:
    torch.manual_seed(0)
    return getattr(nets, name)(spatial_dims=2, **arguments).to(device)


def trained(job: Job, method: Method) -> tuple[nn.Module, str]:
    """The network with what ``training`` left, else with new weights."""
    network, weights = build(method.name, method.arguments, job.device).eval(), job.folder / f"{method.name}.pt"
    if not weights.exists():
        return network, "new"
    load_weights(network, weights)
    return network, "trained"


def phantom(job: Job, name: str = "synapse") -> Path:
    """The phantom where the bundles look for theirs."""
    folder = job.folder / "cache" / "monai_ext" / "phantoms" / name
    if not folder.exists():
        unfinished = folder.with_name(name + ".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        write_phantom(name, unfinished, {"synapse": 5 if job.tiny else 12, "acdc": 5}.get(name, 16))
        unfinished.rename(folder)
    return folder


def slices(job: Job, method: Method) -> list[torch.Tensor]:
    """Images and classes to train on and, from other phantoms, to test, on the device."""
    size, kept = job.methods[0].size, job.folder / "slices.pt"
    if not kept.exists():
        cases = load_datalist("synapse", phantom(job), split="paper")
        made = []
        for part in ("training", "test"):
            pairs = [slices_of(case["image"], case["label"], cases["label_mapping"]) for case in cases[part]]
            # as the bundle's preprocessing turns them: LPS
            made.append(torch.cat([resize_slices(x.flip(2, 3), size, "cubic") for x, _ in pairs]))
            made.append(torch.cat([resize_slices(y.flip(2, 3), size, "nearest") for _, y in pairs]).to(torch.uint8))
        with replacing(kept) as temporary:
            torch.save(made, temporary)
    x, y, x_test, y_test = (t[:: 1 + 9 * job.tiny].to(job.device) for t in torch.load(kept, weights_only=True))
    if method.arguments["out_channels"] == 2:  # organs, and what is none
        y, y_test = (y > 0).to(y), (y_test > 0).to(y_test)
    channels = method.arguments["in_channels"]
    found = []
    for images, classes in ((x, y), (x_test, y_test)):
        found.append(resize_slices(images, method.size, "cubic").expand(-1, channels, -1, -1))
        found.append(resize_slices(classes, method.size, "nearest"))
    return found


def organ_dice(labels: torch.Tensor, truth: torch.Tensor, classes: int) -> np.ndarray:
    """Dice of each class over all slices together."""
    return label_metrics(labels.squeeze(1), truth.squeeze(1), classes, metrics="dice")["dice"]


@torch.no_grad()
def labels_of(run: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, batch: int) -> torch.Tensor:
    """Classes of ``x``; every batch is whole, as a captured graph wants it."""
    found = []
    for start in range(0, len(x), batch):
        part = x[start : start + batch]
        scores = run(torch.cat([part, part[:1].expand(batch - len(part), -1, -1, -1)]))
        if not torch.isfinite(scores).all():
            raise FloatingPointError("the network's output is not finite")
        found.append(scores[: len(part)].argmax(dim=1, keepdim=True).to(torch.uint8))
    return torch.cat(found)


# the parts; each yields what comes next, the seconds that it will want at least, and the step that returns its rows


def rates(job: Job) -> Steps:
    """What the card reaches, to see the rest in proportion."""

    def measure() -> list[Row]:
        side, size = (8192, 2**30) if job.device.type == "cuda" else (256, 2**20)
        rows = []
        for kind in job.precisions:
            a, b = (torch.rand(side, side, device=job.device) for _ in range(2))
            if PRECISIONS[kind][0]:
                a, b = a.to(PRECISIONS[kind][0]), b.to(PRECISIONS[kind][0])
            with precision(kind, job.device):
                times = in_turns({"": lambda a=a, b=b: a @ b}, job.rounds, job.device)[""]
            rows.append({"what": f"matrix product {side}, {kind}", "TFLOP/s": 2 * side**3 / median(times) / 1e12})
        source = torch.rand(size // 4, device=job.device)
        target = torch.empty_like(source)
        times = in_turns({"": lambda: target.copy_(source)}, job.rounds, job.device)[""]
        return [*rows, {"what": "copy on the device, read and written", "TB/s": 2 * size / median(times) / 1e12}]

    yield "rates", 3, measure


def train(
    job: Job, network: nn.Module, method: Method, data: list[torch.Tensor], kind: str, count: int
) -> tuple[float, float, float]:
    """Train; return seconds a step, the last loss, and the steps that float16's scale skipped."""
    plain = DiceCELoss(to_onehot_y=True, softmax=True, squared_pred=True, batch=True, lambda_dice=0.6, lambda_ce=0.4)
    supervised = MutationLoss()
    x, y = data[:2]
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), method.learning_rate, weight_decay=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, count, power=0.9)
    scaler = torch.amp.GradScaler(job.device.type, enabled=kind == "float16")
    filled = (y > 0).flatten(1).any(dim=1).nonzero()[:, 0].cpu().numpy()
    chosen = torch.as_tensor(np.random.default_rng(0).choice(filled, (count, method.batch)), device=job.device)
    network.train()
    for step in range(count):
        if step == min(5, count // 2):
            wait(job.device)
            began, before = time.perf_counter(), step
        optimizer.zero_grad()
        with precision(kind, job.device):
            output = network(x[chosen[step]])
            truth = y[chosen[step]].long()
            loss = plain(output, truth) if torch.is_tensor(output) else supervised(output, truth)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
    wait(job.device)
    each = (time.perf_counter() - began) / (count - before)
    if not math.isfinite(loss.item()):
        raise FloatingPointError(f"the loss is {loss.item()} after {count} steps")
    return each, loss.item(), 16 - math.log2(scaler.get_scale()) if kind == "float16" else 0.0


def make_weights(job: Job, name: str) -> list[Row]:
    """Train a network for long enough that comparing labels means something; keep its weights in the job's folder."""
    method = next(method for method in job.methods if method.name == name)
    count = 4 if job.tiny else 300 if method is METHODS[0] else 150  # a volume is segmented with the first
    network = build(method.name, method.arguments, job.device)
    data = slices(job, method)
    _, loss, _ = train(job, network, method, data, "bfloat16", count)
    with replacing(job.folder / f"{name}.pt") as temporary:
        torch.save(network.state_dict(), temporary)
    x_test, y_test = data[2:]
    network.eval()
    with precision("bfloat16", job.device):
        dice = organ_dice(labels_of(network, x_test, method.batch), y_test, method.arguments["out_channels"])
    row: Row = {
        "what": f"{name}, weights for other parts",
        "steps": count,
        "loss": loss,
        "Dice": float(np.nanmean(dice)),
    }
    write_json(job.folder / f"{name}.json", row)
    return [row]


def training(job: Job) -> Steps:
    """Some steps in each precision, for time and memory."""

    def timed(method: Method, kind: str) -> list[Row]:
        data, count = slices(job, method), 4 if job.tiny else 20
        network = build(method.name, method.arguments, job.device)
        found: list[tuple[float, float, float]] = []
        peak = memory_of(lambda: found.append(train(job, network, method, data, kind, count)), job.device, network)
        each, _, skipped = found[0]
        row = {"what": f"{method.name}, {kind}", "batch": f"{method.batch} of {method.size}x{method.size}"}
        row |= {"ms a step": 1e3 * each, "images a second": method.batch / each, "peak MiB": peak, "skipped": skipped}
        return [row]

    for method in job.methods:
        for kind in ("float32", "float16", "bfloat16"):
            if kind in job.precisions:
                yield f"{method.name}, {kind}", 3, lambda m=method, k=kind: timed(m, k)


def compare_variants(
    job: Job,
    method: Method,
    weights: str,
    variants: dict[str, Step],
    inputs: Callable[[str, torch.Tensor], Any],
    network: nn.Module | None = None,
) -> list[Row]:
    """Time, memory, labels and Dice of each variant, beside the first; one that fails has a row that says so.

    Args:
        variants: name -> the step that is timed.
        inputs: of a variant's name and slices, its logits.
        network: what the steps run, if their memory is asked for; a graph has taken its own before.
    """
    *_, x_test, y_test = slices(job, method)
    step = -(-len(x_test) // 96)
    x_test, y_test = x_test[::step], y_test[::step]
    classes = method.arguments["out_channels"]
    rows: dict[str, Row] = {}
    kept: dict[str, torch.Tensor] = {}
    for name in variants:
        row = rows[name] = {"what": f"{method.name}, {name}", "weights": weights}
        try:
            row["first s"] = seconds(variants[name], job.device)
            kept[name] = labels_of(lambda x, name=name: inputs(name, x), x_test, method.batch)
        except Exception as e:
            traceback.print_exc()
            row["failed"] = one_line(e)
    working = {name: step for name, step in variants.items() if "failed" not in rows[name]}
    if not working:
        return list(rows.values())
    base = next(iter(working))
    times = in_turns(working, job.rounds, job.device)
    expected = organ_dice(kept[base], y_test, classes)
    for name, step in working.items():
        dice = organ_dice(kept[name], y_test, classes)
        rows[name] |= {
            **compared(times[name], times[base]),
            "peak MiB": None if network is None else memory_of(step, job.device, network),
            "labels differing %": 100 * float((kept[name] != kept[base]).float().mean()),
            "Dice": float(np.nanmean(dice)),
            "largest change of a class, points": 100 * float(np.nanmax(np.abs(dice - expected))),
        }
    return list(rows.values())


def networks(job: Job) -> Steps:
    """The forward pass as it is, in every precision."""

    def forward(method: Method) -> list[Row]:
        network, weights = trained(job, method)
        x = slices(job, method)[2][: method.batch].contiguous()
        last = x.contiguous(memory_format=torch.channels_last)
        other = trained(job, method)[0].to(memory_format=torch.channels_last)

        @torch.no_grad()
        def run(name: str, x: torch.Tensor) -> torch.Tensor:
            with precision(name.split(",")[0], job.device):
                return (other if "," in name else network)(x)

        names = dict.fromkeys(job.precisions, x) | {
            f"{name}, channels last": last for name in ("TF32", "bfloat16") if name in job.precisions
        }
        steps = {name: lambda name=name, x=x: run(name, x) for name, x in names.items()}
        return compare_variants(job, method, weights, steps, run, network)

    for method in job.methods:
        yield method.name, 5, lambda method=method: forward(method)


def compiled(job: Job) -> Steps:
    """bfloat16 as it is, as a CUDA graph, and compiled."""

    def graph(network: nn.Module, x: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        held = x.clone()
        # without autocast's cache: weights converted before the recording would be gone afterwards
        with torch.no_grad(), torch.autocast(job.device.type, torch.bfloat16, cache_enabled=False):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    network(held)
            torch.cuda.current_stream().wait_stream(side)
            recorded = torch.cuda.CUDAGraph()
            with torch.cuda.graph(recorded):
                output = network(held)

        def replay(x: torch.Tensor) -> torch.Tensor:
            held.copy_(x)
            recorded.replay()
            return output

        return replay

    def variant(method: Method, name: str) -> list[Row]:
        network, weights = trained(job, method)
        x = slices(job, method)[2][: method.batch].contiguous()
        made: dict[str, Callable] = {"bfloat16": network}
        if name == "CUDA graph":
            made[f"bfloat16, {name}"] = graph(network, x)
        else:
            torch._dynamo.reset()
            # a try of the script needs the graph, not minutes of code generation
            options = {"backend": "aot_eager"} if job.tiny else {}
            if "CUDA graph" in name:
                options = {"mode": "reduce-overhead"}
            made[f"bfloat16, {name}"] = torch.compile(network, **options)

        @torch.no_grad()
        def run(name: str, x: torch.Tensor) -> torch.Tensor:
            with precision("bfloat16", job.device):
                return made[name](x)

        return compare_variants(job, method, weights, {name: lambda name=name: run(name, x) for name in made}, run)

    names = {"compiled": 20.0}
    if job.device.type == "cuda":
        names = {"CUDA graph": 3.0, "compiled": 20.0, "compiled, CUDA graph": 20.0}
    for name, needs in names.items():
        for method in job.methods:
            yield f"{method.name}, {name}", 0 if job.tiny else needs, lambda m=method, n=name: variant(m, n)


def volume(job: Job) -> Steps:
    """A phantom CT at a clinical size."""
    shape = (64, 64, 12) if job.tiny else (512, 512, 148)
    method = job.methods[0]
    cases = load_datalist("synapse", phantom(job), split="paper")
    case = cases["test"][0]
    folder = job.folder / "volume"
    folder.mkdir(exist_ok=True)
    image, label = (nibabel.load(case[key]) for key in ("image", "label"))
    scaled = [
        F.interpolate(torch.from_numpy(np.asarray(file.dataobj, np.float32))[None, None], shape, mode=mode)[0, 0]
        for file, mode in ((image, "trilinear"), (label, "nearest"))
    ]
    affine = image.affine @ np.diag([*(a / b for a, b in zip(image.shape, shape)), 1.0])
    file, written = folder / "ct.nii.gz", folder / "ct_seg.nii.gz"
    nibabel.save(nibabel.Nifti1Image(scaled[0].round().short().numpy(), affine), file)
    truth = MapLabelsd("y", CLASSES, cases["label_mapping"])({"y": scaled[1].long()})["y"].to(torch.uint8)
    network, weights = trained(job, method)
    size = "x".join(map(str, shape))
    base: dict[str, np.ndarray] = {}

    def read_back(path: Path) -> Row:
        found = np.asarray(nibabel.load(path).dataobj).astype(np.uint8)
        base.setdefault("labels", found)
        dice = label_metrics(found, truth, CLASSES, metrics="dice")["dice"]
        base.setdefault("dice", dice)
        return {
            "voxels differing %": 100 * float((found != base["labels"]).mean()),
            "Dice": float(np.nanmean(dice)),
            "largest change of a class, points": 100 * float(np.nanmax(np.abs(dice - base["dice"]))),
        }

    parser = ConfigParser(ConfigParser.load_config_file(str(ROOT / "bundles/dcaunet_synapse/configs/inference.json")))
    parser["output_dir"], parser["device"] = str(folder), str(job.device)
    parser["bundle_root"] = str(ROOT / "bundles/dcaunet_synapse")
    parser["image_size"] = [method.size, method.size]
    before, after, inferer = (
        parser.get_parsed_content(name) for name in ("preprocessing", "postprocessing", "inferer")
    )

    @torch.no_grad()
    def file_to_file(kind: str) -> list[Row]:
        parts: list[list[float]] = []
        if job.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        for i in range(1 + max(2, job.rounds // 3)):
            marks = [time.perf_counter()]
            item = before({"image": str(file)})
            marks.append(time.perf_counter())
            with precision(kind, job.device):
                item["pred"] = inferer(item["image"][None], network)[0]
            wait(job.device)
            marks.append(time.perf_counter())
            after(item)
            marks.append(time.perf_counter())
            if i > 0:
                parts.append(np.diff(marks).tolist())
        row = [median(values) for values in zip(*parts, strict=True)]
        peak = torch.cuda.max_memory_allocated() / 2**20 if job.device.type == "cuda" else None
        names = ("read s", "slices and network s", "write s", "all s")
        steps = dict(zip(names, (*row, sum(row)), strict=True))
        return [{"what": f"{size}, {kind}", "weights": weights, **steps, "peak MiB": peak, **read_back(written)}]

    def command(device: str) -> list[Row]:
        """The command line, with Python's start, on the card and on its processor."""
        torch.save(network.state_dict(), folder / "model.pt")
        target = folder / "labels.nii.gz"
        words = ["monai_ext", "segment", "--bundle", "dcaunet_synapse", "--input", file, "--output", target]
        words += ["--checkpoint", folder / "model.pt", "--device", device, "--overwrite", "true"]
        words += ["--image_size", f"[{method.size},{method.size}]"]
        began = time.perf_counter()
        call(job, words)
        return [
            {
                "what": f"{size}, python -m monai_ext segment --device {device}",
                "weights": weights,
                "all s": time.perf_counter() - began,
                **read_back(target),
            }
        ]

    def too_large() -> list[Row]:
        """A batch of all slices where the memory holds a few: halved until it fits, with the same labels."""
        x = before({"image": str(file)})["image"][None]
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        options = {"image_size": method.size, "sw_device": job.device}
        with precision("float32", job.device):
            expected = SliceBatchInferer(batch_size=8, **options)(x, network)
            held = 2 * torch.cuda.max_memory_reserved() / torch.cuda.get_device_properties(job.device).total_memory
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(held)
            try:
                with warnings.catch_warnings(record=True) as said:
                    warnings.simplefilter("always")
                    found = SliceBatchInferer(batch_size=shape[2], **options)(x, network)
            finally:
                torch.cuda.set_per_process_memory_fraction(1.0)
        said = [str(warning.message) for warning in said if "out of GPU memory" in str(warning.message)]
        if not said:
            raise AssertionError("the memory was not too small")
        differing = 100 * float((found != expected).float().mean())
        if differing > 0.1:
            raise ArithmeticError(f"{differing:.3f} % of the labels differ from those of small batches")
        what = f"{size}, batch of {shape[2]}, in twice the memory that 8 take"
        return [{"what": what, "voxels differing %": differing, "said last": said[-1]}]

    for kind in job.precisions:
        if kind != "TF32":
            yield f"file to file, {kind}", 5, lambda kind=kind: file_to_file(kind)
    yield f"segment --device {job.device}", 15, lambda: command(str(job.device))
    if job.device.type == "cuda":
        yield "batch too large for the memory", 5, too_large
        yield "segment --device cpu", 20, lambda: command("cpu")


def call(job: Job, words: list[str | Path], **environment: str) -> None:
    """``python -m ...`` in a process of its own, with its last line as the error."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "MONAI_DATA_DIRECTORY": str(job.folder / "cache"), "MPLBACKEND": "Agg", **environment},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=max(1.0, job.left()),
    )
    if done.returncode:
        print(done.stderr[-4000:], file=sys.stderr, flush=True)
        said = [line for line in done.stderr.splitlines() if line.strip()]
        ours = [line for line in said if line.startswith("monai_ext:")]
        raise RuntimeError(f"{' '.join(map(str, words))[:300]}: {(ours or said or ['no message'])[-1]}")


def tasks_of(job: Job) -> dict[str, list[tuple[str, ...]]]:
    """What a user types: name -> commands, each a title, how Python starts it, a bundle's configs, and options."""
    names = [path.parents[1].name for path in sorted(ROOT.glob("bundles/*/configs/metadata.json"))]
    single, several = "monai.bundle run", "torch.distributed.run --standalone --nproc_per_node=1 -m monai.bundle run"
    epoch = ("--epochs", "1", "--val_interval", "1")
    if job.device.type == "cpu":
        small = ("--image_size", "[32,32]", "--batch_size", "4", "--device", "cpu")
        return {"dcaunet_synapse": [("training", single, "train", *epoch, *small)]}
    train, evaluate = ("training", single, "train", *epoch), ("evaluation", single, "train+evaluate")
    found = {name: [train, evaluate, ("inference", single, "inference")] for name in names}
    found["dcaunet_synapse, resumed"] = [
        train,
        ("resumed", single, "train", "--epochs", "2", "--val_interval", "1", "--resume", "true"),
    ]
    found["dcaunet_synapse, torchrun"] = [
        ("training", several, "train+multi_gpu_train", *epoch),
        ("evaluation", several, "train+evaluate+multi_gpu_evaluate"),
    ]
    found["dcaunet_synapse, 3D"] = [
        ("training", single, "train+train_3d", *epoch, "--patches_per_volume", "1"),
        ("evaluation", single, "train+train_3d+evaluate"),
        ("inference", single, "inference+inference_3d"),
    ]
    return found


def check(job: Job) -> Steps:
    """Every network against what the CPU makes of it; beside it, weights are trained and bundles run."""
    cores = os.cpu_count() or 1
    workers = max(1, min(6, cores // 2))
    tasks = tasks_of(job)
    bundles = ROOT / "bundles"
    for bundle in dict.fromkeys(what.split(",")[0] for what in tasks):
        train = ConfigParser.load_config_file(str(bundles / bundle / "configs" / "train.json"))
        phantom(job, train["dataset_name"])

    def run(what: str) -> list[Row]:
        folder, bundle = job.folder / "runs" / what.replace(", ", "_"), what.split(",")[0]
        folder.mkdir(parents=True, exist_ok=True)
        row: Row = {"what": what}
        for title, launcher, files, *options in tasks[what]:
            paths = [str(bundles / bundle / "configs" / f"{name}.json") for name in files.split("+")]
            words = [*launcher.split(), "--config_file", str(paths), *options]
            began = time.perf_counter()
            call(
                job,
                [*words, "--output_dir", folder, "--ckpt_dir", folder],
                OMP_NUM_THREADS=str(max(1, cores // workers)),
            )
            row[f"{title} s"] = time.perf_counter() - began
        return [row]

    def against_cpu(name: str, dims: int) -> list[Row]:
        sides = (64, 96) if dims == 2 else (64, 32, 32)
        constructor = getattr(nets, name)
        arguments = {"in_channels": 3, "img_size": sides}
        known = inspect.signature(constructor).parameters
        torch.manual_seed(0)
        network = constructor(spatial_dims=dims, **{k: v for k, v in arguments.items() if k in known}).eval()
        x = torch.rand(1, 3, *sides)

        def output_of(x: torch.Tensor, kind: str) -> torch.Tensor:
            with precision(kind, x.device):
                output = network.to(x.device)(x)
            return torch.cat([t.float().flatten() for t in ([output] if torch.is_tensor(output) else output)])

        def with_gradient(x: torch.Tensor) -> list[torch.Tensor]:
            network.zero_grad()
            flat = output_of(x, "float32")
            (flat * torch.cos(torch.arange(len(flat), device=x.device))).sum().backward()
            grads = [p.grad.float().flatten() for p in network.parameters() if p.grad is not None]
            return [flat.detach().cpu(), torch.cat(grads).cpu()]

        def error(found: torch.Tensor, expected: torch.Tensor) -> float:
            return float((found - expected).norm() / expected.norm())

        expected = with_gradient(x)
        x = x.to(job.device)
        output, gradient = (error(a, b) for a, b in zip(with_gradient(x), expected, strict=True))
        row: Row = {"what": f"{name}, {dims}D", "float32": output, "float32, gradient": gradient}
        with torch.no_grad():
            others = {kind: error(output_of(x, kind).cpu(), expected[0]) for kind in job.precisions[1:]}
        if not (output < 1e-4 and gradient < 1e-2 and all(value < 0.5 for value in others.values())):
            raise ArithmeticError(f"relative errors {row | others}")
        return [row | others]

    def weights(method: Method) -> list[Row]:
        options = ["--device", job.device, "--keep", job.folder, *(["--tiny"] if job.tiny else [])]
        call(job, ["benchmarks.gpu", "--weights", method.name, *options], OMP_NUM_THREADS="1")
        return [read_json(job.folder / f"{method.name}.json", "weights")]

    torch.set_num_threads(1)  # several would wait for each other on a busy processor
    slices(job, job.methods[0])
    names = ["DCAUNet"] if job.tiny else nets.__all__
    pool = ThreadPoolExecutor(workers + len(job.methods))
    found = {f"{method.name}, weights": pool.submit(weights, method) for method in job.methods}
    found |= {what: pool.submit(run, what) for what in tasks}
    for dims in (2, 3):
        for name in names:
            if dims == 2 or name != "DoubleUNetDCA":
                yield f"{name}, {dims}D", 30, lambda name=name, dims=dims: against_cpu(name, dims)
    wait_for(found.values(), timeout=max(0.0, job.left() - 8))
    for what, future in found.items():
        yield what, 0 if future.done() else math.inf, future.result
    pool.shutdown(wait=False, cancel_futures=True)


def metrics(job: Job) -> Steps:
    """Dice and HD95 of label maps on the device: what their way to the CPU costs."""

    def both() -> list[Row]:
        shape = (48, 48, 24) if job.tiny else (512, 512, 148)
        grid = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in shape), indexing="ij")
        truth = torch.zeros(shape, dtype=torch.uint8)
        for i in range(8):
            centre = (0.5 * np.cos(i), 0.5 * np.sin(i), 0.1 * i - 0.4)
            truth[sum((axis - c) ** 2 for axis, c in zip(grid, centre)) < 0.04] = i + 1
        found = truth.roll(3, dims=0)
        options = {"num_classes": CLASSES, "spacing": (0.8, 0.8, 3.0)}
        here = label_metrics(found, truth, **options)
        near, far = found.to(job.device), truth.to(job.device)
        for key, values in label_metrics(near, far, **options).items():
            np.testing.assert_array_equal(values, here[key])
        steps: dict[str, Step] = {
            "tensors on the CPU": lambda: label_metrics(found, truth, **options),
            f"tensors on {job.device}": lambda: label_metrics(near, far, **options),
        }
        times = in_turns(steps, max(2, job.rounds // 3), job.device)
        name = "x".join(map(str, shape))
        return [{"what": f"{name}, {where}", "s": median(values)} for where, values in times.items()]

    yield "Dice and HD95 of 8 organs", 8, both


def copies(job: Job) -> Steps:
    """Slices there and labels back, one after the other, and from pinned memory on streams beside the network's."""
    method = job.methods[0]
    count, side = (8, 64) if job.tiny else (148, 512)

    def overlap() -> list[Row]:
        network = trained(job, method)[0]
        batches = torch.rand(count, 1, side, side).split(method.batch)
        pinned = [batch.pin_memory() for batch in batches]
        labels = torch.empty((count, 1, side, side), dtype=torch.uint8, pin_memory=True)
        there, back = torch.cuda.Stream(), torch.cuda.Stream()

        @torch.no_grad()
        def predict(batch: torch.Tensor) -> torch.Tensor:
            with precision("bfloat16", job.device):
                scores = network(resize_slices(batch, method.size, "cubic"))
            return upsampled_labels(scores.float(), (side, side))

        def in_order() -> torch.Tensor:
            return torch.cat([predict(batch.to(job.device)).cpu() for batch in batches])

        def overlapped() -> torch.Tensor:
            main = torch.cuda.current_stream()
            arrived = []
            with torch.cuda.stream(there):
                for batch in pinned:
                    arrived.append((batch.to(job.device, non_blocking=True), there.record_event()))
            for (batch, event), target in zip(arrived, labels.split(method.batch), strict=True):
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
        times = in_turns({"in order": in_order, "pinned, own streams": overlapped}, job.rounds, job.device)
        return [
            {"what": f"{count} slices of {side}x{side}, {name}", **compared(values, times["in order"])}
            for name, values in times.items()
        ]

    if job.device.type == "cuda":
        yield "copies", 5, overlap


class Part(NamedTuple):
    steps: Callable[[Job], Steps]
    limit: float
    """Seconds at most."""


#: in this order: first what later parts build on, last what may be cut off
PARTS: dict[str, Part] = {
    "check": Part(check, 190),
    "rates": Part(rates, 15),
    "training": Part(training, 90),
    "networks": Part(networks, 60),
    "volume": Part(volume, 90),
    "metrics": Part(metrics, 20),
    "copies": Part(copies, 15),
    "compiled": Part(compiled, 180),
}


# running them


def one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text[:400]}"


def _work(name: str, job: Job, pipe: Any) -> None:
    """A part in a process of its own; what it starts, too, ends with its group."""
    os.setsid()
    began = name
    try:
        for what, needs, step in PARTS[name].steps(job):
            if job.left() < needs:
                pipe.send((what, [{"what": what, "not run": "time"}]))
                continue
            began = what
            pipe.send((what, None))
            try:
                rows = step()
            except subprocess.TimeoutExpired:
                rows = [{"what": what, "not run": "time"}]
            except Exception as e:
                traceback.print_exc()
                rows = [{"what": what, "failed": one_line(e)}]
            pipe.send((what, rows))
            gc.collect()
            if job.device.type == "cuda":
                torch.cuda.empty_cache()
    except Exception as e:
        traceback.print_exc()
        pipe.send((began, [{"what": began, "failed": one_line(e)}]))
    pipe.send(None)


def run_part(name: str, job: Job, context: Any, report: Callable[[list[Row]], None]) -> None:
    """Run one part and hand its rows on as they come, whatever becomes of it."""
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(name, job, sender))
    process.start()
    sender.close()
    doing, ended = name, False
    try:
        while receiver.poll(max(0.0, job.left())):
            message = receiver.recv()
            if message is None:
                ended = True
                break
            doing, rows = message
            if rows is not None:
                report(rows)
        else:
            report([{"what": doing, "not run": "stopped at the limit of time, in this step or after it"}])
            ended = True
    except EOFError:
        pass
    finally:  # after an interrupt, too: the part has a session of its own
        process.join(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()
    if not ended:
        report([{"what": doing, "failed": f"the process ended with status {process.exitcode}"}])


def _try_device(device: str) -> None:
    torch.ones(2, device=device).sum().item()


def how_to_start(device: torch.device) -> Any:
    """Processes by fork, which spares them the imports, unless something imported has the GPU open already."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_try_device, args=(str(device),))
    process.start()
    process.join()
    return context if process.exitcode == 0 else multiprocessing.get_context("spawn")


def machine(device: torch.device) -> dict[str, Any]:
    packages = ("monai", "pytorch-ignite", "numpy", "scipy", "nibabel", "SimpleITK", "triton", "tensorrt")
    found: dict[str, Any] = {"processor": cpu_model(), "cores": os.cpu_count(), "python": platform.python_version()}
    found |= {"torch": torch.__version__, "CUDA": torch.version.cuda}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    if device.type == "cuda":
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            lines = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()
            found["card"], found["driver"], found["memory"] = (
                text.strip() for text in lines[device.index or 0].split(",")
            )
    return found


@dataclass
class Report:
    """The JSON file and its tables, replaced after every row."""

    path: Path
    content: dict[str, Any]

    def save(self) -> None:
        write_json(self.path, self.content)
        with replacing(self.path.with_suffix(".md")) as temporary:
            temporary.write_text(tables(self.content), encoding="utf-8")


def cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    return "" if value is None else str(value).replace("|", "/")


def tables(content: dict[str, Any]) -> str:
    """Markdown: a table for each part, and below it what failed or was not run."""
    lines = [f"{key} {value}" for key, value in content["machine"].items() if value is not None]
    text = ["; ".join(lines) + "."]
    for name, part in content["parts"].items():
        text.append(f"\n## {name}\n")
        done = [row for row in part["rows"] if "failed" not in row and "not run" not in row]
        # rows of one kind have the same columns; columns that are empty throughout are left out
        groups: dict[tuple[str, ...], list[Row]] = {}
        for row in done:
            groups.setdefault(tuple(row), []).append(row)
        for columns, rows in groups.items():
            kept = [column for column in columns if any(row[column] is not None for row in rows)]
            text += [f"| {' | '.join(kept)} |", "|" + "---|" * len(kept)]
            text += [f"| {' | '.join(cell(row[column]) for column in kept)} |" for row in rows]
            text.append("")
        for row in part["rows"]:
            for state in ("failed", "not run"):
                if state in row:
                    text.append(f"* {row['what']}: {state} ({row[state]})")
    return "\n".join(text).rstrip() + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--output", type=Path, default=Path("gpu.json"), help="tables go beside it, as .md")
    parser.add_argument("--minutes", type=float, default=8, help="for all parts together")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small inputs, one network: a try of the script")
    parser.add_argument("--keep", type=Path, help="a folder for weights and phantoms, used again if it is there")
    parser.add_argument("--weights", metavar="NETWORK", help=argparse.SUPPRESS)  # what check starts
    args = parser.parse_args(arguments)
    device, began = torch.device(args.device), STARTED
    end = began + 60 * args.minutes - 5
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("This needs a CUDA GPU and a PyTorch built for it. --device cpu --tiny only tries the script.")
    if args.weights:
        make_weights(Job(device, args.tiny, args.rounds, args.keep, math.inf), args.weights)
        return 0
    options = {key: str(value) for key, value in vars(args).items()}
    report = Report(args.output, {"machine": machine(device), "options": options, "parts": {}})
    report.save()
    print(report.content["machine"], flush=True)
    context = how_to_start(device)
    print(f"{time.monotonic() - began:.0f} s: parts start by {context.get_start_method()}", flush=True)
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        # numbers of one run: compiled code of an earlier one would make compiling look free
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(scratch) / "inductor")
        for name in args.part:
            start = time.monotonic()
            part = report.content["parts"][name] = {"seconds": 0.0, "rows": []}

            def keep(rows: list[Row], name: str = name, part: dict = part, start: float = start) -> None:
                for row in rows:
                    state = " ".join(f"{key}={cell(value)}" for key, value in row.items() if key != "what")
                    print(f"{time.monotonic() - began:.0f} s: {name}: {row['what']}: {state}", flush=True)
                part["rows"] += rows
                part["seconds"] = time.monotonic() - start
                report.save()

            limit = min(PARTS[name].limit, end - start)
            if limit <= 0:
                keep([{"what": name, "not run": "time"}])
                continue
            job = Job(device, args.tiny, args.rounds, folder, start + limit)
            run_part(name, job, context, keep)
            part["seconds"] = time.monotonic() - start
            failed += sum("failed" in row for row in part["rows"])
            report.save()
    print(f"{time.monotonic() - began:.0f} s: {failed} failed; {args.output}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
