# SPDX-License-Identifier: Apache-2.0
"""What a dataset of the collection is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from monai_ext.utils import MODALITIES

__all__ = ["LESION_COLOUR", "Cohort", "DatasetInfo", "Structure"]


class Structure(NamedTuple):
    """What a class is: its SNOMED CT code, as DICOM PS3.16 uses it, and its colour in 0 to 255."""

    code: str
    meaning: str
    colour: tuple[int, int, int]
    side: str | None = None
    abnormal: bool = False


LESION_COLOUR = (144, 238, 144)


@dataclass(frozen=True)
class Cohort:
    """What was found in a dataset's folder.

    Attributes:
        layout: which of the dataset's layouts it is, in words.
        cases: case id -> ``{"image": path, "label": path or paths}``.
        label_mapping: value in the label files of volumes -> class; None where files hold the classes themselves.
        parts: the publisher's split, ``training``, ``test`` and perhaps ``validation`` -> case ids; None without one.
    """

    layout: str
    cases: dict[str, dict[str, Any]]
    label_mapping: dict[int, int] | None = None
    parts: Mapping[str, Sequence[str]] | None = None


@dataclass(frozen=True)
class DatasetInfo:
    """A public dataset: how to find it in a folder, its classes and split, and its phantom.

    Attributes:
        title: name and source, for reports.
        class_names: classes 1, 2, ...; 0 is background.
        find: folder -> what was found in it, or up to four levels below it; raises FileNotFoundError where nothing is,
            or an image has no mask, and says what was expected and found, ValueError where the data is there twice.
        write_phantom: folder, number of cases -> a synthetic cohort written there in the publisher's layout.
        phantom_cases: how many cases the phantom has by default.
        beside: what the publisher's tree has beside its labelled cases, written with the phantom: path -> ``"image"``
            or ``"label"`` for a copy of a case's, else the text of the file.
        modality: DICOM's code, a key of ``monai_ext.utils.MODALITIES``.
        structures: code and colour of each class, in the order of ``class_names``; neighbours differ in colour, unlike
            in an anatomical atlas.
        label_coding: how pictures of masks hold the classes, see ``MaskReader``; None for volumes.
        patient: case id -> whose it is; cases of one patient are never in two parts.
        test_share: part of the cases to test on where the publisher gives no split.
        sorted_folds: five contiguous folds of the sorted names, the first to test on, are the published protocol.
        stratum: patient -> kind of case; with ``sorted_folds`` each kind has its folds.
        tolerances: mm by which surfaces may be apart for the normalised surface distance, for each class; None where
            images have no millimetres.
        match: when a true and a predicted object are one, see ``lesion_metrics``; None where objects are not counted.

    Examples::

        >>> DATASETS["fives"].find(Path("/data/FIVES")).layout
        'FIVES in /data/FIVES, 600 training, 200 test images'
    """

    title: str
    class_names: tuple[str, ...]
    find: Callable[[Path], Cohort]
    write_phantom: Callable[[Path, int], None] = field(repr=False)
    phantom_cases: int = 24
    beside: Mapping[str, str] = field(default_factory=dict, repr=False)
    modality: str | None = None
    structures: tuple[Structure, ...] = field(default=(), repr=False)
    label_coding: str | None = None
    patient: Callable[[str], str] = str
    test_share: float = 0.2
    sorted_folds: bool = False
    stratum: Callable[[str], str] = field(default=lambda patient: "", repr=False)
    tolerances: tuple[float, ...] | None = None
    match: str | None = None

    def __post_init__(self) -> None:
        if self.modality is not None and self.modality not in MODALITIES:
            raise ValueError(f"{self.title}: modality {self.modality!r}, expected one of {', '.join(MODALITIES)}.")
        if self.modality is not None and len(self.structures) != len(self.class_names):
            raise ValueError(f"{self.title}: {len(self.structures)} structures for {len(self.class_names)} classes.")
        if self.tolerances is not None and len(self.tolerances) != len(self.class_names):
            raise ValueError(f"{self.title}: {len(self.tolerances)} tolerances for {len(self.class_names)} classes.")
