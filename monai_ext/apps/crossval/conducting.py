# SPDX-License-Identifier: Apache-2.0
"""All folds of a bundle, from their plan to the ensemble in its ``models``."""

from __future__ import annotations

import hashlib
import json
import logging
import math
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
from torch.utils.data import ConcatDataset

import monai_ext
from monai_ext.apps.quality import calibrate_weights, quality_file
from monai_ext.bundle import CROSSVAL, Bundle, check_knobs, fold_ensemble, folder_for, literal
from monai_ext.data import read_list
from monai_ext.data.files.fingerprint import fingerprint, hash_file
from monai_ext.data.lists import PARTS
from monai_ext.handlers.run_record import cases_file
from monai_ext.utils import config_errors, locked, plain_cause, read_json, replacing, whole_option, write_json

from .decision import CRITERION, decide, predicted_cases, write_report
from .fold_job import FoldJob, labels_of, trained_epochs

__all__ = ["Crossval", "crossval"]

LOCK = ".monai_ext-crossval.lock"
NOTES = "fold.json"  # what a fold is trained with
RESERVED = ("fold", "num_folds", "output_dir", "ckpt_dir", "resume", "bundle_root")
SAME_MODEL = {"num_workers", "device", "cache_rate", "silent"}  # knobs that change speed and memory
INFERENCE = ("device", "num_workers", "amp", "mirror")  # knobs that predicting has in common with training
logger = logging.getLogger(__name__)
POLL = 0.5  # seconds
DAY = 24 * 60  # minutes
LISTED = 3


class Crossval(NamedTuple):
    """What a cross-validation left.

    Attributes:
        models: the folder with ``fold0.pt``, ... and ``crossval.json``.
        report: the folder with ``report.html``.
        largest_component: names of the classes of which only the largest component is kept.
    """

    models: Path
    report: Path
    largest_component: tuple[str, ...]


def crossval(
    bundle: str | os.PathLike,
    folds: int | str | None = None,
    jobs: int | str | None = None,
    slurm: str | None = None,
    overwrite: bool = False,
    **knobs: Any,
) -> Crossval:
    """Train the folds of a bundle, predict every case by the model that has not seen it, and leave their ensemble.

    Each fold is trained by ``python -m monai.bundle run`` in ``eval/crossval/foldN`` of the bundle. When all are done,
    their checkpoints are in ``models`` with ``crossval.json``, which says of which classes only the largest component
    is kept, and one report over all cases is in ``eval/crossval``. Stopped, for whatever reason, and started again, it
    does what is missing.

    Args:
        bundle: a bundle's name or folder.
        folds: their number; by default 5, or those that the list of cases has.
        jobs: how many folds at once; by default one on this machine, all on a cluster.
        slurm: options of jobs on a Slurm cluster, such as ``"partition=gpu,time=600"``; by default jobs run here.
        overwrite: train folds anew whose data or knobs were others.
        knobs: values for the bundle's ``train.json``.

    Raises:
        BlockingIOError: if another cross-validation of the bundle is at work.
        FileNotFoundError: for a bundle or data that is not there.
        ValueError: for too few cases; if data or knobs are not those of the folds that are there; if a fold fails, when
            the others are done.

    Examples::

        >>> crossval("bundles/my_task", folds=5).largest_component
        ('liver',)
    """
    found = Bundle.find(bundle)
    if reserved := [knob for knob in RESERVED if knob in knobs]:
        raise ValueError(f"monai_ext: --{reserved[0]}: is crossval's own. Leave it out.")
    work = Path(folder_for(found.folder, "eval"), "crossval")
    models = Path(folder_for(found.folder, "models"))
    limit = whole_option(jobs, "jobs", 1) if jobs is not None else None if slurm else 1
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)  # what it says of its log is of no use here
    with locked(work, LOCK, "Wait until that cross-validation has ended."):
        plans = _plans(found, folds, work, knobs)
        executor = executor_for(found, work, slurm)
        for plan in plans:
            _note(plan, overwrite)
        depends = [monai_ext.__version__, found.config("inference"), *(plan.notes for plan in plans)]
        state = hashlib.sha256(json.dumps(depends, default=str).encode()).hexdigest()
        if _is_published(models, work, plans, state):
            print(f"all {len(plans)} folds are done, with these data and knobs", flush=True)
        else:
            _run_all(plans, executor, limit)
            _check_data(plans)
            with _plain_errors(found.config_file("evaluate"), "evaluation"):
                _publish(found, work, plans, state)
    return Crossval(models, work, tuple(found.channel_def[label] for label in found.largest_component))


