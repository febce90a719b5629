# SPDX-License-Identifier: Apache-2.0
"""Look at every case of a dataset before a night of training is spent on it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.utils import ImageMetaKey, MetaKeys, convert_to_tensor, ensure_tuple
from tqdm.auto import tqdm

from monai_ext.data import (
    DATASETS,
    DatasetInfo,
    MaskReader,
    PictureReader,
    VolumeReader,
    check_pair,
    load_datalist,
    read_list,
)
from monai_ext.data.files.affines import voxel_ml
from monai_ext.data.files.picture_reader import is_picture
from monai_ext.data.lists import PARTS
from monai_ext.transforms import IGNORE, MapLabelsd, gaps, no_image, unlike_modality, unlike_patient
from monai_ext.utils import VOLUME_MODALITIES, modality_of, whole_numbers, whole_option

__all__ = ["DataCheck", "check_dataset"]


@dataclass
class DataCheck:
    """What was found.

    Attributes:
        parts: part -> number of cases.
        class_names: classes 1, 2, ...
        with_class: how many cases have each class.
        with_class_in: part -> the same, of that part.
        volume: median over those, in mL (pictures: percent of the picture).
        pictures: whether the cases are 2D pictures.
        phantom: whether this is synthetic data.
        errors: what has to be put right before training.
        notes: what a person should look at.
    """

    parts: dict[str, int]
    class_names: tuple[str, ...]
    with_class: list[int] = field(default_factory=list)
    with_class_in: dict[str, list[int]] = field(default_factory=dict)
    volume: list[float] = field(default_factory=list)
    pictures: bool = False
    phantom: bool = False
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_dataset(
    name: str,
    folder: str | None = None,
    datalist: str | None = None,
    num_classes: int | str | None = None,
    modality: str | None = None,
    progress: bool = True,
    **split: Any,
) -> DataCheck:
    """Read every image and label of a dataset and collect all that is wrong with it, not only the first.

    Args:
        name: a key of ``DATASETS``.
        folder: where it lies.
        datalist: a list of one's own instead, see ``load_datalist``.
        num_classes: of that list, background included; by default the dataset's.
        modality: ``"CT"`` or ``"MR"``, of that list; by default what the list says, or the dataset's.
        progress: show a progress bar.
        split: the other arguments of ``load_datalist``, such as ``fold``.

    Raises:
        FileNotFoundError, ValueError: if the cases cannot be found at all.

    Examples::

        >>> check_dataset("synapse", "/data/Synapse").errors
        []
    """
    count = None if num_classes is None else whole_option(num_classes, "num_classes", 2, 256)
    listed = read_list(datalist, folder) if datalist else None
    own = count is not None and name in DATASETS and count != len(DATASETS[name].class_names) + 1
    own |= listed is not None and bool(listed.channel_names or listed.regions)
    # with a number of classes of its own a list has names of its own, too
    cases = load_datalist(None if own else name, folder, datalist, check=False, **split)
    names = tuple(cases["class_names"] or ())
    if count is not None and len(names) != count - 1 and not cases["regions"]:
        names = tuple(f"class {i}" for i in range(1, count))
    parts = {part: cases[part] for part in PARTS}
    found = DataCheck({part: len(group) for part, group in parts.items()}, names, phantom=cases["phantom"])
    found.notes += cases["notes"]
    kind = _volume_modality(modality, listed.modality if listed else None, DATASETS[name])
    if len(cases["channel_names"]) > 1 and len({modality_of(channel) for channel in cases["channel_names"]}) > 1:
        kind = None  # each channel has values of its own
    sizes: dict[str, list[list[float]]] = {part: [[] for _ in names] for part in parts}
    same: dict[str, list[str]] = defaultdict(list)
    with tqdm(total=sum(map(len, parts.values())), desc="checking", unit="case", disable=not progress) as bar:
        for part, group in parts.items():
            for case in group:
                try:
                    digest = _check_case(case, len(names) + 1, cases, kind, sizes[part], found)
                    same[digest].append(f"{part} case {case['case_id']}")
                except (ValueError, OSError) as e:
                    found.errors.append(str(e).removeprefix("monai_ext: "))
                bar.update()
    for twins in same.values():
        if len(twins) > 1:
            across = len({twin.split()[0] for twin in twins}) > 1
            (found.errors if across else found.notes).append(f"the same image: {', '.join(twins)}")
    found.with_class_in = {part: [len(values) for values in of_part] for part, of_part in sizes.items()}
    found.with_class = [sum(counts) for counts in zip(*found.with_class_in.values())]
    every = [[value for of_part in sizes.values() for value in of_part[i]] for i in range(len(names))]
    found.volume = [float(np.median(values)) if values else float("nan") for values in every]
    for i, class_name in enumerate(names):
        having = [part for part in PARTS if found.with_class_in[part][i]]
        lacking = [part for part in PARTS if parts[part] and part not in having]
        if not having:
            found.notes.append(f"no case has {class_name}")
        elif lacking:
            told = " and ".join(f"no {part} case" for part in lacking)
            why = "; it cannot be learnt" if "training" in lacking else ""
            found.notes.append(f"{told} has {class_name}, {' and '.join(having)} cases have{why}")
    if not parts["test"]:
        found.notes.append("no test case: nothing can be evaluated, unless --fold N tests on a part of all cases")
    return found


def _volume_modality(given: str | None, listed: str | None, dataset: DatasetInfo) -> str | None:
    """What volumes are to look like; None where there is no rule for it."""
    code = modality_of(given) if given is not None else listed or dataset.modality
    if given is not None and code not in VOLUME_MODALITIES:
        raise ValueError(f"monai_ext: modality must be {' or '.join(VOLUME_MODALITIES)}, got {given!r:.100}.")
    return code if code in VOLUME_MODALITIES else None


def _check_case(
    case: dict[str, Any],
    num_classes: int,
    cases: dict[str, Any],
    modality: str | None,
    sizes: list[list[float]],
    found: DataCheck,
) -> str:
    """Add what one case has to ``sizes`` and ``found``; returns what tells its image from others."""
    check_pair(case, cases["channel_names"])
    found.pictures = is_picture(ensure_tuple(case["image"])[0])
    most = max(map(max, regions)) + 1 if (regions := cases["regions"]) else num_classes
    if found.pictures:
        mask = MaskReader(cases["label_coding"] or "classes", most)
        image, _ = PictureReader().get_data([case["image"]])
        label, _ = mask.get_data(ensure_tuple(case["label"]))
        unit = 100 / label.size
    else:
        image, meta = VolumeReader(cases["channel_names"]).get_data(ensure_tuple(case["image"]))
        codes, _ = VolumeReader().get_data([case["label"]])
        named = MetaTensor(
            whole_numbers(codes, case["label"]).astype(np.int64), meta={ImageMetaKey.FILENAME_OR_OBJ: case["label"]}
        )
        label = MapLabelsd("label", most, cases["label_mapping"])({"label": named})["label"].numpy()
        unit = voxel_ml(meta[MetaKeys.AFFINE])
    values = convert_to_tensor(image)
    several = not found.pictures and values.ndim == 4
    for i, channel in enumerate(values if several else values[None]):
        file = str(ensure_tuple(case["image"])[0]) + (f": {cases['channel_names'][i]}" if several else "")
        if fault := no_image(channel):
            raise ValueError(f"{file}: {fault}.")
    reason = None
    if modality:
        if not found.pictures:
            reason = unlike_patient(meta[MetaKeys.AFFINE], image.shape[-3:])
        reason = reason or unlike_modality(values, modality)
    if reason:
        found.notes.append(f"{ensure_tuple(case['image'])[0]}: does not look like {modality}: {reason}")
    elif not found.pictures and (missing := gaps(values if several else values[None], meta[MetaKeys.AFFINE])):
        found.notes.append(f"{ensure_tuple(case['image'])[0]}: {missing}")
    of_value = np.bincount(label.ravel(), minlength=IGNORE + 1)
    members = cases["regions"] or [[value] for value in range(1, num_classes)]
    counts = [int(of_value[list(values)].sum()) for values in members]
    if of_value[IGNORE] == label.size:
        found.notes.append(f"{case['label']}: every voxel is to be ignored")
    elif not any(counts):
        found.notes.append(f"{case['label']}: empty, background only")
    for values_of_class, count in zip(sizes, counts, strict=True):
        if count:
            values_of_class.append(count * unit)
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()
