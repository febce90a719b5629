# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

__all__ = ["flag"]


def flag(value: bool | int | str | None) -> bool:
    """A switch as the command line gives it: MONAI's hands on ``--amp false`` as a text, which counts as true.

    Raises:
        ValueError: for anything but true and false, yes and no, 1 and 0.

    Examples::

        >>> flag("false")
        False
    """
    text = str(value).lower()
    if text in ("true", "yes", "1"):
        return True
    if text in ("false", "no", "0", "none"):
        return False
    raise ValueError(f"monai_ext: {value!r}: expected true or false.")
