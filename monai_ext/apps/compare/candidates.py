# SPDX-License-Identifier: Apache-2.0
"""Who is compared: networks by name or definition, built and looked at before anything is trained."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
from monai.bundle import ConfigParser
from torch.utils.flop_counter import FlopCounterMode

from monai_ext.networks import use_plain_path
from monai_ext.networks.by_name import known_networks, network_definition
from monai_ext.networks.paths import TwoPaths
from monai_ext.utils import innermost, plain_cause, text_options

__all__ = ["Candidate", "find_candidates", "network_in_recipe"]

LIST_LOSS = ("MutationLoss",)  # losses that take one tensor or a list of them


@dataclass(frozen=True)
class Candidate:
    """A network of a comparison.

    Attributes:
        name: that it goes by, a word for files.
        overlay: what lies over the bundle's configs: ``network_def``, and ``loss`` where the network gives several
            maps in training and the bundle's loss takes one; empty for the bundle's own network.
        parameters: their number.
        multiply_adds: of products in one forward pass of one image of ``image_size``; norms and the like not counted.
    """

    name: str
    overlay: Mapping[str, Any]
    parameters: int
    multiply_adds: int


def find_candidates(parser: ConfigParser, networks: Any = None, network_def: Any = None) -> list[Candidate]:
    """Each network with what it changes in the bundle, built once and asked for labels of the right size.

    Args:
        parser: of the training of the bundle whose recipe trains them, knobs included.
        networks: names, see :func:`~monai_ext.networks.by_name.known_networks`; a list, or a text with commas.
        network_def: definitions as ``train.json`` has them: one, a list, or their JSON.

    Raises:
        ValueError: for an unknown or missing network, one that does not fit the bundle, or fewer than two in all.
    """
    chosen: dict[str, dict[str, Any] | None] = {}
    sizes = _sizes(parser)
    facts = {"spatial_dims": len(sizes), "img_size": list(sizes)}
    facts |= {key: parser.get_parsed_content(f"network_def#{key}") for key in ("in_channels", "out_channels")}
    own = ConfigParser({"network_def": parser.get("network_def")})["network_def"]
    for name in text_options(networks, "--networks"):
        found, definition = network_definition(
            name, facts, "--networks", "; or give a network of your own with --network_def"
        )
        # the bundle's own network keeps its options
        _add(chosen, found, None if own.get("_target_") == definition["_target_"] else definition)
    for definition in _definitions(network_def):
        _add(chosen, _word(str(definition["_target_"]).rpartition(".")[2]), definition)
    if len(chosen) < 2:
        raise ValueError(
            f"monai_ext: --networks: two networks or more are compared, {', '.join(chosen) or 'none'} given. Names are "
            f"{', '.join(known_networks())}; --network_def adds one of your own."
        )
    return [network_in_recipe(name, definition, parser) for name, definition in chosen.items()]


def _word(name: str) -> str:
    return re.sub(r"\W", "_", name) or "network"


def _add(chosen: dict[str, Any], name: str, definition: Any) -> None:
    if name in chosen:
        raise ValueError(f"monai_ext: --networks, --network_def: {name} is given twice. Give each network once.")
    chosen[name] = definition


def _definitions(given: Any) -> list[dict[str, Any]]:
    content = given
    if isinstance(given, str):
        try:
            content = json.loads(given)
        except ValueError as e:
            raise ValueError(f"monai_ext: --network_def {given:.80}: is no JSON ({e}).") from None
    listed = content if isinstance(content, (list, tuple)) else [] if content is None else [content]
    for definition in listed:
        if not isinstance(definition, Mapping) or not isinstance(definition.get("_target_"), str):
            raise ValueError(
                f"monai_ext: --network_def {definition!s:.80}: expected a definition as train.json has it, such as "
                '{"_target_": "monai.networks.nets.BasicUNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 9}.'
            )
    return [dict(definition) for definition in listed]


def _sizes(parser: ConfigParser) -> list[int]:
    """Sides of what the network sees in training."""
    axes = parser.get("network_def#spatial_dims", 2)
    size = parser.get_parsed_content("image_size") if "image_size" in parser else None
    if size is None:
        raise ValueError("monai_ext: --image_size: the bundle has none, and networks are sized by it. Give it.")
    return [int(size)] * axes if isinstance(size, int) else [int(side) for side in size]


def network_in_recipe(name: str, definition: dict[str, Any] | None, parser: ConfigParser) -> Candidate:
    """Build a network, let it see an image without values, and decide on the loss.

    Args:
        name: for errors, and for files.
        definition: of the network; None for the recipe's own.
        parser: of a bundle's training, knobs included.

    Raises:
        ValueError: if it cannot be built, or gives no labels of the image's size.
    """
    where = f"monai_ext: network {name}"
    sizes = _sizes(parser)
    config = dict(parser.get())
    if definition is not None:
        asked = set(re.findall(r"@network_def(?:#|::)(\w+)", json.dumps(config, default=str)))
        if missing := sorted(asked - definition.keys()):
            raise ValueError(f"{where}: the bundle's train.json asks for its {missing[0]}. Give it in --network_def.")
        config["network_def"] = definition
    inner = ConfigParser(config)
    channels, classes = (parser.get_parsed_content(f"network_def#{key}") for key in ("in_channels", "out_channels"))
    try:
        network = _built(inner).requires_grad_(False)
        parameters = sum(p.numel() for p in network.parameters())
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            seen = _run(network.eval(), [1, channels, *sizes])
        maps = _run(network.train(), [2, channels, *sizes])
    except Exception as e:
        told = (plain_cause(e) or " ".join(str(innermost(e)).split())[-300:]).removeprefix("monai_ext: ").rstrip(".")
        raise ValueError(f"{where}: {told}.") from e
    expected = [1, classes, *sizes]
    found = list(seen.shape) if isinstance(seen, torch.Tensor) else f"{type(seen).__name__} of {len(seen)}"
    if found != expected:
        raise ValueError(f"{where}: in eval() it gives {found} for one image of {list(sizes)}, expected {expected}.")
    overlay: dict[str, Any] = {} if definition is None else {"network_def": definition}
    loss = parser.get("loss")
    several = [] if isinstance(maps, torch.Tensor) else list(maps)
    sides = [y.shape[-1] for y in several]
    if definition is not None and several and not (_takes_lists(loss) and set(sides) == {sizes[-1]}):
        weights = "exp" if sides == sorted(sides, reverse=True) and sides[0] > sides[-1] else "same"
        overlay["loss"] = {"_target_": "DeepSupervisionLoss", "loss": loss, "weight_mode": weights}
    return Candidate(name, overlay, parameters, counter.get_total_flops() // 2)


def _built(parser: ConfigParser) -> nn.Module:
    """Without values where that goes, which takes no time."""
    try:
        with torch.device("meta"):
            network = parser.get_parsed_content("network_def")
    except RuntimeError:  # values are asked for, such as rates made by torch.linspace
        parser.parse(reset=True)
        network = parser.get_parsed_content("network_def")
    if not isinstance(network, nn.Module):
        raise ValueError(f"its definition makes no network, but {type(network).__name__}")
    return network


def _run(network: nn.Module, shape: Sequence[int]) -> Any:
    """What it gives for an image without values; for one with zeros where it cannot do without."""
    if any(isinstance(module, TwoPaths) for module in network.modules()):
        use_plain_path(network)
    with torch.no_grad():
        try:
            return network.to("meta")(torch.empty(shape, device="meta"))
        except (RuntimeError, NotImplementedError):
            return network.to_empty(device="cpu")(torch.zeros(shape))


def _takes_lists(loss: Any) -> bool:
    return isinstance(loss, Mapping) and str(loss.get("_target_", "")).rpartition(".")[2] in LIST_LOSS
