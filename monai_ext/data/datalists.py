# SPDX-License-Identifier: Apache-2.0
"""From a dataset's folder, or a user's own list, to MONAI's datalist, with every pair of files checked."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch.distributed as dist

from monai_ext.data.datasets import DATASETS, Cohort, DatasetInfo
from monai_ext.data.files.affines import largest_shift, spacing_of
from monai_ext.data.files.picture_reader import check_picture_pair, is_picture
from monai_ext.data.files.volume_reader import read_geometry
from monai_ext.data.splits import fold_parts, hold_out, random_parts
from monai_ext.phantoms import PHANTOM_NOTE, read_marker
from monai_ext.utils import read_json

__all__ = ["check_pair", "is_phantom", "load_datalist", "phantom_dir", "phantom_image", "write_phantom"]

logger = logging.getLogger(__name__)
PARTS = ("training", "validation", "test")


def phantom_dir(name: str) -> str:
    """The folder of a dataset's phantom cohort, made on first use.

    It lies in ``$MONAI_DATA_DIRECTORY``, else in the user's cache folder.

    Examples::

        >>> phantom_dir("synapse")
        '/home/me/.cache/monai_ext/phantoms/synapse'
    """
    base = os.environ.get("MONAI_DATA_DIRECTORY")
    cache = Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "monai_ext" / "phantoms" / name
    first = not dist.is_initialized() or dist.get_node_local_rank() == 0
    if first and read_marker(folder) is None:
        logger.info("monai_ext: writing the %s phantom to %s (%s)", name, folder, PHANTOM_NOTE)
        write_phantom(name, folder)
    if dist.is_initialized():
        dist.barrier()
    return str(folder)


def phantom_image(name: str) -> str:
    """The first test image of a dataset's phantom cohort: what inference segments when it is given nothing.

    Examples::

        >>> phantom_image("kvasir")
        '/home/me/.cache/monai_ext/phantoms/kvasir/Kvasir-SEG/images/0003.jpg'
    """
    return load_datalist(name, phantom_dir(name), split="paper")["test"][0]["image"]


def write_phantom(name: str, folder: str | os.PathLike, cases: int | None = None) -> None:
    """Write a dataset's phantom cohort to ``folder``, with ``cases`` cases (default: its ``phantom_cases``)."""
    dataset = _dataset(name)
    dataset.write_phantom(Path(folder), dataset.phantom_cases if cases is None else cases)


