# SPDX-License-Identifier: Apache-2.0
"""Runs that were scored on the same cases, side by side: is the difference more than chance?"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_ext.metrics.statistics import DRAWS, FEW, LEVEL, Comparison, Difference, compare_means, holm
from monai_ext.phantoms import PHANTOM_NOTE

from .scores import METRICS, csv_header, finite_mean, plain_cell

__all__ = [
    "METHOD",
    "TITLES",
    "Compared",
    "Run",
    "as_json",
    "compare_runs",
    "mean_of_runs",
    "method_of",
    "read_run",
    "sentences",
]

POINTS = {"dice": 100, "nsd": 100, "hd95": 1, "assd": 1}
HIGHER = ("dice", "nsd")  # is better
TITLES = {"dice": "Dice", "hd95": "HD95", "nsd": "NSD", "assd": "ASSD"}
METHOD = (
    "A case's value is the mean of its classes; each patient counts once, with the mean of its cases. p-values are "
    "those of the paired permutation test (scipy.stats.permutation_test, two-sided, exact up to "
    f"{DRAWS} permutations, else {DRAWS} drawn), corrected by Holm's method for all pairs of runs. Intervals are "
    f"{100 * LEVEL:.0f} % confidence intervals by the BCa bootstrap (scipy.stats.bootstrap, {DRAWS} draws of whole "
    "patients); how often a ranking holds is the share of these draws.",
    "A missed class counts as Dice and NSD 0. A class that truth and one run lack, but another run has, counts as 1 "
    "for the first and 0 for the second; one that all lack is left out. Where any run has no finite distance (a missed "
    "or spurious class), HD95 and ASSD of that class and case are left out for all runs.",
    "One training of each: another seed would give other numbers, which these intervals do not hold.",
)
SEVERAL = (
    "A case counts with the mean of {count} trainings of other seeds; what another seed would change is not in the "
    "intervals."
)


@dataclass(frozen=True)
class Run:
    """The cases of one evaluation, in one convention.

    Attributes:
        name: its folder as it was given.
        summary: its ``summary.json``.
        convention: of the metrics.
        cases: names, sorted.
        patients: of each case.
        truths: digest of each true label map; empty in tables of earlier versions.
        scores: metric -> ``(cases, classes)``.
        trainings: of how many, with other seeds, the scores are the mean.
    """

    name: str
    summary: Mapping[str, Any]
    convention: str
    cases: tuple[str, ...]
    patients: tuple[str, ...]
    truths: tuple[str, ...]
    scores: Mapping[str, NDArray[np.float64]]
    trainings: int = 1

    @property
    def unit(self) -> str:
        return str(self.summary["conventions"][self.convention]["hd95_unit"])


@dataclass(frozen=True)
class Compared:
    """What the comparison of one metric is.

    Attributes:
        metric: of ``METRICS``.
        values: ``(runs, cases)``, what each case counts as.
        cases: their names.
        result: None where fewer than two patients have a value.
        left_out: pairs of a case and a class that no run's value is counted of, though some have one.
        classes: class -> the same for it alone, Dice only, corrected for all classes and pairs.
    """

    metric: str
    values: NDArray[np.float64]
    cases: tuple[str, ...]
    result: Comparison | None
    left_out: int
    classes: Mapping[str, Comparison]


def read_run(folder: str, summary: Mapping[str, Any], convention: str) -> Run | None:
    """The table of an evaluation's cases; None if there is none.

    Raises:
        ValueError: if it is no such table, or has a case twice.
    """
    first = next(iter(summary["conventions"]))
    file = Path(folder) / ("metrics.csv" if convention == first else f"metrics_{convention}.csv")
    if not file.is_file():
        return None
    names = summary["class_names"]
    metrics = [m for m in METRICS if m in summary.get("metrics", METRICS[:2])]
    if convention == "transunet":
        metrics = [m for m in metrics if m != "nsd"]
    expected = csv_header(names, metrics)
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            head, *rows = list(csv.reader(stream))
        if head[: len(expected)] != expected or any(len(row) != len(head) for row in rows):
            raise ValueError
        table = np.array([[float(v) if v else np.nan for v in row[1 : len(expected)]] for row in rows], dtype=float)
        table = table.reshape(len(rows), len(metrics), len(names))
    except ValueError:
        raise ValueError(
            f"monai_ext: {file}: no table of cases of the classes in {Path(folder) / 'summary.json'}. Evaluate again."
        ) from None
    cases = [plain_cell(row[0]) for row in rows]
    twice = [case for case, times in Counter(cases).items() if times > 1]
    if twice:
        raise ValueError(f"monai_ext: {file}: case {twice[0]} was scored twice. Evaluate each case once.")
    order = sorted(range(len(rows)), key=cases.__getitem__)

    def column(name: str, otherwise: Sequence[str]) -> tuple[str, ...]:
        place = head.index(name, len(expected)) if name in head[len(expected) :] else None
        return tuple(otherwise[k] if place is None else plain_cell(rows[k][place]) for k in order)

    return Run(
        name=folder,
        summary=summary,
        convention=convention,
        cases=tuple(cases[k] for k in order),
        patients=column("patient", cases),
        truths=column("truth", [""] * len(rows)),
        scores={metric: table[order, k] for k, metric in enumerate(metrics)},
    )


def compare_runs(runs: Sequence[Run]) -> list[Compared]:
    """Compare runs in each metric that all have.

    Raises:
        ValueError: if they were not scored on the same cases, classes and labels in the same way; says which differ.
    """
    for other in runs[1:]:
        _check_alike(runs[0], other)
    found = []
    for metric in METRICS:
        if all(metric in run.scores for run in runs):
            found.append(_compare(metric, runs))
    return found


def mean_of_runs(name: str, runs: Sequence[Run]) -> Run:
    """Runs of one network with other seeds as one: the mean of each case's and class's scores.

    A class that the truth and one run lack, but another has, counts as Dice and NSD 1 for the first. A distance that
    any run has not is none.

    Raises:
        ValueError: if they were not scored on the same cases in the same way.
    """
    for other in runs[1:]:
        _check_alike(runs[0], other)
    scores = {}
    for metric in runs[0].scores:
        every = np.stack([run.scores[metric] for run in runs])
        if metric in HIGHER:
            every = np.where(np.isnan(every) & np.isfinite(every).any(axis=0), 1.0, every)
        elif np.isinf(every).any():
            every = np.where(np.isinf(every).any(axis=0), np.inf, every)
        scores[metric] = every.mean(axis=0)
    return replace(runs[0], name=name, scores=scores, trainings=len(runs))


def method_of(runs: Sequence[Run]) -> tuple[str, ...]:
    """How runs were compared, a sentence each."""
    count = runs[0].trainings
    return METHOD if count == 1 else (*METHOD[:-1], SEVERAL.format(count=count))


def _check_alike(one: Run, other: Run) -> None:
    def refuse(what: str) -> None:
        raise ValueError(f"monai_ext: {one.name} and {other.name} cannot be compared: {what}")

    if Path(one.name).resolve() == Path(other.name).resolve():
        raise ValueError(f"monai_ext: {other.name}: given twice. Give each run once.")
    names, others = one.summary["class_names"], other.summary["class_names"]
    if names != others:
        refuse(f"their classes are {', '.join(names):.200}, and {', '.join(others):.200}.")
    if one.unit != other.unit:
        refuse(f"distances are in {one.unit} and in {other.unit} (convention {one.convention}).")
    for key in ("tolerances", "match"):
        if one.summary.get(key) != other.summary.get(key):
            refuse(
                f"their {key} are {one.summary.get(key)} and {other.summary.get(key)}. Evaluate both with one value."
            )
    alone = [(run.name, sorted(set(run.cases) - set(rest.cases))) for run, rest in ((one, other), (other, one))]
    if any(cases for _, cases in alone):
        told = "; ".join(f"only {name} has {_few(cases)}" for name, cases in alone if cases)
        refuse(
            f"they were scored on different cases: {told}. Print them one by one, or evaluate both on the same cases."
        )
    unlike = [case for case, a, b in zip(one.cases, one.truths, other.truths) if a and b and a != b]
    if unlike:
        refuse(f"the true labels differ in {_few(unlike)}. Evaluate both on the same labels, at the same size.")
    strange = [case for case, a, b in zip(one.cases, one.patients, other.patients) if a != b]
    if strange:
        refuse(f"they say that different patients are in {_few(strange)}. Evaluate both in the same way.")


def _few(names: Sequence[str]) -> str:
    return f"{', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"


def _compare(metric: str, runs: Sequence[Run]) -> Compared:
    scores = np.stack([run.scores[metric] for run in runs])  # (runs, cases, classes)
    higher = metric in HIGHER
    finite = np.isfinite(scores)
    if higher:  # what is rightly not predicted is as good as can be
        scores = np.where(~finite & finite.any(axis=0), 1.0, scores)
        left_out = 0
    else:
        usable = finite.all(axis=0)
        left_out = int((~usable & (finite | np.isinf(scores)).any(axis=0)).sum())
        scores = np.where(usable, scores, np.nan)
    values = np.array([[finite_mean(case) for case in run] for run in scores])
    keep = np.isfinite(values).all(axis=0)
    patients = np.array(runs[0].patients)
    names = np.array(runs[0].cases)
    result = _means(values[:, keep], patients[keep], higher)
    classes: dict[str, Comparison] = {}
    if metric == "dice" and result is not None and scores.shape[2] > 1:
        for index, name in enumerate(runs[0].summary["class_names"]):
            there = np.isfinite(scores[:, :, index]).all(axis=0)
            alone = _means(scores[:, there, index], patients[there], higher)
            if alone is not None:
                classes[name] = alone
        classes = _corrected(classes)
    return Compared(metric, values[:, keep], tuple(names[keep].tolist()), result, left_out, classes)


def _means(values: NDArray[np.float64], patients: NDArray[np.str_], higher: bool) -> Comparison | None:
    return compare_means(values, patients.tolist(), higher) if len(set(patients.tolist())) > 1 else None


def _corrected(classes: Mapping[str, Comparison]) -> dict[str, Comparison]:
    """Holm's correction over all classes and pairs at once."""
    tests = iter(holm([d.p_value for result in classes.values() for d in result.differences]))
    return {
        name: Comparison(
            **{
                **vars(result),
                "differences": tuple(
                    Difference(**{**vars(d), "p_corrected": corrected})
                    for d, corrected in zip(result.differences, tests)
                ),
            }
        )
        for name, result in classes.items()
    }


