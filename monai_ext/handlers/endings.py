# SPDX-License-Identifier: Apache-2.0
"""What has to be undone when a run ends, however it ends."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

from ignite.engine import Engine, Events

__all__ = ["at_end"]

_endings: WeakKeyDictionary[Engine, list[Callable[[], None]]] = WeakKeyDictionary()


def at_end(engine: Engine, clean_up: Callable[[], None]) -> None:
    """Call ``clean_up`` once, when the engine has completed, was terminated, or has failed."""
    if engine not in _endings:
        _endings[engine] = []
        engine.add_event_handler(Events.COMPLETED | Events.TERMINATE, _end)
        # an engine that has a handler of errors leaves raising to it, and runs none behind one that raises
        engine.add_event_handler(Events.EXCEPTION_RAISED, _end_and_raise)
    _endings[engine].append(clean_up)


def _end(engine: Engine) -> None:
    while _endings[engine]:
        _endings[engine].pop()()


def _end_and_raise(engine: Engine, error: BaseException) -> None:
    _end(engine)
    raise error
