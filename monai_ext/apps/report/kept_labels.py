# SPDX-License-Identifier: Apache-2.0
"""The label maps of an evaluation as files, and the table that says whose they are: what ``view`` shows."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from monai_ext.data import AtomicNibabelWriter, AtomicPictureWriter
from monai_ext.data.files.affines import flip_lps
from monai_ext.utils import read_json, write_json

__all__ = [
    "CASES_FILE",
    "LABELS_FOLDER",
    "KeptCase",
    "KeptCases",
    "label_files",
    "read_kept",
    "write_kept",
    "write_label",
]

CASES_FILE = "cases.json"
LABELS_FOLDER = "labels"
PLAIN = re.compile(r"[\w-][\w.-]{0,99}", re.ASCII)  # a case's name that is a file's as it is


class KeptCase(NamedTuple):
    """Name, files of the scan, and the files of its labels."""

    name: str
    scan: tuple[str, ...]
    truth: Path
    prediction: Path


class KeptCases(NamedTuple):
    """Classes 1, 2, ..., and the cases."""

    class_names: tuple[str, ...]
    cases: tuple[KeptCase, ...]


def label_files(source: str, picture: bool) -> tuple[str, str]:
    """Names of the files of a case's truth and prediction; the case's id, where that can be a file's name."""
    stem = source if PLAIN.fullmatch(source) else hashlib.sha256(source.encode()).hexdigest()[:24]
    ending = ".png" if picture else ".nii.gz"
    return f"{stem}_truth{ending}", f"{stem}_seg{ending}"


def write_label(file: Path, labels: np.ndarray, affine: np.ndarray | None) -> None:
    """Classes as they were scored: a picture ``(H, W)``, or ``(X, Y, Z)`` on the affine's grid (RAS, mm)."""
    if labels.ndim == 2:
        writer = AtomicPictureWriter(output_dtype=np.uint8)
        writer.set_data_array(labels, channel_dim=None)
        writer.write(file)
        return
    # arrays without a place are read as 1 mm, axes to left, back and head
    placed = flip_lps(np.eye(4)) if affine is None else affine
    AtomicNibabelWriter.create_backend_obj(labels, placed, dtype=np.uint8).to_filename(file)


def write_kept(folder: Path, class_names: Sequence[str], cases: Sequence[KeptCase]) -> None:
    """Note the cases of a folder; labels by their place in it, and scans by theirs to it, unless it was given whole."""
    base = os.path.realpath(folder)
    entries = [
        {
            "case": case.name,
            "scan": [
                file if os.path.isabs(file) else os.path.relpath(os.path.abspath(file), base) for file in case.scan
            ],
            **{name: f"{LABELS_FOLDER}/{getattr(case, name).name}" for name in ("truth", "prediction")},
        }
        for case in cases
    ]
    write_json(folder / CASES_FILE, {"class_names": list(class_names), "cases": entries})


def read_kept(folder: str | os.PathLike) -> KeptCases:
    """What an evaluation kept.

    Raises:
        ValueError: if the table is none, or names a label outside the folder.
    """
    file = Path(folder) / CASES_FILE
    content = read_json(file, "table of cases")
    try:
        names = tuple(content["class_names"])
        entries = [(c["case"], tuple(c["scan"]), c["truth"], c["prediction"]) for c in content["cases"]]
        texts = [*names, *(text for name, scan, *labels in entries for text in (name, *scan, *labels))]
        valid = all(isinstance(text, str) for text in texts) and all(scan for _, scan, *_ in entries)
    except (KeyError, TypeError):
        valid = False
    if not valid or not entries:
        raise ValueError(f"monai_ext: {file}: no table of an evaluation's cases. Evaluate again.")
    cases = []
    for name, scan, *labels in entries:
        truth, prediction = (Path(folder) / LABELS_FOLDER / Path(label).name for label in labels)
        files = tuple(os.path.normpath(os.path.join(os.path.realpath(folder), part)) for part in scan)
        cases.append(KeptCase(name, files, truth, prediction))
    return KeptCases(names, tuple(cases))
