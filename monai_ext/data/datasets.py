# SPDX-License-Identifier: Apache-2.0
"""From a dataset's folder, or a user's own list, to MONAI's datalist, with every pair of files checked."""

from __future__ import annotations

import difflib
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_ext.data.dataset_info import Cohort, DatasetInfo
from monai_ext.data.readers import read_geometry
from monai_ext.data.synapse import SYNAPSE

__all__ = ["DATASETS", "load_datalist", "phantom_dir", "write_phantom"]

logger = logging.getLogger(__name__)
PHANTOM_MARK = "PHANTOM.json"
PHANTOM_NOTE = "phantom data, no clinical meaning"


DATASETS: dict[str, DatasetInfo] = {"synapse": SYNAPSE}


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
    if not (folder / PHANTOM_MARK).is_file():
        logger.info("monai_ext: writing the %s phantom to %s (%s)", name, folder, PHANTOM_NOTE)
        write_phantom(name, folder)
    return str(folder)


def write_phantom(name: str, folder: str | os.PathLike, cases: int | None = None) -> None:
    """Write a dataset's phantom cohort to ``folder``, with ``cases`` cases (default: as many as the dataset has)."""
    dataset = _dataset(name)
    dataset.write_phantom(Path(folder), cases or len(dataset.training_ids) + len(dataset.test_ids))


def load_datalist(
    dataset_name: str = "synapse",
    dataset_dir: str | os.PathLike | None = None,
    datalist: str | os.PathLike | None = None,
    split: str = "holdout",
    exclude: Sequence[int | str] = (),
) -> dict[str, Any]:
    """The cases of a dataset, or of a user's own list, split for training; every pair of files is checked.

    Args:
        dataset_name: a key of ``DATASETS``.
        dataset_dir: the dataset's folder as its publisher distributes it; with ``datalist``, the folder to which the
            list's relative paths belong (default: the list's own).
        datalist: a Decathlon-style JSON instead: ``{"training": [{"image": ..., "label": ...}], "test": [...]}``, with
            an optional ``"validation"`` and optional ``"labels"``. Its label files hold the classes themselves.
        split: ``"holdout"`` keeps every sixth training case for validation and the choice of the model;
            ``"paper"`` trains on all of them and validates on none: the last epoch is the model.
        exclude: case ids to leave out.

    Returns:
        ``training``, ``validation`` and ``test``: lists of ``{"image": path, "label": path, "case_id": str}``;
        ``label_mapping``: value in the label files -> class, or None; ``phantom``: whether this is synthetic data.

    Raises:
        FileNotFoundError: if the folder, the list or a file is missing.
        ValueError: for an unknown name or split, too few cases, or an image and a label that do not belong together.
    """
    if split not in ("holdout", "paper"):
        raise ValueError(f"monai_ext: split must be 'holdout' or 'paper', got {split!r}.")
    if datalist:
        parts, mapping, where = _own_parts(Path(datalist), dataset_dir), None, str(datalist)
        phantom = False
    else:
        dataset = _dataset(dataset_name)
        if not dataset_dir or not Path(dataset_dir).is_dir():
            raise FileNotFoundError(
                f"monai_ext: dataset_dir {str(dataset_dir)!r}: no such folder. Give the folder of {dataset.title}; "
                "leave --dataset_dir out to use the built-in phantom."
            )
        cohort = dataset.find(Path(dataset_dir))
        parts, mapping = _published_parts(dataset, cohort), cohort.label_mapping
        where = f"{dataset_dir}: {cohort.layout}"
        phantom = (Path(dataset_dir) / PHANTOM_MARK).is_file()
    left_out = {str(case).lstrip("0") for case in exclude}
    parts = {k: [c for c in v if c["case_id"].lstrip("0") not in left_out] for k, v in parts.items()}
    if split == "holdout" and not parts["validation"]:
        parts["training"], parts["validation"] = _hold_out(parts["training"], where)
    if not parts["training"]:
        raise ValueError(f"monai_ext: {where}: no training case.")
    for case in parts["training"] + parts["validation"] + parts["test"]:
        _check_pair(case)
    counts = ", ".join(f"{len(cases)} {part}" for part, cases in parts.items())
    logger.info("monai_ext: %s: %s%s", where, counts, f" ({PHANTOM_NOTE})" if phantom else "")
    return {**parts, "label_mapping": mapping, "phantom": phantom}


