# SPDX-License-Identifier: Apache-2.0
"""From a dataset's folder, or a user's own list, to MONAI's datalist, with every pair of files checked."""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch.distributed as dist
from monai.utils import ensure_tuple

from monai_ext.data.datasets import DATASETS, Cohort, DatasetInfo
from monai_ext.data.files.affines import largest_shift, spacing_of
from monai_ext.data.files.picture_reader import check_picture_pair, is_picture
from monai_ext.data.files.volume_reader import channel_files, check_channels, read_geometry
from monai_ext.data.lists import PARTS, CaseList, read_list
from monai_ext.data.splits import fold_parts, hold_out, random_parts
from monai_ext.phantoms import PHANTOM_NOTE, read_marker, write_brain_phantom, write_fine_vessels
from monai_ext.phantoms.beside import write_beside
from monai_ext.transforms import IGNORE
from monai_ext.utils import flag, path_option, text_options, whole_option

__all__ = ["PHANTOMS", "check_pair", "is_phantom", "load_datalist", "phantom_dir", "phantom_image", "write_phantom"]

logger = logging.getLogger(__name__)
FOLDS = 5
#: phantoms of no published dataset, in nnU-Net's layout
PHANTOMS: dict[str, Callable[..., None]] = {"brain_mr": write_brain_phantom, "fine_vessels": write_fine_vessels}


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
    """Write a dataset's phantom cohort to ``folder``, with ``cases`` cases (default: its ``phantom_cases``).

    It is the publisher's whole tree, as it unpacks: with test parts, notes and what file managers leave in it. Those of
    ``PHANTOMS`` are of no published dataset: what one's own scans may be like.
    """
    if name in PHANTOMS:
        PHANTOMS[name](folder, **({} if cases is None else {"num_cases": whole_option(cases, "cases", 1)}))
        return
    dataset = _dataset(name)
    dataset.write_phantom(Path(folder), dataset.phantom_cases if cases is None else whole_option(cases, "cases", 1))
    write_beside(Path(folder), next(iter(dataset.find(Path(folder)).cases.values())), dataset.beside)


