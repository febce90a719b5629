# SPDX-License-Identifier: Apache-2.0
"""Kill what writes, at random moments, start it again, and look at what is there."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
import torch

ROOT = Path(__file__).parents[2]
# each prints "ready" when its libraries are loaded, and writes to the folder that it is given
SCRIPTS = {
    "checkpoints, last.pt damaged": """
import torch
from types import SimpleNamespace as Some
from monai_ext.handlers import LastCheckpoint
network = torch.nn.Linear(1500, 1500)
last = LastCheckpoint(folder / "last.pt", {"network": network}, resume=(folder / "last.pt").exists())
engine = Some(state=Some(epoch=0, iteration=0, max_epochs=99, epoch_length=1), scaler=None, data_loader=None,
              add_event_handler=lambda *_: None)
last.load(engine) if last.resume else None
print("ready", flush=True)
for epoch in range(engine.state.epoch + 1, engine.state.epoch + 31):
    engine.state.epoch = engine.state.iteration = epoch
    network.bias.data.fill_(epoch)
    last.save_now(engine)
""",
    "phantoms": """
from monai_ext.data import write_phantom
print("ready", flush=True)
write_phantom("colondb", folder / "colondb", 12)
""",
    "new": """
from monai_ext.apps.new_bundle import new_bundle
print("ready", flush=True)
new_bundle("mine", images=folder.parent / "data/i", labels=folder.parent / "data/l", where=folder)
""",
    "evaluation": """
import torch
from ignite.engine import Engine
from monai_ext.apps import SegmentationReport
report = SegmentationReport(folder, ["organ"], image_key=None)
engine = Engine(lambda engine, batch: batch)
report.attach(engine)
label = torch.zeros(1, 48, 48, 24, dtype=torch.uint8)
label[0, 8:30, 8:30, 4:20] = 1
print("ready", flush=True)
engine.run([[{"case_id": str(i), "label": label, "pred": label.roll(1, 1)}] for i in range(8)])
""",
}


def start(kind: str, folder: Path) -> subprocess.Popen:
    code = f"import sys\nfrom pathlib import Path\nfolder = Path(sys.argv[1])\n{SCRIPTS[kind]}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    while (line := process.stdout.readline()) != "ready\n":
        assert line, process.communicate()[1]
    return process


def finish(kind: str, folder: Path) -> float:
    """Start it and let it end; how long its work took."""
    process = start(kind, folder)
    began = time.monotonic()
    errors = process.communicate()[1]
    assert process.returncode == 0, errors
    return time.monotonic() - began


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def check(kind: str, folder: Path, undisturbed: Path | None = None) -> None:
    """What is there is whole, and after a run that ended there is what an undisturbed one leaves and nothing else."""
    if kind.startswith("checkpoints"):
        names = [name for name in ("last.pt", "last.pt.previous") if (folder / name).is_file()]
        states = [torch.load(folder / name, weights_only=True) for name in names if whole(folder / name)]
        assert states, f"no whole checkpoint among {names}"
        for state in states:
            assert (state["objects"]["network"]["bias"] == state["epoch"]).all()
    elif kind == "phantoms":
        if (folder / "colondb").exists():
            marker = json.loads((folder / "colondb" / "PHANTOM.json").read_text())
            pictures = list((folder / "colondb" / "CVC-ColonDB").glob("*/[!.]*.png"))
            assert len(pictures) == 2 * len(marker["cases"]) == 24
    elif kind == "new":
        if (folder / "bundles" / "mine").exists():
            assert (folder / "bundles" / "mine" / "docs" / "data_license.txt").is_file()
    elif (folder / "summary.json").exists():
        assert json.loads((folder / "summary.json").read_text())["number_of_cases"] == 8
    if undisturbed is not None:
        assert files(folder) == files(undisturbed)


def whole(path: Path) -> bool:
    return path.read_bytes() != b"junk"


def one_kill(kind: str, folder: Path, undisturbed: Path, duration: float, rng: random.Random) -> bool:
    """Kill it, look, start it again, look; whether it was still at work when it was killed."""
    if kind.startswith("checkpoints"):
        finish(kind, folder)
        (folder / "last.pt").write_bytes(b"junk")
    process = start(kind, folder)
    time.sleep(rng.uniform(0, 0.9) * duration)
    working = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    check(kind, folder)
    if not (kind == "new" and (folder / "bundles" / "mine").exists()):  # it never replaces a bundle
        finish(kind, folder)
    check(kind, folder, undisturbed)
    return working


def main(kills: int, *kinds: str) -> None:
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        top = Path(scratch)
        for number in range(4):
            voxels = np.random.default_rng(number).normal(40, 20, (40, 36, 8)).astype(np.int16)
            voxels[:4] = -1000
            label = np.zeros((40, 36, 8), np.uint8)
            label[8:15, 8:20, 2:6] = 1
            for part, array in (("i", voxels), ("l", label)):
                (top / "data" / part).mkdir(parents=True, exist_ok=True)
                nibabel.save(
                    nibabel.Nifti1Image(array, np.diag([2.0, 2, 4, 1])), top / "data" / part / f"{number}.nii.gz"
                )
        print("| written | kills | at work when killed | whole then | whole and nothing left after the next start |")
        print("|---|---|---|---|---|")
        for place, kind in enumerate(SCRIPTS):
            if kinds and kind not in kinds:
                continue
            count = kills * (place + 1) // len(SCRIPTS) - kills * place // len(SCRIPTS)
            (top / f"{place}").mkdir()
            duration = finish(kind, top / f"{place}")
            working = 0
            for number in range(count):
                folder = top / f"{place}-{number}"
                folder.mkdir()
                working += one_kill(kind, folder, top / f"{place}", duration, rng)
            print(f"| {kind} | {count} | {working} | {count} | {count} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30, *sys.argv[2:])
