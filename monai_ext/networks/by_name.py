# SPDX-License-Identifier: Apache-2.0
"""Networks by the names of command lines: those of this library, and the baselines that they are compared with."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from . import baselines, nets

__all__ = ["known_networks", "network_definition"]

BASELINES = ("basic_unet", "dynunet", "segresnet", "swinunetr", "plain_unet", "resenc_unet")


def known_networks() -> dict[str, Any]:
    """Name -> the network of this library, or the function that makes a baseline, in the spelling of command lines.

    Examples::

        >>> list(known_networks())[:3], list(known_networks())[-2:]
        (['dcaunet', 'doubleunet_dca', 'emcadnet'], ['plain_unet', 'resenc_unet'])
    """
    found = {}
    for name in nets.__all__:
        network = getattr(nets, name)
        if "out_channels" in inspect.signature(network).parameters:  # encoders have none
            stem = network.__module__.rpartition(".")[2]
            found[stem if _plain(stem) == _plain(name) else name.lower()] = network
    return found | {name: getattr(baselines, name) for name in BASELINES}


def network_definition(
    name: str, facts: Mapping[str, Any], option: str = "--network", otherwise: str = ""
) -> tuple[str, dict[str, Any]]:
    """A network's own spelling of its name, and its definition as a bundle's ``network_def``.

    Args:
        name: with or without dashes and underscores, in small or capital letters.
        facts: ``spatial_dims``, ``in_channels``, ``out_channels`` and ``img_size``; what the network has no argument
            for is left out, but ``spatial_dims``, which configs ask of each definition.
        option: which the name was given to, for the error.
        otherwise: what else there is to do, for the error.

    Raises:
        ValueError: for an unknown name; it lists all.

    Examples::

        >>> network_definition("QTSeg", {"spatial_dims": 2, "in_channels": 1, "out_channels": 9, "img_size": [64, 64]})
        ('qtseg', {'_target_': 'monai_ext.networks.nets.QTSeg', 'spatial_dims': 2, 'in_channels': 1, 'out_channels': 9})
    """
    known = known_networks()
    spelled = {_plain(each): each for each in known}
    if _plain(name) not in spelled:
        raise ValueError(f"monai_ext: {option} {name:.80}: expected one of {', '.join(known)}{otherwise}.")
    found = spelled[_plain(name)]
    network = known[found]
    target = f"{nets.__name__ if inspect.isclass(network) else baselines.__name__}.{network.__name__}"
    arguments = inspect.signature(network).parameters
    return found, {"_target_": target, **{k: v for k, v in facts.items() if k in arguments or k == "spatial_dims"}}


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
