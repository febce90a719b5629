# SPDX-License-Identifier: Apache-2.0
"""What the pages of a report are made of: style, sections, tables. No scripts, nothing loaded from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from monai_ext.phantoms import PHANTOM_NOTE

__all__ = [
    "bounds",
    "bullets",
    "columns",
    "count",
    "definitions",
    "document",
    "number",
    "phantom_banner",
    "row",
    "section",
    "spread",
    "table",
]

WIDEST = 10  # classes side by side that a page of 800 pixels has room for

STYLE = """
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
th{font-weight:600;white-space:normal}
th.tall{vertical-align:bottom;text-align:center}
th.tall span{display:inline-block;writing-mode:vertical-rl;transform:rotate(180deg);text-align:left;max-height:9.5rem}
thead th{border-bottom:2px solid #8a939e;vertical-align:bottom}
th:first-child,td:first-child,.text{text-align:left}
.text,td:first-child{white-space:normal;overflow-wrap:anywhere}
.text{min-width:9rem}
td:first-child{min-width:6.8rem}
.tight th,.tight td{padding:.28rem .3rem}
.tight .text{min-width:5.5rem}
td small{color:var(--soft);font-size:.8rem;font-weight:400}
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
.button{font-size:.87rem;font-weight:400;padding:.15rem .6rem;border:1px solid #3b6ea8;border-radius:4px;color:#2a5485;
 text-decoration:none;white-space:nowrap}
#view:target{outline:3px solid #3b6ea8;outline-offset:.4rem}
dt{font-weight:600;margin-top:.6rem}
dd{margin:0;max-width:52rem}
@media (max-width:900px){td{white-space:normal}th,td,.tight th,.tight td{padding:.28rem .25rem}}
@media print{td{white-space:normal}@page{margin:12mm}body{padding:0;max-width:none;font-size:10pt}
 .scroll{overflow:visible}
 table{font-size:7.5pt}th,td{padding:.15rem .25rem}.panels,.panels.few{grid-template-columns:repeat(4,1fr)}
 h2,h3{break-after:avoid}figure,tr,.slice,.figures{break-inside:avoid}
 *{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""


def document(title: str, sections: Iterable[str]) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def phantom_banner(words: str) -> str:
    """``words`` come behind the note."""
    return f'<p class="phantom"><strong>{PHANTOM_NOTE[0].upper()}{PHANTOM_NOTE[1:]}.</strong> {escape(words)}</p>'


def columns(names: Sequence[str]) -> list[Sequence[str]]:
    """Names of classes in parts that fit side by side, of about equal length."""
    parts = -(-len(names) // WIDEST)
    return [names[len(names) * k // parts : len(names) * (k + 1) // parts] for k in range(parts)]


def definitions(entries: Iterable[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(t)}</dt><dd>{escape(d)}</dd>" for t, d in entries) + "</dl>"


def section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>\n{body}</section>" if body else ""


def bullets(sentences: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(s)}</li>" for s in sentences) + "</ul>"


def table(head: Sequence[str], rows: Sequence[str], caption: str = "") -> str:
    tight = " class=tight" if any("class=tall" in part for part in head) else ""
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    top = f"<thead>{''.join(head)}</thead>" if head else ""
    return f'<div class="scroll"><table{tight}>{title}{top}<tbody>{"".join(rows)}</tbody></table></div>\n'


def row(
    cells: Sequence[Any], tag: str = "td", last_is_text: bool = False, css: str = "", tall: Sequence[str] = ()
) -> str:
    """A second line of a cell is small; heads among ``tall`` stand upright."""
    last = len(cells) - 1 if last_is_text else -1
    inner = []
    for i, cell in enumerate(cells):
        first, *more = escape(str(cell)).split("\n")
        text = first + "".join(f"<br><small>{line}</small>" for line in more)
        if tag == "th" and cell in tall:
            inner.append(f"<th class=tall><span>{text}</span></th>")
        else:
            inner.append(f"<{tag}{' class=text' if i == last else ''}>{text}</{tag}>")
    return f"<tr{f' class={css}' if css else ''}>{''.join(inner)}</tr>"


def number(value: float | None, scale: float = 1) -> str:
    return "\N{EN DASH}" if value is None or not np.isfinite(value) else f"{scale * value:.2f}"


def spread(entry: Mapping[str, Any], scale: float = 1) -> str:
    """Mean and standard deviation, and the mean's interval in a second line."""
    deviation = f" ±\N{NO-BREAK SPACE}{number(entry['std'], scale)}" if entry["std"] is not None else ""
    return number(entry["mean"], scale) + deviation + bounds(entry.get("interval"), scale, "\n")


def bounds(interval: Sequence[float] | None, scale: float = 1, before: str = "") -> str:
    """Both ends; nothing where there is no interval."""
    return f"{before}{number(interval[0], scale)} to {number(interval[1], scale)}" if interval else ""


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
