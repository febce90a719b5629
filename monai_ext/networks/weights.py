# SPDX-License-Identifier: Apache-2.0
"""Weights files, strictly, and reference checkpoints -> our ``state_dict``.

Each network here has its own module names; the official repositories have theirs. The ``key_rules`` of a network's
class turn an official key into ours. Nothing is dropped unless a rule says so (``None``).
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn

from monai_ext.networks.exports import is_export
from monai_ext.utils import load_tensors

__all__ = ["KeyRules", "load_reference", "load_strict", "load_weights", "read_weights"]

logger = logging.getLogger(__name__)
# regular expressions and what they become, one after the other; a key that one with None finds is dropped
KeyRules = list[tuple[str, "str | None"]]

LISTED = 12  # keys of each kind that an error lists


def read_weights(path: str | os.PathLike, mmap: bool = False) -> dict[str, Any]:
    """Read a ``state_dict`` from a file that may hold tensors and plain values only.

    A file with the ``state_dict`` under ``model`` or ``state_dict`` is unwrapped.

    Args:
        path: the file.
        mmap: leave tensors in the file until they are used, see :func:`~monai_ext.utils.load_tensors`.

    Raises:
        FileNotFoundError: if there is no such file; says how to get one.
        ValueError: if it is no weights file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"monai_ext: {path}: no such weights file. Train first, or put a model there.")
    if is_export(path):
        raise ValueError(f"monai_ext: {path}: is an exported network, expected a weights file such as model.pt.")
    state = load_tensors(path, mmap)
    for key in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    ):
        raise ValueError(f"monai_ext: {path}: holds no state_dict.")
    return state


def load_weights(network: nn.Module, path: str | os.PathLike, mmap: bool = False, refuse_zero: bool = True) -> None:
    """Load a weights file into ``network``, strictly.

    Args:
        network: to load it into.
        path: the file.
        mmap: straight from the file, see ``read_weights``.
        refuse_zero: weights that are zero throughout are an error; otherwise the log says that all will be background.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no weights file, of another network, or holds what no network can work with (NaN, say);
            the tensors are listed.

    Examples::

        >>> load_weights(DCAUNet(spatial_dims=2, in_channels=1, out_channels=9), "models/model.pt")
    """
    load_strict(network, read_weights(path, mmap), str(path), refuse_zero)


def load_strict(
    network: nn.Module, state_dict: Mapping[str, torch.Tensor], source: str, refuse_zero: bool = True
) -> None:
    """Load ``state_dict``, or raise one ValueError that names ``source`` and lists what is wrong.

    That is every missing, surplus or misshaped key, or every tensor that a working network cannot hold: without values
    of its own (sparse, quantised, nested, meta), complex or whole numbers, NaN or infinity, a negative variance, and
    weights that are zero throughout.
    """
    if odd := [f"{key} is {form}" for key, value in state_dict.items() if (form := _form(value))]:
        raise ValueError(
            f"monai_ext: {source}: expected plain tensors, but {odd[0]}. Save the network's own state_dict."
            f"{_listed(odd[1:])}"
        )
    own = network.state_dict()
    kinds = [
        [f"missing: {key}" for key in own if key not in state_dict],
        [f"surplus: {key}" for key in state_dict if key not in own],
        [
            f"misshaped: {key} is {tuple(state_dict[key].shape)}, the network has {tuple(own[key].shape)}"
            for key in own
            if key in state_dict and state_dict[key].shape != own[key].shape
        ],
    ]
    if any(kinds):
        raise ValueError(
            f"monai_ext: {source}: its weights do not fit {type(network).__name__} ({sum(map(len, kinds))} keys). Are "
            f"they of another network, number of channels or classes?{_listed(*kinds)}"
        )
    broken = [f"{key}: {fault}" for key in own if (fault := _fault(key, state_dict[key], own[key].dtype))]
    # Biases, scales and the queries of attention residuals start at zero and may stay there, a whole network does not.
    weights = [key for key, value in own.items() if value.dim() > 1]
    if weights and not broken and not any(state_dict[key].to(own[key].dtype).any() for key in weights):
        broken = [f"{key}: all zero, as every weight is" for key in weights]
        if not refuse_zero:
            logger.warning("monai_ext: %s: %s: every pixel will be background.", source, broken[0])
            broken = []
    if broken:
        raise ValueError(
            f"monai_ext: {source}: {type(network).__name__} cannot work with {broken[0]}. Take an earlier checkpoint, "
            f"or train again.{_listed(broken[1:])}"
        )
    network.load_state_dict(state_dict)


