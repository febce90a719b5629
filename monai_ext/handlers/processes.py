# SPDX-License-Identifier: Apache-2.0
"""What the processes of one run agree on."""

from __future__ import annotations

import ignite.distributed as idist

__all__ = ["any_process", "of_first_process"]


def any_process(value: bool) -> bool:
    """Whether ``value`` is true in any process; every one of them must ask."""
    if idist.get_world_size() == 1:
        return value
    return bool(idist.all_reduce(int(value), op="MAX"))


def of_first_process(value: bool) -> bool:
    """The first process's ``value``: clocks differ."""
    return bool(idist.broadcast(float(value), src=0)) if idist.get_world_size() > 1 else value
