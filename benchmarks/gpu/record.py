# SPDX-License-Identifier: Apache-2.0
"""The record of a run: a JSON file and its tables."""

from __future__ import annotations

import configparser
import contextlib
import os
import platform
import re
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import STARTED
from benchmarks.gpu.job import ROOT, Row
from benchmarks.machine import cpu_model
from monai_ext.utils import replacing, write_json


def say(text: object) -> None:
    print(f"{time.monotonic() - STARTED:.0f} s: {text}", flush=True)


class Report:
    """The JSON file and, beside it, its tables, both replaced after every row."""

    def __init__(self, path: Path, machine: dict[str, Any], options: dict[str, str]) -> None:
        self.path = path
        self.content: dict[str, Any] = {"machine": machine, "options": options, "parts": {}}
        self.save()

    def begin(self, name: str) -> None:
        """What is added from now on is this part's."""
        self.name, self.start = name, time.monotonic()
        self.content["parts"][name] = {"seconds": 0.0, "rows": []}

    def add(self, rows: list[Row]) -> None:
        for row in rows:
            values = " ".join(f"{key}={cell(value)}" for key, value in row.items() if key != "what")
            say(f"{self.name}: {row['what']}: {values}")
        part = self.content["parts"][self.name]
        part["rows"] += rows
        part["seconds"] = time.monotonic() - self.start
        self.save()

    def save(self) -> None:
        write_json(self.path, self.content)
        with replacing(self.path.with_suffix(".md")) as temporary:
            temporary.write_text(tables(self.content), encoding="utf-8")


def machine(device: torch.device) -> dict[str, Any]:
    found: dict[str, Any] = {"processor": cpu_model(), "cores": os.cpu_count(), "python": platform.python_version()}
    found |= {"torch": torch.__version__, "CUDA": torch.version.cuda}
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    required = re.findall(r"^[\w-]+", setup["options"]["install_requires"], re.MULTILINE)
    for package in dict.fromkeys((*required, "triton", "tensorrt")):
        found.setdefault(package, None)
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    # known before minutes are spent: what needs them fails
    found["not installed"] = ", ".join(package for package in required if found[package] is None) or None
    if device.type == "cuda":
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            lines = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()
            found |= zip(("card", "driver", "memory"), map(str.strip, lines[device.index or 0].split(",")))
    return found


def cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    return "" if value is None else str(value).replace("|", "/")


def tables(content: dict[str, Any]) -> str:
    """Markdown: a table for each part, and below it what failed or was not run."""
    lines = [f"{key} {value}" for key, value in content["machine"].items() if value is not None]
    text = ["; ".join(lines) + "."]
    for name, part in content["parts"].items():
        text.append(f"\n## {name}\n")
        # rows of one kind have the same columns; columns that are empty throughout are left out
        groups: dict[tuple[str, ...], list[Row]] = {}
        for row in part["rows"]:
            if "failed" not in row and "not run" not in row:
                groups.setdefault(tuple(row), []).append(row)
        for columns, rows in groups.items():
            kept = [column for column in columns if any(row[column] is not None for row in rows)]
            text += [f"| {' | '.join(kept)} |", "|" + "---|" * len(kept)]
            text += [f"| {' | '.join(cell(row[column]) for column in kept)} |" for row in rows]
            text.append("")
        for row in part["rows"]:
            text += [f"* {row['what']}: {state} ({row[state]})" for state in ("failed", "not run") if state in row]
    return "\n".join(text).rstrip() + "\n"
