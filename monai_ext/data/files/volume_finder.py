# SPDX-License-Identifier: Apache-2.0
"""Which files are volumes by their names, and which are of one image."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_ext.data.files.case_finder import find_cases
from monai_ext.data.files.dicom import holds_series
from monai_ext.data.files.guards import is_note, require_file

__all__ = [
    "ITK",
    "NIFTI",
    "OTHERS",
    "PAIR",
    "channel_of",
    "find_images",
    "is_other_volume",
    "is_volume",
    "other_volume",
]

NIFTI = (".nii", ".nii.gz")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")  # nnU-Net's names
PAIR = (".hdr", ".img", ".img.gz")
ARCHIVES = (".zip", ".tar", ".gz", ".bz2", ".xz", ".zst")
# endings of other volumes, what they are, and how to make one of ours of them
OTHERS = {
    (".mgz", ".mgh"): ("a volume of FreeSurfer", "Convert it with mri_convert FILE.mgz FILE.nii.gz."),
    PAIR: (
        "one half of a NIfTI or Analyze pair",
        "Save the pair as one file, FILE.nii.gz (fslchfiletype NIFTI_GZ, ITK-SNAP and 3D Slicer do so).",
    ),
    (".mnc", ".mnc2"): ("a volume in MINC", "Convert it with mnc2nii FILE.mnc FILE.nii."),
    ARCHIVES: ("an archive", "Unpack it first."),
}


def find_images(path: str | os.PathLike, channel_names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """One volume, or all below a folder: files, and folders with a DICOM series; labels of ours are passed over.

    Of several channels, files that nnU-Net's naming puts together (``case_0000.nii.gz``, ``case_0001.nii.gz``, ...) are
    one case; ``path`` may be one of them, or files with commas between. Volumes in formats that are not read are cases
    too: reading them ends with the way to convert them.

    Args:
        path: a file or a folder.
        channel_names: what the channels of a volume are; with one name or none each file is a volume.

    Returns:
        cases with ``image``, the path, or a tuple of paths in the order of the channels, and ``case_id``, the name of
        its label: see ``data.files.case_finder.find_cases``.

    Raises:
        FileNotFoundError: if there is no such path, or no volume in it.
        ValueError: if two would have one name.

    Examples::

        >>> find_images("imagesTs", ["FLAIR", "T1w"])
        [{'image': ('imagesTs/a_0000.nii.gz', 'imagesTs/a_0001.nii.gz'), 'case_id': 'a'}]
    """
    if len(channel_names) > 1 and (given := _files_between_commas(path)):
        return [{"image": given, "case_id": channel_of(given[0])[0]}]
    if cases := find_cases(path, lambda name: is_volume(name) or is_other_volume(name), holds_series):
        return _with_channels(path, cases) if len(channel_names) > 1 else cases
    raise FileNotFoundError(
        f"monai_ext: {path}: no volume found. Expected files ending in {', '.join(NIFTI + ITK)}, or DICOM series."
    )


def _files_between_commas(path: str | os.PathLike) -> tuple[str, ...]:
    """The files of one image; none where the text is a path itself."""
    text = os.fspath(path)
    if "," not in text or os.path.exists(os.path.expanduser(text)):
        return ()
    files = tuple(os.path.expanduser(part.strip()) for part in text.split(",") if part.strip())
    for file in files:
        require_file(file)
    return files


def _with_channels(path: str | os.PathLike, cases: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Files of one case put together; one file of a case stands for all beside it."""
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    for case in cases:
        name, number = channel_of(case["image"])
        found.setdefault((os.path.dirname(case["image"]), name if number is not None else case["image"]), []).append(
            case
        )
    result: list[dict[str, Any]] = []
    for (folder, name), parts in found.items():
        files = sorted(part["image"] for part in parts)
        numbered = channel_of(files[0])[1] is not None
        if numbered and os.path.isfile(os.path.expanduser(os.fspath(path))):
            beside = sorted(os.path.join(folder, file) for file in os.listdir(folder or "."))
            ending = _ending(files[0])
            files = [f for f in beside if is_volume(f) and f.endswith(ending) and channel_of(f)[0] == name]
            files = [f for f in files if channel_of(f)[1] is not None]
        # several channels of one case, and a file that has them all, whatever its name
        together = numbered and (len(files) > 1 or channel_of(files[0])[1] == 0)
        case_id = parts[0]["case_id"]
        if together:
            result.append({"image": tuple(files), "case_id": CHANNEL.sub(r"\g<case>", case_id)})
        else:
            result += [{"image": part["image"], "case_id": part["case_id"]} for part in parts]
    names = [case["case_id"] for case in result]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"monai_ext: {path}: several images would have one label file, {twice[0]}. Give them one by one."
        )
    return result


def channel_of(file: str | os.PathLike) -> tuple[str, int | None]:
    """The case and the number of the channel in a file's name as nnU-Net has it, and None for another name.

    Examples::

        >>> channel_of("imagesTs/a.1_0003.nii.gz")
        ('a.1', 3)
    """
    name = Path(file).name
    stem = name[: -len(ending)] if (ending := _ending(name)) else name
    match = CHANNEL.fullmatch(stem)
    return (match["case"], int(match["channel"])) if match else (stem, None)


def is_volume(path: str | os.PathLike) -> bool:
    """Whether a file name is that of a volume in one file."""
    return str(path).lower().endswith(NIFTI + ITK) and not is_note(path)


def is_other_volume(path: str | os.PathLike) -> bool:
    """Whether a file name is that of a volume which has to be converted first; of a pair, the header's name is."""
    name = str(path).lower()
    if is_volume(path) or is_note(path) or name.endswith(".img"):
        return False
    if name.endswith(ARCHIVES):
        return Path(name).stem.endswith(NIFTI + ITK)
    return other_volume(name) is not None


def other_volume(path: str) -> tuple[str, str] | None:
    """What a file that is no volume of ours is by its name, and how to make one of it."""
    return next((told for endings, told in OTHERS.items() if path.lower().endswith(endings)), None)


def _ending(name: str) -> str:
    return next((end for end in sorted(NIFTI + ITK, key=len, reverse=True) if name.lower().endswith(end)), "")
