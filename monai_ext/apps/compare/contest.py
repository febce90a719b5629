# SPDX-License-Identifier: Apache-2.0
"""All trainings of a comparison, from their plan to its table."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from monai.bundle import ConfigParser

import monai_ext
from monai_ext.apps.crossval import job_queue
from monai_ext.apps.crossval.decision import predicted_cases, write_report
from monai_ext.apps.crossval.job_queue import Plan
from monai_ext.apps.crossval.training_job import TrainingJob
from monai_ext.bundle import Bundle, folder_for
from monai_ext.data.files.fingerprint import fingerprint, hash_file
from monai_ext.data.lists import PARTS
from monai_ext.utils import locked, path_option, read_json, text_options, whole_option, write_json

from .budget import EPOCH_LENGTH, Budget, given_budget, length_of
from .candidates import Candidate, find_candidates
from .results import write_results

__all__ = ["Compared", "compare"]

LOCK = ".monai_ext-compare.lock"
RESERVED = {
    **dict.fromkeys(("output_dir", "ckpt_dir"), "give --output"),
    **dict.fromkeys(("fold", "seed"), "give --folds and --seeds"),
    **dict.fromkeys(("epochs", EPOCH_LENGTH), "give the budget with --steps, --cpu_seconds or --seconds"),
    "pretrained": "all networks begin without weights",
    **dict.fromkeys(("resume", "bundle_root", "network", "loss"), "it is compare's own; leave it out"),
}
SCORED = "scored.json"  # from which weights a report is


class Compared(NamedTuple):
    """What a comparison left.

    Attributes:
        folder: with ``comparison.html`` and ``comparison.json``, and a folder of each network.
        rows: of the table, one for each network, best first.
        unit: of HD95.
        said: sentences: what can be told apart, and how it was tested.
    """

    folder: Path
    rows: list[dict[str, Any]]
    unit: str
    said: list[str]


class _Entry(NamedTuple):
    candidate: Candidate
    fold: int | None
    seed: int
    plan: Plan


def compare(
    bundle: str | os.PathLike,
    networks: Any = None,
    network_def: Any = None,
    folds: Any = None,
    seeds: Any = 0,
    steps: int | str | None = None,
    cpu_seconds: float | str | None = None,
    seconds: float | str | None = None,
    output: str | os.PathLike | None = None,
    jobs: int | str | None = None,
    slurm: str | None = None,
    overwrite: bool = False,
    **knobs: Any,
) -> Compared:
    """Train several networks by one bundle's recipe on the same cases, folds, seeds and budget, and compare them.

    Each training is ``python -m monai.bundle run`` of the bundle's ``train.json`` with another ``network_def`` over it,
    and, for a network that gives several maps in training, MONAI's ``DeepSupervisionLoss`` around the bundle's loss.
    The cases of each fold are then segmented by the bundle's ``inference.json`` and scored by its ``evaluate.json``.
    Stopped, for whatever reason, and started again, it does what is missing; networks, folds and seeds may be added.

    Args:
        bundle: a bundle's name or folder.
        networks: names, see :func:`~monai_ext.networks.by_name.known_networks`; a list, or a text with commas.
        network_def: definitions of networks as ``train.json`` has them: one, a list, or their JSON.
        folds: numbers of the folds to train, of the bundle's ``num_folds`` (5); by default its own split.
        seeds: of the trainings; of several, a case counts with the mean of its scores.
        steps: budget of each training.
        cpu_seconds: or in seconds of computing time of the training process.
        seconds: or in seconds by the clock.
        output: folder; by default ``eval/compare`` of the bundle.
        jobs: how many trainings at once; by default one on this machine, all on a cluster.
        slurm: options of jobs on a Slurm cluster, such as ``"partition=gpu,time=600"``; by default jobs run here.
        overwrite: train anew what is of other data, knobs or budget.
        knobs: values for the bundle's ``train.json``, the same for all networks.

    Raises:
        BlockingIOError: if another comparison is at work in that folder.
        FileNotFoundError: for a bundle or data that is not there.
        ValueError: for an unknown network, or one that is not installed or does not fit; for no budget or several; if
            data, knobs or budget are not those of the trainings that are there; if a training fails, when the others
            are done.

    Examples::

        >>> compare("dcaunet_synapse", "dcaunet,basic_unet", folds="0,1", steps=2000).rows[0]["network"]
        'basic_unet'
    """
    found = Bundle.find(bundle)
    for knob in knobs:
        stem = knob.partition("#")[0].partition("::")[0]
        if told := RESERVED.get(knob.replace("::", "#"), RESERVED.get(stem)):
            raise ValueError(f"monai_ext: --{knob}: {told}.")
    budget = given_budget(steps, cpu_seconds, seconds)
    numbers = [whole_option(seed, "--seeds", 0) for seed in text_options(seeds, "--seeds")]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"monai_ext: --seeds {seeds!r:.80}: expected one or more different whole numbers.")
    where = path_option(output, "--output")
    work = Path(where) if where else Path(folder_for(found.folder, "eval"), "compare")
    limit = whole_option(jobs, "jobs", 1) if jobs is not None else None if slurm else 1
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)  # what it says of its log is of no use here
    with locked(work, LOCK, "Wait until that comparison has ended, or give another --output."):
        training = found.parser("train", **knobs)  # tells of a knob that training has not
        splits = _splits(found, work, folds, knobs)
        candidates = find_candidates(training, networks, network_def)
        executor = job_queue.executor_for(found, work, slurm, "compare")
        entries = list(_entries(found, work, candidates, splits, numbers, budget, knobs))
        for entry in entries:
            job_queue.note_plan(entry.plan, overwrite)
            if entry.plan.job.overlay:
                write_json(entry.plan.job.overlay, entry.candidate.overlay)
        entries = [_budgeted(found, work, entry, budget) for entry in entries]
        missing = [entry.plan for entry in entries if entry.plan.job.prediction is None]
        print(f"{len(entries) - len(missing)} of {len(entries)} trainings are done", flush=True)
        if missing:
            job_queue.run_jobs(missing, executor, limit, "trainings")
        job_queue.check_data([entry.plan for entry in entries])
        with job_queue.plain_errors(found.config_file("evaluate"), "evaluation"):
            for candidate in candidates:
                for seed in numbers:
                    _score(found, work, [e for e in entries if (e.candidate, e.seed) == (candidate, seed)])
        rows, unit, said = write_results(
            work,
            candidates,
            numbers,
            {c.name: [e.plan.job for e in entries if e.candidate is c] for c in candidates},
            budget,
        )
    return Compared(work, rows, unit, said)


class _Split(NamedTuple):
    parser: ConfigParser
    cases: list[dict[str, Any]]  # that are tested on, with names for files
    noted: list[dict[str, Any]]  # which cases are what, by content


def _splits(found: Bundle, work: Path, folds: Any, knobs: Mapping[str, Any]) -> dict[int | None, _Split]:
    """Fold, or None for the bundle's own split -> its cases."""
    with job_queue.plain_errors(found.config_file("train"), "training"):
        numbers: list[int | None] = [None]
        if folds is not None:
            numbers = [whole_option(fold, "--folds", 0) for fold in text_options(folds, "--folds")]
            parser = job_queue.evaluation_parser(found, {**knobs, "output_dir": str(work)})
            count = parser.get_parsed_content("num_folds", default=None)
            there = list(range(int(count))) if count else job_queue.list_folds(parser)
            if not numbers or len(set(numbers)) < len(numbers) or not set(numbers) <= set(there):
                raise ValueError(
                    f"monai_ext: --folds {folds!r:.80}: expected different ones of {', '.join(map(str, there))} "
                    "(--num_folds says how many there are)."
                )
        splits = {}
        for fold in numbers:
            parser = job_queue.evaluation_parser(
                found, {**knobs, "fold": fold, "output_dir": str(work / _split_name(fold))}
            )
            parts, cases = job_queue.split_cases(parser)
            if not cases:
                raise ValueError(
                    f"monai_ext: {'the split' if fold is None else f'fold {fold}'} has no test case. Give --folds."
                )
            splits[fold] = _Split(parser, cases, fingerprint({part: parts[part] for part in PARTS}))
    return splits