def load_datalist(
    dataset_name: str = "synapse",
    dataset_dir: str | os.PathLike | None = None,
    datalist: str | os.PathLike | None = None,
    split: str = "holdout",
    exclude: Sequence[int | str] = (),
    fold: int | None = None,
    num_folds: int = 5,
    split_file: str | os.PathLike | None = None,
    check: bool = True,
) -> dict[str, Any]:
    """The cases of a dataset, or of a user's own list, split for training; every pair of files is checked.

    Args:
        dataset_name: a key of ``DATASETS``.
        dataset_dir: the dataset's folder as its publisher distributes it; with ``datalist``, the folder to which the
            list's relative paths belong (default: the list's own).
        datalist: a Decathlon-style JSON instead: ``{"training": [{"image": ..., "label": ...}], "test": [...]}``, with
            an optional ``"validation"`` and optional ``"labels"``. Its label files hold the classes themselves.
        split: ``"holdout"`` keeps every sixth training case for validation and the choice of the model, unless the
            publisher or the list has validation cases; ``"paper"`` trains on all of them and validates on none: the
            last epoch is the model.
        exclude: case ids, or patients, to leave out.
        fold: cross-validation: test on this fold of all cases, instead of the published test part.
        num_folds: number of folds.
        split_file: where a dataset without a published split keeps its seeded one; taken from there if it exists.
        check: look at every image and label (their headers) before any work starts.

    Returns:
        Under ``training``, ``validation`` and ``test`` lists of ``{"image": path, "label": path, "case_id": str}``;
        ``label_mapping`` from values in label volumes to classes, or None; ``label_coding`` of pictures, for
        ``MaskReader``; ``phantom``, whether this is synthetic data.

    Raises:
        FileNotFoundError: if the folder, the list or a file is missing.
        ValueError: for an unknown name, split or fold, too few cases, or an image and a label that do not belong
            together.
    """
    if split not in ("holdout", "paper"):
        raise ValueError(f"monai_ext: split must be 'holdout' or 'paper', got {split!r}.")
    dataset = _dataset(dataset_name)
    mapping: dict[int, int] | None
    if datalist:
        where = str(datalist)
        coding: str | None = "classes"
        patient: Callable[[str], str] = str
        parts, mapping = _own_parts(Path(datalist), dataset_dir)
        if fold is not None:
            by_id = {case["case_id"]: case for part in parts.values() for case in part}
            ids = fold_parts(list(by_id), fold, num_folds, patient)
            parts = {part: [by_id[case] for case in ids[part]] for part in ids}
    else:
        if not dataset_dir or not Path(dataset_dir).is_dir():
            raise FileNotFoundError(
                f"monai_ext: dataset_dir {str(dataset_dir)!r}: no such folder. Give the folder of {dataset.title}; "
                "leave --dataset_dir out to use the built-in phantom."
            )
        cohort = dataset.find(Path(dataset_dir))
        where, mapping = f"{dataset_dir}: {cohort.layout}", cohort.label_mapping
        coding, patient = dataset.label_coding, dataset.patient
        ids = _published_ids(dataset, cohort, fold, num_folds, Path(split_file) if split_file else None, where)
        parts = {part: [{**cohort.cases[case], "case_id": case} for case in ids[part]] for part in ids}
    phantom = any(is_phantom(case["image"]) for cases in parts.values() for case in cases[:1])
    left_out = {str(case).lstrip("0") for case in exclude}
    for part, cases in parts.items():
        parts[part] = [c for c in cases if not {c["case_id"].lstrip("0"), patient(c["case_id"])} & left_out]
    if split == "paper":
        parts["training"], parts["validation"] = parts["training"] + parts["validation"], []
    elif not parts["validation"]:
        by_id = {case["case_id"]: case for case in parts["training"]}
        kept = hold_out(list(by_id), patient, where)
        parts["training"], parts["validation"] = ([by_id[case] for case in group] for group in kept)
    if not parts["training"]:
        raise ValueError(f"monai_ext: {where}: no training case.")
    for case in parts["training"] + parts["validation"] + parts["test"] if check else ():
        check_pair(case)
    counts = ", ".join(f"{len(cases)} {part}" for part, cases in parts.items())
    logger.info("monai_ext: %s: %s%s", where, counts, f" ({PHANTOM_NOTE})" if phantom else "")
    return {**parts, "label_mapping": mapping, "label_coding": coding, "phantom": phantom}


def is_phantom(image: str) -> bool:
    """Whether a file lies in a phantom cohort, from whichever of its folders it was found."""
    return any(read_marker(folder) is not None for folder in Path(image).resolve().parents)


def _dataset(name: str) -> DatasetInfo:
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"monai_ext: unknown dataset {name!r}; known are {', '.join(DATASETS)}.{hint}")
    return DATASETS[name]


def _published_ids(
    dataset: DatasetInfo, cohort: Cohort, fold: int | None, num_folds: int, split_file: Path | None, where: str
) -> dict[str, list[str]]:
    cases = list(cohort.cases)
    if fold is None and dataset.sorted_folds:
        fold = 0
    if fold is not None:
        stratum = dataset.stratum if dataset.sorted_folds else None
        return fold_parts(cases, fold, num_folds, dataset.patient, stratum)
    if cohort.parts is None:
        return random_parts(cases, dataset.test_share, dataset.patient, split_file, where)
    return {part: [c for c in cases if c in set(cohort.parts.get(part, ()))] for part in PARTS}