class _Plan(NamedTuple):
    job: FoldJob
    notes: dict[str, Any]  # what its model depends on
    cases: list[dict[str, Any]]  # that it is tested on, with names for files
    parser: ConfigParser


@contextmanager
def _plain_errors(file: Path, command: str) -> Iterator[None]:
    """What MONAI wraps once for each level of a config, as the one error that it is."""
    try:
        with config_errors(file, command):
            yield
    except RuntimeError as e:
        raise ValueError(plain_cause(e, command) or str(e)) from e


def _plans(found: Bundle, folds: int | str | None, work: Path, knobs: Mapping[str, Any]) -> list[_Plan]:
    """Each fold's job; the knobs are checked, and the cases shared out."""
    found.parser("train", **knobs)  # tells of one that training has not
    own: dict[str, Any] = {} if folds is None else {"num_folds": whole_option(folds, "folds", 2)}
    with _plain_errors(found.config_file("train"), "training"):
        numbers = range(own["num_folds"]) if own else _numbers(_parser(found, {**knobs, "output_dir": str(work)}))
        return [_plan(found, number, work / f"fold{number}", knobs, own) for number in numbers]


def _plan(found: Bundle, number: int, folder: Path, knobs: Mapping[str, Any], own: Mapping[str, Any]) -> _Plan:
    given = {**knobs, **own, "fold": number, "output_dir": str(folder), "ckpt_dir": str(folder)}
    parser = _parser(found, given)
    parts = parser.get_parsed_content("cases")
    cases = [{**case, "case_id": _plain(case["case_id"])} for case in parts["test"]]
    notes = {
        "knobs": {knob: value for knob, value in sorted(knobs.items()) if knob not in SAME_MODEL},
        "train.json": found.config("train"),
        "cases": fingerprint({part: parts[part] for part in PARTS}),
    }
    inference = found.config("inference")
    job = FoldJob(
        number,
        folder,
        found.folder,
        {knob: _word(literal(value)) for knob, value in given.items()},
        parser.get_parsed_content("epochs"),
        [{"image": case["image"], "case_id": case["case_id"]} for case in cases],
        {knob: knobs[knob] for knob in INFERENCE if knob in knobs and knob in inference},
    )
    return _Plan(job, json.loads(json.dumps(notes, default=str)), cases, parser)


def _parser(found: Bundle, knobs: Mapping[str, Any]) -> ConfigParser:
    """Of the evaluation, which lies over the training."""
    parser = found.workflow("evaluation", **knobs).parser
    check_knobs(parser)
    return parser


def _numbers(parser: ConfigParser) -> list[int]:
    """The folds that a list of cases has, or five."""
    datalist = parser.get_parsed_content("datalist")
    listed = read_list(datalist, parser.get_parsed_content("dataset_dir")) if datalist else None
    own = {case["fold"] for part in PARTS for case in listed.parts[part] if "fold" in case} if listed else set()
    return sorted(own) or list(range(5))


def _plain(case: str) -> str:
    """A name of a file."""
    return case.replace("/", "_").replace(os.sep, "_")


def _word(value: Any) -> str:
    """A knob as a command line has it; what is no text as Python has it, as fire reads it."""
    return os.fspath(value) if isinstance(value, (str, os.PathLike)) else repr(value)


