# SPDX-License-Identifier: Apache-2.0
"""Which case is for training, validation and test: as published, by folds, or by a seed; never one patient in two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monai_ext.utils import number_option, read_json, whole_option, write_json

__all__ = ["evenly_spread", "fold_parts", "hold_out", "random_parts", "share_of_process"]

Parts = dict[str, list[str]]


def fold_parts(
    cases: Sequence[str],
    fold: int,
    folds: int,
    patient: Callable[[str], str] = str,
    stratum: Callable[[str], str] | None = None,
) -> Parts:
    """Fold ``fold`` of ``folds`` for testing, the rest for training; the folds partition the cases.

    Args:
        cases: case ids.
        fold: 0 to ``folds - 1``.
        folds: their number.
        patient: case id -> whose it is; stays together.
        stratum: patient -> kind of case. If given, folds are contiguous runs of the sorted names of each kind, as the
            papers with five folds have it; else cases are shuffled, the same way always.

    Raises:
        ValueError: if there is no such fold, or it would be empty.
    """
    folds = whole_option(folds, "num_folds", 2)
    fold = whole_option(fold, "fold", 0, folds - 1)
    groups: dict[str, list[str]] = {}
    if stratum is None:
        groups[""] = _shuffled(cases, patient)
    else:
        for name in sorted(set(map(patient, cases))):
            groups.setdefault(stratum(name), []).append(name)
    chosen: set[str] = set()
    for group in groups.values():
        if len(group) < folds:
            raise ValueError(
                f"monai_ext: {len(group)} patients or images for {folds} folds: a fold would be empty. Give fewer "
                "folds (--num_folds; crossval has --folds), or more cases."
            )
        chosen.update(np.array_split(np.array(group), folds)[fold].tolist())
    return _with_test(cases, chosen, patient)


def random_parts(
    cases: Sequence[str], share: float, patient: Callable[[str], str], file: Path | None, where: str
) -> Parts:
    """A seeded split for data without a published one, written to ``file`` and taken from it if it is there.

    Args:
        cases: case ids.
        share: of the patients to test on, between 0 and 1.
        patient: case id -> whose it is; stays together.
        file: the JSON that holds the split; None keeps it nowhere.
        where: what the cases are, for errors.

    Raises:
        ValueError: if ``file`` holds no split, or one of other cases, or the share is none; says what to do.
    """
    share = number_option(share, "test_share")
    if not 0 < share < 1:
        raise ValueError(f"monai_ext: test_share must be between 0 and 1, got {share:g}.")
    if file is not None and file.is_file():
        return _read(file, cases, where)
    patients = _shuffled(cases, patient)
    count = max(1, round(share * len(patients)))
    if count >= len(patients):
        raise ValueError(f"monai_ext: {where}: {len(patients)} case(s), too few to train and test on.")
    parts = _with_test(cases, set(patients[:count]), patient)
    if file is not None:
        write_json(file, parts)
    return parts


def hold_out(cases: Sequence[str], patient: Callable[[str], str], where: str) -> tuple[list[str], list[str]]:
    """Every sixth patient for validation (3 of Synapse's 18), spread evenly over the list.

    Returns:
        cases to train on, cases to validate on.

    Raises:
        ValueError: if there are not two patients.
    """
    patients = list(dict.fromkeys(map(patient, cases)))
    if len(patients) < 2:
        raise ValueError(
            f"monai_ext: {where}: {len(patients)} training case(s), at least 2 are needed to keep one for validation. "
            "Add cases, or train on all with --split paper."
        )
    kept = {patients[i] for i in evenly_spread(len(patients), max(1, round(len(patients) / 6)))}
    return [c for c in cases if patient(c) not in kept], [c for c in cases if patient(c) in kept]


def evenly_spread(length: int, count: int) -> set[int]:
    """``count`` of the places 0 to ``length - 1``, as far from each other and from both ends as they can be.

    Examples::

        >>> evenly_spread(18, 3)
        {3, 9, 15}
    """
    return {(2 * k + 1) * length // (2 * count) for k in range(count)}


def share_of_process(cases: Sequence[Any]) -> list[Any]:
    """The cases that this process of a distributed run takes: every ``world size``-th one.

    With fewer cases than processes some are taken by several, since every process has to have one; reports count a case
    once.

    Raises:
        ValueError: if there is no case.
    """
    if not cases:
        raise ValueError("monai_ext: no case to share among processes. Give a list or a folder that has some.")
    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    return list(cases[rank::size]) or [cases[rank % len(cases)]]


def _with_test(cases: Sequence[str], chosen: set[str], patient: Callable[[str], str]) -> Parts:
    """The cases of the chosen patients to test on, the rest to train on."""
    return {
        "training": [case for case in cases if patient(case) not in chosen],
        "validation": [],
        "test": [case for case in cases if patient(case) in chosen],
    }


def _shuffled(cases: Sequence[str], patient: Callable[[str], str]) -> list[str]:
    """The patients in an order that depends on their names only."""
    return np.random.default_rng(0).permutation(sorted(set(map(patient, cases)))).tolist()


def _read(file: Path, cases: Sequence[str], where: str) -> Parts:
    try:
        parts = read_json(file, "split")
        found = {part: [str(case) for case in parts[part]] for part in ("training", "validation", "test")}
    except (ValueError, KeyError, TypeError) as e:
        raise ValueError(f"monai_ext: {file}: no split of cases. Remove it to have a new one made.") from e
    listed = [case for part in found.values() for case in part]
    if sorted(listed) != sorted(cases):
        odd = sorted(set(listed) ^ set(cases))[:5]
        raise ValueError(
            f"monai_ext: {file}: a split of other cases than those of {where} (such as {', '.join(odd)}). Remove it to "
            "have a new one made, or choose another --output_dir."
        )
    return found
