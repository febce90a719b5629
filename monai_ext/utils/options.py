# SPDX-License-Identifier: Apache-2.0
"""Options as a command line gives them: ``--fold 1`` may be a number or a text, ``--exclude 0021`` is a text."""

from __future__ import annotations

import math
import os
from typing import Any

__all__ = ["number_option", "path_option", "text_options", "whole_option"]


def whole_option(value: Any, name: str, low: int, high: int | None = None) -> int:
    """A whole number from ``low`` to ``high`` (None: as large as one likes), given as a number or as its text.

    Raises:
        ValueError: for anything else, true and false among it; names the option.

    Examples::

        >>> whole_option("3", "fold", 0, 4)
        3
    """
    found: int | None = None
    if not isinstance(value, bool):
        try:
            found = int(value) if float(value) == int(value) else None
        except (TypeError, ValueError, OverflowError):
            try:
                found = int(str(value))
            except ValueError:
                found = None
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
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"monai_ext: {name} must be a number, got {value!r:.200}.")
    return found


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
