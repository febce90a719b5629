# SPDX-License-Identifier: Apache-2.0
"""The cases below a folder, and the names of what is made of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from monai_ext.data.files.label_notes import noted_labels

__all__ = ["LABEL", "find_cases", "stem", "walk"]

logger = logging.getLogger(__name__)
LABEL = "_seg"  # ends the names of labels that this library writes


def stem(name: str) -> str:
    """A file's name without its suffix; ``.gz`` is half a suffix."""
    return Path(name[:-3] if name.lower().endswith(".gz") else name).stem


def walk(root: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Each folder below ``root``, itself first, with its files in order; links are followed, but in no circle.

    What is hidden is passed over: macOS's ``._`` files, and what is being written. A folder that cannot be read comes
    with itself as its one file, so that whoever opens this tells of it.
    """
    unreadable: list[Path] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(
        root, onerror=lambda e: unreadable.append(Path(e.filename)), followlinks=True
    ):
        seen.add(os.path.realpath(folder))
        inner = sorted(name for name in folders if not name.startswith("."))
        folders[:] = [name for name in inner if os.path.realpath(os.path.join(folder, name)) not in seen]
        files = [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
        yield Path(folder), [file for file in files if file.is_file() or file.is_symlink()]
    for path in unreadable:
        yield path, [path]


def find_cases(
    path: str | os.PathLike, accepts: Callable[[str], bool], is_case: Callable[[Path], bool] | None = None
) -> list[dict[str, str]]:
    """One file, whatever its name, or all below a folder whose names are accepted, as ``[{"image", "case_id"}]``.

    ``case_id`` is the file's name without its suffix, behind the folders in which it lies below ``path``:
    ``patient1_ct`` for ``patient1/ct.nii.gz``. Labels that this library has written, by their note or by ``_seg`` at
    the end of their names, are passed over, and the log says so.

    Args:
        path: a file or a folder.
        accepts: whether a file is one, by its name.
        is_case: whether a folder itself is one.

    Raises:
        FileNotFoundError: if there is no such path.
        ValueError: if two would have one name.
    """
    root = Path(path).expanduser()
    if root.is_file():
        return [{"image": str(root), "case_id": stem(root.name)}]
    if not root.is_dir():
        raise FileNotFoundError(f"monai_ext: {root}: no such file or folder.")
    images: list[Path] = []
    labels: list[str] = []
    for folder, files in walk(root):
        found = [file for file in files if accepts(file.name) or file == folder]
        noted = noted_labels(folder)
        mine = [file for file in found if stem(file.name).endswith(LABEL) or file.name in noted]
        labels += [str(file.relative_to(root)) for file in mine]
        images += [file for file in found if file not in mine]
        if is_case is not None and folder not in files and is_case(folder):
            images.append(folder)
    if labels:
        told = ", ".join(labels[:5]) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
        logger.warning("monai_ext: %s: passed over as labels of earlier runs: %s.", root, told)
    cases: dict[str, Path] = {}
    for image in sorted(images):
        parts = image.relative_to(root).parts or (image.resolve().name,)
        name = "_".join([*parts[:-1], parts[-1] if image.is_dir() else stem(parts[-1])])
        if (other := cases.setdefault(name, image)) != image:
            first, second = (file.relative_to(root) for file in (other, image))
            raise ValueError(
                f"monai_ext: {root}: {first} and {second} would have one label file. Give them one by one."
            )
    return [{"image": str(image), "case_id": name} for name, image in cases.items()]
