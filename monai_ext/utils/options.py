# SPDX-License-Identifier: Apache-2.0
"""Options as a command line gives them: ``--fold 1`` may be a number or a text, ``--exclude 0021`` is a text."""

from __future__ import annotations

import os
import sys
from numbers import Integral, Real
from typing import Any

__all__ = ["finite_number", "number_option", "path_option", "text_options", "whole_number", "whole_option"]

HUGE = sys.float_info.max  # an int beyond it is no number that anything here can use


def finite_number(value: Any) -> int | float | None:
    """The finite number that a value is, or that its text says; None for anything else, true and false among it.

    Examples::

        >>> finite_number("1e-3"), finite_number(3), finite_number("nan"), finite_number(True)
        (0.001, 3, None, None)
    """
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            try:
                value = float(value)
            except ValueError:
                return None
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    number = int(value) if isinstance(value, Integral) else float(value)
    return number if -HUGE <= number <= HUGE else None


def whole_number(value: Any) -> int | None:
    """As :func:`finite_number`, of whole numbers only: 3, 3.0 and their texts are 3, and 3.5 is None."""
    found = finite_number(value)
    return int(found) if found is not None and found == int(found) else None


def whole_option(value: Any, name: str, low: int, high: int | None = None) -> int:
    """A whole number from ``low`` to ``high`` (None: as large as one likes), given as a number or as its text.

    Raises:
        ValueError: for anything else, true and false among it; names the option.

    Examples::

        >>> whole_option("3", "fold", 0, 4)
        3
    """
    found = whole_number(value)
    if found is None or found < low or (high is not None and found > high):
        limits = f"{low} or more" if high is None else f"{low} to {high}"
        raise ValueError(f"monai_ext: {name} must be {limits}, got {value!r:.200}.")
    return found


def number_option(value: Any, name: str) -> float:
    """A finite number, given as one or as its text.

    Raises:
        ValueError: for anything else; names the option.

    Examples::

        >>> number_option("0.2", "test_share")
        0.2
    """
    found = finite_number(value)
    if found is None:
        raise ValueError(f"monai_ext: {name} must be a number, got {value!r:.200}.")
    return float(found)


def text_options(value: Any, name: str) -> list[str]:
    """Words given as a list, as one word or number, or as a text with commas, with or without brackets; None is none.

    Raises:
        ValueError: for true, false, a dictionary, or a list of other things than words and numbers; names the option.

    Examples::

        >>> text_options("0001,0002", "exclude")
        ['0001', '0002']
        >>> text_options([1, "0002"], "exclude")
        ['1', '0002']
    """
    if value is None:
        return []
    if isinstance(value, str):
        text = value.strip()
        if text[:1] + text[-1:] in ("[]", "()"):
            text = text[1:-1]
        words = (word.strip() for word in text.split(","))
        return [word.strip("'\"") if word[:1] == word[-1:] else word for word in words if word]
    found = list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]
    if any(isinstance(word, bool) or not isinstance(word, (str, int, float)) for word in found):
        raise ValueError(f"monai_ext: {name} must be a word, or several with commas between, got {value!r:.200}.")
    return [str(word).strip() for word in found]


def path_option(value: Any, name: str) -> str | None:
    """A file or folder; a folder called 2024 arrives as a number, and no option at all as None.

    Raises:
        ValueError: for true, false or a list; names the option.

    Examples::

        >>> path_option(2024, "dataset_dir")
        '2024'
    """
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, bool) or not isinstance(value, (int, float, os.PathLike)):
        raise ValueError(f"monai_ext: {name} must be a file or folder, got {value!r:.200}.")
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)
