# SPDX-License-Identifier: Apache-2.0
"""What each training may cost, as epochs of so many steps: schedules go by epochs, and so does resuming."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from monai_ext.apps.crossval.job_queue import NOTES, plain_errors
from monai_ext.apps.crossval.training_job import TrainingJob, command_words, last_words, spent_by
from monai_ext.bundle import Bundle
from monai_ext.utils import number_option, read_json, scratch_folder, whole_option, write_json

__all__ = ["EPOCH_LENGTH", "Budget", "given_budget", "length_of"]

EPOCH_LENGTH = "train#trainer#epoch_length"
TIMED = 10  # steps from which the time of one is taken


class Budget(NamedTuple):
    """Of each training: ``kind`` is ``steps``, ``cpu_seconds`` or ``seconds``."""

    kind: str
    amount: float

    @property
    def words(self) -> str:
        unit = {"steps": "steps", "cpu_seconds": "seconds of computing time", "seconds": "seconds"}[self.kind]
        return f"{self.amount:,g} {unit}"


def given_budget(steps: Any, cpu_seconds: Any, seconds: Any) -> Budget:
    """The one that was given.

    Raises:
        ValueError: if there is none, or several, or it is no positive number.
    """
    options = {"steps": steps, "cpu_seconds": cpu_seconds, "seconds": seconds}
    given = {kind: value for kind, value in options.items() if value is not None}
    if len(given) != 1:
        told = " and ".join(f"--{kind}" for kind in given) or "none"
        raise ValueError(f"monai_ext: the budget is one of --steps, --cpu_seconds and --seconds; {told} given.")
    ((kind, value),) = given.items()
    amount = whole_option(value, f"--{kind}", 1) if kind == "steps" else number_option(value, f"--{kind}")
    if amount <= 0:
        raise ValueError(f"monai_ext: --{kind} must be above 0, got {amount:g}.")
    return Budget(kind, amount)


def length_of(found: Bundle, job: TrainingJob, budget: Budget, split: Path) -> dict[str, int]:
    """Epochs that a job trains, and their steps where these are not all of the data, as knobs of its training.

    Seconds are divided by those that a step takes, from the first steps of a training that is thrown away; what was
    found out once is noted beside the job and in the folder of its split. The epochs are those that come nearest to so
    many steps, at least one, and each is made so much shorter or longer that together they have them: of whole epochs
    a heavy network would get one where there is time for a third.
    """
    whole = _epoch_length(found, job, split)
    if budget.kind == "steps":
        steps = int(budget.amount)
    else:
        file = job.folder.parent / "timed.json"  # one network has one speed, whichever fold
        notes = {key: value for key, value in _noted(job).items() if key != "cases"}
        if not file.is_file() or read_json(file, "note of time").get("of") != notes:
            write_json(file, {**_timed(job), "of": notes})
        steps = max(1, int(budget.amount / read_json(file, "note of time")[budget.kind]))
    epochs = max(1, round(steps / whole))
    length = max(1, round(steps / epochs))
    return {"epochs": epochs} if length == whole else {"epochs": epochs, EPOCH_LENGTH: length}


def _noted(job: TrainingJob) -> dict[str, Any]:
    return dict(read_json(job.folder / NOTES, "notes of a training"))


def _epoch_length(found: Bundle, job: TrainingJob, split: Path) -> int:
    """Steps of an epoch, the same for each network."""
    file = split / "epoch.json"
    notes = {key: value for key, value in _noted(job).items() if key != "network"}
    if file.is_file() and (noted := read_json(file, "note")).get("of") == notes:
        return int(noted["steps"])
    print(f"{split.name}: counting the steps of an epoch", flush=True)
    with plain_errors(found.config_file("train"), "training"):
        given = {key: value for key, value in job.knobs.items() if key not in ("seed", "epochs")}
        given |= {"output_dir": str(split), "ckpt_dir": str(split), "cache_rate": 0, "num_workers": 0}
        workflow = found.workflow("training", ["train"], **given)
        steps = len(workflow.parser.get_parsed_content("train#dataloader"))
    write_json(file, {"steps": steps, "of": notes})
    return steps


def _timed(job: TrainingJob) -> dict[str, float]:
    """Seconds that a step of a network takes, by clock and by computing time."""
    print(f"{job.name.partition(',')[0]}: timing its steps", flush=True)
    job.folder.mkdir(parents=True, exist_ok=True)
    with scratch_folder(job.folder, "timed-") as folder:
        steps = TIMED  # the data begin anew where an epoch is shorter
        words = command_words(
            job.bundle, job.overlay, {**job.knobs, "epochs": 1, "output_dir": str(folder), "ckpt_dir": str(folder)}
        )
        words += [f"--{EPOCH_LENGTH}", str(steps)]
        words += ["--validate#dataset#data", "$@cases['validation'][:1]"]  # no step, so one case is enough
        log = folder / "training.log"
        with log.open("w", encoding="utf-8") as file:
            code = subprocess.run(words, stdout=file, stderr=subprocess.STDOUT).returncode
        spent = spent_by(folder)
        if code or not spent.get("steps"):
            raise ValueError(f"monai_ext: {job.name}: {last_words(log, 0)}.")
    return {kind: spent[kind] / spent["steps"] for kind in ("seconds", "cpu_seconds")}
