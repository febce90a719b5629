# SPDX-License-Identifier: Apache-2.0
"""Numbers of classes as files hold them: whole, whatever type they were saved in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["whole_numbers"]

ROUNDING = 1e-3  # so near to a whole number a value is that number: what scaling and saving as float leave
LARGEST = 2**31


def whole_numbers(values: np.ndarray, file: str | os.PathLike) -> np.ndarray:
    """The values of a label as integers; those within 0.001 of a whole number are that number.

    Args:
        values: as they were read, of any shape and type.
        file: where from, for the error.

    Raises:
        ValueError: if values are NaN, infinite or between whole numbers; says which, with all their digits.

    Examples::

        >>> whole_numbers(np.array([0.0, 0.9999999]), "label.nii.gz")
        array([0, 1])
    """
    import numpy as np  # what imports nothing else of the library's should not pay for it

    if values.dtype.kind in "iub":
        return values
    with np.errstate(invalid="ignore"):
        rounded = np.rint(values)
        wrong = ~((np.abs(values - rounded) <= ROUNDING) & (np.abs(rounded) < LARGEST))  # NaN and infinity, too
    if wrong.any():
        kinds = np.unique(values[wrong])
        shown = ", ".join(_digits(value) for value in kinds[:8]) + (", ..." if kinds.size > 8 else "")
        remedy = (
            "Set them to 0 (background), or leave this case out."
            if not np.isfinite(kinds).any()
            else "If the label was resampled, do so again with nearest neighbours."
        )
        raise ValueError(
            f"monai_ext: {file}: label values {shown} ({np.count_nonzero(wrong)} of {values.size}), expected whole "
            f"numbers. {remedy}"
        )
    return rounded.astype(np.int64)


def _digits(value: np.floating) -> str:
    """All that are needed to tell it from others of its type."""
    import numpy as np

    if np.isnan(value):
        return "NaN"
    return str(value) if abs(value) >= LARGEST else np.format_float_positional(value, trim="-")