def load_datalist(
    dataset_name: str | None = None,
    dataset_dir: str | os.PathLike | None = None,
    datalist: str | os.PathLike | None = None,
    split: str = "holdout",
    exclude: Any = (),
    fold: int | str | None = None,
    num_folds: int | str | None = None,
    split_file: str | os.PathLike | None = None,
    check: bool | str = True,
    class_names: Sequence[str] | None = None,
    channel_names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The cases of a dataset, or of a user's own list, split for training; every pair of files is checked.

    Args:
        dataset_name: a key of ``DATASETS``; by default ``synapse``, or with ``datalist`` none.
        dataset_dir: the dataset's folder as its publisher distributes it; with ``datalist``, the folder to which the
            list's relative paths belong (default: the list's own).
        datalist: a list of one's own instead, see ``read_list``: ``{"training": [{"image": ..., "label": ...}],
            "test": [...]}``, with an optional ``"validation"``, or nnU-Net's ``dataset.json``. Its label files hold the
            classes themselves, unless its ``"label_mapping"`` says otherwise, or its ``"labels"`` give the numbers of
            other classes of the same names.
        split: ``"holdout"`` keeps every sixth training case for validation and the choice of the model, unless the
            publisher or the list has validation cases; ``"paper"`` trains on all of them and validates on none: the
            last epoch is the model.
        exclude: case ids, or patients, to leave out; one, several in a list, or several with commas between.
        fold: cross-validation: test on this fold of all cases, instead of the published test part. A list whose cases
            have a ``"fold"`` has its own folds; test cases without one are then left out, validation cases kept.
        num_folds: number of folds; by default 5, or those of the list.
        split_file: where a dataset without a published split keeps its seeded one; taken from there if it exists.
        check: look at every image and label (their headers) before any work starts.
        class_names: of the model, to which the names in a list belong; by default the dataset's.
        channel_names: of the model's channels, which are to be as many as the list's; by default one where a dataset's
            name is given, else the list's own.

    Returns:
        Under ``training``, ``validation`` and ``test`` lists of ``{"image": path, "label": path, "case_id": str}``,
        with a list of paths under ``image`` where channels are files of their own; ``label_mapping`` from values in
        label files to classes (255 for what is ignored), or None; ``label_coding`` of pictures, for ``MaskReader``;
        ``class_names``, of classes 1, 2, ..., or of the regions, as far as they are known; ``channel_names``, empty for
        one; ``regions``, the label values of each, empty where labels are classes; ``phantom``, whether this is
        synthetic data; ``notes``, what was left out, a sentence each.

    Raises:
        FileNotFoundError: if the folder, the list or a file is missing.
        ValueError: for an unknown name, split, fold or case to leave out, too few cases, or an image and a label that
            do not belong together.
    """
    if split not in ("holdout", "paper"):
        raise ValueError(f"monai_ext: split must be 'holdout' or 'paper', got {split!r}.")
    list_file, folder = path_option(datalist, "datalist"), path_option(dataset_dir, "dataset_dir")
    fold = None if fold is None or str(fold).lower() in ("none", "null") else whole_option(fold, "fold", 0)
    num_folds = None if num_folds is None else whole_option(num_folds, "num_folds", 2)
    known = _dataset("synapse" if dataset_name is None else dataset_name)
    mapping: dict[int, int] | None
    notes: list[str] = []
    channels: tuple[str, ...] = ()
    regions: list[list[int]] = []
    if list_file:
        where = list_file
        coding: str | dict[int, int] | None = "classes"
        patient: Callable[[str], str] = str
        listed = read_list(list_file, folder)
        parts, notes = dict(listed.parts), list(listed.notes)
        names = class_names or (known.class_names if dataset_name is not None else None)
        if not listed.channel_names and len(channel_names or ()) > 1:  # each file may hold them all: its header tells
            listed = replace(listed, channel_names=tuple(channel_names or ()))
        channels = listed.channel_names
        expected = channel_names if channel_names is not None or dataset_name is None else ()
        _check_channels(listed, expected)
        if dataset_name is not None and not class_names:
            _check_plain_labels(listed)
        if listed.regions:
            mapping = _region_values(listed, class_names)
            names, regions = list(listed.regions), [list(values) for values in listed.regions.values()]
        else:
            mapping = _class_numbers(listed, names, notes)
            names = names or _names_of(listed)
        if mapping is not None and any(is_picture(ensure_tuple(c["image"])[0]) for part in PARTS for c in parts[part]):
            coding = mapping
        if fold is not None:
            parts = _list_folds(listed, fold, num_folds, notes)
        elif not parts["test"] and any("fold" in case for case in parts["training"]):
            notes.append("the cases of the list have folds, and none is for testing: --fold N tests on fold N.")
    else:
        if not folder or not Path(folder).is_dir():
            raise FileNotFoundError(
                f"monai_ext: dataset_dir {folder!r}: no such folder. Give the folder of {known.title}; "
                "leave --dataset_dir out to use the built-in phantom."
            )
        cohort = known.find(Path(folder))
        where, mapping = f"{folder}: {cohort.layout}", cohort.label_mapping
        coding, patient, names = known.label_coding, known.patient, known.class_names
        kept = path_option(split_file, "split_file")
        ids = _published_ids(known, cohort, fold, num_folds or FOLDS, Path(kept) if kept else None, where)
        parts = {part: [{**cohort.cases[case], "case_id": case} for case in ids[part]] for part in ids}
    phantom = any(is_phantom(ensure_tuple(case["image"])[0]) for cases in parts.values() for case in cases[:1])
    left_out = _left_out(exclude, [case["case_id"] for cases in parts.values() for case in cases], patient, where)
    parts = {part: [case for case in parts[part] if case["case_id"] not in left_out] for part in PARTS}
    if split == "paper":
        parts["training"], parts["validation"] = parts["training"] + parts["validation"], []
    elif not parts["validation"]:
        by_id = {case["case_id"]: case for case in parts["training"]}
        groups = hold_out(list(by_id), patient, where)
        parts["training"], parts["validation"] = ([by_id[case] for case in group] for group in groups)
    if not parts["training"]:
        raise ValueError(f"monai_ext: {where}: no training case.")
    for case in parts["training"] + parts["validation"] + parts["test"] if flag(check) else ():
        check_pair(case, channels)
    counts = ", ".join(f"{len(cases)} {part}" for part, cases in parts.items())
    logger.info("monai_ext: %s: %s%s", where, counts, f" ({PHANTOM_NOTE})" if phantom else "")
    for note in notes:
        logger.warning("monai_ext: %s", note)
    names = None if names is None else list(names)
    facts: dict[str, Any] = {"label_mapping": mapping, "label_coding": coding, "class_names": names, "notes": notes}
    facts |= {"channel_names": list(channels), "regions": regions}
    return {**parts, **facts, "phantom": phantom}


def is_phantom(image: str) -> bool:
    """Whether a file lies in a phantom cohort, from whichever of its folders it was found."""
    return any(read_marker(folder) is not None for folder in Path(image).resolve().parents)


def _dataset(name: str) -> DatasetInfo:
    if not isinstance(name, str) or name not in DATASETS:
        near = difflib.get_close_matches(str(name), [*DATASETS, *PHANTOMS], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"monai_ext: unknown dataset {name!r}; known are {', '.join(DATASETS)}.{hint}")
    return DATASETS[name]


def _left_out(exclude: Any, cases: Sequence[str], patient: Callable[[str], str], where: str) -> set[str]:
    """The ids of the cases that ``exclude`` names by id, by patient, or by their number without leading zeros."""
    called: dict[str, set[str]] = {}
    for case in cases:
        for name in (case, patient(case)):
            called.setdefault(name, set()).add(case)
    whole = isinstance(exclude, str) and exclude in called  # an id may have a comma in it
    found: set[str] = set()
    for word in [exclude] if whole else text_options(exclude, "exclude"):
        same = [name for name in called if word.isdecimal() and name.isdecimal() and int(name) == int(word)]
        if word not in called and len(same) != 1:
            near = same or difflib.get_close_matches(word, called, n=3, cutoff=0.3) or list(called)[:3]
            raise ValueError(
                f"monai_ext: exclude: {'several cases' if same else 'no case'} {word!r:.100} in {where}. Nearest: "
                f"{', '.join(near)}."
            )
        found |= called[word if word in called else same[0]]
    return found


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


def _list_folds(
    listed: CaseList, fold: int, num_folds: int | None, notes: list[str]
) -> dict[str, list[dict[str, Any]]]:
    """Fold ``fold`` to test on: one of the list's own, or of all cases shuffled where it has none."""
    every = [case for part in PARTS for case in listed.parts[part]]
    folds = sorted({case["fold"] for case in every if "fold" in case})
    if not folds:
        by_id = {case["case_id"]: case for case in every}
        ids = fold_parts(list(by_id), fold, num_folds or FOLDS)
        return {part: [by_id[case] for case in ids[part]] for part in ids}
    without = [case["case_id"] for case in listed.parts["training"] if "fold" not in case]
    if without:
        raise ValueError(
            f'monai_ext: datalist {listed.file}: case {without[0]} has no "fold", others have. Give each training case '
            "one, or none."
        )
    if fold not in folds or num_folds not in (None, len(folds)):
        knob = f"fold {fold}" if fold not in folds else f"num_folds {num_folds}"
        raise ValueError(
            f"monai_ext: {knob}: the cases of {listed.file} have the folds {', '.join(map(str, folds))}. Choose one of "
            "them with --fold."
        )
    if beside := [case["case_id"] for case in listed.parts["test"] if "fold" not in case]:
        notes.append(f"fold {fold} is tested on; the list's {len(beside)} test case(s) without a fold are left out.")
    return {
        "training": [case for case in every if case.get("fold", fold) != fold],
        "validation": [case for case in listed.parts["validation"] if "fold" not in case],
        "test": [case for case in every if case.get("fold") == fold],
    }


