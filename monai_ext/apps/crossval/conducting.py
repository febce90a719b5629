# SPDX-License-Identifier: Apache-2.0
"""All folds of a bundle, from their plan to the ensemble in its ``models``."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import monai_ext
from monai_ext.apps.quality import calibrate_weights, quality_file
from monai_ext.bundle import CROSSVAL, Bundle, fold_ensemble, folder_for
from monai_ext.data.files.fingerprint import fingerprint, hash_file
from monai_ext.data.lists import PARTS
from monai_ext.handlers.run_record import cases_file
from monai_ext.utils import locked, plain_cause, read_json, replacing, whole_option, write_json

from .decision import CRITERION, decide, predicted_cases, write_report
from .job_queue import (
    INFERENCE,
    SAME_MODEL,
    Plan,
    check_data,
    evaluation_parser,
    executor_for,
    list_folds,
    note_plan,
    plain_errors,
    run_jobs,
    split_cases,
)
from .training_job import TrainingJob

__all__ = ["Crossval", "crossval"]

LOCK = ".monai_ext-crossval.lock"
RESERVED = ("fold", "num_folds", "output_dir", "ckpt_dir", "resume", "bundle_root")
logger = logging.getLogger(__name__)


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
            note_plan(plan, overwrite)
        depends = [monai_ext.__version__, found.config("inference"), *(plan.notes for plan in plans)]
        state = hashlib.sha256(json.dumps(depends, default=str).encode()).hexdigest()
        if _is_published(models, work, plans, state):
            print(f"all {len(plans)} folds are done, with these data and knobs", flush=True)
        else:
            run_jobs(plans, executor, limit)
            check_data(plans)
            with plain_errors(found.config_file("evaluate"), "evaluation"):
                _publish(found, work, plans, state)
    return Crossval(models, work, tuple(found.channel_def[label] for label in found.largest_component))


def _plans(found: Bundle, folds: int | str | None, work: Path, knobs: Mapping[str, Any]) -> list[Plan]:
    """Each fold's job; the knobs are checked, and the cases shared out."""
    found.parser("train", **knobs)  # tells of one that training has not
    own: dict[str, Any] = {} if folds is None else {"num_folds": whole_option(folds, "folds", 2)}
    with plain_errors(found.config_file("train"), "training"):
        numbers = (
            range(own["num_folds"]) if own else list_folds(evaluation_parser(found, {**knobs, "output_dir": str(work)}))
        )
        return [_plan(found, number, work / f"fold{number}", knobs, own) for number in numbers]


def _plan(found: Bundle, number: int, folder: Path, knobs: Mapping[str, Any], own: Mapping[str, Any]) -> Plan:
    given = {**knobs, **own, "fold": number, "output_dir": str(folder), "ckpt_dir": str(folder)}
    parser = evaluation_parser(found, given)
    parts, cases = split_cases(parser)
    notes = {
        "knobs": {knob: value for knob, value in sorted(knobs.items()) if knob not in SAME_MODEL},
        "train.json": found.config("train"),
        "cases": fingerprint({part: parts[part] for part in PARTS}),
    }
    inference = found.config("inference")
    job = TrainingJob(
        f"fold {number}",
        folder,
        found.folder,
        given,
        parser.get_parsed_content("epochs"),
        [{"image": case["image"], "case_id": case["case_id"]} for case in cases],
        {knob: knobs[knob] for knob in INFERENCE if knob in knobs and knob in inference},
    )
    return Plan(job, json.loads(json.dumps(notes, default=str)), cases, parser)


def _publish(found: Bundle, work: Path, plans: Sequence[Plan], state: str) -> None:
    """Decide, report, and put the checkpoints in their place, the file that makes them an ensemble last."""
    models = Path(folder_for(found.folder, "models"))
    cases: Any = predicted_cases(plans, found.pictures)
    parser = plans[0].parser
    regions, written = (parser.get_parsed_content(knob, default=None) for knob in ("regions", "region_order"))
    decided = decide(cases, parser.get_parsed_content("num_classes"), regions, written, progress=True)
    names = [f"{plan.job.folder.name}.pt" for plan in plans]
    classes = write_report(
        parser, cases, work, [str(models / name) for name in names], f"{len(names)} folds", decided.labels, [CRITERION]
    )
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


def _calibrate(found: Bundle, models: Path, plans: Mapping[str, Plan]) -> None:
    """How far labels can be trusted, from the cases that each model has not seen; models are useful without it."""
    print("calibrating the quality of labels", flush=True)
    for name, plan in plans.items():
        try:
            training = plan.parser.get_parsed_content("cases")["training"]
            calibrate_weights(found, models / name, plan.parser, training, plan.cases)
        except (ValueError, RuntimeError) as e:
            logger.warning("monai_ext: %s: its quality is not calibrated: %s", models / name, plain_cause(e) or e)


def _is_published(models: Path, work: Path, plans: Sequence[Plan], state: str) -> bool:
    """Whether what is there is of these folds, all of them."""
    try:
        there = fold_ensemble(models) is not None and read_json(models / CROSSVAL, "cross-validation")["state"] == state
    except (OSError, ValueError, KeyError, TypeError):
        return False
    same = (
        plan.job.trained and hash_file(plan.job.weights) == hash_file(models / f"{plan.job.folder.name}.pt")
        for plan in plans
    )
    return there and (work / "summary.json").is_file() and all(same)


def _number(value: float) -> float | None:
    """As JSON has it: no case may have had a class."""
    return None if math.isnan(value) else round(value, 6)
