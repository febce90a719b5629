# SPDX-License-Identifier: Apache-2.0
"""Look at every case of a dataset before a night of training is spent on it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.utils import ImageMetaKey, MetaKeys, convert_to_tensor, ensure_tuple
from tqdm.auto import tqdm

from monai_ext.data import DATASETS, MaskReader, PictureReader, VolumeReader, check_pair, load_datalist
from monai_ext.data.files.picture_reader import is_picture
from monai_ext.transforms import MapLabelsd, unlike_modality
from monai_ext.utils import whole_numbers

__all__ = ["DataCheck", "check_dataset"]

MODALITIES = {"synapse": "CT", "acdc": "MR"}


@dataclass
class DataCheck:
    """What was found.

    Attributes:
        parts: part -> number of cases.
        class_names: classes 1, 2, ...
        with_class: how many cases have each class.
        volume: median over those, in mL (pictures: percent of the picture).
        pictures: whether the cases are 2D pictures.
        phantom: whether this is synthetic data.
        errors: what has to be put right before training.
        notes: what a person should look at.
    """

    parts: dict[str, int]
    class_names: tuple[str, ...]
    with_class: list[int] = field(default_factory=list)
    volume: list[float] = field(default_factory=list)
    pictures: bool = False
    phantom: bool = False
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_dataset(
    name: str,
    folder: str | None = None,
    datalist: str | None = None,
    num_classes: int | None = None,
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
        modality: ``"CT"`` or ``"MR"``, of that list; by default the dataset's.
        progress: show a progress bar.
        split: the other arguments of ``load_datalist``, such as ``fold``.

    Raises:
        FileNotFoundError, ValueError: if the cases cannot be found at all.

    Examples::

        >>> check_dataset("synapse", "/data/Synapse").errors
        []
    """
    cases = load_datalist(name, folder, datalist, check=False, **split)
    names = DATASETS[name].class_names
    if num_classes is not None and num_classes != len(names) + 1:
        names = tuple(f"class {i}" for i in range(1, num_classes))
    parts = {part: cases[part] for part in ("training", "validation", "test")}
    found = DataCheck({part: len(group) for part, group in parts.items()}, names, phantom=cases["phantom"])
    modality = modality or MODALITIES.get(name)
    sizes: list[list[float]] = [[] for _ in names]
    same: dict[str, list[str]] = defaultdict(list)
    with tqdm(total=sum(map(len, parts.values())), desc="checking", unit="case", disable=not progress) as bar:
        for part, group in parts.items():
            for case in group:
                try:
                    digest = _check_case(case, len(names) + 1, cases, modality, sizes, found)
                    same[digest].append(f"{part} case {case['case_id']}")
                except (ValueError, OSError) as e:
                    found.errors.append(str(e).removeprefix("monai_ext: "))
                bar.update()
    for twins in same.values():
        if len(twins) > 1:
            across = len({twin.split()[0] for twin in twins}) > 1
            (found.errors if across else found.notes).append(f"the same image: {', '.join(twins)}")
    found.with_class = [len(values) for values in sizes]
    found.volume = [float(np.median(values)) if values else float("nan") for values in sizes]
    found.notes += [f"no case has {name}" for name, values in zip(names, sizes) if not values]
    return found


def _check_case(
    case: dict[str, Any],
    num_classes: int,
    cases: dict[str, Any],
    modality: str | None,
    sizes: list[list[float]],
    found: DataCheck,
) -> str:
    """Add what one case has to ``sizes`` and ``found``; returns what tells its image from others."""
    check_pair(case)
    found.pictures = is_picture(case["image"])
    if found.pictures:
        mask = MaskReader(cases["label_coding"] or "classes", num_classes)
        image, _ = PictureReader().get_data([case["image"]])
        label, _ = mask.get_data(ensure_tuple(case["label"]))
        unit = 100 / label.size
    else:
        image, meta = VolumeReader().get_data([case["image"]])
        codes, _ = VolumeReader().get_data([case["label"]])
        named = MetaTensor(
            whole_numbers(codes, case["label"]).astype(np.int64), meta={ImageMetaKey.FILENAME_OR_OBJ: case["label"]}
        )
        label = MapLabelsd("label", num_classes, cases["label_mapping"])({"label": named})["label"].numpy()
        unit = float(np.prod(affine_to_spacing(meta[MetaKeys.AFFINE]))) / 1000
    values = convert_to_tensor(image)
    low, high = torch.aminmax(values)
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise ValueError(f"{case['image']}: holds values that are not finite (NaN or infinity).")
    if low == high:
        raise ValueError(f"{case['image']}: every value is {low.item():g}; there is no image.")
    if modality and (reason := unlike_modality(values, modality)):
        found.notes.append(f"{case['image']}: does not look like {modality}: {reason}")
    counts = np.bincount(label.ravel(), minlength=num_classes)[1:].tolist()
    if not any(counts):
        found.notes.append(f"{case['label']}: empty, background only")
    for values_of_class, count in zip(sizes, counts):
        if count:
            values_of_class.append(count * unit)
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()
