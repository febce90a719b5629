# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

from tabulate import tabulate

from monai_ext.utils import read_json

__all__ = ["report"]


def report(run_dir: str, *others: str, convention: str | None = None) -> None:
    """Print the scores of an evaluation, or of several side by side, and where the page with the pictures is.

    Args:
        run_dir: folder of an evaluation (its output_dir), with summary.json.
        others: more of them.
        convention: of the metrics, monai or transunet; by default the first that the evaluation used.
    """
    runs = [str(run_dir), *map(str, others)]
    summaries = [_summary(Path(run)) for run in runs]
    classes = list(dict.fromkeys(name for summary in summaries for name in summary["class_names"]))
    rows: list[list[Any]] = [[name] for name in [*classes, "mean"]]
    header = ["class"]
    for run, summary in zip(runs, summaries):
        known = summary["conventions"]
        chosen = known.get(convention) if convention else next(iter(known.values()))
        if chosen is None:
            raise ValueError(f"monai_ext: {run}: no convention {convention!r}; evaluated were {', '.join(known)}.")
        header += ["Dice", f"HD95 {chosen['hd95_unit']}", "missed"]
        for row, name in zip(rows, [*classes, None]):
            scores = chosen["overall"] if name is None else chosen["classes"].get(name)
            if scores is None:
                row += [None, None, None]
            else:
                row += [scores["dice"]["mean"], scores["hd95"]["mean"], scores["missed"]]
    for run, summary in zip(runs, summaries):
        note = f"; {summary['data']}" if summary["phantom"] else ""
        print(f"{summary['title']}: {summary['number_of_cases']} cases{note}\n  {Path(run) / 'report.html'}")
    print()
    print(tabulate(rows, header, floatfmt=("", *(".3f", ".2f", "g") * len(runs)), missingval="-"))


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
        valid = valid and isinstance(content["number_of_cases"], int)
    except (KeyError, TypeError, AttributeError):
        valid = False
    if not valid:
        raise ValueError(f"monai_ext: {file}: no summary of an evaluation of this library.")
    return content


def _scores(entry: dict[str, Any]) -> bool:
    values = entry["dice"]["mean"], entry["hd95"]["mean"], entry["missed"]
    return all(value is None or isinstance(value, (int, float)) for value in values)
