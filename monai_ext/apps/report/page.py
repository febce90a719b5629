# SPDX-License-Identifier: Apache-2.0
"""The report as one HTML page: no scripts, nothing loaded from anywhere."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

import numpy as np

from monai_ext.phantoms import PHANTOM_NOTE

from .markup import (
    bounds,
    bullets,
    columns,
    count,
    definitions,
    document,
    number,
    phantom_banner,
    row,
    section,
    spread,
    table,
)
from .panels import OUTLINES, Picture, box_plots, class_colour, draw_picture
from .scores import CaseScores

__all__ = ["render_page"]

TITLES = {"dice": "Dice", "hd95": "HD95", "nsd": "NSD", "assd": "ASSD"}


def render_page(
    summary: Mapping[str, Any],
    cases: Sequence[CaseScores],
    published: Sequence[Mapping[str, Any]],
    shown: Sequence[tuple[str, int, Sequence[Picture]]],
    viewable: Container[str] = (),
) -> str:
    """The page's HTML.

    Args:
        summary: what ``summary.json`` holds.
        cases: all cases.
        published: rows of other work.
        shown: (rank, index into ``cases``, its slices), such as ``("best", 3, [...])``.
        viewable: names of the cases that ``view`` can show.
    """
    first, *_ = summary["conventions"]
    sections = [
        _head(summary),
        _key_figures(summary, first),
        section("Results", _results(summary, published)),
        section(
            "Per class", "".join(_per_class(summary, c) for c in summary["conventions"]) + _what_was_found(summary)
        ),
        section("Distribution over cases", "".join(_distribution(summary, cases, c) for c in summary["conventions"])),
        section("Cases in pictures", _overlays(summary, cases, shown, first, viewable) + _viewing(cases, viewable)),
        section("Every case", "".join(_every_case(summary, cases, c) for c in summary["conventions"])),
        section("How the numbers are defined", _definitions(summary)),
        section("Limits", bullets(_limits(summary, published, len(shown)))),
        section("Provenance", _provenance(summary)),
    ]
    return document(summary["title"], sections)


def _head(summary: Mapping[str, Any]) -> str:
    words = "The images are synthetic. These numbers show that the pipeline runs; they say nothing about patients."
    return (
        f"<header><h1>{escape(summary['title'])}</h1>"
        f'<p class="soft">{count(summary["number_of_cases"], "case")}; {escape(", ".join(summary["class_names"]))}; '
        f"{escape(summary['created'])}</p></header>{phantom_banner(words) if summary['phantom'] else ''}"
    )


def _key_figures(summary: Mapping[str, Any], convention: str) -> str:
    part = summary["conventions"][convention]
    overall = part["overall"]
    level = f"{100 * summary['statistics']['level']:.0f} %"
    figures = []
    for metric, scale in (("dice", 100), ("hd95", 1), ("nsd", 100)):
        if metric in overall:
            unit = part["hd95_unit"] if metric == "hd95" else "%"
            interval = bounds(overall[metric]["interval"], scale, f"; {level}: ")
            figures.append((f"mean {TITLES[metric]}, {unit}{interval}", number(overall[metric]["mean"], scale)))
    figures += [
        ("missed: in the truth, not predicted", overall["missed"]),
        ("spurious: predicted, not in the truth", overall["spurious"]),
    ]
    if "objects" in overall:
        sums = overall["objects"]
        figures.append(
            (f"F1 of objects: {sums['found']} of {sums['true']} found, {sums['false']} false", number(sums["f1"]))
        )
    cards = "".join(f"<div><b>{value}</b>{escape(label)}</div>" for label, value in figures)
    warning = summary["statistics"]["warning"]
    return f'<div class="figures">{cards}</div>' + (f"<p><strong>{escape(warning)}</strong></p>" if warning else "")


def _results(summary: Mapping[str, Any], published: Sequence[Mapping[str, Any]]) -> str:
    """Classes stand beside the means as far as there is room, else in tables of their own."""
    names = summary["class_names"] if len(summary["class_names"]) > 1 else []
    parts = columns(names) if names else [[]]
    beside, below = (parts[0], []) if len(parts) == 1 else ([], parts)
    cases = count(summary["number_of_cases"], "case")
    ours = [
        (f"{cases}, convention {convention}, HD95 in {part['hd95_unit']}", convention, part)
        for convention, part in summary["conventions"].items()
    ]

    def mean(part: Mapping[str, Any], few: Sequence[str]) -> list[str]:
        return [number(part["classes"][name]["dice"]["mean"], 100) for name in few]

    def printed(published_row: Mapping[str, Any], few: Sequence[str]) -> list[str]:
        return [number((published_row.get("dice") or {}).get(name)) for name in few]

    rows = []
    for source, _, part in ours:
        overall = part["overall"]
        means = [number(overall["dice"]["mean"], 100), number(overall["hd95"]["mean"])]
        rows.append(row(["this evaluation", *means, *mean(part, beside), source], last_is_text=True, css="ours"))
    for other in published:
        means = [number(other.get("mean_dice")), number(other.get("mean_hd95"))]
        cells = [other["method"], *means, *printed(other, beside), other.get("source", "")]
        rows.append(row(cells, last_is_text=True))
    head = row(["Method", "Dice", "HD95", *beside, "Source"], tag="th", last_is_text=True, tall=beside)
    found = table([head], rows, "Dice in percent; per class: mean Dice." if beside else "Dice in percent.")
    for few in below:
        rows = [row([f"this evaluation, {convention}", *mean(part, few)], css="ours") for _, convention, part in ours]
        rows += [row([other["method"], *printed(other, few)]) for other in published if other.get("dice")]
        found += table([row(["Method", *few], tag="th", tall=few)], rows, "Mean Dice per class, percent.")
    if published and summary["phantom"]:
        found += "<p><strong>The published rows were measured on patients: no comparison with a phantom.</strong></p>"
    return found


def _per_class(summary: Mapping[str, Any], convention: str) -> str:
    part = summary["conventions"][convention]
    several = len(part["classes"]) > 1
    entries = {**part["classes"], **({"all classes": part["overall"]} if several else {})}
    unit, level = part["hd95_unit"], f"{100 * summary['statistics']['level']:.0f} %"
    percent = {"dice": ", %", "nsd": ", %"}
    metrics = [metric for metric in TITLES if metric in part["overall"]]
    head = ["Class"]
    for metric in metrics:
        head += [
            f"{TITLES[metric]}{percent.get(metric, f', {unit}')}",
            *(["median"] if metric in ("dice", "hd95") else []),
        ]
    rows = []
    for name, entry in entries.items():
        cells = [name]
        for metric in metrics:
            scale = 100 if metric in percent else 1
            cells += [spread(entry[metric], scale)]
            cells += [number(entry[metric]["median"], scale)] if metric in ("dice", "hd95") else []
        rows.append(row(cells, css="ours" if entry is part["overall"] else ""))
    caption = (
        f"Convention {convention}. Mean ± standard deviation; below it the {level} confidence interval of the mean."
    )
    return table([row(head, tag="th")], rows, caption)


def _what_was_found(summary: Mapping[str, Any]) -> str:
    """Counts and volumes: the same in every convention."""
    part = next(iter(summary["conventions"].values()))
    first = next(iter(part["classes"].values()))
    head = ["Class", "finite HD95", "found", "missed", "spurious", "absent"]
    head += ["volume error, mL", "volume error, %"] if "volume" in first else []
    head += ["objects", "of them found", "false objects", "F1 of objects"] if "objects" in first else []
    rows = []
    for name, entry in part["classes"].items():
        cells = [name, entry["hd95"]["finite"], *(entry[key] for key in ("found", "missed", "spurious", "absent"))]
        if "volume" in entry:
            cells += [spread(entry["volume"][f"difference_{unit}"]) for unit in ("ml", "percent")]
        if "objects" in entry:
            cells += [entry["objects"][key] for key in ("true", "found", "false")] + [number(entry["objects"]["f1"])]
        rows.append(row(cells))
    return table([row(head, tag="th", tall=head[1:])], rows, "Cases of each class, whatever the convention.")


def _distribution(summary: Mapping[str, Any], cases: Sequence[CaseScores], convention: str) -> str:
    dice = np.array([c.of("dice", convention) for c in cases])
    hd95 = np.array([c.of("hd95", convention) for c in cases])
    unit = summary["conventions"][convention]["hd95_unit"]
    text = f"Dice and HD95 of every class, convention {convention}"
    return (
        f'<figure><img class="plot" alt="{text}" src="{box_plots(dice, hd95, summary["class_names"], unit)}">'
        f"<figcaption>{text}. Box: quartiles and median; whiskers: 1.5 interquartile ranges; a point is a case."
        "</figcaption></figure>"
    )


def _overlays(
    summary: Mapping[str, Any],
    cases: Sequence[CaseScores],
    shown: Sequence[tuple[str, int, Sequence[Picture]]],
    convention: str,
    viewable: Container[str],
) -> str:
    classes = summary["class_names"]
    legend = [f'<i class="line" style="background:{colour}"></i>{kind}' for kind, colour in OUTLINES.items()]
    if len(classes) > 1:
        legend += [f'<i style="background:{class_colour(i)}"></i>{escape(n)}' for i, n in enumerate(classes, start=1)]
    parts = ['<ul class="legend">' + "".join(f"<li>{entry}</li>" for entry in legend) + "</ul>"]
    if any(picture.sides for *_, pictures in shown for picture in pictures):
        parts.append(
            '<p class="soft">Slices as they were acquired and as a radiologist sees them. Axial: from the feet, the '
            "right of the patient (R) on the left of the picture, front on top. Others: head on top.</p>"
        )
    few = " few" if len(classes) == 1 else ""
    for rank, index, pictures in shown:
        case = cases[index]
        numbers = (
            f"Dice {number(case.mean('dice', convention), 100)} %, "
            f"HD95 {number(case.mean('hd95', convention))} {case.distance_unit(convention)}"
        )
        button = _button(case.case, viewable)
        parts.append(f"<h3>{rank.capitalize()}: {escape(case.case)} <span class=soft>{numbers}</span>{button}</h3>")
        for picture in pictures:
            caption = f'<p class="soft">{escape(picture.caption.capitalize())}</p>' if picture.caption else ""
            panels = draw_picture(picture, classes, case.case)
            parts.append(f'<div class="slice">{caption}<div class="panels{few}">{panels}</div></div>')
    return "\n".join(parts)


def _button(case: str, viewable: Container[str]) -> str:
    """Opens the case where ``view`` serves the page; where it is a file, leads to the way to have it served."""
    return f' <a class=button href="?view={quote(case, safe="")}#view">View in 3D</a>' if case in viewable else ""


def _viewing(cases: Sequence[CaseScores], viewable: Container[str]) -> str:
    if not any(case.case in viewable for case in cases):
        return ""
    return (
        "<p id=view>Every case in three planes and in 3D, with truth, prediction and difference: run "
        "<code>python -m monai_ext view .</code> in the folder of this page. The report that it opens has working "
        "buttons.</p>"
    )


def _every_case(summary: Mapping[str, Any], cases: Sequence[CaseScores], convention: str) -> str:
    classes = summary["class_names"]
    unit = summary["conventions"][convention]["hd95_unit"]
    dice = [[number(v, 100) for v in c.of("dice", convention)] for c in cases]
    hd95 = [[_distance(v, finding) for v, finding in zip(c.of("hd95", convention), c.findings)] for c in cases]
    if len(classes) == 1:
        rows = [row([c.case, *d, *h]) for c, d, h in zip(cases, dice, hd95)]
        return table([row(["Case", "Dice, %", f"HD95, {unit}"], tag="th")], rows, f"Convention {convention}.")
    found = ""
    for metric, title, values, scale in (("dice", "Dice, %", dice, 100), ("hd95", f"HD95, {unit}", hd95, 1)):
        begin = 0
        for few in columns(classes):
            part = slice(begin, begin + len(few))
            begin = part.stop
            last = begin == len(classes)
            rows = [
                row([c.case, *v[part], *([number(c.mean(metric, convention), scale)] if last else [])])
                for c, v in zip(cases, values)
            ]
            head = row(["Case", *few, *(["mean"] if last else [])], tag="th", tall=few)
            found += table([head], rows, f"{title}, convention {convention}.")
    return found


def _distance(value: float, finding: str) -> str:
    """The number, if there is one, and what happened if the class is not on both sides."""
    there = [number(value)] if np.isfinite(value) else []
    return " ".join([*there, *([] if finding == "found" else [finding])])


def _definitions(summary: Mapping[str, Any]) -> str:
    entries = [(f"Convention {name}", part["definition"]) for name, part in summary["conventions"].items()]
    return definitions([*entries, *summary["definitions"].items(), ("Intervals", summary["statistics"]["text"])])


def _limits(summary: Mapping[str, Any], published: Sequence[Any], shown: int) -> list[str]:
    limits = [
        f"{count(summary['number_of_cases'], 'case')}, one run: another training gives other numbers.",
        f"Pictures show {count(shown, 'case')} chosen by mean Dice, at most two slices of each.",
        "Dice hardly sees thin or small structures, and HD95 ignores the worst twentieth of a surface.",
        "The truth is what the data set's annotators drew; their disagreement is not measured here.",
    ]
    if published:
        limits.append(
            "Published rows are printed as their sources give them; splits, preprocessing and the handling of missed "
            "classes may differ from this evaluation's."
        )
    if summary["statistics"]["warning"]:
        limits.insert(0, summary["statistics"]["warning"])
    if summary["phantom"]:
        limits.insert(0, f"{PHANTOM_NOTE[0].upper()}{PHANTOM_NOTE[1:]}.")
    else:
        limits.append("An evaluation of research software, not a clinical validation.")
    return [*limits, *summary["notes"]]


def _provenance(summary: Mapping[str, Any]) -> str:
    entries = [("created", summary["created"])]
    if summary["checkpoint"]:
        entries.append(("checkpoint", summary["checkpoint"]))
    entries += list(summary["versions"].items())
    return table([], [row(entry, last_is_text=True) for entry in entries])
