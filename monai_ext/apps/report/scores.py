# SPDX-License-Identifier: Apache-2.0
"""From one case's label maps to the numbers of a cohort: no files, no pictures."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

import numpy as np

from monai_ext.data.files.picture_reader import is_picture
from monai_ext.metrics import mean_interval
from monai_ext.metrics.statistics import DRAWS, FEW, LEVEL
from monai_ext.phantoms import PHANTOM_NOTE

__all__ = [
    "CONVENTIONS",
    "METRICS",
    "CaseScores",
    "csv_header",
    "csv_table",
    "finite_mean",
    "merge",
    "plain_cell",
    "statistics_of",
    "summarise",
]

METRICS = ("dice", "hd95", "nsd", "assd")  # in the order of the tables

CONVENTIONS = {
    "monai": (
        "Dice is 2|T∩P| / (|T| + |P|); HD95 is the larger of the two directed 95th percentiles of surface distance, in "
        "millimetres (for photographs in pixels); a class in only one of truth and prediction has an infinite HD95 "
        "(counted, left out of its mean), and a class in neither has no value."
    ),
    "transunet": (
        "As the TransUNet family of papers counts: Dice is 2|T∩P| / (|T| + |P|) and HD95 the 95th percentile of both "
        "directions' surface distances pooled, in voxels whatever their size; a class that is not predicted counts as "
        "Dice 0 and HD95 0 (so a missed organ lowers the mean HD95), one predicted but not in the truth as Dice 1 and "
        "HD95 0."
    ),
    "deepmind": (
        "Dice is 2|T∩P| / (|T| + |P|); surfaces pass between voxels and their elements count by area, as in DeepMind's "
        "surface-distance: HD95 is the larger of the two directed 95th percentiles of area, in millimetres (for "
        "photographs in pixels); a class in only one of truth and prediction has an infinite HD95 (counted, left out "
        "of its mean), and a class in neither has no value."
    ),
}


@dataclass(frozen=True)
class CaseScores:
    """The numbers of one case; every tuple has one entry per class, background left out.

    Attributes:
        case: short name.
        source: the file it came from; what tells two cases apart.
        spacing: of its voxels, one number per axis.
        labelled: whether the truth has the class.
        predicted: whether the prediction has it.
        scores: metric, of ``METRICS``, -> convention -> values; inf and NaN as the convention says.
        volumes: predicted and true, in mL; empty for pictures.
        objects: what ``lesion_metrics`` counted, if anything.
        patient: whose it is.
        truth: digest of the true label map.
        notice: what looked odd about its image.
    """

    case: str
    source: str
    spacing: tuple[float, ...]
    labelled: tuple[bool, ...]
    predicted: tuple[bool, ...]
    scores: dict[str, dict[str, tuple[float, ...]]] = field(default_factory=dict)
    volumes: tuple[tuple[float, ...], ...] = ()
    objects: dict[str, tuple[float, ...]] = field(default_factory=dict)
    patient: str = ""
    truth: str = ""
    notice: str | None = None

    @property
    def findings(self) -> tuple[str, ...]:
        """Per class: "found", "missed" (only in the truth), "spurious" (only in the prediction) or "absent"."""
        words = {(True, True): "found", (True, False): "missed", (False, True): "spurious", (False, False): "absent"}
        return tuple(words[pair] for pair in zip(self.labelled, self.predicted))

    def of(self, metric: str, convention: str) -> tuple[float, ...]:
        return self.scores[metric][convention]

    def mean(self, metric: str, convention: str) -> float:
        """Over the classes with a finite value."""
        return finite_mean(self.of(metric, convention))

    def distance_unit(self, convention: str) -> str:
        """Of HD95. A photograph has no millimetres: its affine counts in pixels of the file."""
        if len(self.spacing) == 2:
            photograph = is_picture(self.source) or np.allclose(self.spacing, 1)
            return "pixels" if photograph or convention == "transunet" else "mm"
        return "voxels" if convention == "transunet" else "mm"


def finite_mean(values: Sequence[float] | np.ndarray) -> float:
    """Mean of the finite values; NaN where there is none."""
    kept = [v for v in values if np.isfinite(v)]
    return float(np.mean(kept)) if kept else float("nan")


def merge(parts: Iterable[Iterable[CaseScores]]) -> list[CaseScores]:
    """All ranks' cases by name, each once; two files of one name in different folders also get their folder's."""
    cases = {c.source: c for part in parts for c in part}.values()
    seen = Counter(c.case for c in cases)
    named = (c if seen[c.case] == 1 else replace(c, case=f"{PurePath(c.source).parent.name}/{c.case}") for c in cases)
    return sorted(named, key=lambda c: (c.case, c.source))


def csv_header(class_names: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """The first columns of a table of cases."""
    return ["case", *(_cell(f"{name}_{metric}") for metric in metrics for name in class_names)]


def csv_table(cases: Sequence[CaseScores], class_names: Sequence[str], convention: str, phantom: bool) -> str:
    """One line per case at full precision: inf as ``inf``, no value as an empty cell.

    Names that a spreadsheet would take for formulas begin with an apostrophe, which it takes for "this is text".
    """
    metrics = _metrics(cases, convention)
    extra = [(f"{key}_volume_ml", k) for k, key in enumerate(("predicted", "true"))] if cases[0].volumes else []
    counted = list(cases[0].objects)
    columns = [_cell(f"{name}_{key}") for key, _ in extra for name in class_names]
    columns += [_cell(f"{name}_objects_{key}") for key in counted for name in class_names]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    last = ["patient", "truth", *(["data"] if phantom else [])]
    means = [f"mean_{metric}" for metric in metrics]
    head = csv_header(class_names, metrics)
    writer.writerow([*head, *columns, *means, "missed", "spurious", "absent", *last])
    for c in cases:
        values = [v for metric in metrics for v in c.of(metric, convention)]
        values += [v for _, k in extra for v in c.volumes[k]] + [v for key in counted for v in c.objects[key]]
        values += [c.mean(metric, convention) for metric in metrics]
        counts = [c.findings.count(finding) for finding in ("missed", "spurious", "absent")]
        numbers = ["" if np.isnan(v) else repr(float(v)) for v in values]
        note = [PHANTOM_NOTE] if phantom else []
        writer.writerow([_cell(c.case), *numbers, *counts, _cell(c.patient), _cell(c.truth), *note])
    return text.getvalue()


def _metrics(cases: Sequence[CaseScores], convention: str) -> list[str]:
    return [metric for metric in METRICS if convention in cases[0].scores.get(metric, ())]


def _cell(text: str) -> str:
    return f"'{text}" if text.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def plain_cell(text: str) -> str:
    """What :func:`csv_table` wrote."""
    return text[1:] if text.startswith("'") and _cell(text[1:]) == text else text


def statistics_of(cases: Sequence[CaseScores]) -> dict[str, Any]:
    """How the intervals came about, in words and numbers."""
    patients = len({c.patient for c in cases})
    whole = "" if patients == len(cases) else f" ({len(cases)} cases, each patient's together)"
    text = (
        f"Intervals are {100 * LEVEL:.0f} % confidence intervals of the mean: bias-corrected and accelerated bootstrap "
        f"(BCa, scipy.stats.bootstrap, its level raised for small numbers as by Hesterberg 2015), {DRAWS} draws of "
        f"{patients} patients{whole}. They speak of other patients like these, not of another training."
    )
    few = f"With fewer than {FEW} patients an interval means little: these are {patients}." if patients < FEW else None
    return {"method": "BCa bootstrap over patients", "draws": DRAWS, "level": LEVEL, "patients": patients,
            "text": text, "warning": few}  # fmt: skip


def summarise(cases: Sequence[CaseScores], class_names: Sequence[str], convention: str) -> dict[str, Any]:
    """Mean with its interval, standard deviation and median per class and overall, and counts of what has no value.

    The overall mean is the mean of the classes' means, as papers print it; overall deviation and median are those of
    the cases' means.
    """
    metrics = _metrics(cases, convention)
    patients = [c.patient for c in cases]
    tables = {metric: np.array([c.of(metric, convention) for c in cases]) for metric in metrics}
    findings = np.array([c.findings for c in cases])
    classes: dict[str, dict[str, Any]] = {
        name: {
            **{m: _spread(table[:, i]) | _interval(table[:, i], patients) for m, table in tables.items()},
            **_counts(findings[:, i]),
            **_volume([c.volumes for c in cases], i, patients),
            **_objects([c.objects for c in cases], [i]),
        }
        for i, name in enumerate(class_names)
    }
    overall: dict[str, Any] = {
        **{m: _spread([c.mean(m, convention) for c in cases]) for m in metrics},
        **_counts(findings.ravel()),
        **_objects([c.objects for c in cases], range(len(class_names))),
    }
    for metric, values in tables.items():
        means = [entry[metric]["mean"] for entry in classes.values() if entry[metric]["mean"] is not None]
        overall[metric]["mean"] = float(np.mean(means)) if means else None
        overall[metric] |= _finite_counts(values) | _interval(values, patients)
    return {
        "definition": CONVENTIONS[convention],
        "hd95_unit": cases[0].distance_unit(convention),
        "overall": overall,
        "classes": classes,
    }


def _interval(values: np.ndarray, patients: Sequence[str]) -> dict[str, list[float] | None]:
    low, high = mean_interval(values, patients)
    return {"interval": [low, high] if np.isfinite([low, high]).all() else None}


def _volume(volumes: Sequence[tuple[tuple[float, ...], ...]], index: int, patients: Sequence[str]) -> dict[str, Any]:
    """Of the cases' differences: in mL, and in percent where the truth has the class."""
    if not volumes[0]:
        return {}
    predicted, true = (np.array([v[k][index] for v in volumes]) for k in (0, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        percent = 100 * (predicted - true) / true
    entries = {"difference_ml": predicted - true, "difference_percent": percent}
    means = {"predicted_ml": float(predicted.mean()), "true_ml": float(true.mean())}
    return {"volume": {**means, **{key: _spread(v) | _interval(v, patients) for key, v in entries.items()}}}


def _objects(counted: Sequence[dict[str, tuple[float, ...]]], indices: Iterable[int]) -> dict[str, Any]:
    """Sums over the cases, and F1 of them."""
    if not counted[0]:
        return {}
    places = list(indices)
    sums = {
        key: int(sum(c[key][i] for c in counted for i in places)) for key in ("true", "predicted", "found", "false")
    }
    recall = sums["found"] / sums["true"] if sums["true"] else 0.0
    precision = 1 - sums["false"] / sums["predicted"] if sums["predicted"] else 0.0
    there = sums["true"] or sums["predicted"]
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else (0.0 if there else None)
    return {"objects": {**sums, "f1": f1}}


def _spread(values: Sequence[float] | np.ndarray) -> dict[str, float | int | None]:
    kept = np.asarray(values, dtype=float)
    kept = kept[np.isfinite(kept)]
    return {
        "mean": float(kept.mean()) if kept.size else None,
        "std": float(kept.std(ddof=1)) if kept.size > 1 else None,
        "median": float(np.median(kept)) if kept.size else None,
        **_finite_counts(np.asarray(values, dtype=float)),
    }


def _finite_counts(values: np.ndarray) -> dict[str, int]:
    return {
        "finite": int(np.isfinite(values).sum()),
        "infinite": int(np.isinf(values).sum()),
        "undefined": int(np.isnan(values).sum()),
    }


def _counts(findings: np.ndarray) -> dict[str, int]:
    return {word: int((findings == word).sum()) for word in ("found", "missed", "spurious", "absent")}
