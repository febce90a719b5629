# SPDX-License-Identifier: Apache-2.0
"""``new`` with its defaults beside nnU-Net: equal cases, split, test scans and CPU seconds of training.

    python -m benchmarks.own_data.beside --image ct.nii.gz --label organs.nii.gz --output DIR \
        [--cpu_seconds 30,80,160] [--jobs 9] [--minutes 7] [--nnunet_python PATH] [--report FILE] [--network NAME]

Data: ``cohorts.py``. ``new`` makes a bundle of nnU-Net's folder; its split of the cases becomes nnU-Net's fold. CPU
seconds are those of the training process from the first batch on, augmentation included, on one thread; reading,
planning and validation are nobody's. nnU-Net's schedule runs over its seconds; ours is one of epochs, so the seconds of
a step are taken first from a short training that is thrown away. Both are scored on labels that one process wrote, the
whole of which is timed: ``segment`` there, nnU-Net's predictor here, with its mirroring and without.

nnU-Net's own SGD, of momentum 0.99, is slow in few steps: the first of ``--optimizers`` is used throughout, the others
with the largest budget. What is done is not done again; what fails is in the table.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.machine import cpu_model
from benchmarks.own_data.cohorts import COHORTS, Cohort
from benchmarks.own_data.scores import score
from monai_ext.apps.crossval.training_job import spent_by
from monai_ext.utils import read_json, write_json

WORKER = Path(__file__).with_name("nnunet_worker.py")
EPOCHS = 10  # of ours, whatever their length: the schedule goes down with each, the last is validated
TIMED = 16  # steps: the first are slower
GRACE = 60  # seconds that what runs may take when the time is up


class Contest:
    """The folder, the options and the clock that all jobs share."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.folder = Path(args.output).resolve()
        self.end = time.monotonic() + 60 * args.minutes
        self.lock = threading.Lock()
        self.running: set[int] = set()
        self.rows: dict[str, dict[str, Any]] = {}
        self.env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
        self.env |= {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "BLOSC")}
        for kind in ("raw", "preprocessed", "results"):
            self.env[f"nnUNet_{kind}"] = str(self.folder / kind)

    def data(self, cohort: Cohort) -> Path:
        return self.folder / "raw" / cohort.folder

    def run(self, log: Path, *words: object, **env: str) -> dict[str, float]:
        """Run a program to its end; its seconds, CPU seconds and peak memory."""
        log.parent.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        with log.open("w") as file:
            process = subprocess.Popen(
                list(map(str, words)), stdout=file, stderr=subprocess.STDOUT, env=self.env | env, start_new_session=True
            )
            self.running.add(process.pid)
            done = 0
            while not done:
                done, status, used = os.wait4(process.pid, os.WNOHANG)
                if not done and time.monotonic() > self.end + GRACE:
                    os.killpg(process.pid, signal.SIGKILL)
                    done, status, used = os.wait4(process.pid, 0)
                time.sleep(0.05)
            self.running.discard(process.pid)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode == -signal.SIGKILL and time.monotonic() > self.end + GRACE:
            raise TimeoutError("ended: the time was up")
        if process.returncode:
            last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
            raise RuntimeError(last[-1] if last else f"ended with {process.returncode}")
        seconds = time.monotonic() - began
        return {"seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime, "peak_bytes": 1024 * used.ru_maxrss}

    def ours(self, log: Path, *words: object) -> dict[str, float]:
        return self.run(log, sys.executable, "-W", "ignore", "-m", *words)

    def theirs(self, log: Path, *words: object, results: Path | None = None) -> dict[str, float]:
        env = {} if results is None else {"nnUNet_results": str(results)}
        return self.run(log, self.args.nnunet_python, WORKER, *words, **env)

    def stop(self, *_: object) -> None:
        """End what runs, as who ends this process expects."""
        for process in list(self.running):
            os.killpg(process, signal.SIGKILL)
        os._exit(1)

    def note(self, name: str, row: dict[str, Any]) -> None:
        """Keep what a job found, and write the files anew."""
        with self.lock:
            self.rows[name] = row
            report = Path(self.args.report).resolve()
            given = {key: value for key, value in vars(self.args).items() if key not in ("image", "label")}
            given = {key: value for key, value in given.items() if key not in ("output", "report", "nnunet_python")}
            write_json(report.with_suffix(".json"), {"machine": cpu_model(), "options": given, "runs": self.rows})
            report.with_suffix(".md").write_text(table(self.rows))


def make_bundle(contest: Contest, key: str, cohort: Cohort) -> None:
    made = bundle(contest, key)
    if not made.exists():
        data = contest.data(cohort)
        given = ["--datalist", data / "list.json"] if (data / "list.json").exists() else ["--nnunet", data]
        if contest.args.network:
            given += ["--network", contest.args.network]
        contest.ours(contest.folder / "logs" / f"{made.name}.log", "monai_ext", "new", "--name", made.name, *given,
                     "--where", contest.folder)  # fmt: skip


def step_of_ours(contest: Contest, key: str, made: Future[None]) -> float:
    """The CPU seconds of a step of the bundle's training."""
    made.result()
    timed = contest.folder / f"timed_{bundle(contest, key).name}"
    if not (timed / "last.pt").exists():
        train_ours(contest, key, timed, 1, TIMED)
    spent = spent_by(timed)
    return spent["cpu_seconds"] / spent["steps"]


def bundle(contest: Contest, key: str) -> Path:
    return contest.folder / "bundles" / "_".join(filter(None, ("own", key, contest.args.network)))


def train_ours(contest: Contest, key: str, folder: Path, epochs: int, length: int) -> dict[str, float]:
    config = bundle(contest, key) / "configs" / "train.json"
    return contest.ours(
        folder / "training.log", "monai.bundle", "run", "--config_file", config,
        "--epochs", epochs, "--val_interval", epochs, "--train#trainer#epoch_length", length, "--num_workers", 0,
        "--ckpt_dir", folder, "--output_dir", folder, "--batch_size", COHORTS[key].batch,
    )  # fmt: skip


def prepare_theirs(contest: Contest, key: str, cohort: Cohort, made: Future[None]) -> None:
    """Plan and preprocess for nnU-Net, with our split as its fold 0."""
    folder = contest.folder / "preprocessed" / cohort.folder
    made.result()  # the bundle, which has the split
    if (folder / "splits_final.json").exists():
        return
    number = int(cohort.folder[7:10])
    contest.theirs(contest.folder / "logs" / f"plan_{key}.log", "plan", number, cohort.memory, *configurations(cohort))
    listed = read_json(bundle(contest, key) / "datalist.json", "list")
    write_json(folder / "splits_final.json", [{"train": names(listed["training"]), "val": names(listed["validation"])}])


def names(cases: list[dict[str, Any]]) -> list[str]:
    firsts = [case["image"] if isinstance(case["image"], str) else case["image"][0] for case in cases]
    return [Path(first).name.split(".")[0].removesuffix("_0000") for first in firsts]


def configurations(cohort: Cohort) -> list[str]:
    return ["2d"] if cohort.pictures else ["2d", "3d_fullres"]


def job(contest: Contest, key: str, side: str, optimizer: str, budget: float, ready: Future[Any]) -> None:
    """One training, its labels and their scores."""
    name = " ".join(filter(None, (key, side, optimizer, f"{budget:g}")))
    folder = contest.folder / "runs" / name.replace(" ", "_").replace(":", "_")
    done = folder / "result.json"
    row: dict[str, Any] = {"data": key, "side": side, "optimizer": optimizer, "budget": budget}
    try:
        if done.exists():
            contest.note(name, read_json(done, "result"))
            return
        step = ready.result()
        if time.monotonic() > contest.end:
            raise TimeoutError("not begun: the time was up")
        cohort = COHORTS[key]
        data, labels = contest.data(cohort), folder / "labels"
        if side.startswith("new"):
            # an epoch's steps, of as many epochs as there are steps where these are few
            epochs = min(EPOCHS, max(1, int(budget / step)))
            training = train_ours(contest, key, folder, epochs, max(1, int(budget / step / epochs)))
            row["training"] = {**spent_by(folder), "process": training}
            row["inference"] = contest.ours(
                folder / "segment.log", "monai_ext", "segment", "--bundle", bundle(contest, key), "--input",
                data / "imagesTs", "--output", labels, "--checkpoint", folder / "model.pt", "--naming", "nnunet",
            )  # fmt: skip
        else:
            spent = folder / "spent.json"
            training = contest.theirs(folder / "training.log", "train", cohort.folder, side, budget,
                                      *optimizer.split(":"), spent, results=folder)  # fmt: skip
            row["training"] = {**read_json(spent, "note"), "process": training}
            model = folder / cohort.folder / f"nnUNetTrainer__nnUNetPlans__{side}"
            given = [model, data / "imagesTs"], ".png" if cohort.pictures else ".nii.gz"
            plain = folder / "plain"
            took = contest.theirs(folder / "plain.log", "predict", *given[0], plain, given[1], "plain")
            row["plain"] = {"inference": took, "scores": score(data, plain, slices=cohort.slices)}
            row["inference"] = contest.theirs(folder / "mirror.log", "predict", *given[0], labels, given[1], "mirror")
        row["scores"] = score(data, labels, slices=cohort.slices)
        write_json(done, row)
    except Exception as error:  # the others go on; the table says what became of this one
        row["failed"] = f"{type(error).__name__}: {error}"[:300]
        traceback.print_exc()
    contest.note(name, row)
    print(f"{contest.end - time.monotonic():.0f} s left: {name}: {row.get('failed', 'done')}", flush=True)


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Rows in Markdown, by data and budget."""
    head = [
        "data",
        "budget, CPU s",
        "side",
        "steps",
        "spent, CPU s",
        "Dice",
        "NSD",
        "inference, s",
        "CPU s",
        "GB",
        "note",
    ]
    lines = [head, ["---"] * len(head)]
    for row in sorted(rows.values(), key=lambda row: (row["data"], row["budget"], row["side"], row["optimizer"])):
        side = row["side"] if row["side"].startswith("new") else f"nnU-Net {row['side']}, {row['optimizer']}"
        first = [row["data"], f"{row['budget']:g}", side]
        spent = row.get("training", {})
        steps = [f"{spent['steps']:.0f}", f"{spent['cpu_seconds']:.0f}"] if spent else ["", ""]
        note = f"batch {spent['batch']} of {'x'.join(map(str, spent['patch']))}" if "patch" in spent else ""
        if "failed" in row:
            lines.append([*first, *steps, *[""] * 5, row["failed"].replace("|", "/").replace("\n", " ")])
        else:
            lines.append([*first, *steps, *_found(row["scores"], row["inference"]), note])
        if "plain" in row:
            plain = _found(row["plain"]["scores"], row["plain"]["inference"])
            lines.append([*first, *steps, *plain, "without mirroring"])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _found(scores: dict[str, Any], took: dict[str, float]) -> list[str]:
    cost = [f"{took['seconds']:.1f}", f"{took['cpu_seconds']:.1f}", f"{took['peak_bytes'] / 1e9:.2f}"]
    return [f"{scores['dice']:.3f}", f"{scores['nsd']:.3f}", *cost]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", required=True)
    parser.add_argument("--label", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--report", help="files to write, .json and .md; default: OUTPUT/results")
    parser.add_argument("--network", default="", help="that ``new`` takes, if not its default")
    parser.add_argument("--data", default=",".join(COHORTS))
    parser.add_argument("--cpu_seconds", default="30,80,160")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=600, help="after which no job begins")
    parser.add_argument("--nnunet_python", default=sys.executable)
    parser.add_argument(
        "--optimizers", default="adam:0.003,sgd:0.01", help="of nnU-Net; all but the first: last budget"
    )
    parser.add_argument("--tiny", action="store_true", help="small phantoms, to see that it runs")
    args = parser.parse_args()
    args.report = args.report or str(Path(args.output, "results"))
    contest = Contest(args)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, contest.stop)
    cohorts = {key: COHORTS[key] for key in args.data.split(",")}
    with ThreadPoolExecutor(args.jobs) as pool:
        written = {key: pool.submit(write, contest, cohort) for key, cohort in cohorts.items()}
        for future in written.values():
            future.result()
        made = {key: pool.submit(make_bundle, contest, key, cohort) for key, cohort in cohorts.items()}
        theirs = {key: pool.submit(prepare_theirs, contest, key, cohort, made[key]) for key, cohort in cohorts.items()}
        ours = {key: pool.submit(step_of_ours, contest, key, made[key]) for key in cohorts}
        first, *others = args.optimizers.split(",")
        budgets = sorted(map(float, args.cpu_seconds.split(",")), reverse=True)
        for budget in budgets:
            for key, cohort in cohorts.items():
                for side in reversed(configurations(cohort)):
                    pool.submit(job, contest, key, side, first, budget, theirs[key])
                pool.submit(job, contest, key, f"new {args.network}".strip(), "", budget, ours[key])
        for optimizer in others:
            for key, cohort in cohorts.items():
                for side in reversed(configurations(cohort)):
                    pool.submit(job, contest, key, side, optimizer, budgets[0], theirs[key])
    print(Path(args.report).with_suffix(".md").read_text())
    if any("failed" in row for row in contest.rows.values()):
        sys.exit(1)


def write(contest: Contest, cohort: Cohort) -> None:
    folder = contest.data(cohort)
    if not (folder / "dataset.json").exists() or not (folder / "labelsTs").exists():
        cohort.write(folder, contest.args.image, contest.args.label, contest.args.tiny)


if __name__ == "__main__":
    main()
