# SPDX-License-Identifier: Apache-2.0
"""Find a publisher's tree in what a user unpacked: names in any case and spacing, and an image for every mask."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from monai_ext.data.datasets.dataset_info import Cohort
from monai_ext.data.files.picture_reader import is_picture

__all__ = [
    "find_images_and_masks",
    "find_one",
    "folders",
    "listed_parts",
    "match_masks",
    "not_found",
    "only",
    "pictures_by_stem",
    "subfolder",
    "visible",
]

T = TypeVar("T")


def folders(folder: Path, depth: int = 4) -> Iterator[Path]:
    """``folder``, then what lies below it down to ``depth`` levels, sorted by name; hidden ones are left out."""
    yield folder
    if depth:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith(("__MACOSX", ".")))
        for name in names:
            yield from folders(folder / name, depth - 1)


def subfolder(folder: Path, name: str) -> Path | None:
    """The folder of this name in ``folder``; the inner one where an archive was unpacked into a folder of its name."""
    with os.scandir(folder) as entries:
        found = sorted(e.name for e in entries if _plain(e.name) == _plain(name) and e.is_dir())
    if not found:
        return None
    child = folder / found[0]
    return subfolder(child, name) or child


def visible(folder: Path) -> list[Path]:
    """The files right in ``folder``, sorted; not those that begin with a dot, such as the ``._x`` of macOS."""
    with os.scandir(folder) as entries:
        return sorted(folder / e.name for e in entries if not e.name.startswith(".") and e.is_file())


def only(found: Mapping[Path, T], folder: Path, title: str) -> T | None:
    """The one thing that was found, by its place; None where there is none.

    Raises:
        ValueError: if there are several; their places are named.
    """
    if len(found) > 1:
        listed = ", ".join(map(str, list(found)[:8]))
        raise ValueError(f"monai_ext: {folder}: {title} may be in any of {listed}. Give that folder.")
    return next(iter(found.values()), None)


def pictures_by_stem(folder: Path, pattern: str = r"(.+)") -> dict[str, Path]:
    """The pictures right in ``folder`` by the first group of ``pattern``, which their whole stem must match.

    Raises:
        ValueError: if two files have one stem.
    """
    found: dict[str, Path] = {}
    for path in visible(folder):
        match = re.fullmatch(pattern, path.stem, re.IGNORECASE)
        if not match or not is_picture(path):
            continue
        if match[1] in found:
            raise ValueError(f"monai_ext: {path}: {found[match[1]].name} has the same name. Keep one of the two.")
        found[match[1]] = path
    return found


def match_masks(
    images: Mapping[str, Path], masks: Mapping[str, Path | Sequence[Path]], where: Path
) -> dict[str, dict[str, Any]]:
    """Case id -> ``{"image": path, "label": path or paths}``, sorted.

    Args:
        images: case id -> image.
        masks: case id -> its mask, or its masks.
        where: the folder of the masks, for errors.

    Raises:
        FileNotFoundError: if an image has no mask, or the reverse; the file is named.
    """
    for case in sorted(images.keys() - masks.keys()):
        raise FileNotFoundError(f"monai_ext: {images[case]}: no mask of this image in {where}.")
    for case in sorted(masks.keys() - images.keys()):
        label = masks[case]
        first = label if isinstance(label, Path) else label[0]
        raise FileNotFoundError(f"monai_ext: {first}: no image {case} to this mask.")
    cases: dict[str, dict[str, Any]] = {}
    for case in sorted(images):
        label = masks[case]
        files = str(label) if isinstance(label, Path) else [str(path) for path in label]
        cases[case] = {"image": str(images[case]), "label": files}
    return cases


def find_one(folder: Path, title: str, read: Callable[[Path], Cohort | None], expected: str) -> Cohort:
    """What ``read`` makes of the one folder that it knows, ``folder`` itself or up to four levels below it.

    Raises:
        FileNotFoundError: if it knows none (and gives None for all); says what was expected.
        ValueError: if it knows several; they are named.
    """
    found = {root: cohort for root in folders(folder) if (cohort := read(root))}
    if cohort := only(found, folder, title):
        return cohort
    raise not_found(folder, title, expected)


def listed_parts(parts: Mapping[str, Sequence[str]]) -> str:
    """Parts of a split in words: ``600 training, 200 test``."""
    return ", ".join(f"{len(ids)} {part}" for part, ids in parts.items())


def find_images_and_masks(folder: Path, title: str, name: str) -> Cohort:
    """The folders ``images`` and ``masks`` beside each other, in ``folder`` or up to four levels below it.

    Many datasets are laid out so. Where there are several such pairs, only that with ``name`` in its path will do.

    Raises:
        FileNotFoundError: if there is none with pictures in it.
        ValueError: if several will do, or none of several; they are named.
    """
    found = []
    for root in folders(folder):
        pair = subfolder(root, "images"), subfolder(root, "masks")
        if pair[0] and pair[1] and pictures_by_stem(pair[0]):
            found.append((pair[0], pair[1]))
    if not found:
        raise not_found(folder, title, "images/ with pictures, and masks/ with those of the same names")
    meant = [pair for pair in found if _plain(name) in _plain(str(pair[0].relative_to(folder)))]
    if len(found) > 1 and len(meant) != 1:
        listed = ", ".join(str(pair[0].parent) for pair in found[:8])
        raise ValueError(f"monai_ext: {folder}: {title} may be in any of {listed}. Give that folder.")
    images, masks = (meant or found)[0]
    cases = match_masks(pictures_by_stem(images), pictures_by_stem(masks), masks)
    return Cohort(f"{title} in {images.parent}, {len(cases)} images", cases)


def not_found(folder: Path, title: str, expected: str) -> FileNotFoundError:
    """What to raise where a dataset was not found: what was expected, and what is there."""
    present = sorted(p.name for p in folder.iterdir())[:8]
    return FileNotFoundError(
        f"monai_ext: {folder}: no {title} data found. Expected {expected}; "
        f"found {', '.join(present) if present else 'an empty folder'}."
    )


def _plain(name: str) -> str:
    """Without case, spaces, hyphens and underscores, in which copies of a dataset differ."""
    return re.sub(r"[\s_-]", "", name).lower()
