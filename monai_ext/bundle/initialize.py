# SPDX-License-Identifier: Apache-2.0
"""What a bundle's config calls before it runs: its own folder, and its knobs as they are used."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_ext.bundle.bundle import Bundle
from monai_ext.bundle.literals import literal
from monai_ext.bundle.places import collection, is_bundle
from monai_ext.bundle.running import running
from monai_ext.utils.knobs import KNOBS, as_json, knob_value

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

__all__ = ["bundle_root", "check_knobs"]

logger = logging.getLogger(__name__)


def bundle_root(name: str) -> str:
    """The folder of the bundle that is being run: a bundle is where its config is.

    A bundle's config calls this for its ``bundle_root``. In this order: ``--bundle_root DIR`` of the command line; the
    folder of the config file that is being run; the current folder if it is a bundle, whatever its name; the known
    bundle of that name. A copied, renamed or moved bundle reads and writes what is its own.

    Args:
        name: the bundle's folder name, such as ``"dcaunet_synapse"``, for where no config is being run.

    Raises:
        FileNotFoundError: if none of these is a bundle.

    Examples::

        >>> bundle_root("dcaunet_synapse")  # in the repository root
        'bundles/dcaunet_synapse'
    """
    run = running()
    if run is not None and run.bundle is not None:
        return str(run.bundle)
    if is_bundle(Path(".")):
        return "."
    known = Bundle.known()
    if name in known:
        logger.warning(
            "monai_ext: the config that is being run lies in no bundle's folder; %s is taken. Give another with "
            "--bundle_root.",
            known[name].folder,
        )
        return str(known[name].folder)
    raise FileNotFoundError(
        f"monai_ext: bundle {name!r} found neither in {Path.cwd()}, {Path.cwd() / 'bundles'} nor {collection()}. "
        "Give its folder with --bundle_root."
    )


def check_knobs(parser: ConfigParser | None = None) -> None:
    """Make of each knob of a run what it is used as, or refuse it in one line. Configs call it in ``initialize``.

    MONAI hands on what a command line gave: a text for ``true``, a number for a folder called 7. A knob that the
    weights were trained with another value of is told in the log.

    Args:
        parser: of the config; by default that of the run.

    Raises:
        ValueError: for a value that a knob cannot have; knob, value and what is expected are named.
    """
    if parser is None:
        run = running()
        if run is None:
            return
        parser = run.parser
    changed = False
    for knob in KNOBS:
        given = parser.get(knob)
        if knob not in parser or (isinstance(given, str) and given.startswith(("$", "@", "%"))):
            continue  # the recipe's own
        value = knob_value(knob, given)
        if knob == "image_size":
            value = _as_recipe(value, parser)
        if knob == "spacing" and value is not None:
            axes = parser.get("network_def#spatial_dims", 2)
            if len(value) not in (1, axes):
                raise ValueError(f"monai_ext: --spacing {as_json(value)}: expected one length in mm, or {axes}.")
            value = value * axes if len(value) == 1 else value
        if type(value) is not type(given) or value != given:
            parser[knob] = literal(value)
            changed = True
    if changed:
        parser.parse(reset=True)  # MONAI forgets what it has parsed when a value is set
    if "as_trained" in parser:
        for knob, value in parser.get_parsed_content("as_trained").items():
            used = parser.get_parsed_content(knob) if knob in parser else value
            if _same_size(used) != _same_size(value):
                logger.warning(
                    "monai_ext: --%s %s is given, but the weights were trained with %s.",
                    knob,
                    as_json(used),
                    as_json(value),
                )


def _as_recipe(size: int | list[int] | None, parser: ConfigParser) -> int | list[int] | None:
    """One side where the recipe has one, else one for each axis."""
    axes = parser.get("network_def#spatial_dims", 2)
    root = Path(parser.get_parsed_content("bundle_root")) if "bundle_root" in parser else None
    recipe = Bundle(root).default("image_size") if root is not None and is_bundle(root) else None
    if isinstance(size, list) and isinstance(recipe, int):
        raise ValueError(f"monai_ext: --image_size {as_json(size)}: expected one whole number, the longer side.")
    if not isinstance(axes, int) or size is None or isinstance(recipe, int):
        return size
    sides = [size] if isinstance(size, int) else size
    if len(sides) not in (1, axes):
        raise ValueError(f"monai_ext: --image_size {as_json(size)}: expected one whole number, or {axes}.")
    return sides * axes if len(sides) == 1 else sides


def _same_size(value: Any) -> Any:
    """One number for all axes, or that number for each: the same."""
    sides = list(value) if isinstance(value, (list, tuple)) else [value]
    return sides[0] if len(set(sides)) == 1 else sides