def _form(value: torch.Tensor) -> str | None:
    """What makes a tensor something else than values in memory, or None."""
    if value.is_meta:
        return "a meta tensor, which has no values"
    if value.is_nested or value.is_quantized or value.layout is not torch.strided:
        return "nested" if value.is_nested else "quantised" if value.is_quantized else f"sparse ({value.layout})"
    return None


def _fault(key: str, value: torch.Tensor, dtype: torch.dtype) -> str | None:
    """What keeps a tensor of the right shape from being a network's, or None."""
    if value.is_complex() or (dtype.is_floating_point and not value.is_floating_point()):
        return f"{value.dtype}, the network has {dtype}"
    value = value.to(dtype)  # as loading will: what is finite in float64 may not be in float32
    # the extremes tell without a copy of the tensor, which isfinite makes; NaN anywhere makes both NaN
    if value.numel() and not all(torch.isfinite(extreme) for extreme in torch.aminmax(value)):
        wrong = value.numel() - int(torch.isfinite(value).sum())
        return f"{wrong} of {value.numel()} values are NaN or infinite"
    if key.endswith("running_var") and (value < 0).any():
        return f"a variance of {value.min().item():.3g}"
    return None


def _listed(*kinds: list[str]) -> str:
    """Some lines of each kind, indented, and how many more there are."""
    more = [[f"and {len(kind) - LISTED} more"] * (len(kind) > LISTED) for kind in kinds]
    return "".join(f"\n  {line}" for kind, rest in zip(kinds, more) for line in kind[:LISTED] + rest)


def load_reference(
    network: nn.Module, state_dict: Mapping[str, torch.Tensor], source: str = "the reference checkpoint"
) -> None:
    """Load a checkpoint with the official repository's keys into ``network``, strictly.

    Args:
        network: one of ``monai_ext.networks.nets``, built with the checkpoint's channels and classes; its class has
            ``key_rules``.
        state_dict: the official ``state_dict``; a ``module.`` prefix of distributed training is removed.
        source: what an error calls it, its path for instance.

    Raises:
        ValueError: if the network has no rules, or any key is missing, surplus or of another shape; all are listed.

    Examples::

        >>> net = UNetDCA(spatial_dims=2, in_channels=1, out_channels=9)
        >>> load_reference(net, torch.load("official.pt", weights_only=True))
    """
    rules = getattr(network, "key_rules", None)
    if rules is None:
        raise ValueError(
            f"monai_ext: {source}: no official names are known for {type(network).__name__}, which has no key_rules."
        )
    mapped = {}
    for key, value in state_dict.items():
        new = _rename(key.removeprefix("module."), rules)
        if new is not None:
            mapped[new] = value
    own = network.state_dict()
    # a module used at several places has a key at each, a checkpoint may name it once
    given = {own[key].data_ptr(): value for key, value in mapped.items() if key in own}
    for key, tensor in own.items():
        if key not in mapped and tensor.data_ptr() in given:
            mapped[key] = given[tensor.data_ptr()]
    load_strict(network, mapped, source)


def _rename(key: str, rules: KeyRules) -> str | None:
    """Apply every rule in order; a rule that maps to None drops the key."""
    for pattern, replacement in rules:
        if replacement is None:
            if re.search(pattern, key):
                return None
        else:
            key = re.sub(pattern, replacement, key)
    return key
