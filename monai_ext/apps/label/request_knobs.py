# SPDX-License-Identifier: Apache-2.0
"""What of a request reaches a bundle: values of the kinds that their knobs have, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from monai_ext.utils.options import finite_number, whole_number

__all__ = ["RequestError", "checked_knobs", "checked_name", "known"]

# of a study, a label's tag, a model: a name and never a path; a hidden file is none
NAME = re.compile(r"(?!\.)[^\x00-\x1f\x7f/\\]{1,200}")
MOST = 10**6


class RequestError(ValueError):
    """A request that cannot be answered, with the status to answer it with."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def checked_name(what: str, value: object) -> str:
    """A name of something that the server keeps.

    Raises:
        RequestError: 400, for what could be a path.

    Examples::

        >>> checked_name("study", "patient 1")
        'patient 1'
    """
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise RequestError(
            400, f"monai_ext: {what} {value!r:.80}: expected a name without slashes that does not begin with a dot."
        )
    return value


def known(what: str, name: object, there: Mapping[str, Any]) -> Any:
    """What the server has under a name that a request gave, alone or as the one of a list.

    Raises:
        RequestError: 404, if there is none of it; names what there is.

    Examples::

        >>> known("model", "unet", {"unet": 1})
        1
    """
    one = name[0] if isinstance(name, (list, tuple)) and len(name) == 1 else name
    if not isinstance(one, str) or one not in there:
        raise RequestError(404, f"monai_ext: no {what} {one!r:.80}; there are {', '.join(there) or 'none'}.")
    return there[one]


def checked_knobs(request: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The values of ``request`` for the knobs in ``defaults``; what else a viewer sends is left out.

    A switch takes true and false, a number takes numbers of its kind (whole ones from 1 on, others from 0 on), a choice
    takes one of the list. Nothing else passes: texts and structures would be parsed as a config.

    Args:
        request: as it came.
        defaults: knob -> its default; a list or tuple holds the texts to choose from, the first is the default.

    Returns:
        every knob of ``defaults`` with its value.

    Raises:
        RequestError: 400; names the knob, what was found and what was expected.

    Examples::

        >>> checked_knobs({"batch_size": 4, "note": "$1"}, {"batch_size": 24, "mirror": False})
        {'batch_size': 4, 'mirror': False}
    """
    found = {}
    for name, default in defaults.items():
        choice = isinstance(default, (list, tuple))
        value = request.get(name)
        if value is None or (choice and isinstance(value, (list, tuple)) and list(value) == list(default)):
            found[name] = default[0] if choice and default else None if choice else default
        elif choice:
            found[name] = _chosen(name, value, default)
        else:
            found[name] = _of_kind(name, value, default)
    return found


def _chosen(name: str, value: object, choices: Sequence[str]) -> str:
    one = value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value
    if not isinstance(one, str) or one not in choices:
        raise RequestError(400, f"monai_ext: {name} {value!r:.80}: expected one of {', '.join(choices) or 'none'}.")
    return one


def _of_kind(name: str, value: Any, default: object) -> bool | int | float:
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise RequestError(400, f"monai_ext: {name} {value!r:.80}: expected true or false.")
        return value
    number = None if isinstance(value, str) else finite_number(value)
    if isinstance(default, int):
        whole = whole_number(number)
        if whole is None or not 1 <= whole <= MOST:
            raise RequestError(400, f"monai_ext: {name} {value!r:.80}: expected a whole number from 1 to {MOST}.")
        return whole
    if not isinstance(default, float):
        raise TypeError(f"knob {name}: default {default!r} is of no kind that a request may set")
    if number is None or number < 0:
        raise RequestError(400, f"monai_ext: {name} {value!r:.80}: expected a number from 0 on.")
    return float(number)
