# SPDX-License-Identifier: Apache-2.0
"""Which labels in a folder this library has finished, from which images and by which run: one line of JSON for each.

A label is noted before it gets its name, so that a stop between the two leaves a note without a file, and never a
file that nobody knows.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

from monai_ext.data.files.fingerprint import hash_file

__all__ = ["LABEL_NOTES", "LabelNote", "note_label", "noted_labels"]

LABEL_NOTES = "run_inference_labels.jsonl"


class LabelNote(NamedTuple):
    """A finished label: the hashes of its file, of its image, and of all that the run depended on."""

    label: str
    image: str
    run: str


def note_label(folder: str | os.PathLike, name: str, note: LabelNote, process: int = 0) -> None:
    """Add a line on the label that is about to become ``folder/name``.

    Each process of a run has a file of its own: network shares know no safe way to add to one from several machines.
    """
    line = json.dumps({"name": name, **note._asdict()}) + "\n"
    own = LABEL_NOTES if process == 0 else LABEL_NOTES.replace(".", f".{process}.")
    with open(Path(folder) / own, "a+b") as file:
        if file.tell() and file.seek(-1, os.SEEK_END) and file.read(1) != b"\n":  # cut off by a stop
            line = "\n" + line
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def noted_labels(folder: str | os.PathLike) -> dict[str, LabelNote]:
    """Name -> note of the labels in a folder that are there as they were noted."""
    notes: dict[str, list[LabelNote]] = {}
    for file in sorted(Path(folder).glob(LABEL_NOTES.replace(".", "*."))):
        try:
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            try:
                fields = json.loads(line)
                name = str(fields.pop("name"))
                note = LabelNote(**{key: str(value) for key, value in fields.items()})
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):  # cut off, or no line of ours
                continue
            notes.setdefault(name, []).append(note)
    hashes = {name: _hash(Path(folder) / Path(name).name) for name in notes}
    return {name: note for name, noted in notes.items() for note in noted if note.label == hashes[name]}


def _hash(path: Path) -> str | None:
    try:
        return hash_file(path) if path.is_file() else None
    except OSError:
        return None
