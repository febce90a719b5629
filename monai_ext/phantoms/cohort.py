# SPDX-License-Identifier: Apache-2.0
"""Write a cohort of phantom cases so that it is there as a whole or not at all, and told from clinical data."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from monai_ext.utils import clear_dead, locked, replacing, scratch_folder

__all__ = [
    "MARKER",
    "PHANTOM_NOTE",
    "check_description",
    "holds_files",
    "place_to_write",
    "read_marker",
    "run_cases",
    "save_nifti",
    "write_cohort",
    "write_marker",
]

#: File at the root of every phantom cohort that says what it is.
MARKER = "PHANTOM.json"
#: What every log and report on phantom data says.
PHANTOM_NOTE = "phantom data, no clinical meaning"


def save_nifti(path: Path, voxels: NDArray[Any], affine: NDArray[np.float64], description: str) -> None:
    """Write a NIfTI file in mm, with ``description`` (79 characters at most) in its header."""
    image = nib.Nifti1Image(voxels, affine)
    image.header["descrip"] = description.encode()[:79]
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code="scanner")
    image.set_sform(affine, code="scanner")
    with replacing(path) as temporary:
        nib.save(image, temporary)


def check_description(path: Path, description: str) -> None:
    """Raise ValueError unless the header of a NIfTI file holds what ``save_nifti`` was given."""
    header: Any = nib.load(path).header
    found = bytes(header["descrip"]).rstrip(b"\0").decode(errors="replace")
    if found != description:
        raise ValueError(
            f"monai_ext: {path}: exists, but is not of this phantom cohort: its header says {found!r}, "
            f"expected {description!r}. Give another folder, or delete this one."
        )


def write_marker(folder: Path, generator: str, seed: int, cases: Sequence[Any], **more: Any) -> None:
    """Write ``PHANTOM.json``."""
    content = {"phantom": True, "generator": generator, "seed": seed, "cases": list(cases), **more}
    content["note"] = PHANTOM_NOTE
    with replacing(folder / MARKER) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_marker(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What ``PHANTOM.json`` of a folder says; None where there is none, so the data is no phantom."""
    path = Path(folder) / MARKER
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def holds_files(folder: Path) -> bool:
    """Whether a folder holds anything but what systems hide in folders."""
    return folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir())


@contextmanager
def place_to_write(folder: Path) -> Iterator[Path]:
    """Give the folder to write a cohort to, which others who want the same wait for.

    Where ``folder`` is missing or empty that is a hidden folder beside it, which becomes ``folder`` in one step when
    all is written; else ``folder`` itself, for what is missing there. Where its parent cannot be written to, it lies
    inside ``folder``, and its content is moved up, ``PHANTOM.json`` first.
    """
    with ExitStack() as stack:
        parent = folder.absolute().parent
        try:
            stack.enter_context(locked(parent, f".monai_ext-{folder.name[:100]}.lock", wait=True))
        except OSError:
            if not folder.is_dir():
                raise
            parent = folder
            stack.enter_context(locked(parent, wait=True))
        clear_dead(folder if folder.is_dir() else parent)
        if holds_files(folder):
            yield folder
            return
        made = stack.enter_context(scratch_folder(parent, f"{folder.name[:100]}-")) / "cohort"
        made.mkdir()
        yield made
        if parent != folder and not (folder.is_dir() and any(folder.iterdir())):
            made.rename(folder)
            return
        for path in sorted(made.iterdir(), key=lambda path: path.name != MARKER):
            path.rename(folder / path.name)


def run_cases(
    make: Callable[[Any], None], cases: Sequence[Any], workers: int | None, progress: bool, what: str
) -> None:
    """Call ``make`` once per case, on several threads (numpy and zlib let go of the interpreter)."""
    if workers is None:
        workers = min(os.cpu_count() or 1, 8)
    with tqdm(total=len(cases), desc=what, unit="case", disable=not progress or not cases) as bar:
        if workers <= 1:
            for case in cases:
                make(case)
                bar.update()
            return
        with ThreadPoolExecutor(workers) as pool:
            jobs = [pool.submit(make, case) for case in cases]
            try:
                for job in as_completed(jobs):
                    job.result()
                    bar.update()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise


def write_cohort(
    folder: Path,
    generator: str,
    seed: int,
    wanted: Sequence[int],
    possible: Sequence[int],
    complete: Callable[[Path, int], bool],
    make: Callable[[Path, int], None],
    workers: int | None,
    progress: bool,
    what: str,
) -> None:
    """Make the cases that are not there yet, then say in ``PHANTOM.json`` which are.

    Args:
        folder: root of the cohort.
        generator: what makes it, with its version.
        seed: of the cohort.
        wanted: the cases to have.
        possible: every case a cohort can have, in order; those that lie there already stay and are listed.
        complete: whether a case lies in a folder; raises ValueError for files of something else.
        make: writes a case to a folder.
        workers: see ``run_cases``.
        progress: see ``run_cases``.
        what: see ``run_cases``.
    """
    with place_to_write(folder) as place:
        present = [case for case in possible if complete(place, case)]
        missing = [case for case in wanted if case not in present]
        run_cases(partial(make, place), missing, workers, progress, what)
        cases = [case for case in possible if case in present or case in missing]
        marker = read_marker(place)
        if marker is None or marker.get("cases") != cases:
            write_marker(place, generator, seed, cases)
