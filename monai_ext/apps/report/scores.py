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
from monai_ext.phantoms import PHANTOM_NOTE

__all__ = ["CONVENTIONS", "CaseScores", "csv_table", "merge", "summarise"]

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
        dice: convention -> values.
        hd95: convention -> values; inf and NaN as the convention says.
        notice: what looked odd about its image.
    """

    case: str
    source: str
    spacing: tuple[float, ...]
    labelled: tuple[bool, ...]
    predicted: tuple[bool, ...]
    dice: dict[str, tuple[float, ...]] = field(default_factory=dict)
    hd95: dict[str, tuple[float, ...]] = field(default_factory=dict)
    notice: str | None = None

    @property
    def findings(self) -> tuple[str, ...]:
        """Per class: "found", "missed" (only in the truth), "spurious" (only in the prediction) or "absent"."""
        words = {(True, True): "found", (True, False): "missed", (False, True): "spurious", (False, False): "absent"}
        return tuple(words[pair] for pair in zip(self.labelled, self.predicted))

    def mean_dice(self, convention: str) -> float:
        return finite_mean(self.dice[convention])

    def mean_hd95(self, convention: str) -> float:
        """Mean over the classes with a finite distance."""
        return finite_mean(self.hd95[convention])

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


def csv_table(cases: Sequence[CaseScores], class_names: Sequence[str], convention: str, phantom: bool) -> str:
    """One line per case at full precision: inf as ``inf``, no value as an empty cell.

    Names that a spreadsheet would take for formulas begin with an apostrophe, which it takes for "this is text".
    """
    columns = [_cell(f"{name}_{metric}") for metric in ("dice", "hd95") for name in class_names]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    last = ["data"] if phantom else []
    writer.writerow(["case", *columns, "mean_dice", "mean_hd95", "missed", "spurious", "absent", *last])
    for c in cases:
        values = [*c.dice[convention], *c.hd95[convention], c.mean_dice(convention), c.mean_hd95(convention)]
        counts = [c.findings.count(finding) for finding in ("missed", "spurious", "absent")]
        numbers = ["" if np.isnan(v) else repr(float(v)) for v in values]
        writer.writerow([_cell(c.case), *numbers, *counts, *([PHANTOM_NOTE] if phantom else [])])
    return text.getvalue()


def _cell(text: str) -> str:
    return f"'{text}" if text.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def summarise(cases: Sequence[CaseScores], class_names: Sequence[str], convention: str) -> dict[str, Any]:
    """Mean, standard deviation and median per class and overall, with the counts of what has no finite value.

    The overall mean is the mean of the classes' means, as papers print it; overall deviation and median are those of
    the cases' means.
    """
    dice = np.array([c.dice[convention] for c in cases])
    hd95 = np.array([c.hd95[convention] for c in cases])
    findings = np.array([c.findings for c in cases])
    classes: dict[str, dict[str, Any]] = {
        name: {"dice": _spread(dice[:, i]), "hd95": _spread(hd95[:, i]), **_counts(findings[:, i])}
        for i, name in enumerate(class_names)
    }
    overall: dict[str, Any] = {
        "dice": _spread([c.mean_dice(convention) for c in cases]),
        "hd95": _spread([c.mean_hd95(convention) for c in cases]),
        **_counts(findings.ravel()),
    }
    for metric, values in (("dice", dice), ("hd95", hd95)):
        means = [entry[metric]["mean"] for entry in classes.values() if entry[metric]["mean"] is not None]
        overall[metric]["mean"] = float(np.mean(means)) if means else None
        overall[metric] |= _finite_counts(values)
    return {
        "definition": CONVENTIONS[convention],
        "hd95_unit": cases[0].distance_unit(convention),
        "overall": overall,
        "classes": classes,
    }


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
