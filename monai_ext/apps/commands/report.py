# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from monai_ext.utils import read_json, replacing, write_json

__all__ = ["report"]


def report(run_dir: str, *others: str, convention: str | None = None, output_dir: str | None = None) -> None:
    """Print the scores of an evaluation, or compare several on the same cases, and where the page with the pictures is.

    Runs are compared patient by patient: which is better, by how much, and whether that is more than chance.

    Args:
        run_dir: folder of an evaluation (its output_dir), with summary.json and metrics.csv.
        others: more of them, of the same cases.
        convention: of the metrics, monai, deepmind or transunet; by default the first that the evaluation used.
        output_dir: folder for the comparison as a page, comparison.html, and for programs, comparison.json.
    """
    runs = [run_dir, *others]
    if output_dir is not None and not others:
        raise ValueError("monai_ext: --output_dir is for comparisons. Give the folders of two runs or more.")
    summaries = [_summary(Path(run)) for run in runs]
    classes = list(dict.fromkeys(name for summary in summaries for name in summary["class_names"]))
    rows: list[list[Any]] = [[name] for name in [*classes, "mean"]]
    header = ["class"]
    names: list[str] = []
    for run, summary in zip(runs, summaries):
        known = summary["conventions"]
        names.append(convention or (next(iter(known)) if not names else names[0]))
        if names[-1] not in known:
            raise ValueError(f"monai_ext: {run}: no convention {names[-1]!r}; evaluated were {', '.join(known)}.")
        chosen = known[names[-1]]
        header += ["Dice", f"HD95 {chosen['hd95_unit']}", "missed"]
        for row, name in zip(rows, [*classes, None]):
            scores = chosen["overall"] if name is None else chosen["classes"].get(name)
            if scores is None:
                row += [None, None, None]
            else:
                row += [scores["dice"]["mean"], scores["hd95"]["mean"], scores["missed"]]
    said = _comparison(runs, summaries, names[0], output_dir) if others else _intervals(summaries[0], names[0])
    for run, summary in zip(runs, summaries):
        note = f"; {summary['data']}" if summary["phantom"] else ""
        print(f"{summary['title']}: {summary['number_of_cases']} cases{note}\n  {Path(run) / 'report.html'}")
    print()
    print(tabulate(rows, header, floatfmt=("", *(".3f", ".2f", "g") * len(runs)), missingval="-"))
    print(*said, sep="\n")


def _comparison(
    runs: Sequence[str], summaries: Sequence[dict[str, Any]], convention: str, output_dir: str | None
) -> list[str]:
    """What it says, line by line, and with ``output_dir`` its files."""
    from monai_ext.apps.report.comparison import METHOD, as_json, compare_runs, read_run, sentences
    from monai_ext.apps.report.comparison_page import render_comparison
    from monai_ext.phantoms import PHANTOM_NOTE

    tables = [read_run(run, summary, convention) for run, summary in zip(runs, summaries)]
    scored = [table for table in tables if table is not None]
    if len(scored) < len(runs):
        without = next(run for run, table in zip(runs, tables) if table is None)
        if output_dir is not None:
            raise FileNotFoundError(
                f"monai_ext: {without}: no table of its cases (metrics.csv) to compare. Evaluate again, or leave out "
                "--output_dir."
            )
        return ["", f"Not compared: {without} has no table of its cases (metrics.csv)."]
    compared = compare_runs(scored)
    said = []
    for part in compared:
        said += ["", *sentences(part, runs, scored[0].unit)]
    said += ["", *METHOD]
    if any(summary["phantom"] for summary in summaries):
        said.append(f"{PHANTOM_NOTE[0].upper()}{PHANTOM_NOTE[1:]}: no number says which is better for patients.")
    if output_dir is not None:
        folder = Path(output_dir)
        with replacing(folder / "comparison.html") as temporary:
            temporary.write_text(render_comparison(scored, compared), encoding="utf-8")
        write_json(folder / "comparison.json", as_json(scored, compared))
        said += ["", str(folder / "comparison.html")]
    return said


def _intervals(summary: dict[str, Any], convention: str) -> list[str]:
    """Of an evaluation; those of earlier versions have none."""
    told = summary.get("statistics")
    if not told:
        return []
    overall = summary["conventions"][convention]["overall"]
    said = [""]
    for metric, title in {"dice": "Dice", "hd95": "HD95", "nsd": "NSD"}.items():
        interval = overall.get(metric, {}).get("interval")
        if interval:
            mean = overall[metric]["mean"]
            said.append(f"mean {title} {mean:.3f}, 95 % interval {interval[0]:.3f} to {interval[1]:.3f}")
    return [*said, told["text"], *([told["warning"]] if told["warning"] else [])]


def _summary(folder: Path) -> dict[str, Any]:
    file = folder / "summary.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"monai_ext: {folder}: no summary.json. Give the output_dir of an evaluation: python -m monai.bundle run "
            "--config_file \"['train.json','evaluate.json']\" --output_dir DIR."
        )
    content = read_json(file, "summary")
    try:
        entries = [e for part in content["conventions"].values() for e in (part["overall"], *part["classes"].values())]
        units = [part["hd95_unit"] for part in content["conventions"].values()]
        texts = [*units, *content["class_names"], content["title"], content["data"] if content["phantom"] else ""]
        valid = all(map(_scores, entries)) and all(isinstance(text, str) for text in texts) and bool(units)
        valid = (
            valid and isinstance(content["number_of_cases"], int) and isinstance(content.get("statistics", {}), dict)
        )
    except (KeyError, TypeError, AttributeError):
        valid = False
    if not valid:
        raise ValueError(f"monai_ext: {file}: no summary of an evaluation of this library.")
    return content


def _scores(entry: dict[str, Any]) -> bool:
    values = entry["dice"]["mean"], entry["hd95"]["mean"], entry["missed"]
    return all(value is None or isinstance(value, (int, float)) for value in values)