def _note(plan: _Plan, overwrite: bool) -> None:
    """Note what a fold is trained with; one that is there must have had the same."""
    folder, number = plan.job.folder, plan.job.number
    file = folder / NOTES
    if file.is_file():
        differences = list(_differences(read_json(file, "fold"), plan.notes))
        if not differences:
            return
        told = "; ".join(differences[:LISTED]) + ("; ..." if len(differences) > LISTED else "")
        if not overwrite:
            raise ValueError(
                f"monai_ext: fold {number}: {folder} is of other data or knobs: {told}. Give them as they were, or "
                "--overwrite true to train such folds anew."
            )
        print(f"fold {number}: trained anew ({told})", flush=True)
        shutil.rmtree(folder)
    write_json(file, plan.notes)


def _differences(before: Any, now: Mapping[str, Any]) -> Iterator[str]:
    """In words."""
    if not isinstance(before, dict) or not all(isinstance(before.get(key), type(now[key])) for key in now):
        yield "its notes cannot be read"
        return
    for key in ("knobs", "train.json"):
        yield from (
            f"{knob} was {_short(before[key].get(knob))}, is {_short(now[key].get(knob))} now"
            for knob in dict.fromkeys([*before[key], *now[key]])
            if before[key].get(knob) != now[key].get(knob)
        )
    yield from _other_cases(before["cases"], now["cases"])


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


def executor_for(found: Bundle, work: Path, slurm: str | None) -> submitit.Executor:
    """For jobs here, or on a cluster."""
    if slurm is None:
        executor: submitit.Executor = submitit.LocalExecutor(work / "jobs")
        executor.update_parameters(timeout_min=365 * DAY)
        return executor
    options: dict[str, Any] = {"time": DAY, "job_name": f"crossval-{found.name}"}
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


def _run_all(plans: Sequence[_Plan], executor: submitit.Executor, limit: int | None) -> None:
    """Run the jobs of the folds, so many at once; when all have ended, tell of those that failed."""
    here = isinstance(executor, submitit.LocalExecutor)
    waiting = list(plans)
    running: dict[int, tuple[FoldJob, Any]] = {}  # by place
    failed: list[str] = []
    try:
        while waiting or running:
            while waiting and len(running) < (limit or len(plans)):
                place = next(k for k in range(len(plans)) if k not in running)
                job = waiting.pop(0).job
                print(f"fold {job.number}: {_state(job)}", flush=True)
                given = replace(job, environment=_environment(place, limit or 1)) if here else job
                running[place] = job, executor.submit(given.run)
            time.sleep(POLL)
            for place, (job, submitted) in list(running.items()):
                if submitted.done():
                    del running[place]
                    error = submitted.exception()
                    print(f"fold {job.number}: {'failed' if error else 'done'}", flush=True)
                    failed += [_told(job, error)] if error else []
    finally:
        for _, submitted in running.values():
            with suppress(Exception):  # it may have ended meanwhile
                submitted.cancel()
    if failed:
        raise ValueError(
            f"monai_ext: {len(failed)} of {len(plans)} folds failed: {'; '.join(failed)}. What is done is kept; start "
            "again to do what is missing."
        )


def _state(job: FoldJob) -> str:
    if job.trained:
        return "is trained"
    epochs = trained_epochs(job.folder)
    how = "begins" if epochs < 0 else f"goes on after epoch {epochs} of {job.epochs}"
    return f"{how}, see {job.log}"


