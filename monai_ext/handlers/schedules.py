# SPDX-License-Identifier: Apache-2.0
"""Optimisers and schedules of a training that goes on: their progress is the checkpoint's, their options are now's."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

__all__ = ["differences", "options_of", "restore_all"]

# what a schedule's state says of how far it has come; all else is how it was made
PROGRESS = ("last_epoch", "best", "num_bad_epochs", "cooldown_counter", "T_cur")


def options_of(item: Any) -> dict[str, Any]:
    """What an optimiser or a schedule was made with, as plain values; of anything else nothing."""
    if isinstance(item, Optimizer):
        groups = [{key: value for key, value in group.items() if key != "params"} for group in item.param_groups]
        named = {key: [group.get(key) for group in groups] for key in dict.fromkeys(k for g in groups for k in g)}
        return _plain({key: values[0] if len(values) == 1 else values for key, values in named.items()})
    if isinstance(item, LRScheduler):
        state = item.state_dict()
        return _plain({key: value for key, value in state.items() if _is_option(key)})
    return {}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What was changed, in words: ``optimizer lr was 0.001, is 0.01 now``."""
    for key in dict.fromkeys([*before, *now]):
        if before.get(key) != now.get(key):
            yield f"{key} was {before.get(key)}, is {now.get(key)} now"


def restore_all(objects: Mapping[str, Any], states: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Load the state of each object; optimisers and schedules keep the options that they were made with.

    A schedule by epochs (or steps) is run anew up to where the training was stopped, so that the rate is what it would
    be, had the training been started like this. ``ReduceLROnPlateau`` depends on the past, and keeps it.

    Args:
        objects: optimiser, schedule and so on, as they are at the start.
        states: the ``state_dict`` of each.
        before: options of the stopped training, ``"<name> <option>"`` -> value.

    Raises:
        ValueError: if a state does not fit its object; names it.
    """
    scheduled: set[int] = set()  # the optimisers whose rates a schedule has set
    for name, item in objects.items():
        if isinstance(item, LRScheduler) and not isinstance(item, ReduceLROnPlateau):
            steps = states[name]["last_epoch"] - item.last_epoch
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that the optimiser has made no step yet
                for _ in range(steps):
                    item.step()
            scheduled.add(id(item.optimizer))
    for name, item in objects.items():
        if isinstance(item, LRScheduler) and not isinstance(item, ReduceLROnPlateau):
            continue
        state = states[name]
        if isinstance(item, Optimizer) and isinstance(state, Mapping) and "param_groups" in state:
            state = {**state, "param_groups": _groups(name, item, state["param_groups"], before, id(item) in scheduled)}
        elif isinstance(item, ReduceLROnPlateau):
            state = {**state, **{key: value for key, value in item.state_dict().items() if _is_option(key)}}
        try:
            item.load_state_dict(state)
        except (RuntimeError, ValueError, KeyError) as e:
            raise ValueError(f"its {name} does not fit this training: {e}") from e


def _is_option(key: str) -> bool:
    return key[0] != "_" and key not in PROGRESS


def _groups(
    name: str, item: Optimizer, saved: list[dict[str, Any]], before: Mapping[str, Any], scheduled: bool
) -> list[dict[str, Any]]:
    """The parameter groups of now; what no schedule has set is the checkpoint's where the option is the same."""
    if len(saved) != len(item.param_groups):
        raise ValueError(f"its {name} has {len(saved)} parameter groups, now there are {len(item.param_groups)}")
    now = options_of(item)
    groups = []
    for old, group in zip(saved, item.param_groups):
        made = {key: value for key, value in group.items() if key != "params"}
        if not scheduled:
            made |= {key: old[key] for key in made.keys() & old.keys() if before.get(f"{name} {key}") == now.get(key)}
        groups.append({**made, "params": old["params"]})
    return groups


def _plain(value: Any) -> Any:
    """Values that a checkpoint may hold and that can be compared; what is none is left out."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items() if _is_plain(inner)}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return True
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))