def _own_parts(
    file: Path, folder: str | os.PathLike | None
) -> tuple[dict[str, list[dict[str, Any]]], dict[int, int] | None]:
    content = read_json(file, "datalist")
    if not isinstance(content, dict) or not isinstance(content.get("training"), list):
        raise ValueError(f'monai_ext: datalist {file}: expected {{"training": [{{"image": ..., "label": ...}}, ...]}}.')
    base = Path(folder) if folder else file.parent
    listed = [(part, i, case) for part in PARTS for i, case in enumerate(_listed(file, content, part))]
    short, long = ([_default_id(case, depth) for _, _, case in listed] for depth in (1, None))
    parts: dict[str, list[dict[str, Any]]] = {part: [] for part in PARTS}
    places: dict[str, str] = {}
    for (part, i, case), name, path in zip(listed, short, long):
        # files of one name in many folders are told apart by their folders
        case_id = str(case.get("case_id", name if short.count(name) == 1 else path))
        if case_id in places:
            raise ValueError(
                f"monai_ext: datalist {file}: case {case_id:.200} is listed as {places[case_id]} and as {part}[{i}]. "
                'Remove one, or give each a "case_id" of its own.'
            )
        places[case_id] = f"{part}[{i}]"
        labels = case["label"]
        label = str(base / labels) if isinstance(labels, str) else [str(base / name) for name in labels]
        parts[part].append({"image": str(base / case["image"]), "label": label, "case_id": case_id})
    mapping = content.get("label_mapping")
    try:
        return parts, None if mapping is None else {int(value): int(number) for value, number in mapping.items()}
    except (AttributeError, TypeError, ValueError) as e:
        raise ValueError(
            f'monai_ext: datalist {file}: label_mapping is {mapping!r:.200}, expected {{"value": class}}.'
        ) from e


def _listed(file: Path, content: dict[str, Any], part: str) -> list[dict[str, Any]]:
    cases = content.get(part, [])
    if not isinstance(cases, list):
        raise ValueError(f"monai_ext: datalist {file}: {part} is {cases!r:.200}, expected a list of cases.")
    for i, case in enumerate(cases):
        image, label = (case.get("image"), case.get("label")) if isinstance(case, dict) else (None, None)
        files = [image, *(label if isinstance(label, list) and label else [label])]
        if not all(isinstance(name, str) and name and "\0" not in name for name in files):
            raise ValueError(
                f"monai_ext: datalist {file}: {part}[{i}] is {case!r:.200}, expected "
                '{"image": "file", "label": "file"}.'
            )
        if not isinstance(case.get("case_id", ""), (str, int)):
            raise ValueError(
                f"monai_ext: datalist {file}: {part}[{i}]: case_id {case['case_id']!r:.200}, expected text."
            )
    return cases


def _default_id(case: dict[str, Any], depth: int | None) -> str:
    """An image's name without suffixes, with ``depth`` None behind its folders."""
    path = Path(case["image"])
    name = path.name.split(".")[0]
    return name if depth else "/".join([*path.parts[:-1], name])


def check_pair(case: dict[str, Any]) -> None:
    """Image and label must be there and lie on one grid; read from the headers, so it costs little.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: if one is damaged, or they do not belong together.
    """
    if is_picture(case["image"]):
        check_picture_pair(case)
        return
    shape, affine = read_geometry(case["image"])
    label_shape, label_affine = read_geometry(case["label"])
    if shape != label_shape:
        raise ValueError(
            f"monai_ext: {case['label']}: {'x'.join(map(str, label_shape))} voxels, but {Path(case['image']).name} has "
            f"{'x'.join(map(str, shape))}. Get the pair again, or leave case {case['case_id']} out with --exclude."
        )
    # a shift of a tenth of a voxel anywhere in the volume is beyond rounding
    shift = largest_shift(affine, label_affine, shape)
    if shift > 0.1 * spacing_of(affine).min():
        raise ValueError(
            f"monai_ext: {case['label']}: its affine places voxels up to {shift:.3g} mm away from those of "
            f"{Path(case['image']).name}. Get the pair again, or leave case {case['case_id']} out with --exclude."
        )
