# SPDX-License-Identifier: Apache-2.0
"""Weights files, strictly, and reference checkpoints -> our ``state_dict``.

Each network here has its own module names; the official repositories have theirs. ``RULES`` holds, per network, the
ordered regular expressions that turn an official key into ours. Nothing is dropped unless a rule says so (``None``).
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn

__all__ = ["load_reference", "load_strict", "load_weights", "read_weights"]

Rules = list[tuple[str, "str | None"]]

# PVT v2's release, alone or as EMCAD's backbone: stages count from 1
_PVT_V2: Rules = [
    *[(rf"^(backbone\.)?(patch_embed|block|norm){s}\.", rf"\g<1>\g<2>.{s - 1}.") for s in (1, 2, 3, 4)],
    (r"patch_embed\.(\d)\.proj\.", r"embed.\1.0."),
    (r"patch_embed\.(\d)\.norm\.", r"embed.\1.1."),
    (r"block\.", "blocks."),
    (r"attn\.q\.", "attention.query."),
    (r"attn\.kv\.", "attention.key_value."),
    (r"attn\.proj\.", "attention.project."),
    (r"attn\.sr\.", "attention.reduce."),
    (r"attn\.norm\.", "attention.norm."),
    (r"mlp\.dwconv\.dwconv\.", "mlp.depthwise."),
]
# EMCAD's levels count down to 1, the finest
_EMCAD: Rules = [
    *_PVT_V2,
    (r"^backbone\.", "encoder."),
    (r"^conv\.", "adapter."),
    *[(rf"^(?:decoder\.)?(mscb|cab|out_head){level}\.", rf"\1.{4 - level}.") for level in (4, 3, 2, 1)],
    *[(rf"^decoder\.(eucb|lgag){level}\.", rf"\1.{3 - level}.") for level in (3, 2, 1)],
    (r"^mscb\.(\d)\.0\.pconv1\.", r"mscam.\1.convolution.expand."),
    (r"^mscb\.(\d)\.0\.msdc\.dwconvs\.", r"mscam.\1.convolution.branches."),
    (r"^mscb\.(\d)\.0\.pconv2\.", r"mscam.\1.convolution.project."),
    (r"^cab\.(\d)\.", r"mscam.\1.channel_attention."),
    (r"^decoder\.sab\.", "mscam.0.spatial_attention."),
    (r"^eucb\.(\d)\.up_dwc\.", r"up.\1.up."),
    (r"^eucb\.(\d)\.pwc\.0\.", r"up.\1.project."),
    (r"^lgag\.(\d)\.W_g\.", r"gate.\1.from_gate."),
    (r"^lgag\.(\d)\.W_x\.", r"gate.\1.from_skip."),
    (r"^lgag\.(\d)\.psi\.", r"gate.\1.score."),
    (r"^out_head\.", "heads."),
]

RULES: dict[str, Rules] = {
    "EMCADNet": _EMCAD,
    "PVTv2": [(r"^head\.", None), *_PVT_V2],
    "XAttnResEMCAD": _EMCAD,  # without reads the two are one network
}


def read_weights(path: str | os.PathLike) -> dict[str, Any]:
    """Read a ``state_dict`` from a file that may hold tensors and plain values only.

    A file with the ``state_dict`` under ``model`` or ``state_dict`` is unwrapped.

    Raises:
        FileNotFoundError: if there is no such file; says how to get one.
        ValueError: if it is no weights file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"monai_ext: {path}: no such weights file. Train first, or put a model there.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as e:
        raise ValueError(f"monai_ext: {path}: no PyTorch file of plain tensors ({str(e).splitlines()[0]}).") from e
    for key in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"monai_ext: {path}: holds no state_dict.")
    return state


def load_weights(network: nn.Module, path: str | os.PathLike) -> None:
    """Load a weights file into ``network``, strictly.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no weights file, or of another network; what does not fit is listed.

    Examples::

        >>> load_weights(DCAUNet(spatial_dims=2, in_channels=1, out_channels=9), "models/model.pt")
    """
    load_strict(network, read_weights(path), str(path))


def load_strict(network: nn.Module, state_dict: Mapping[str, torch.Tensor], source: str) -> None:
    """Load ``state_dict``; one ValueError lists every missing, surplus or misshaped key and names ``source``."""
    own = network.state_dict()
    problems = [f"missing: {key}" for key in own if key not in state_dict]
    problems += [f"surplus: {key}" for key in state_dict if key not in own]
    problems += [
        f"misshaped: {key} is {tuple(state_dict[key].shape)}, the network has {tuple(own[key].shape)}"
        for key in own
        if key in state_dict and state_dict[key].shape != own[key].shape
    ]
    if problems:
        shown = problems[:20] + ([f"and {len(problems) - 20} more"] if len(problems) > 20 else [])
        raise ValueError(
            f"monai_ext: {source}: its weights do not fit {type(network).__name__} ({len(problems)} keys). Are they of "
            "another network, number of channels or classes?\n  " + "\n  ".join(shown)
        )
    network.load_state_dict(state_dict)


def load_reference(
    network: nn.Module, state_dict: Mapping[str, torch.Tensor], source: str = "the reference checkpoint"
) -> None:
    """Load a checkpoint with the official repository's keys into ``network``, strictly.

    Args:
        network: one of ``monai_ext.networks.nets``, built with the checkpoint's channels and classes.
        state_dict: the official ``state_dict``; a ``module.`` prefix of distributed training is removed.
        source: what an error calls it, its path for instance.

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
    mapped = {}
    for key, value in state_dict.items():
        new = _rename(key.removeprefix("module."), RULES[name])
        if new is not None:
            mapped[new] = value
    own = network.state_dict()
    # a module used at several places has a key at each, a checkpoint may name it once
    given = {own[key].data_ptr(): value for key, value in mapped.items() if key in own}
    for key, tensor in own.items():
        if key not in mapped and tensor.data_ptr() in given:
            mapped[key] = given[tensor.data_ptr()]
    load_strict(network, mapped, source)


def _rename(key: str, rules: Rules) -> str | None:
    """Apply every rule in order; a rule that maps to None drops the key."""
    for pattern, replacement in rules:
        if replacement is None:
            if re.search(pattern, key):
                return None
        else:
            key = re.sub(pattern, replacement, key)
    return key
