# SPDX-License-Identifier: Apache-2.0
"""What preprocessing depends on travels with the weights, and is taken from there."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ext.bundle.running import running
from monai_ext.utils.json_files import read_json
from monai_ext.utils.knobs import KNOBS

__all__ = ["PREPROCESSING", "checked_sizes", "note_trained_with", "stamp", "trained_with"]

logger = logging.getLogger(__name__)


# knobs that preprocessing depends on: what weights were trained with is what they are used with
PREPROCESSING = ("image_size", "intensity_window", "spacing")
_STAMP = "monai_ext"  # key in a state_dict's metadata, which PyTorch keeps in the file and loading ignores


def stamp(state_dict: Any, trained_with: Mapping[str, Any]) -> Any:
    """Write into a network's ``state_dict`` what its preprocessing was, so that it travels with the weights.

    It goes where PyTorch keeps the versions of modules: inside the file, and no key of the ``state_dict``.

    Args:
        state_dict: what ``network.state_dict()`` gave; changed in place.
        trained_with: knob -> value, plain ones, such as ``{"image_size": [224, 224]}``.
    """
    if trained_with and hasattr(state_dict, "_metadata"):
        plain = {knob: list(v) if isinstance(v, (tuple, list)) else v for knob, v in trained_with.items()}
        state_dict._metadata.setdefault("", {})[_STAMP] = plain
    return state_dict


def note_trained_with() -> None:
    """Write what the weights were trained with into the metadata of the model that is being exported.

    The network of an ``inference.json`` requires it, since MONAI's ``ckpt_export`` looks at nothing else. Without an
    export there is nothing to do.
    """
    run = running(warn=False)
    if run is not None and run.exported is not None and (noted := trained_with(run.exported)):
        run.parser.get().setdefault("_meta_", {})["trained_with"] = noted


def trained_with(weights: str | os.PathLike | Sequence[str | os.PathLike] | None) -> dict[str, Any]:
    """What the preprocessing of weights was when they were trained: knob -> value.

    It is in the weights file, or the exported network; of files older than that, in ``run_training.json`` beside it, or
    in the bundle's ``eval`` if that record is of the training that made them. Empty where nothing is known.
    ``evaluate.json`` and ``inference.json`` take their ``image_size`` and ``intensity_window`` from it.

    Args:
        weights: a weights file, or those of an ensemble.

    Raises:
        ValueError: if the members of an ensemble differ, or a file holds values that no knob can have.

    Examples::

        >>> trained_with("runs/first/model.pt")
        {'image_size': [96, 96], 'intensity_window': [-125, 275]}
    """
    paths = [weights] if isinstance(weights, (str, os.PathLike)) else list(weights or [])
    merged: dict[str, Any] = {}
    origin: dict[str, Any] = {}
    for path in paths:
        for knob, value in _trained_with(Path(path)).items():
            if merged.setdefault(knob, value) != value:
                raise ValueError(
                    f"monai_ext: {path}: trained with {knob} {value}, but {origin[knob]} with {merged[knob]}. Weights "
                    "of different preprocessing cannot be averaged."
                )
            origin.setdefault(knob, path)
    return merged


def _trained_with(path: Path) -> dict[str, Any]:
    found: Any = None
    if path.is_file():
        import torch

        from monai_ext.networks import export_extra, is_export

        if is_export(path):
            try:
                noted = export_extra(path, "metadata").get("trained_with")
            except ValueError:  # who loads it says what is wrong with it
                return {}
            return checked_sizes(noted, path) if isinstance(noted, Mapping) else {}

        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        except Exception:  # who loads the weights says what is wrong with them
            state = None
        for _ in range(2):  # a state_dict, or one under "model" or "state_dict"
            found = found or getattr(state, "_metadata", {}).get("", {}).get(_STAMP)
            state = state.get("model", state.get("state_dict")) if isinstance(state, Mapping) else None
    if found is None:
        found = _trained_config(path)
    return checked_sizes(found, path) if isinstance(found, Mapping) else {}


def checked_sizes(found: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """Of what a file notes, the knobs that preprocessing depends on."""
    kept = {knob: found[knob] for knob in PREPROCESSING if found.get(knob) is not None}
    for knob, value in kept.items():
        try:
            kept[knob] = KNOBS[knob](value)
        except ValueError as e:
            raise ValueError(f"monai_ext: {source}: trained with {knob} {value!r}, expected {e}.") from None
    return kept


def _trained_config(weights: Path) -> dict[str, Any] | None:
    """The values that the record of the training that made these weights has, of weights older than their stamp."""
    beside = weights.with_name("run_training.json")
    in_bundle = weights.parent.parent / "eval" / "run_training.json"
    cases = weights.with_suffix(".cases.json")
    try:
        if beside.is_file():
            record = read_json(beside, "record")
        elif in_bundle.is_file() and cases.is_file():
            record = read_json(in_bundle, "record")
            if record["cases"] != read_json(cases, "training cases")["cases"]:
                return None  # of another training
        else:
            return None
        # an expression is the recipe's own
        return {k: v for k in PREPROCESSING if not isinstance(v := record["config"].get(k), str)}
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        logger.warning("monai_ext: %s: no record of a training (%s).", weights.parent, e)
        return None
