# SPDX-License-Identifier: Apache-2.0
"""Kill trainings at random moments, resume them, and compare the end with that of a training left alone, bit for bit.

    python -m benchmarks.kills [--kills 32] [--seed 0]

Two bundles (volumes and pictures), with 0 and 2 workers, and in one and two processes (gloo, on the CPU), are trained
for a few epochs on tiny data with their own configs, with a checkpoint after every epoch. Each is then started again
and again in a new folder, killed (SIGKILL, to every process of it) at a random moment, and resumed until it ends.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from monai_ext.data import write_phantom

SETTINGS = [  # bundle, dataset, workers, processes
    ("dcaunet_synapse", "synapse", 0, 1),
    ("dcaunet_synapse", "synapse", 2, 1),
    ("dcaunet_synapse", "synapse", 0, 2),
    ("qtseg_busi", "busi", 0, 1),
    ("qtseg_busi", "busi", 2, 1),
    ("qtseg_busi", "busi", 0, 2),
]
CASES = {"synapse": 6, "busi": 16}
OPTIONS = {
    "synapse": {"image_size": "[32,32]", "batch_size": "24", "split": "holdout"},
    "busi": {"image_size": "64", "batch_size": "3"},
}


def command(bundle: str, dataset: str, workers: int, processes: int, data: Path, folder: Path) -> list[str]:
    names = ["train", "multi_gpu_train"] if processes > 1 else ["train"]
    handlers = json.loads(Path(f"bundles/{bundle}/configs/train.json").read_text())["train"]["handlers"]
    last = next(i for i, handler in enumerate(handlers) if handler["_target_"].endswith("LastCheckpoint"))
    options = {
        "dataset_dir": str(data),
        "output_dir": str(folder),
        "ckpt_dir": str(folder),
        "epochs": "4",
        "val_interval": "1",
        "num_workers": str(workers),
        "cache_rate": "1.0",
        f"train#handlers#{last}#min_seconds": "0",
        **OPTIONS[dataset],
    }
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    files = str([f"bundles/{bundle}/configs/{name}.json" for name in names])
    arguments = [part for key, value in options.items() for part in (f"--{key}", value)]
    return [sys.executable, "-W", "ignore", *start, "-m", "monai.bundle", "run", "--config_file", files, *arguments]


def start(arguments: list[str], log: Path) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # into a file: a pipe that nobody reads would stop the training once it is full
    with log.open("w") as file:
        return subprocess.Popen(arguments, start_new_session=True, env=environment, stdout=file, stderr=file)


def kill(process: subprocess.Popen) -> None:
    """The process and all that it has started, torchrun's children and their workers too."""
    children = subprocess.run(["ps", "-eo", "pid=,sess="], capture_output=True, text=True, check=True).stdout.split()
    pairs = zip(map(int, children[::2]), map(int, children[1::2]), strict=True)
    descendants = _descendants(process.pid) | {pid for pid, session in pairs if session == process.pid}
    for pid in (process.pid, *descendants):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def _descendants(pid: int) -> set[int]:
    rows = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout.split()
    parent = dict(zip(map(int, rows[::2]), map(int, rows[1::2]), strict=True))
    found: set[int] = set()
    while more := {child for child, above in parent.items() if (above == pid or above in found) and child not in found}:
        found |= more
    return found


def finish(process: subprocess.Popen, log: Path, seconds: float | None = None) -> None:
    """Wait for the end; TimeoutExpired after ``seconds``, SystemExit with the output's end if it failed."""
    if process.wait(seconds):
        raise SystemExit(log.read_text()[-3000:])


def saved(folder: Path) -> Path | None:
    """The latest checkpoint; a kill between two renames leaves the one before it."""
    return next((folder / name for name in ("last.pt", "last.pt.previous") if (folder / name).is_file()), None)


def final(folder: Path) -> tuple[dict, dict]:
    last = torch.load(folder / "last.pt", weights_only=True)["objects"]
    return last, torch.load(folder / "model.pt", weights_only=True)


def equal(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    print("| bundle | workers | processes | kills | before the first checkpoint | after an epoch | ends equal |")
    print("|---|---|---|---|---|---|---|")
    total = equal_ends = ends = 0
    with tempfile.TemporaryDirectory() as scratch:
        for number, (bundle, dataset, workers, processes) in enumerate(SETTINGS):
            data = Path(scratch) / dataset
            if not data.exists():
                write_phantom(dataset, data, CASES[dataset])
            whole = Path(scratch) / f"{number}"
            began = time.monotonic()
            log = Path(scratch) / "log.txt"
            finish(start(command(bundle, dataset, workers, processes, data, whole), log), log)
            duration = time.monotonic() - began
            expected = final(whole)
            wanted = args.kills * (number + 1) // len(SETTINGS) - args.kills * number // len(SETTINGS)
            kills = early = later = good = tried = 0
            while kills < wanted:
                folder = Path(scratch) / f"{number}-{tried}"
                arguments = command(bundle, dataset, workers, processes, data, folder)
                tried += 1
                done = False
                while not done:
                    process = start([*arguments, *(["--resume", "true"] if saved(folder) else [])], log)
                    try:
                        finish(process, log, rng.uniform(0.2, 1.0) * duration if kills < wanted else None)
                        done = True
                    except subprocess.TimeoutExpired:
                        kill(process)
                        kills += 1
                        checkpoint = saved(folder)
                        early += checkpoint is None
                        later += checkpoint is not None and torch.load(checkpoint, weights_only=True)["epoch"] > 0
                good += equal(final(folder), expected)
            total, ends, equal_ends = total + kills, ends + tried, equal_ends + good
            print(
                f"| {bundle} | {workers} | {processes} | {kills} | {early} | {later} | {good} of {tried} |", flush=True
            )
    print(f"\n{total} kills; {equal_ends} of {ends} trainings end with the weights of one that was left alone")
    if equal_ends < ends:
        sys.exit(1)


if __name__ == "__main__":
    main()
