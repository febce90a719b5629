# SPDX-License-Identifier: Apache-2.0
"""The label maps of an evaluation as files, and the table that says whose they are: what ``view`` shows."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

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


def label_files(name: str, picture: bool) -> tuple[str, str]:
    """Names of the files of a case's truth and prediction; the case's, where that can be a file's."""
    stem = name if PLAIN.fullmatch(name) else hashlib.sha256(name.encode()).hexdigest()[:24]
    ending = ".png" if picture else ".nii.gz"
    return f"{stem}_truth{ending}", f"{stem}_seg{ending}"


def write_label(file: Path, labels: np.ndarray, affine: np.ndarray | None) -> None:
    """Classes as they were scored: a picture ``(H, W)``, or ``(X, Y, Z)`` on the affine's grid (RAS, mm)."""
    writer: Any = AtomicPictureWriter if labels.ndim == 2 else AtomicNibabelWriter
    saved = writer(output_dtype=np.uint8)
    saved.set_data_array(labels, channel_dim=None)
    if labels.ndim == 3:  # arrays without a place are read as 1 mm, axes to left, back and head
        saved.set_metadata({"affine": flip_lps(np.eye(4)) if affine is None else affine}, resample=False)
    saved.write(file)


def write_kept(folder: Path, class_names: Sequence[str], cases: Sequence[tuple[str, Sequence[str], bool]]) -> None:
    """Note the cases of a folder: name, files of the scan, and whether it is a picture."""
    entries = []
    for name, scan, picture in cases:
        truth, prediction = (f"{LABELS_FOLDER}/{file}" for file in label_files(name, picture))
        entries.append({"case": name, "scan": list(scan), "truth": truth, "prediction": prediction})
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
        cases.append(KeptCase(name, scan, truth, prediction))
    return KeptCases(names, tuple(cases))
