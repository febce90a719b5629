# SPDX-License-Identifier: Apache-2.0
"""The one table of a comparison, its page with plots, and the same for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_ext.apps.crossval.training_job import TrainingJob, spent_by
from monai_ext.apps.report.comparison import (
    Compared,
    Run,
    as_json,
    compare_runs,
    mean_of_runs,
    method_of,
    read_run,
    sentences,
)
from monai_ext.apps.report.comparison_page import render_comparison
from monai_ext.apps.report.markup import bullets, row, section, table
from monai_ext.phantoms import PHANTOM_NOTE
from monai_ext.utils import read_json, replacing, write_json

from .budget import Budget
from .candidates import Candidate

__all__ = ["table_of", "write_results"]

COSTS = 7  # columns of the table
METRICS = {"dice": ("Dice, %", 100), "hd95": ("HD95, {unit}", 1), "nsd": ("NSD, %", 100)}
EXPLAINED = (
    "Multiply-adds: of products (convolutions, matrices) in one pass of one image of the training's size.",
    "Training: steps of one training, their seconds by the clock and seconds of computing time of its process, without "
    "reading the data before the first step and without validation; peak memory: of the process, or of the GPU. All "
    "are means over the trainings, memory the largest.",
    "Seconds per scan: by the clock, from the file to the label's file, with PyTorch in float32. Times count only if "
    "nothing else was running.",
    "Better than: the networks whose mean Dice is lower by more than chance, after Holm's correction for all pairs.",
)


def write_results(
    work: Path,
    candidates: Sequence[Candidate],
    seeds: Sequence[int],
    jobs: Mapping[str, Sequence[TrainingJob]],
    budget: Budget,
) -> tuple[list[dict[str, Any]], str, list[str]]:
    """Write ``comparison.html`` and ``comparison.json``; returns the table's rows, HD95's unit and what can be said."""
    runs, of_seeds = [], {}
    for candidate in candidates:
        each = [_read(work / candidate.name / f"seed{seed}") for seed in seeds]
        of_seeds[candidate.name] = [_mean_dice(run) for run in each]
        runs.append(mean_of_runs(candidate.name, each))
    found = compare_runs(runs)
    rows = _rows(candidates, runs, found, of_seeds, jobs)
    names = [run.name for run in runs]
    said = [text for part in found for text in sentences(part, names, runs[0].unit)]
    how = [
        f"Budget of each training: {budget.words}; {len(rows)} networks, "
        f"{len(next(iter(jobs.values())))} trainings of each (seeds {', '.join(map(str, seeds))}). Recipe, cases, "
        "splits and seeds are the same for all.",
        *method_of(runs),
    ]
    if any(run.summary["phantom"] for run in runs):
        how.append(f"{PHANTOM_NOTE[0].upper()}{PHANTOM_NOTE[1:]}: no number says which is better for patients.")
    head, cells = table_of(rows, runs[0].unit)
    page = section("Scores and costs", _tables(head, cells) + bullets((how[0], *EXPLAINED)))
    with replacing(work / "comparison.html") as temporary:
        temporary.write_text(render_comparison(runs, found, page), encoding="utf-8")
    write_json(
        work / "comparison.json",
        {"budget": {budget.kind: budget.amount}, "seeds": list(seeds), "table": rows, **as_json(runs, found)},
    )
    return rows, runs[0].unit, [*said, "", *how]


def _read(folder: Path) -> Run:
    summary = read_json(folder / "summary.json", "summary")
    run = read_run(str(folder), summary, next(iter(summary["conventions"])))
    if run is None:
        raise FileNotFoundError(
            f"monai_ext: {folder}: no table of its cases (metrics.csv). Remove it, and start again."
        )
    return run


def _mean_dice(run: Run) -> float | None:
    """As the report of that training has it."""
    return run.summary["conventions"][run.convention]["overall"]["dice"]["mean"]


def _rows(
    candidates: Sequence[Candidate],
    runs: Sequence[Run],
    found: Sequence[Compared],
    of_seeds: Mapping[str, Sequence[float | None]],
    jobs: Mapping[str, Sequence[TrainingJob]],
) -> list[dict[str, Any]]:
    rows = []
    for index, candidate in enumerate(candidates):
        line: dict[str, Any] = {"network": candidate.name}
        for part in found:
            if part.metric in METRICS:
                result = part.result
                alone = part.values[index]
                mean = result.means[index] if result else float(alone.mean()) if alone.size else None
                line[part.metric] = {"mean": mean, "interval": list(result.intervals[index]) if result else None}
        line["dice_of_seeds"] = list(of_seeds[candidate.name])
        line["parameters"], line["multiply_adds"] = candidate.parameters, candidate.multiply_adds
        spent = [spent_by(job.folder) for job in jobs[candidate.name]]
        for key in ("steps", "seconds", "cpu_seconds"):
            known = [entry[key] for entry in spent if key in entry]
            line[f"training_{key}"] = float(np.mean(known)) if known else None
        line["peak_memory_bytes"] = max(
            (int(entry["peak_bytes"]) for entry in spent if "peak_bytes" in entry), default=0
        )
        noted = [told for job in jobs[candidate.name] if (told := job.prediction)]
        cases = sum(told["cases"] for told in noted)
        line["seconds_per_scan"] = sum(told["seconds"] for told in noted) / cases if cases else None
        rows.append(line)
    dice = next((part.result for part in found if part.metric == "dice"), None)
    for index, line in enumerate(rows):
        better = (
            [candidates[d.other].name for d in dice.differences if d.one == index and d.separable] if dice else None
        )
        line["better_than"] = better
    if dice:
        return [rows[k] for k in dice.ranking]
    means = [line.get("dice", {}).get("mean") for line in rows]  # of one patient, of whom nothing can be tested
    return [rows[k] for k in sorted(range(len(rows)), key=lambda k: -(means[k] if means[k] is not None else -np.inf))]


def table_of(rows: Sequence[Mapping[str, Any]], unit: str) -> tuple[list[str], list[list[str]]]:
    """Head and cells of the table as texts, below a mean its interval in a second line; ``unit`` is that of HD95."""
    metrics = [metric for metric in METRICS if all(metric in line for line in rows)]
    several = any(len(line["dice_of_seeds"]) > 1 for line in rows)
    head = ["network", *(METRICS[metric][0].format(unit=unit) for metric in metrics)]
    head += ["Dice of seeds, %"] if several else []
    head += ["parameters, M", "multiply-adds, G", "steps", "training, s", "of computing, s", "memory, GB"]
    head += ["s per scan", "better than"]
    cells = []
    for line in rows:
        texts = [line["network"]]
        for metric in metrics:
            scale, entry = METRICS[metric][1], line[metric]
            interval = entry["interval"]
            bounds = "\n{:.2f} to {:.2f}".format(*(scale * end for end in interval)) if interval else ""
            texts.append(_number(entry["mean"], scale, 2) + bounds)
        if several:
            texts.append(", ".join(_number(value, 100, 2) for value in line["dice_of_seeds"]))
        texts += [_number(line["parameters"], 1e-6, 2), _number(line["multiply_adds"], 1e-9, 2)]
        texts += [_number(line[f"training_{key}"], 1, 0) for key in ("steps", "seconds", "cpu_seconds")]
        texts += [_number(line["peak_memory_bytes"] or None, 1e-9, 2), _number(line["seconds_per_scan"], 1, 2)]
        better = line["better_than"]
        told = "no test: one patient" if better is None else ", ".join(better) or "none by more than chance"
        cells.append([*texts, told])
    return head, cells


def _tables(head: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """The table in two parts, which fit a page of 800 pixels."""
    costs = range(len(head) - 1 - COSTS, len(head) - 1)
    scores = [k for k in range(len(head)) if k not in costs]
    parts = (
        (scores, True, "Best mean Dice first; below a mean its 95 % interval."),
        ([0, *costs], False, "What they cost."),
    )
    return "".join(
        table(
            [row([head[k] for k in places], tag="th")],
            [row([line[k] for k in places], last_is_text=text) for line in cells],
            caption,
        )
        for places, text, caption in parts
    )


def _number(value: float | None, scale: float, digits: int) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{scale * value:.{digits}f}"