def _dataset(name: str) -> DatasetInfo:
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"monai_ext: unknown dataset {name!r}; known are {', '.join(DATASETS)}.{hint}")
    return DATASETS[name]


def _published_parts(dataset: DatasetInfo, cohort: Cohort) -> dict[str, list[dict[str, str]]]:
    def part(ids: Sequence[int]) -> list[dict[str, str]]:
        return [{**cohort.cases[i], "case_id": f"{i:04d}"} for i in sorted(ids) if i in cohort.cases]

    return {"training": part(dataset.training_ids), "validation": [], "test": part(dataset.test_ids)}


def _own_parts(file: Path, folder: str | os.PathLike | None) -> dict[str, list[dict[str, str]]]:
    if not file.is_file():
        raise FileNotFoundError(f"monai_ext: datalist {file}: no such file.")
    try:
        content = json.loads(file.read_text())
    except ValueError as e:
        raise ValueError(f"monai_ext: datalist {file}: no valid JSON ({e}).") from e
    if not isinstance(content, dict) or not isinstance(content.get("training"), list):
        raise ValueError(f'monai_ext: datalist {file}: expected {{"training": [{{"image": ..., "label": ...}}, ...]}}.')
    base = Path(folder) if folder else file.parent
    parts: dict[str, list[dict[str, str]]] = {"training": [], "validation": [], "test": []}
    for part, cases in parts.items():
        for i, case in enumerate(content.get(part, [])):
            if not isinstance(case, dict) or not {"image", "label"} <= case.keys():
                raise ValueError(
                    f'monai_ext: datalist {file}: {part}[{i}] is {case!r}, expected {{"image": ..., "label": ...}}.'
                )
            paths = {key: str(base / case[key]) for key in ("image", "label")}
            cases.append({**paths, "case_id": str(case.get("case_id", Path(case["image"]).name.split(".")[0]))})
    return parts


def _hold_out(cases: list[dict[str, str]], where: str) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Every sixth case for validation (3 of Synapse's 18), spread evenly over the list."""
    if len(cases) < 2:
        raise ValueError(
            f"monai_ext: {where}: {len(cases)} training case(s), at least 2 are needed to keep one for validation. "
            "Add cases, or train on all with --split paper."
        )
    count = max(1, round(len(cases) / 6))
    kept = {(2 * k + 1) * len(cases) // (2 * count) for k in range(count)}
    return [c for i, c in enumerate(cases) if i not in kept], [c for i, c in enumerate(cases) if i in kept]


def _check_pair(case: dict[str, str]) -> None:
    """Image and label must be there and lie on one grid; read from the headers, so it costs little."""
    shape, affine = read_geometry(case["image"])
    label_shape, label_affine = read_geometry(case["label"])
    if shape != label_shape:
        raise ValueError(
            f"monai_ext: {case['label']}: {'x'.join(map(str, label_shape))} voxels, but {Path(case['image']).name} has "
            f"{'x'.join(map(str, shape))}. Get the pair again, or leave case {case['case_id']} out with --exclude."
        )
    # a shift of a tenth of a voxel anywhere in the volume is beyond rounding
    corners = np.array(np.meshgrid(*([0, n] for n in shape), [1], indexing="ij")).reshape(4, -1)
    shift = np.abs((affine - label_affine) @ corners).max()
    if shift > 0.1 * np.linalg.norm(affine[:3, :3], axis=0).min():
        raise ValueError(
            f"monai_ext: {case['label']}: its affine places voxels up to {shift:.3g} mm away from those of "
            f"{Path(case['image']).name}. Get the pair again, or leave case {case['case_id']} out with --exclude."
        )