def _names_of(listed: CaseList) -> list[str] | None:
    """Names of classes 1, 2, ... if the list has each of them."""
    numbers = sorted(listed.class_names)
    return [listed.class_names[i] for i in numbers] if numbers == list(range(1, len(numbers) + 1)) and numbers else None


def _check_channels(listed: CaseList, expected: Sequence[str] | None) -> None:
    """The list's channels are to be as many as the model's; which is which is its order."""
    if expected is None or max(1, len(expected)) == max(1, len(listed.channel_names)):
        return
    found = (
        f"{len(listed.channel_names)} channels ({', '.join(listed.channel_names)})" if listed.channel_names else "one"
    )
    model = f"{len(expected)} ({', '.join(expected)})" if len(expected) > 1 else "one"
    raise ValueError(
        f"monai_ext: datalist {listed.file}: its images have {found}, this bundle's network takes {model}. Make a "
        "bundle for them: python -m monai_ext new."
    )


def _check_plain_labels(listed: CaseList) -> None:
    """Published recipes know classes only: their losses and scores take every voxel of one."""
    odd = ""
    if listed.regions:
        odd = f"its labels are regions ({', '.join(listed.regions)}), this bundle's network knows classes"
    elif listed.ignore is not None:
        odd = f"voxels of label value {listed.ignore} are to be ignored, which this bundle's loss cannot"
    if odd:
        raise ValueError(f"monai_ext: datalist {listed.file}: {odd}. Make a bundle for them: python -m monai_ext new.")


