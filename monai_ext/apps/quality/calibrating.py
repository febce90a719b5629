# SPDX-License-Identifier: Apache-2.0
"""How far labels of a bundle's weights can be trusted, measured on cases that these were not trained on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose
from tqdm.auto import tqdm

from monai_ext.apps.quality.assessing import signals
from monai_ext.apps.quality.changes import DAMAGES, damaged, other_field
from monai_ext.apps.quality.estimates import FEWEST, mean_where_known
from monai_ext.apps.quality.measuring import VIEWS, Looker, agreement, some_slices, view
from monai_ext.apps.quality.quality_file import QualityNotes
from monai_ext.apps.quality.training_likeness import Likeness
from monai_ext.bundle import Bundle, check_knobs
from monai_ext.bundle.trained_with import PREPROCESSING as SIZES
from monai_ext.data.files.fingerprint import fingerprint, hash_file
from monai_ext.handlers.run_record import cases_file
from monai_ext.metrics import without_ignored
from monai_ext.networks import is_export, load_weights
from monai_ext.networks.utils import weights_follow
from monai_ext.transforms import IGNORE
from monai_ext.utils import config_errors, read_json

__all__ = ["calibrate", "calibrate_weights"]

MOST_TRAINED, MOST_HELD_OUT = 60, 100  # cases that are looked at
FIELDS = 2  # other fields of view of each
DAMAGED = 2  # damages of each held-out case, the kinds in turn
MARGIN = 1.15  # between the held-out image that is farthest from training and one that is unlike it


def calibrate(bundle: str | os.PathLike, checkpoint: str | os.PathLike | None = None, **knobs: Any) -> Path:
    """Measure how labels of weights agree with the truth, and write it beside them.

    Features are those of the training cases, thresholds and expected Dice those of the validation cases, with the data
    that ``train.json`` and the knobs give: give those that the weights were trained with.

    Args:
        bundle: a bundle's name or folder.
        checkpoint: weights instead of the bundle's ``models/model.pt``.
        knobs: of the bundle's ``train.json``, such as ``dataset_dir`` or ``device``.

    Returns:
        the file, ``model.quality.npz`` beside ``model.pt``.

    Raises:
        FileNotFoundError: for a bundle, weights or data that are not there.
        ValueError: for an exported network, or fewer than 5 validation cases; if one of these was trained on.

    Examples::

        >>> calibrate("bundles/mine")
        PosixPath('bundles/mine/models/model.quality.npz')
    """
    found = Bundle.find(bundle)
    weights = found.require_weights() if checkpoint is None else Path(checkpoint)
    if not weights.is_file():
        raise FileNotFoundError(f"monai_ext: {weights}: no such model. Give another --checkpoint.")
    if found.exported or is_export(weights):
        raise ValueError(
            f"monai_ext: {weights}: is an exported network, whose features cannot be looked at. Give the bundle's "
            "folder and weights such as model.pt."
        )
    with config_errors(found.config_file("train"), "calibrate"):
        parser = found.workflow("evaluation", **{**knobs, "ckpt_path": str(weights)}).parser
        check_knobs(parser)
        cases = parser.get_parsed_content("cases")
        held_out = cases["validation"]
        if len(held_out) < FEWEST:
            raise ValueError(
                f"monai_ext: {len(held_out)} validation cases, expected at least {FEWEST} to calibrate on. Give a list "
                "with more (--datalist), or train with crossval, which calibrates on all cases."
            )
        return calibrate_weights(found, weights, parser, cases["training"], held_out, progress=True)


def calibrate_weights(
    bundle: Bundle,
    weights: Path,
    parser: ConfigParser,
    training: Sequence[Mapping[str, Any]],
    held_out: Sequence[Mapping[str, Any]],
    progress: bool = False,
) -> Path:
    """Calibrate one weights file on given cases, however few; see :func:`calibrate`.

    Args:
        bundle: whose network it is.
        weights: the file.
        parser: of the bundle's evaluation, which reads the cases.
        training: cases that it was trained on.
        held_out: cases that it was not trained on.
        progress: show a progress bar.

    Raises:
        ValueError: if a case is in both, by its content or by what is noted of the weights.
    """
    _check_cases(weights, training, held_out)
    reader = parser.get_parsed_content("validate#preprocessing")
    back = parser.get_parsed_content("validate#postprocessing") if "postprocessing" in parser["validate"] else None
    device = torch.device(parser.get_parsed_content("device"))
    # weights older than their stamp do not tell how large their slices are
    known = bundle.config("inference").keys() & {*SIZES}
    sizes = {knob: parser.get_parsed_content(knob) for knob in known if knob in parser}
    config = bundle.parser("inference", ckpt_path=str(weights), **sizes)
    with weights_follow():
        network = config.get_parsed_content("network_def").to(device).eval()
    load_weights(network, weights)
    regions = config.get_parsed_content("region_order", default=None)
    looker = Looker(network, config.get_parsed_content("inferer"), regions)
    values = [value for value in bundle.channel_def if value > 0]
    truth = _Truth(back, regions or range(max(values) + 1), bool(regions))

    chosen = _spread(training, MOST_TRAINED), _spread(held_out, MOST_HELD_OUT)
    with tqdm(total=sum(map(len, chosen)), desc="calibrating", unit="case", disable=not progress) as bar:
        seen: list[np.ndarray] = []
        for number, image, _ in _read(chosen[0], reader, looker, device):
            seen += [looker.look(part)[1] for part in (image, *_fields(image, number))]
            bar.update()
        near = Likeness.of(seen, looker.statistics)

        far: list[np.ndarray] = []
        measured: list[tuple[np.ndarray, np.ndarray, float, int, bool]] = []
        for number, image, item in _read(chosen[1], reader, looker, device):
            for part in _fields(image, number):
                far.append(near.distances(looker.look(part)[1]))
            kinds = [DAMAGES[(number + k) % len(DAMAGES)] for k in range(DAMAGED)]
            for kind in ("", *kinds):
                x = damaged(image, kind, number) if kind else image
                label, rows = looker.look(x)
                views = np.array([agreement(label, looker.labels(view(x, other)), values) for other in VIEWS])
                dice = mean_where_known(truth.dice(label, item, values, looker))
                measured.append((views, near.distances(rows), dice, number, not kind))
                if not kind:
                    far.append(measured[-1][1])
            bar.update()
    limits = MARGIN * np.max(far, axis=0)
    notes = QualityNotes(
        weights=hash_file(weights),
        layers=tuple(looker.layers),
        near=near,
        limits=limits,
        values=tuple(values),
        signals=np.array([signals(views, float((d / limits).max())) for views, d, *_ in measured]),
        dice=np.array([dice for _, _, dice, _, _ in measured]),
        cases=np.array([number for *_, number, _ in measured]),
        sound=np.array([sound for *_, sound in measured]),
        trained=len(chosen[0]),
        phantom=bool(parser.get_parsed_content("cases")["phantom"]),
    )
    return notes.save(weights)


def _fields(image: torch.Tensor, number: int) -> list[torch.Tensor]:
    return [other_field(image, FIELDS * number + k) for k in range(FIELDS)]


def _spread(cases: Sequence[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    """So many of the cases at most, from all along the list."""
    return [cases[int(k)] for k in np.linspace(0, len(cases) - 1, min(most, len(cases))).round()]


def _read(
    cases: Sequence[Mapping[str, Any]], reader: Compose, looker: Looker, device: torch.device
) -> Iterator[tuple[int, torch.Tensor, dict[str, Any]]]:
    """Number, some slices of the preprocessed image, and all of the case."""
    for number, case in enumerate(cases):
        item: Any = reader(dict(case))
        yield number, some_slices(item["image"][None], looker.inferer).to(device), item


def _check_cases(weights: Path, training: Sequence[Mapping[str, Any]], held_out: Sequence[Mapping[str, Any]]) -> None:
    if not training:
        raise ValueError(f"monai_ext: {weights}: no training cases to learn from what its images are like.")
    seen = {entry.get("image"): entry["case"] for entry in fingerprint({"training": training})}
    if cases_file(weights).is_file():
        noted = read_json(cases_file(weights), "training cases")
        listed = noted.get("cases", []) if isinstance(noted, dict) else []
        seen |= {e.get("image"): e.get("case") for e in listed if isinstance(e, dict) and e.get("part") == "training"}
    for entry in fingerprint({"held out": held_out}):
        if (image := entry.get("image")) is not None and image in seen:
            raise ValueError(
                f"monai_ext: {weights}: was trained on case {seen[image]}, which is {entry['case']} of the cases to "
                "calibrate on. Give the data and the split that it was trained with (--datalist, --fold, ...)."
            )


class _Truth:
    """Dice of labels of the network's grid with the truth, on the grid of the truth."""

    def __init__(self, back: Compose | None, written: Sequence[int], of_regions: bool) -> None:
        self.back, self.written, self.of_regions = back, written, of_regions

    def dice(self, label: torch.Tensor, item: Mapping[str, Any], values: Sequence[int], looker: Looker) -> np.ndarray:
        truth = item["label"]
        if self.back is None:
            pred: Any = label
            truth = some_slices(truth[None], looker.inferer)
        else:  # as the evaluation brings logits back
            hot = torch.cat([label[0] == value for value in self.written]).float()
            hot -= 0.5 if self.of_regions else 0.0  # a region is where its logit is above 0
            made: Any = self.back({"image": item["image"], "pred": MetaTensor(hot).copy_meta_from(item["image"])})
            pred, truth = made["pred"][None], truth[None]
        plain = [part.as_tensor() if isinstance(part, MetaTensor) else part for part in (pred, truth)]
        ours, theirs = without_ignored(plain[0].cpu().byte(), plain[1].cpu().byte(), IGNORE)
        return agreement(torch.as_tensor(ours), torch.as_tensor(theirs), values)