def _told(job: FoldJob, error: BaseException) -> str:
    """The reason of a job that failed, in words of this library if it has any."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    reason = (plain_cause(error) or lines[-1]).removeprefix("monai_ext: ").rstrip(".")
    return reason if reason.startswith(f"fold {job.number}: ") else f"fold {job.number}: {reason}"


def _check_data(plans: Sequence[_Plan]) -> None:
    """Refuse to put together folds of which one saw other data than the next."""
    for plan in plans:
        record = read_json(plan.job.folder / "run_training.json", "record")
        trained = [case for case in plan.notes["cases"] if case["part"] != "test"]
        seen = list(_other_cases(trained, record.get("cases", [])))
        tested = [case for case in plan.notes["cases"] if case["part"] == "test"]
        seen += _other_cases(tested, fingerprint({"test": plan.cases}))
        if seen:
            raise ValueError(
                f"monai_ext: fold {plan.job.number}: its data are not the others': {'; '.join(seen[:LISTED])}. "
                "Give them as they were, or --overwrite true to train such folds anew."
            )


def _publish(found: Bundle, work: Path, plans: Sequence[_Plan], state: str) -> None:
    """Decide, report, and put the checkpoints in their place, the file that makes them an ensemble last."""
    models = Path(folder_for(found.folder, "models"))
    cases: Any = ConcatDataset(
        [
            predicted_cases(plan.parser, plan.cases, labels_of(plan.job.folder, found.pictures), found.pictures)
            for plan in plans
        ]
    )
    parser = plans[0].parser
    regions, written = (parser.get_parsed_content(knob, default=None) for knob in ("regions", "region_order"))
    decided = decide(cases, parser.get_parsed_content("num_classes"), regions, written, progress=True)
    names = [f"fold{plan.job.number}.pt" for plan in plans]
    classes = write_report(parser, cases, work, decided, [str(models / name) for name in names])
    models.mkdir(parents=True, exist_ok=True)
    model = models / "model.pt"
    content = {
        "checkpoints": names,
        "largest_component": list(decided.labels),
        "criterion": CRITERION,
        "classes": [
            {"label": k, "name": name, "dice": _number(before), "dice_of_largest_component": _number(after)}
            for k, name, before, after in zip(
                written or range(1, len(classes) + 1), classes, decided.before, decided.after
            )
        ],
        "cases": {name: [case["case_id"] for case in plan.cases] for name, plan in zip(names, plans)},
        "phantom": parser.get_parsed_content("cases")["phantom"],
        "model": hash_file(model) if model.is_file() else None,
        "state": state,
    }
    (models / CROSSVAL).unlink(missing_ok=True)  # of other checkpoints
    for stale in models.glob("fold*.pt"):
        if stale.name not in names:
            stale.unlink()
            cases_file(stale).unlink(missing_ok=True)
            quality_file(stale).unlink(missing_ok=True)
    for name, plan in zip(names, plans):
        for source, target in (
            (plan.job.weights, models / name),
            (cases_file(plan.job.weights), cases_file(models / name)),
        ):
            with replacing(target) as temporary:
                shutil.copyfile(source, temporary)
    _calibrate(found, models, dict(zip(names, plans)))
    write_json(models / CROSSVAL, content)
    shutil.rmtree(work / "jobs", ignore_errors=True)


def _calibrate(found: Bundle, models: Path, plans: Mapping[str, _Plan]) -> None:
    """How far labels can be trusted, from the cases that each model has not seen; models are useful without it."""
    print("calibrating the quality of labels", flush=True)
    for name, plan in plans.items():
        try:
            training = plan.parser.get_parsed_content("cases")["training"]
            calibrate_weights(found, models / name, plan.parser, training, plan.cases)
        except (ValueError, RuntimeError) as e:
            logger.warning("monai_ext: %s: its quality is not calibrated: %s", models / name, plain_cause(e) or e)


def _is_published(models: Path, work: Path, plans: Sequence[_Plan], state: str) -> bool:
    """Whether what is there is of these folds, all of them."""
    try:
        there = fold_ensemble(models) is not None and read_json(models / CROSSVAL, "cross-validation")["state"] == state
    except (OSError, ValueError, KeyError, TypeError):
        return False
    same = (
        plan.job.trained and hash_file(plan.job.weights) == hash_file(models / f"fold{plan.job.number}.pt")
        for plan in plans
    )
    return there and (work / "summary.json").is_file() and all(same)


def _number(value: float) -> float | None:
    """As JSON has it: no case may have had a class."""
    return None if math.isnan(value) else round(value, 6)