def _region_values(listed: CaseList, names: Sequence[str] | None) -> dict[int, int]:
    """Every value that a region has, as itself, and what is ignored."""
    if names is not None and list(names) != list(listed.regions):
        raise ValueError(
            f"monai_ext: datalist {listed.file}: its regions are {', '.join(listed.regions)}, the model's are "
            f"{', '.join(names)}. Name them alike, in one order."
        )
    values = {0, *(value for region in listed.regions.values() for value in region)}
    return {value: value for value in sorted(values)} | ({} if listed.ignore is None else {listed.ignore: IGNORE})


def _class_numbers(listed: CaseList, names: Sequence[str] | None, notes: list[str]) -> dict[int, int] | None:
    """Value in the label files -> class of the model: the list's own mapping, or by name where numbers differ."""
    mapping = _numbers_of_classes(listed, names, notes)
    if listed.ignore is None or (mapping or {}).get(listed.ignore) == IGNORE:
        return mapping
    count = len(names or ()) or max(listed.class_names, default=0)
    return {**(mapping or {number: number for number in range(count + 1)}), listed.ignore: IGNORE}


def _numbers_of_classes(listed: CaseList, names: Sequence[str] | None, notes: list[str]) -> dict[int, int] | None:
    mapping = listed.label_mapping
    if mapping is None and names and listed.class_names:
        numbers = {_plain(name): number for number, name in enumerate(names, start=1)}
        same = {value: numbers[_plain(name)] for value, name in listed.class_names.items() if _plain(name) in numbers}
        others = {value: name for value, name in listed.class_names.items() if value not in same}
        if any(value != number for value, number in same.items()):
            if others:
                raise ValueError(
                    f"monai_ext: datalist {listed.file}: its labels number the classes otherwise than the model does "
                    f"({', '.join(names)}), and {', '.join(others.values())} is none of them. Say which class each "
                    'value is: "label_mapping": {"0": 0, ...}.'
                )
            mapping = {0: 0, **same}
            notes.append("label values are matched to the model's classes by the names in the list.")
        elif others:
            told = ", ".join(f"{value} {name!r}" for value, name in others.items())
            notes.append(f"the list's labels have {told:.300}, the model's classes are {', '.join(names)}.")
    return mapping


def _plain(name: str) -> str:
    """Without what two spellings of a name differ in."""
    return re.sub(r"[\s_-]+", " ", name).strip().lower()


def check_pair(case: dict[str, Any], channel_names: Sequence[str] = ()) -> None:
    """Image, with all of its channels, and label must be there and lie on one grid; read from the headers.

    Args:
        case: with ``image``, ``label`` and ``case_id``.
        channel_names: what the image's channels are, if it is to have several.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: if one is damaged, or they do not belong together.
    """
    files = [str(file) for file in ensure_tuple(case["image"])]
    if is_picture(files[0]):
        check_picture_pair(case)
        return
    files = channel_files(files, channel_names)
    shape, affine = check_channels(files, channel_names)
    label_shape, label_affine = read_geometry(case["label"])
    if shape != label_shape:
        raise ValueError(
            f"monai_ext: {case['label']}: {'x'.join(map(str, label_shape))} voxels, but {Path(files[0]).name} has "
            f"{'x'.join(map(str, shape))}. Get the pair again, or leave case {case['case_id']} out with --exclude."
        )
    # a shift of a tenth of a voxel anywhere in the volume is beyond rounding
    shift = largest_shift(affine, label_affine, shape)
    if shift > 0.1 * spacing_of(affine).min():
        raise ValueError(
            f"monai_ext: {case['label']}: its affine places voxels up to {shift:.3g} mm away from those of "
            f"{Path(files[0]).name}. Get the pair again, or leave case {case['case_id']} out with --exclude."
        )
