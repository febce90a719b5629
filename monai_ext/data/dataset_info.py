# SPDX-License-Identifier: Apache-2.0
"""What a dataset of the collection is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Cohort", "DatasetInfo"]


@dataclass(frozen=True)
class Cohort:
    """What was found in a dataset's folder.

    Attributes:
        layout: which of the dataset's layouts it is, in words.
        cases: case id -> ``{"image": path, "label": path}``.
        label_mapping: value in the files -> class; None where files hold the classes themselves.
    """

    layout: str
    cases: dict[int, dict[str, str]]
    label_mapping: dict[int, int] | None


@dataclass(frozen=True)
class DatasetInfo:
    """A public dataset: how to find it in a folder, its published split, its classes, and its phantom.

    Attributes:
        title: name and source, for reports.
        class_names: classes 1, 2, ...; 0 is background.
        find: folder -> what was found in it; raises FileNotFoundError with what was expected.
        training_ids: case ids of the published training part.
        test_ids: case ids of the published test part.
        write_phantom: folder, number of cases -> a synthetic cohort written there in the publisher's layout.
    """

    title: str
    class_names: tuple[str, ...]
    find: Callable[[Path], Cohort]
    training_ids: tuple[int, ...]
    test_ids: tuple[int, ...]
    write_phantom: Callable[[Path, int], None] = field(repr=False)