def _split_name(fold: int | None) -> str:
    return "split" if fold is None else f"fold{fold}"


def _entries(
    found: Bundle,
    work: Path,
    candidates: Sequence[Candidate],
    splits: Mapping[int | None, _Split],
    seeds: Sequence[int],
    budget: Budget,
    knobs: Mapping[str, Any],
) -> Iterator[_Entry]:
    """A training for each network, fold and seed: networks take turns, so that what is stopped has some of each."""
    inference = found.config("inference")
    predicting = {knob: knobs[knob] for knob in job_queue.INFERENCE if knob in knobs and knob in inference}
    # no network is given a faster way than another
    predicting |= {knob: value for knob, value in (("backend", "torch"), ("precision", "float32")) if knob in inference}
    for seed in seeds:
        for fold, split in splits.items():
            for candidate in candidates:
                folder = work / candidate.name / f"{_split_name(fold)}_seed{seed}"
                overlay = work / candidate.name / "network.json"
                notes = {
                    "knobs": {
                        **{knob: value for knob, value in sorted(knobs.items()) if knob not in job_queue.SAME_MODEL},
                        budget.kind: budget.amount,
                    },
                    "train.json": found.config("train"),
                    "inference.json": inference,
                    "network": dict(candidate.overlay),
                    "cases": split.noted,
                }
                given = {**knobs, "seed": seed, "output_dir": str(folder), "ckpt_dir": str(folder)}
                job = TrainingJob(
                    f"{candidate.name}, {'split' if fold is None else f'fold {fold}'}, seed {seed}",
                    folder,
                    found.folder,
                    given if fold is None else {**given, "fold": fold},
                    0,
                    [{"image": case["image"], "case_id": case["case_id"]} for case in split.cases],
                    predicting,
                    overlay if candidate.overlay else None,
                )
                plan = Plan(job, json.loads(json.dumps(notes, default=str)), split.cases, split.parser)
                yield _Entry(candidate, fold, seed, plan)


