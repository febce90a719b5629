# SPDX-License-Identifier: Apache-2.0
"""Whether keeping the largest component of a class alone helps, and the report of the labels as decided."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    InvertibleTransform,
    KeepLargestConnectedComponent,
    LoadImaged,
)
from monai.utils import convert_to_tensor
from torch.utils.data import ConcatDataset
from tqdm.auto import tqdm

from monai_ext.bundle import literal
from monai_ext.data import MaskReader, VolumeReader
from monai_ext.metrics import label_metrics, region_masks, without_ignored
from monai_ext.transforms import IGNORE, OrientSlicesd

from .job_queue import Plan
from .training_job import labels_of

__all__ = ["CRITERION", "Decision", "decide", "predicted_cases", "write_report"]

CRITERION = (
    "The largest component of a class is kept alone if the mean Dice of that class over all cases rises by it, and no "
    "other class's falls. Every case is predicted by the model of the fold that was not trained on it."
)
REPORT = "monai_ext.apps.SegmentationReport"


@dataclass(frozen=True)
class Decision:
    """Of which classes only the largest component is kept.

    Attributes:
        labels: those classes, by number.
        before: mean Dice of classes 1, 2, ... over the cases, as predicted; NaN for one that no case has.
        after: the same with the largest component of that class alone, whether decided for or not.
    """

    labels: tuple[int, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]


def decide(
    cases: Sequence[Mapping[str, Any]],
    num_classes: int,
    regions: Sequence[Sequence[int]] | None = None,
    written: Sequence[int] | None = None,
    progress: bool = False,
) -> Decision:
    """Try for each class whether keeping its largest component alone helps, see ``CRITERION``.

    Args:
        cases: ``{"pred": ..., "label": ...}`` each, label maps ``(1, *spatial)`` on one grid; read one at a time.
        num_classes: of label values, background included.
        regions: label values of each class, where classes are regions that may overlap.
        written: label value that each class is written as; by default 1, 2, ...
        progress: show a progress bar.

    Examples::

        >>> decide([{"pred": torch.tensor([[[1, 0, 1, 1]]]), "label": torch.tensor([[[0, 0, 1, 1]]])}], 2)
        Decision(labels=(1,), before=(0.8,), after=(1.0,))
    """
    values = list(written or range(1, num_classes))
    keep: Any = {value: KeepLargestConnectedComponent([value], is_onehot=False) for value in values}
    plain, kept = [], []  # Dice of a case: of each class; of each class when one of them is cleaned
    for k in tqdm(range(len(cases)), desc="largest components", unit="case", disable=not progress):
        pred, truth = (convert_to_tensor(cases[k][key], track_meta=False) for key in ("pred", "label"))
        dice = _dice(pred, truth, num_classes, regions)
        tried = [dice] * len(values)
        there = set(np.unique(pred.numpy()).astype(int).tolist())
        for place, value in enumerate(values):
            if value in there and not torch.equal(cleaned := keep[value](pred.clone()), pred):
                tried[place] = _dice(cleaned, truth, num_classes, regions)
        plain.append(dice)
        kept.append(tried)
    before, after = _means(plain), _means(kept)  # (classes,), (cleaned class, classes)
    helps = [k for k in range(len(values)) if after[k, k] > before[k] and not (after[k] < before).any()]
    return Decision(tuple(values[k] for k in helps), tuple(before.tolist()), tuple(after.diagonal().tolist()))


def _dice(pred: Any, truth: Any, num_classes: int, regions: Sequence[Sequence[int]] | None) -> np.ndarray:
    maps = without_ignored(pred[0].byte(), truth[0].byte(), IGNORE)
    if not regions:
        return np.asarray(label_metrics(maps[0], maps[1], num_classes, metrics="dice")["dice"])
    ours, theirs = (region_masks(labels[None], regions) for labels in maps)
    return np.array([label_metrics(a, b, 2, metrics="dice")["dice"][0] for a, b in zip(ours, theirs)])


def _means(values: Sequence[Any]) -> np.ndarray:
    """Over the cases that have a class."""
    stacked = np.asarray(values)
    count = np.isfinite(stacked).sum(axis=0)
    return np.where(count > 0, np.nansum(stacked, axis=0) / np.maximum(count, 1), np.nan)


def predicted_cases(plans: Sequence[Plan], pictures: bool) -> ConcatDataset:
    """Image, truth and predicted label of each case of all trainings, read as each one's evaluation reads them."""
    return ConcatDataset(
        [_predicted(plan.parser, plan.cases, labels_of(plan.job.folder, pictures), pictures) for plan in plans]
    )


def _predicted(
    parser: ConfigParser, cases: Sequence[Mapping[str, Any]], labels: Mapping[str, Path], pictures: bool
) -> Dataset:
    """Of one training.

    The grid stays that of the file: resizing and resampling are for the network. Axes are turned as for the network.
    """
    reader: Any = MaskReader("classes", parser.get_parsed_content("num_classes")) if pictures else VolumeReader
    steps: list[Any] = [LoadImaged("pred", reader=reader), EnsureChannelFirstd("pred")]
    for step in parser.get_parsed_content("validate#preprocessing").flatten().transforms:
        if isinstance(step, OrientSlicesd):
            step = copy.copy(step)  # the parser's own has no prediction to turn
            step.keys = (*step.keys, "pred")
        elif isinstance(step, InvertibleTransform):
            continue
        steps.append(step)
    items = [{**case, "pred": [str(labels[case["case_id"]])]} for case in cases]
    return Dataset(items, Compose(steps))


def write_report(
    parser: ConfigParser,
    cases: Any,
    folder: Path,
    weights: Sequence[str],
    title: str,
    largest_component: Sequence[int] = (),
    notes: Sequence[str] = (),
) -> list[str]:
    """Write the evaluation's report over all cases; returns the names of the classes.

    Args:
        parser: of the evaluation, whose report it is; changed.
        cases: of :func:`predicted_cases`.
        folder: for it.
        weights: that predicted them.
        title: behind that of the evaluation.
        largest_component: label values of which only the largest component counts.
        notes: sentences for it, behind which comes one on components.
    """
    handlers = parser["validate#handlers"]
    (place,) = (k for k, handler in enumerate(handlers) if handler.get("_target_") == REPORT)
    names = parser.get_parsed_content(f"validate#handlers#{place}#class_names")
    written = list(parser.get_parsed_content("region_order", default=None) or range(1, len(names) + 1))
    kept = [names[written.index(label)] for label in largest_component]
    told = f"Only the largest component is kept of: {', '.join(kept)}." if kept else "No component was removed."
    given = {
        **handlers[place],
        "output_dir": literal(str(folder)),
        "checkpoint": [literal(path) for path in weights],
        "title": literal(f"{parser.get_parsed_content(f'validate#handlers#{place}#title')}, {title}"),
        "published": [],  # of another split
        "notes": [literal(text) for text in (*notes, told)],
    }
    parser["validate#handlers"] = [given]
    report = parser.get_parsed_content("validate#handlers")[0]
    keep = KeepLargestConnectedComponent(list(largest_component), is_onehot=False)

    def step(engine: Engine, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**case, "pred": keep(case["pred"])} for case in batch]

    engine = Engine(step)
    report.attach(engine)
    engine.run(DataLoader(cases, batch_size=1, collate_fn=list))
    parser["validate#handlers"] = handlers
    return list(names)
