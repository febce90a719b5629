# SPDX-License-Identifier: Apache-2.0
"""The knobs of all bundles: what each is used as, and what a command line's or a request's value makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from .options import finite_number, whole_number
from .switches import flag

__all__ = ["BACKENDS", "KNOBS", "PRECISIONS", "as_json", "knob_value"]


def _whole(least: int, none: bool = False) -> Callable[[Any], Any]:
    def convert(value: Any) -> int | None:
        if none and _is_none(value):
            return None
        number = whole_number(value)
        if number is None or number < least:
            raise ValueError(f"a whole number of at least {least}")
        return number

    return convert


def _between(low: float, high: float = float("inf"), open_below: bool = False) -> Callable[[Any], float]:
    if high < float("inf"):
        expected = f"a number from {low:g} to {high:g}"
    else:
        expected = f"a number above {low:g}" if open_below else f"a number of at least {low:g}"

    def convert(value: Any) -> float:
        number = _number(value, expected)
        if not low <= number <= high or (open_below and number == low):
            raise ValueError(expected)
        return number

    return convert


def _is_none(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.lower() in ("none", "null", ""))


def _number(value: Any, expected: str) -> float | int:
    number = finite_number(value)
    if number is None:
        raise ValueError(expected)
    return number


def _listed_numbers(value: Any, expected: str) -> list[Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value if value.startswith("[") else f"[{value}]")
        except ValueError:
            raise ValueError(expected) from None
    return [_number(part, expected) for part in (value if isinstance(value, (list, tuple)) else [value])]


def _sizes(value: Any) -> int | list[int] | None:
    if _is_none(value):
        return None
    expected = "one whole number of at least 1, or one for each axis"
    sides = _listed_numbers(value, expected)
    if not 1 <= len(sides) <= 3 or any(side != int(side) or side < 1 for side in sides):
        raise ValueError(expected)
    return int(sides[0]) if not isinstance(value, (list, tuple)) and len(sides) == 1 else [int(side) for side in sides]


def _numbers(
    expected: str, fits: Callable[[list[Any]], bool], none: bool = False, whole: bool = False
) -> Callable[[Any], list[Any] | None]:
    def convert(value: Any) -> list[Any] | None:
        if none and _is_none(value):
            return None
        numbers = [] if isinstance(value, (list, tuple)) and not value else _listed_numbers(value, expected)
        if not fits(numbers):
            raise ValueError(expected)
        return [int(number) for number in numbers] if whole else numbers

    return convert


def _switch(value: Any) -> bool:
    try:
        return flag(value)
    except ValueError:
        raise ValueError("true or false") from None


def _text(value: Any) -> str | None:
    """A name or a path; a command line hands on a number where the name is one."""
    if isinstance(value, (list, tuple, dict)):
        raise ValueError("one name or path")
    return None if value is None else str(value)


def _text_or_none(value: Any) -> str | None:
    return None if _is_none(value) else _text(value)


def _texts(value: Any) -> str | list[str] | None:
    return [str(part) for part in value] if isinstance(value, (list, tuple)) else _text(value)


def _one_of(*choices: str) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return str(value)

    return convert


def _device(value: Any) -> str:
    import torch

    try:
        device = torch.device(int(value) if str(value).isdecimal() else str(value))
    except RuntimeError:
        raise ValueError("cpu, cuda, or a GPU's number such as cuda:0") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"cpu, as PyTorch finds {torch.cuda.device_count()} GPUs here")
    return str(device)


BACKENDS = ("auto", "torch", "compile", "openvino", "onnxruntime")
PRECISIONS = ("auto", "float32", "bfloat16")

# every knob of every bundle -> what makes a value of it of what a command line gives; ValueError says what is expected
KNOBS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("epochs", "val_interval", "batch_size", "patches_per_volume"), _whole(1)),
    **dict.fromkeys(("num_workers", "warm_up", "report_channel"), _whole(0)),
    **dict.fromkeys(("seed", "fold"), _whole(0, none=True)),
    "num_classes": _whole(2),
    "num_folds": _whole(2, none=True),
    "learning_rate": _between(0, open_below=True),
    **dict.fromkeys(("weight_decay", "rotation", "tilt", "foreground_weight"), _between(0)),
    **dict.fromkeys(("flip_prob", "cache_rate", "foreground_share"), _between(0, 1)),
    **dict.fromkeys(("amp", "mirror", "resume", "tta", "strict", "allow_overlap", "silent", "ensemble"), _switch),
    "image_size": _sizes,
    "intensity_window": _numbers(
        "two numbers, the lower first, such as [-125,275]", lambda ends: len(ends) == 2 and ends[0] < ends[1]
    ),
    "tissue_contrast": _numbers(
        "two numbers above -1, the lower first, such as [-0.2,0.8]",
        lambda factors: len(factors) == 2 and -1 < factors[0] <= factors[1],
    ),
    "spacing": _numbers(
        "null, or one length above 0 in mm for each axis, such as [1.5,1.5]",
        lambda sides: 1 <= len(sides) <= 3 and min(sides) > 0,
        none=True,
    ),
    "mirror_axes": _numbers(
        "a list of axes, such as [0,1]", lambda axes: all(axis in (0, 1, 2) for axis in axes), whole=True
    ),
    "largest_component": _numbers(
        "a list of classes from 1 on, such as [1,3]",
        lambda labels: all(label == int(label) and 0 < label < 256 for label in labels),
        whole=True,
    ),
    "tolerances": _numbers(
        "numbers above 0 in mm, one or one for each class, such as [2,3]",
        lambda values: bool(values) and min(values) > 0,
        none=True,
    ),
    "device": _device,
    "backend": _one_of(*BACKENDS),
    "precision": _one_of(*PRECISIONS),
    **dict.fromkeys(("dataset_dir", "datalist", "pretrained"), _text_or_none),
    **dict.fromkeys(("dataset_name", "split", "output_dir", "ckpt_dir", "output_ext", "writer"), _text),
    **dict.fromkeys(("ckpt_path", "ckpt_paths", "convention"), _texts),
}

LONGEST = 80  # characters of a value that an error shows


def knob_value(knob: str, value: Any, name: str | None = None) -> Any:
    """Make of what a command line or a request gave what a knob is used as.

    Args:
        knob: one of ``KNOBS``.
        value: as it was given.
        name: what the giver calls it; by default ``--knob``.

    Raises:
        ValueError: if the knob cannot have it; name, value and what is expected are named.

    Examples::

        >>> knob_value("amp", "false"), knob_value("image_size", "[96,96]")
        (False, [96, 96])
    """
    try:
        return KNOBS[knob](value)
    except ValueError as e:
        given = " ".join(as_json(value).split())
        given = f"{given[:LONGEST]}..." if len(given) > LONGEST else given
        raise ValueError(f"monai_ext: {name or f'--{knob}'} {given}: expected {e}.") from None


def as_json(value: Any) -> str:
    """A value as a command line has it."""
    return json.dumps(value) if isinstance(value, (list, tuple, dict, bool)) else str(value)