def _budgeted(found: Bundle, work: Path, entry: _Entry, budget: Budget) -> _Entry:
    job = entry.plan.job
    length = length_of(found, job, budget, work / _split_name(entry.fold))
    ready = TrainingJob(**{**vars(job), "epochs": length["epochs"], "knobs": {**job.knobs, **length}})
    return entry._replace(plan=entry.plan._replace(job=ready))


def _score(found: Bundle, work: Path, entries: Sequence[_Entry]) -> None:
    """One report over the cases of all folds, of one network and seed; kept where nothing has changed."""
    candidate, seed = entries[0].candidate, entries[0].seed
    folder = work / candidate.name / f"seed{seed}"
    weights = [entry.plan.job.weights for entry in entries]
    noted = [monai_ext.__version__, found.config("evaluate"), *map(hash_file, weights)]
    noted += [case["case_id"] for entry in entries for case in entry.plan.cases]
    state = {"state": hashlib.sha256(json.dumps(noted, default=str).encode()).hexdigest()}
    there = all((folder / name).is_file() for name in (SCORED, "summary.json", "metrics.csv"))
    if there and read_json(folder / SCORED, "note") == state:
        return
    cases: Any = predicted_cases([entry.plan for entry in entries], found.pictures)
    title = f"recipe with the network {candidate.name}, seed {seed}"
    write_report(entries[0].plan.parser, cases, folder, [str(path) for path in weights], title)
    write_json(folder / SCORED, state)
