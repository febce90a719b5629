# SPDX-License-Identifier: Apache-2.0
"""Trainings that belong together: what each is made of is noted, they run here or on a cluster, and faults are told."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import submitit
import torch
from monai.bundle import ConfigParser

from monai_ext.bundle import Bundle, check_knobs
from monai_ext.data import read_list
from monai_ext.data.files.fingerprint import fingerprint
from monai_ext.data.lists import PARTS
from monai_ext.utils import config_errors, plain_cause, read_json, write_json

from .training_job import TrainingJob, trained_epochs

__all__ = [
    "INFERENCE",
    "NOTES",
    "SAME_MODEL",
    "Plan",
    "check_data",
    "evaluation_parser",
    "executor_for",
    "list_folds",
    "note_plan",
    "plain_errors",
    "run_jobs",
    "split_cases",
]

NOTES = "fold.json"  # what a training is made of
SAME_MODEL = {"num_workers", "device", "cache_rate", "silent"}  # knobs that change speed and memory
INFERENCE = ("device", "num_workers", "amp", "mirror")  # knobs that predicting has in common with training
POLL = 0.5  # seconds
DAY = 24 * 60  # minutes
LISTED = 3


class Plan(NamedTuple):
    """A training: its job, and what it depends on."""

    job: TrainingJob
    notes: dict[str, Any]  # what its model depends on
    cases: list[dict[str, Any]]  # that it is tested on, with names for files
    parser: ConfigParser


@contextmanager
def plain_errors(file: Path, command: str) -> Iterator[None]:
    """What MONAI wraps once for each level of a config, as the one error that it is."""
    try:
        with config_errors(file, command):
            yield
    except RuntimeError as e:
        raise ValueError(plain_cause(e, command) or str(e)) from e


def evaluation_parser(found: Bundle, knobs: Mapping[str, Any]) -> ConfigParser:
    """Of the evaluation, which lies over the training."""
    parser = found.workflow("evaluation", **knobs).parser
    check_knobs(parser)
    return parser


def list_folds(parser: ConfigParser) -> list[int]:
    """The folds that a list of cases has, or five."""
    datalist = parser.get_parsed_content("datalist")
    listed = read_list(datalist, parser.get_parsed_content("dataset_dir")) if datalist else None
    own = {case["fold"] for part in PARTS for case in listed.parts[part] if "fold" in case} if listed else set()
    return sorted(own) or list(range(5))


def _plain(case: str) -> str:
    """A name of a file."""
    return case.replace("/", "_").replace(os.sep, "_")


def split_cases(parser: ConfigParser) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The parts of a split, and its test cases with names for files."""
    parts = parser.get_parsed_content("cases")
    return parts, [{**case, "case_id": _plain(case["case_id"])} for case in parts["test"]]


def note_plan(plan: Plan, overwrite: bool) -> None:
    """Note what a fold is trained with; one that is there must have had the same."""
    folder, name = plan.job.folder, plan.job.name
    file = folder / NOTES
    if file.is_file():
        differences = list(_differences(read_json(file, "notes of a training"), plan.notes))
        if not differences:
            return
        told = "; ".join(differences[:LISTED]) + ("; ..." if len(differences) > LISTED else "")
        if not overwrite:
            raise ValueError(
                f"monai_ext: {name}: {folder} is of other data or knobs: {told}. Give them as they were, or "
                "--overwrite true to train anew what is of others."
            )
        print(f"{name}: trained anew ({told})", flush=True)
        shutil.rmtree(folder)
    write_json(file, plan.notes)


def _differences(before: Any, now: Mapping[str, Any]) -> Iterator[str]:
    """In words."""
    if not isinstance(before, dict) or not all(isinstance(before.get(key), type(now[key])) for key in now):
        yield "its notes cannot be read"
        return
    for key in (key for key in now if key != "cases"):
        yield from _other_values("", before[key], now[key])
    yield from _other_cases(before["cases"], now["cases"])


