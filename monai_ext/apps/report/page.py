# SPDX-License-Identifier: Apache-2.0
"""The report as one HTML page: no scripts, nothing loaded from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from monai_ext.phantoms import PHANTOM_NOTE

from .panels import OUTLINES, Picture, box_plots, class_colour, draw_picture
from .scores import CaseScores

__all__ = ["render_page"]

_STYLE = """
:root{color-scheme:light;--ink:#1c2024;--soft:#5b6470;--line:#d9dde2;--ours:#eef4fb}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1180px;padding:2rem 1.25rem 4rem;background:#fff;color:var(--ink);
 font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .25rem}
h2{font-size:1.15rem;margin:2.4rem 0 .6rem;padding-bottom:.25rem;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:1.4rem 0 .3rem}
h3 span{font-weight:400;margin-left:.5em}
p,li{max-width:52rem;margin:.4rem 0}
.soft,figcaption,caption{color:var(--soft);font-size:.87rem}
.phantom{max-width:none;margin:1.2rem 0;padding:.8rem 1rem;border:2px solid #b45309;background:#fff7e6;
 font-size:1.05rem}
.figures{display:flex;flex-wrap:wrap;gap:.75rem;margin:1.2rem 0}
.figures div{flex:1 1 9.5rem;border:1px solid var(--line);border-radius:4px;padding:.6rem .9rem}
.figures b{display:block;font-size:1.5rem;line-height:1.3;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;margin:.4rem 0;font-size:.87rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:.2rem 0}
th,td{padding:.28rem .5rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-weight:600}
thead th{border-bottom:2px solid #8a939e;vertical-align:bottom}
th:first-child,td:first-child,.text{text-align:left}
.text{white-space:normal;min-width:13rem}
.ours td{background:var(--ours);font-weight:600}
.plot{width:100%;height:auto}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;list-style:none;padding:0;margin:.6rem 0;font-size:.87rem}
.legend li{margin:0}
.legend i{display:inline-block;width:1.6em;height:.8em;margin-right:.4em;border:1px solid #0003;vertical-align:-.05em}
.legend i.line{height:.28em;border:0;vertical-align:.22em}
.panels{display:grid;grid-template-columns:repeat(auto-fit,minmax(230px,1fr));gap:.6rem;max-width:1180px}
.panels.few{grid-template-columns:repeat(auto-fit,minmax(230px,380px))}
figure{margin:0 0 .8rem}
figure svg{display:block;width:100%;height:auto;background:#000}
figure path{stroke-linejoin:round;vector-effect:non-scaling-stroke}
figure text{fill:#fff;font-weight:700;dominant-baseline:central;paint-order:stroke;stroke:#000;stroke-width:.15em}
dt{font-weight:600;margin-top:.6rem}
dd{margin:0;max-width:52rem}
@media print{@page{margin:12mm}body{padding:0;max-width:none;font-size:10pt}.scroll{overflow:visible}
 table{font-size:7.5pt}th,td{padding:.15rem .25rem}.panels,.panels.few{grid-template-columns:repeat(4,1fr)}
 h2,h3{break-after:avoid}figure,tr,.slice,.figures{break-inside:avoid}
 *{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""


def render_page(
    summary: Mapping[str, Any],
    cases: Sequence[CaseScores],
    published: Sequence[Mapping[str, Any]],
    shown: Sequence[tuple[str, int, Sequence[Picture]]],
) -> str:
    """The page's HTML.

    Args:
        summary: what ``summary.json`` holds.
        cases: all cases.
        published: rows of other work.
        shown: (rank, index into ``cases``, its slices), such as ``("best", 3, [...])``.
    """
    first, *_ = summary["conventions"]
    sections = [
        _head(summary),
        _key_figures(summary, first),
        _section("Results", _results(summary, published)),
        _section("Per class", "".join(_per_class(summary, c) for c in summary["conventions"])),
        _section("Distribution over cases", "".join(_distribution(summary, cases, c) for c in summary["conventions"])),
        _section("Cases in pictures", _overlays(summary, cases, shown, first)),
        _section("Every case", "".join(_every_case(summary, cases, c) for c in summary["conventions"])),
        _section("How the numbers are defined", _definitions(summary)),
        _section("Limits", _list(_limits(summary, published, len(shown)))),
        _section("Provenance", _provenance(summary)),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(summary['title'])}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>\n{body}</section>" if body else ""


def _head(summary: Mapping[str, Any]) -> str:
    count = summary["number_of_cases"]
    banner = (
        f'<p class="phantom"><strong>{PHANTOM_NOTE[0].upper()}{PHANTOM_NOTE[1:]}.</strong> The images are synthetic. '
        "These numbers show that the pipeline runs; they say nothing about patients.</p>"
    )
    return (
        f"<header><h1>{escape(summary['title'])}</h1>"
        f'<p class="soft">{_count(count, "case")}; {escape(", ".join(summary["class_names"]))}; '
        f"{escape(summary['created'])}</p></header>{banner if summary['phantom'] else ''}"
    )


def _key_figures(summary: Mapping[str, Any], convention: str) -> str:
    part = summary["conventions"][convention]
    overall = part["overall"]
    figures = [
        ("mean Dice, %", _number(overall["dice"]["mean"], 100)),
        (f"mean HD95, {part['hd95_unit']}", _number(overall["hd95"]["mean"])),
        ("missed: in the truth, not predicted", overall["missed"]),
        ("spurious: predicted, not in the truth", overall["spurious"]),
    ]
    cards = "".join(f"<div><b>{value}</b>{label}</div>" for label, value in figures)
    return f'<div class="figures">{cards}</div>'


def _results(summary: Mapping[str, Any], published: Sequence[Mapping[str, Any]]) -> str:
    names = summary["class_names"]
    several = len(names) > 1
    rows = []
    for convention, part in summary["conventions"].items():
        overall = part["overall"]
        organs = [_number(part["classes"][n]["dice"]["mean"], 100) for n in names] if several else []
        ours = ["this evaluation", _number(overall["dice"]["mean"], 100), _number(overall["hd95"]["mean"]), *organs]
        source = f"{_count(summary['number_of_cases'], 'case')}, convention {convention}, HD95 in {part['hd95_unit']}"
        rows.append(_row([*ours, source], last_is_text=True, css="ours"))
    for row in published:
        organs = [_number((row.get("dice") or {}).get(n)) for n in names] if several else []
        cells = [row["method"], _number(row.get("mean_dice")), _number(row.get("mean_hd95")), *organs]
        rows.append(_row([*cells, row.get("source", "")], last_is_text=True))
    head = ["Method", "Dice", "HD95", *(names if several else []), "Source"]
    caption = "Dice in percent; per class: mean Dice." if several else "Dice in percent."
    table = _table([_row(head, tag="th", last_is_text=True)], rows, caption)
    if published and summary["phantom"]:
        table += "<p><strong>The published rows were measured on patients: no comparison with a phantom.</strong></p>"
    return table


def _per_class(summary: Mapping[str, Any], convention: str) -> str:
    part = summary["conventions"][convention]
    head = ["Class", "Dice mean ± SD, %", "median", f"HD95 mean ± SD, {part['hd95_unit']}", "median"]
    rows = []
    overall = {"all classes": part["overall"]} if len(part["classes"]) > 1 else {}
    for name, entry in {**part["classes"], **overall}.items():
        dice, hd95 = entry["dice"], entry["hd95"]
        spread = [_spread(dice, 100), _number(dice["median"], 100), _spread(hd95), _number(hd95["median"])]
        counts = [hd95["finite"], *(entry[key] for key in ("found", "missed", "spurious", "absent"))]
        rows.append(_row([name, *spread, *counts], css="ours" if entry is part["overall"] else ""))
    counted = ["finite HD95", "found", "missed", "spurious", "absent"]
    return _table([_row([*head, *counted], tag="th")], rows, f"Convention {convention}.")


def _distribution(summary: Mapping[str, Any], cases: Sequence[CaseScores], convention: str) -> str:
    dice = np.array([c.dice[convention] for c in cases])
    hd95 = np.array([c.hd95[convention] for c in cases])
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
            f"Dice {_number(case.mean_dice(convention), 100)} %, "
            f"HD95 {_number(case.mean_hd95(convention))} {case.distance_unit(convention)}"
        )
        parts.append(f"<h3>{rank.capitalize()}: {escape(case.case)} <span class=soft>{numbers}</span></h3>")
        for picture in pictures:
            caption = f'<p class="soft">{escape(picture.caption.capitalize())}</p>' if picture.caption else ""
            panels = draw_picture(picture, classes, case.case)
            parts.append(f'<div class="slice">{caption}<div class="panels{few}">{panels}</div></div>')
    return "\n".join(parts)


def _every_case(summary: Mapping[str, Any], cases: Sequence[CaseScores], convention: str) -> str:
    classes = summary["class_names"]
    unit = summary["conventions"][convention]["hd95_unit"]
    dice = [[_number(v, 100) for v in c.dice[convention]] for c in cases]
    hd95 = [[_distance(v, finding) for v, finding in zip(c.hd95[convention], c.findings)] for c in cases]
    if len(classes) == 1:
        rows = [_row([c.case, *d, *h]) for c, d, h in zip(cases, dice, hd95)]
        return _table([_row(["Case", "Dice, %", f"HD95, {unit}"], tag="th")], rows, f"Convention {convention}.")
    head = _row(["Case", *classes, "mean"], tag="th")
    dice_rows = [_row([c.case, *d, _number(c.mean_dice(convention), 100)]) for c, d in zip(cases, dice)]
    hd95_rows = [_row([c.case, *h, _number(c.mean_hd95(convention))]) for c, h in zip(cases, hd95)]
    return _table([head], dice_rows, f"Dice, %, convention {convention}.") + _table(
        [head], hd95_rows, f"HD95, {unit}, convention {convention}."
    )


def _distance(value: float, finding: str) -> str:
    """The number, if there is one, and what happened if the class is not on both sides."""
    number = [_number(value)] if np.isfinite(value) else []
    return " ".join([*number, *([] if finding == "found" else [finding])])


def _definitions(summary: Mapping[str, Any]) -> str:
    entries = [(f"Convention {name}", part["definition"]) for name, part in summary["conventions"].items()]
    entries += list(summary["definitions"].items())
    return "<dl>" + "".join(f"<dt>{escape(t)}</dt><dd>{escape(d)}</dd>" for t, d in entries) + "</dl>"


def _limits(summary: Mapping[str, Any], published: Sequence[Any], shown: int) -> list[str]:
    count = summary["number_of_cases"]
    limits = [
        f"{_count(count, 'case')}, one run: differences smaller than the spread over cases mean little.",
        f"Pictures show {_count(shown, 'case')} chosen by mean Dice, at most two slices of each.",
        "Dice hardly sees thin or small structures, and HD95 ignores the worst twentieth of a surface.",
        "The truth is what the data set's annotators drew; their disagreement is not measured here.",
    ]
    if published:
        limits.append(
            "Published rows are printed as their sources give them; splits, preprocessing and the handling of missed "
            "classes may differ from this evaluation's."
        )
    if summary["phantom"]:
        limits.insert(0, f"{PHANTOM_NOTE[0].upper()}{PHANTOM_NOTE[1:]}.")
    else:
        limits.append("An evaluation of research software, not a clinical validation.")
    return [*limits, *summary["notes"]]


def _provenance(summary: Mapping[str, Any]) -> str:
    rows = [("created", summary["created"])]
    if summary["checkpoint"]:
        rows.append(("checkpoint", summary["checkpoint"]))
    rows += list(summary["versions"].items())
    return _table([], [_row(row, last_is_text=True) for row in rows])


def _list(sentences: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(s)}</li>" for s in sentences) + "</ul>"


def _table(head: Sequence[str], rows: Sequence[str], caption: str = "") -> str:
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    top = f"<thead>{''.join(head)}</thead>" if head else ""
    return f'<div class="scroll"><table>{title}{top}<tbody>{"".join(rows)}</tbody></table></div>\n'


def _row(cells: Sequence[Any], tag: str = "td", last_is_text: bool = False, css: str = "") -> str:
    last = len(cells) - 1 if last_is_text else -1
    inner = (f"<{tag}{' class=text' if i == last else ''}>{escape(str(c))}</{tag}>" for i, c in enumerate(cells))
    return f"<tr{f' class={css}' if css else ''}>{''.join(inner)}</tr>"


def _number(value: float | None, scale: float = 1) -> str:
    return "\N{EN DASH}" if value is None or not np.isfinite(value) else f"{scale * value:.2f}"


def _spread(entry: Mapping[str, Any], scale: float = 1) -> str:
    deviation = f" ± {_number(entry['std'], scale)}" if entry["std"] is not None else ""
    return _number(entry["mean"], scale) + deviation


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
