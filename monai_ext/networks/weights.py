# SPDX-License-Identifier: Apache-2.0
"""Reference checkpoints -> our ``state_dict``.

Each network here has its own module names; the official repositories have theirs. ``RULES`` holds, per network, the
ordered regular expressions that turn an official key into ours. Nothing is dropped unless a rule says so (``None``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
import torch.nn as nn

__all__ = ["load_reference"]

Rules = list[tuple[str, "str | None"]]

RULES: dict[str, Rules] = {}


def load_reference(network: nn.Module, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Load a checkpoint with the official repository's keys into ``network``, strictly.

    Args:
        network: one of ``monai_ext.networks.nets``, built with the checkpoint's channels and classes.
        state_dict: the official ``state_dict``; a ``module.`` prefix of distributed training is removed.

    Raises:
        ValueError: if the network has no rules, or any key is missing, surplus or of another shape; all are listed.

    Examples::

        >>> net = UNetDCA(spatial_dims=2, in_channels=1, out_channels=9)
        >>> load_reference(net, torch.load("official.pt", weights_only=True))
    """
    name = type(network).__name__
    if name not in RULES:
        raise ValueError(
            f"load_reference: no reference layout is known for {name}; known are {', '.join(sorted(RULES))}."
        )
    own = network.state_dict()
    mapped = {}
    for key, value in state_dict.items():
        new = _rename(key.removeprefix("module."), RULES[name])
        if new is not None:
            mapped[new] = value
    problems = [f"missing: {key}" for key in own if key not in mapped]
    problems += [f"surplus: {key}" for key in mapped if key not in own]
    problems += [
        f"misshaped: {key} is {tuple(mapped[key].shape)}, the network has {tuple(own[key].shape)}"
        for key in own
        if key in mapped and mapped[key].shape != own[key].shape
    ]
    if problems:
        raise ValueError(
            f"load_reference: the checkpoint does not fit {name} ({len(problems)} keys). Is it of another network, "
            "number of channels or classes?\n  " + "\n  ".join(problems)
        )
    network.load_state_dict(mapped)


def _rename(key: str, rules: Rules) -> str | None:
    """Apply every rule in order; a rule that maps to None drops the key."""
    for pattern, replacement in rules:
        if replacement is None:
            if re.search(pattern, key):
                return None
        else:
            key = re.sub(pattern, replacement, key)
    return key