def _other_values(name: str, before: Any, now: Any) -> Iterator[str]:
    """The entries that differ, nested ones too."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            yield from _other_values(f"{name}#{key}" if name else str(key), before.get(key), now.get(key))
    elif before != now:
        yield f"{name} was {_short(before)}, is {_short(now)} now"


def _other_cases(before: Any, now: Any) -> Iterator[str]:
    old, new = ({_plain(str(case.get("case"))): case for case in cases} for cases in (before, now))
    for case in dict.fromkeys([*old, *new]):
        if case not in new or case not in old:
            yield f"case {case} is {'new' if case not in old else 'gone'}"
        elif old[case].get("part") != new[case].get("part"):
            yield f"case {case} was for {old[case].get('part')}, is for {new[case].get('part')} now"
        elif old[case] != new[case]:
            what = " and ".join(key for key in ("image", "label") if old[case].get(key) != new[case].get(key))
            yield f"the {what} of case {case} changed"


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return f"{text[:60]}..." if len(text) > 60 else text


def executor_for(found: Bundle, work: Path, slurm: str | None, kind: str = "crossval") -> submitit.Executor:
    """For jobs here, or on a cluster."""
    if slurm is None:
        executor: submitit.Executor = submitit.LocalExecutor(work / "jobs")
        executor.update_parameters(timeout_min=365 * DAY)
        return executor
    options: dict[str, Any] = {"time": DAY, "job_name": f"{kind}-{found.name}"}
    for word in slurm.split(","):
        key, equals, value = (part.strip() for part in word.partition("="))
        if not equals or not key.isidentifier() or not value.isprintable():
            raise ValueError(f"monai_ext: --slurm {word!r:.80}: expected name=value, such as partition=gpu.")
        options[key] = int(value) if value.isdecimal() else value
    try:
        executor = submitit.SlurmExecutor(work / "jobs")
        executor.update_parameters(**options)
    except (RuntimeError, ValueError) as e:  # no Slurm here, or no such option
        told = " ".join(str(e).replace("\n  -", ",").split())
        raise ValueError(f"monai_ext: --slurm {slurm:.80}: {told.rstrip('.')}.") from e
    return executor


def _environment(place: int, limit: int) -> dict[str, str]:
    """What a job on this machine is given: of several at once each has a GPU, or its part of the cores."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(k) for k in range(torch.cuda.device_count())]
    found = {"CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)] if limit > 1 else ",".join(gpus)} if gpus else {}
    if limit > 1 and "OMP_NUM_THREADS" not in os.environ:
        found["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // limit))
    return found


def run_jobs(plans: Sequence[Plan], executor: submitit.Executor, limit: int | None, kind: str = "folds") -> None:
    """Run jobs, so many at once; when all have ended, tell of those that failed."""
    here = isinstance(executor, submitit.LocalExecutor)
    waiting = list(plans)
    running: dict[int, tuple[TrainingJob, Any]] = {}  # by place
    failed: list[str] = []
    try:
        while waiting or running:
            while waiting and len(running) < (limit or len(plans)):
                place = next(k for k in range(len(plans)) if k not in running)
                job = waiting.pop(0).job
                print(f"{job.name}: {_state(job)}", flush=True)
                given = replace(job, environment=_environment(place, limit or 1)) if here else job
                running[place] = job, executor.submit(given.run)
            time.sleep(POLL)
            for place, (job, submitted) in list(running.items()):
                if submitted.done():
                    del running[place]
                    error = submitted.exception()
                    print(f"{job.name}: {'failed' if error else 'done'}", flush=True)
                    failed += [_told(job, error)] if error else []
    finally:
        for _, submitted in running.values():
            with suppress(Exception):  # it may have ended meanwhile
                submitted.cancel()
    if failed:
        raise ValueError(
            f"monai_ext: {len(failed)} of {len(plans)} {kind} failed: {'; '.join(failed)}. What is done is kept; start "
            "again to do what is missing."
        )


def _state(job: TrainingJob) -> str:
    if job.trained:
        return "is trained"
    epochs = trained_epochs(job.folder)
    how = "begins" if epochs < 0 else f"goes on after epoch {epochs} of {job.epochs}"
    return f"{how}, see {job.log}"


def _told(job: TrainingJob, error: BaseException) -> str:
    """The reason of a job that failed, in words of this library if it has any."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    reason = (plain_cause(error) or lines[-1]).removeprefix("monai_ext: ").rstrip(".")
    return reason if reason.startswith(f"{job.name}: ") else f"{job.name}: {reason}"


def check_data(plans: Sequence[Plan]) -> None:
    """Refuse to put together trainings of which one saw other data than the next."""
    for plan in plans:
        record = read_json(plan.job.folder / "run_training.json", "record")
        trained = [case for case in plan.notes["cases"] if case["part"] != "test"]
        seen = list(_other_cases(trained, record.get("cases", [])))
        tested = [case for case in plan.notes["cases"] if case["part"] == "test"]
        seen += _other_cases(tested, fingerprint({"test": plan.cases}))
        if seen:
            raise ValueError(
                f"monai_ext: {plan.job.name}: its data are not the others': {'; '.join(seen[:LISTED])}. "
                "Give them as they were, or --overwrite true to train anew what is of others."
            )