def sentences(found: Compared, names: Sequence[str], unit: str) -> Iterator[str]:
    """What the comparison of one metric says, plainly: the ranking, each pair, and what can be told apart at all."""
    title, result = TITLES[found.metric], found.result
    cases = "case" if len(found.cases) == 1 else "cases"
    if result is None:
        yield f"{title}: {len(found.cases)} {cases} of fewer than two patients: there is no test, and no interval."
        return
    scale = POINTS[found.metric]
    points, digits = ("points", ".1f") if scale == 100 else (unit, ".2f")
    for place, run in enumerate(result.ranking, start=1):
        low, high = (scale * end for end in result.intervals[run])
        percent = " %" if scale == 100 else f" {unit}"
        yield f"{title}: {place}. {names[run]}: {scale * result.means[run]:.2f}{percent} ({low:.2f} to {high:.2f})"
    who = f"{result.patients} patients" if result.patients != len(found.cases) else f"{result.patients} cases"
    for d in result.differences:
        low, high = (scale * end for end in d.interval)
        corrected = f", after Holm's correction {_p(d.p_corrected)}" if len(result.differences) > 1 else ""
        numbers = (
            f"{title}: {names[d.one]} less {names[d.other]}: {scale * d.mean:.2f} {points} ({low:.2f} to {high:.2f}), "
            f"p {_p(d.p_value)}{corrected}; better in {100 * d.probability:.0f} % of the draws"
        )
        yield numbers
        if d.separable:
            yield f"{title}: {names[d.one]} is better than {names[d.other]} by more than chance."
        elif result.has_power or len(result.differences) == 1:
            yield (
                f"{title}: {names[d.one]} and {names[d.other]} cannot be told apart: with {who} a difference under "
                f"about {scale * d.detectable:{digits}} {points} cannot be told from chance."
            )
    if len(names) > 2:
        yield f"{title}: the ranking holds in {100 * result.ranking_holds:.0f} % of the draws."
    if not result.has_power:
        pairs = len(result.differences)
        least = f"no p-value can be under {result.smallest_p:.2g}"
        if pairs > 1:
            yield (
                f"{title}: with {who} none of {pairs} pairs can be told apart, however far they are: {least}, after "
                f"Holm's correction {min(1.0, pairs * result.smallest_p):.2g}. Compare fewer at once, or on more cases."
            )
        else:
            yield f"{title}: with {who} {least}."
    if result.patients < FEW:
        yield f"{title}: with fewer than {FEW} patients an interval means little."
    if found.left_out:
        yield f"{title}: left out for all runs: {found.left_out} classes of cases without a finite distance in a run."


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def as_json(runs: Sequence[Run], found: Sequence[Compared]) -> dict[str, Any]:
    phantom = any(run.summary["phantom"] for run in runs)
    names = [run.name for run in runs]
    return {
        "runs": names,
        "phantom": phantom,
        **({"data": PHANTOM_NOTE} if phantom else {}),
        "convention": runs[0].convention,
        "hd95_unit": runs[0].unit,
        "cases": list(runs[0].cases),
        "patients": list(runs[0].patients),
        "method": list(method_of(runs)),
        "metrics": {
            part.metric: {
                "cases": list(part.cases),
                "values": part.values.tolist(),
                "left_out": part.left_out,
                "result": _numbers(part.result),
                "classes": {name: _numbers(result) for name, result in part.classes.items()},
                "in_words": list(sentences(part, names, runs[0].unit)),
            }
            for part in found
        },
    }


def _numbers(result: Comparison | None) -> dict[str, Any] | None:
    if result is None:
        return None
    return {
        **asdict(result),
        "differences": [asdict(d) | {"separable": d.separable} for d in result.differences],
    }
