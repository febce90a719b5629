# SPDX-License-Identifier: Apache-2.0
"""The comparison of runs as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from .comparison import POINTS, TITLES, Compared, Run, method_of, sentences
from .markup import bounds, bullets, columns, count, document, number, phantom_banner, row, section, table
from .panels import plots_uri

__all__ = ["render_comparison"]


def render_comparison(runs: Sequence[Run], found: Sequence[Compared], before: str = "") -> str:
    """The page's HTML; ``before`` is the HTML of sections in front of the first metric's."""
    names = [run.name for run in runs]
    phantom = any(run.summary["phantom"] for run in runs)
    first = runs[0]
    words = "No number here says anything about patients, nor which network is better for them."
    head = (
        f"<header><h1>{count(len(runs), 'run')} compared</h1>"
        f'<p class="soft">{count(len(first.cases), "case")} of {count(len(set(first.patients)), "patient")}; '
        f"convention {escape(first.convention)}; {escape(', '.join(first.summary['class_names']))}</p></header>"
        f"{phantom_banner(words) if phantom else ''}"
    )
    sections = [head, section("What can be said", bullets(_verdicts(found, names, first.unit))), before]
    for part in found:
        if part.result is not None:
            body = _ranking(part, names, first.unit) + _pairs(part, names, first.unit) + _plots(part, names, first.unit)
            sections.append(section(TITLES[part.metric], body + _classes(part, names)))
    sections.append(section("How it was done", bullets(method_of(runs))))
    return document("Runs compared", sections)


def _verdicts(found: Sequence[Compared], names: Sequence[str], unit: str) -> list[str]:
    """All but the numbers, which have tables."""
    said = [text for part in found for text in sentences(part, names, unit)]
    return [text for text in said if " less " not in text and ": 1. " not in text and not _is_rank(text)]


def _is_rank(text: str) -> bool:
    return text.split(": ")[1].rstrip(".").split(". ")[0].isdecimal()


def _scaled(part: Compared, unit: str) -> tuple[int, str]:
    return POINTS[part.metric], "%" if POINTS[part.metric] == 100 else unit


def _ranking(part: Compared, names: Sequence[str], unit: str) -> str:
    result = part.result
    if result is None:
        return ""
    scale, shown = _scaled(part, unit)
    rows = [row([names[k], number(result.means[k], scale), bounds(result.intervals[k], scale)]) for k in result.ranking]
    head = row(["Run", f"mean, {shown}", "95 % interval"], tag="th")
    return table([head], rows, f"{TITLES[part.metric]}, best first.")


def _pairs(part: Compared, names: Sequence[str], unit: str) -> str:
    if part.result is None:
        return ""
    scale, shown = _scaled(part, unit)
    rows = [
        row(
            [
                f"{names[d.one]} less {names[d.other]}",
                f"{number(d.mean, scale)}{bounds(d.interval, scale, chr(10))}",
                f"{d.p_value:.4f}",
                f"{d.p_corrected:.4f}",
                f"{100 * d.probability:.0f} %",
                number(d.detectable, scale),
                "apart" if d.separable else "not apart",
            ],
            css="ours" if d.separable else "",
        )
        for d in part.result.differences
    ]
    unit_of = "points" if shown == "%" else shown
    head = ["Pair", f"difference, {unit_of}", "p", "p (Holm)", "better in draws", f"detectable, {unit_of}", "verdict"]
    return table([row(head, tag="th")], rows, "Differences of the means, below them their 95 % intervals.")


def _classes(part: Compared, names: Sequence[str]) -> str:
    if not part.classes:
        return ""
    found = ""
    for few in columns(list(part.classes)):
        rows = []
        for k, name in enumerate(names):
            rows.append(row([name, *(number(part.classes[c].means[k], 100) for c in few)]))
        for one in range(len(names)):
            for other in range(one + 1, len(names)):
                tests = [
                    next(d for d in part.classes[c].differences if {d.one, d.other} == {one, other}).p_corrected
                    for c in few
                ]
                rows.append(row([f"p (Holm), {names[one]} and {names[other]}", *(f"{p:.3f}" for p in tests)]))
        found += table(
            [row(["Mean Dice, %", *few], tag="th", tall=few)], rows, "Per class; p corrected for all classes."
        )
    return found


def _plots(part: Compared, names: Sequence[str], unit: str) -> str:
    text = f"{TITLES[part.metric]}: mean of each run with its 95 % interval, and the difference in every case"
    return (
        f'<figure><img class="plot" alt="{text}" src="{_picture(part, names, unit)}"><figcaption>{text}. A point is a '
        "case, sorted by its difference; the bar is the mean difference with its interval.</figcaption></figure>"
    )


def _picture(part: Compared, names: Sequence[str], unit: str) -> str:
    """Left the runs' means with intervals, best on top; right, for each pair, the sorted differences of all cases."""
    from matplotlib.figure import Figure

    result = part.result
    if result is None:
        raise ValueError("monai_ext: no comparison to draw.")
    scale, shown = _scaled(part, unit)
    rows = max(len(names), 2 * len(result.differences))
    figure = Figure(figsize=(10, 1.4 + 0.45 * rows), layout="constrained")
    means, pairs = figure.subplots(1, 2, width_ratios=(1, 1.4))
    for place, run in enumerate(reversed(result.ranking)):
        low, high = (scale * end for end in result.intervals[run])
        means.plot([low, high], [place, place], color="#667", linewidth=2)
        means.scatter([scale * result.means[run]], [place], color="#0072b2", zorder=3)
    means.set_yticks(range(len(names)), [_short(names[k]) for k in reversed(result.ranking)], parse_math=False)
    means.set_ylim(-0.6, len(names) - 0.4)
    means.set_xlabel(f"{TITLES[part.metric]}, {shown}")
    last = len(result.differences) - 1
    for k, d in enumerate(result.differences):
        apart = np.sort(scale * (part.values[d.one] - part.values[d.other]))
        height = last - k + np.linspace(-0.3, 0.3, len(apart))
        pairs.scatter(apart, height, s=12, color="#0072b2", alpha=0.6, linewidths=0)
        pairs.plot([scale * end for end in d.interval], [last - k] * 2, color="#d55e00", linewidth=2.5)
        pairs.plot([scale * d.mean] * 2, [last - k - 0.35, last - k + 0.35], color="#d55e00", linewidth=1.5)
    labels = [f"{_short(names[d.one])}\nless {_short(names[d.other])}" for d in result.differences[::-1]]
    pairs.set_yticks(range(len(labels)), labels, parse_math=False)
    pairs.set_ylim(-0.6, last + 0.6)
    pairs.axvline(0, color="#111", linewidth=0.8)
    pairs.set_xlabel(f"difference, {'points' if shown == '%' else shown}")
    return plots_uri(figure)


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"...{name[-21:]}"
