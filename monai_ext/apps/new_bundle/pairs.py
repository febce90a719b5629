# SPDX-License-Identifier: Apache-2.0
"""Which label belongs to which image."""

from __future__ import annotations

import json
import re
from pathlib import Path

from monai_ext.data.files.picture_reader import is_picture
from monai_ext.data.files.volume_reader import is_volume

__all__ = ["pair_files", "read_decathlon"]

Pairs = dict[str, dict[str, str]]
WORDS = "images?|img|labels?|lbl|masks?|seg(?:mentation)?s?|gt|annotations?|truth"
# what names say beside the case: img0001, case_0000 (nnU-Net's first channel), case_seg, label-case
BESIDE = re.compile(rf"^(?:{WORDS})[_\-. ]*(?=.)|[_\-. ]+(?:{WORDS}|0000)$", re.IGNORECASE)
SUFFIX = re.compile(r"(\.nii)?\.\w+$")


def pair_files(images: Path, labels: Path) -> Pairs:
    """Case id -> ``{"image": path, "label": path}`` of two folders whose files agree in name.

    Names may say what they are: ``img0001`` goes with ``label0001``, ``case_0000`` and ``case`` with ``case_seg``.

    Raises:
        FileNotFoundError: if a folder is missing or holds no image.
        ValueError: for an image without a label or the reverse, two files of one case, or volumes among pictures.
    """
    found = {kind: _files(folder, kind) for kind, folder in (("images", images), ("labels", labels))}
    kinds = {is_picture(path) for group in found.values() for path in group.values()}
    if len(kinds) > 1:
        raise ValueError(f"monai_ext: {images}, {labels}: hold volumes and 2D pictures, expected one kind.")
    for kind, other in (("images", "labels"), ("labels", "images")):
        alone = [str(path) for case, path in found[kind].items() if case not in found[other]]
        if alone:
            more = f" and {len(alone) - 3} more" if len(alone) > 3 else ""
            where = labels if other == "labels" else images
            raise ValueError(f"monai_ext: {', '.join(alone[:3])}{more}: no file of that name in {where}.")
    return {c: {"image": str(found["images"][c]), "label": str(found["labels"][c])} for c in found["images"]}


def read_decathlon(file: Path) -> tuple[Pairs, dict[str, str], list[str]]:
    """Cases, class names (by number) and ids of test cases of a Decathlon or nnU-Net ``dataset.json``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no such list.
    """
    if not file.is_file():
        raise FileNotFoundError(f"monai_ext: {file}: no such file.")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        parts = {part: content.get(part, []) for part in ("training", "validation", "test")}
        labels = {str(k): v for k, v in dict(content.get("labels", {})).items()}
        # labels of test cases are not always published
        cases = {
            part: [
                {key: str(file.parent / case[key]) for key in ("image", "label")} for case in group if "label" in case
            ]
            for part, group in parts.items()
            if not (part == "test" and any(isinstance(case, str) for case in group))
        }
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise ValueError(
            f'monai_ext: {file}: expected {{"training": [{{"image": ..., "label": ...}}, ...]}} '
            f"({type(e).__name__}: {e})."
        ) from e
    if not cases.get("training"):
        raise ValueError(f'monai_ext: {file}: no "training" cases with image and label.')
    pairs: Pairs = {}
    tests = []
    for part, group in cases.items():
        for case in group:
            name = _case(Path(case["image"]))
            if name in pairs:
                raise ValueError(f"monai_ext: {file}: case {name} is listed twice.")
            pairs[name] = case
            tests += [name] if part == "test" else []
    if any(not key.isdigit() for key in labels):  # nnU-Net's second version turned it round
        labels = {str(number): name for name, number in labels.items()}
    return pairs, labels, tests


def _files(folder: Path, kind: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"monai_ext: {kind} {folder}: no such folder.")
    files = [path for path in sorted(folder.iterdir()) if _is_image(path)]
    if not files:
        raise FileNotFoundError(f"monai_ext: {kind} {folder}: no NIfTI, NRRD or MetaImage file and no picture in it.")
    found: dict[str, Path] = {}
    for path in files:
        case = _case(path)
        if case in found:
            raise ValueError(
                f"monai_ext: {folder}: {found[case].name} and {path.name} would both be case {case}; one image and one "
                "label a case are expected."
            )
        found[case] = path
    return found


def _is_image(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return not hidden and path.is_file() and (is_volume(path) or is_picture(path))


def _case(path: Path) -> str:
    name = SUFFIX.sub("", path.name)
    while (shorter := BESIDE.sub("", name)) not in (name, ""):
        name = shorter
    return name
