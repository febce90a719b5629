# SPDX-License-Identifier: Apache-2.0
"""Which label belongs to which image."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.utils import ensure_tuple

from monai_ext.data.files.picture_reader import is_picture
from monai_ext.data.files.volume_finder import channel_of, is_other_volume, is_volume
from monai_ext.data.files.volume_reader import read_geometry
from monai_ext.data.lists import ONE_PICTURE, case_name, read_list

__all__ = ["pair_files", "read_decathlon", "short_ids"]

Pairs = dict[str, dict[str, Any]]
WORDS = "images?|img|labels?|lbl|masks?|seg(?:mentation)?s?|gt|annotations?|truth"
# what names say beside the case: img0001, case_0000 (nnU-Net's first channel), case_seg, label-case
BESIDE = re.compile(rf"^(?:{WORDS})[_\-. ]*(?=.)|[_\-. ]+(?:{WORDS}|0000)$", re.IGNORECASE)


def pair_files(images: Path, labels: Path) -> Pairs:
    """Case id -> ``{"image": path, "label": path}`` of two folders whose files agree in name.

    Names may say what they are: ``img0001`` goes with ``label0001``, ``case_0000`` and ``case`` with ``case_seg``.
    Where ``case_0001`` and further channels lie beside the first one, ``image`` is a list of them.

    Raises:
        FileNotFoundError: if a folder is missing or holds no image.
        ValueError: for an image without a label or the reverse, two files of one case, or volumes among pictures.
    """
    if several := _channel_files(images, labels):
        return several
    found = {kind: _files(folder, kind) for kind, folder in (("images", images), ("labels", labels))}
    kinds = {is_picture(path) for group in found.values() for path in group.values()}
    if len(kinds) > 1:
        raise ValueError(f"monai_ext: {images}, {labels}: hold volumes and 2D pictures, expected one kind.")
    for case, path in found["images"].items():
        first, channel = channel_of(case)
        if is_picture(path) and channel is not None and first in found["images"] and first in found["labels"]:
            one = f"{found['images'][first].name}, {path.name}"
            raise ValueError(
                f"monai_ext: {images}: case {first} has several pictures ({one}), expected one. {ONE_PICTURE}"
            )
    for kind, other in (("images", "labels"), ("labels", "images")):
        alone = [str(path) for case, path in found[kind].items() if case not in found[other]]
        if alone:
            more = f" and {len(alone) - 3} more" if len(alone) > 3 else ""
            where = labels if other == "labels" else images
            raise ValueError(f"monai_ext: {', '.join(alone[:3])}{more}: no file of that name in {where}.")
    return {c: {"image": str(found["images"][c]), "label": str(found["labels"][c])} for c in found["images"]}


def _channel_files(images: Path, labels: Path) -> Pairs | None:
    """The cases of nnU-Net's naming, if every image has it and a label of its case; None for other folders."""
    if not images.is_dir() or not labels.is_dir():
        return None
    files = [path for path in sorted(images.iterdir()) if path.is_file() and is_volume(path) and path.name[0] != "."]
    found: dict[str, list[str]] = {}
    for path in files:
        case, number = channel_of(path)
        if number is None:
            return None
        found.setdefault(case, []).append(str(path))
    truths = {case_name(p): str(p) for p in sorted(labels.iterdir()) if is_volume(p) and p.name[0] != "."}
    if found.keys() != truths.keys() or max(map(len, found.values()), default=1) < 2:
        return None
    return {case: {"image": files, "label": truths[case]} for case, files in found.items()}


def read_decathlon(file: Path) -> tuple[Pairs, dict[str, str], list[str]]:
    """Cases, class names (by number) and ids of test cases of a list; ``monai_ext.data.read_list`` says more.

    Raises:
        FileNotFoundError, ValueError: as ``read_list`` does.
    """
    listed = read_list(file)
    names = short_ids(listed.parts)
    cases = {names[c["case_id"]]: {k: c[k] for k in ("image", "label")} for part in listed.parts.values() for c in part}
    classes = {str(number): name for number, name in listed.class_names.items()}
    return cases, classes, [names[case["case_id"]] for case in listed.parts["test"]]


def short_ids(parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, str]:
    """Case id -> id without words that only say what a file is, where this leaves every case its own.

    Ids that a list gave, and not its files' names, are kept.
    """
    cases = [case for part in parts.values() for case in part]
    short = {
        case["case_id"]: _case(case["case_id"])
        for case in cases
        if case["case_id"] == case_name(ensure_tuple(case["image"])[0])
    }
    taken = Counter([*short.values(), *(case["case_id"] for case in cases)])
    own = {case_id: name for case_id, name in short.items() if taken[name] == 1}
    return {case["case_id"]: own.get(case["case_id"], case["case_id"]) for case in cases}


def _files(folder: Path, kind: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"monai_ext: {kind} {folder}: no such folder.")
    shown = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    if others := [path for path in shown if is_other_volume(path)]:
        read_geometry(str(others[0]))  # says how to convert it
    files = [path for path in shown if is_volume(path) or is_picture(path)]
    if not files:
        raise FileNotFoundError(f"monai_ext: {kind} {folder}: no NIfTI, NRRD or MetaImage file and no picture in it.")
    found: dict[str, Path] = {}
    for path in files:
        case = _case(case_name(path))
        if case in found:
            raise ValueError(
                f"monai_ext: {folder}: {found[case].name} and {path.name} would both be case {case}; one image and one "
                "label a case are expected."
            )
        found[case] = path
    return found


def _case(name: str) -> str:
    while (shorter := BESIDE.sub("", name)) not in (name, ""):
        name = shorter
    return name
