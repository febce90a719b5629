# SPDX-License-Identifier: Apache-2.0
"""What of MONAI's is being run: configs are not told, so the callers are looked through."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_ext.bundle.places import root_of

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

__all__ = ["Running", "running"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Running:
    """The run of a bundle that code is called from.

    Attributes:
        parser: of its config, overrides included.
        folders: of its config files, the first file's first.
        exported: the weights that a command of MONAI's exports, if it does.
    """

    parser: ConfigParser
    folders: tuple[Path, ...]
    exported: Path | None = None

    @property
    def bundle(self) -> Path | None:
        """The bundle whose config it is."""
        roots = (root_of(folder) for folder in self.folders)
        return next((root for root in roots if root is not None), None)


def running(warn: bool = True) -> Running | None:
    """The workflow or command of MONAI's that this code is called from; None, and a warning, if there is none.

    MONAI hands neither the name of a config nor its content to what the config calls, so the callers are looked
    through: a ``ConfigWorkflow``, or one of the functions of ``monai.bundle`` that read a config themselves.
    """
    monai = sys.modules.get("monai.bundle")  # without it nothing is being run
    parser: ConfigParser | None = None
    folders: list[Path] = []
    exported: Path | None = None
    for names in _callers() if monai else ():
        owner, candidate = names.get("self"), names.get("parser")
        files = names.get("config_file_", names.get("config_file"))
        if isinstance(owner, monai.ConfigWorkflow):  # type: ignore[union-attr]
            candidate = owner.parser
            folders.append(Path(owner.config_root_path))
        elif isinstance(owner, monai.ConfigParser):  # type: ignore[union-attr]
            candidate = owner
        elif names["__name__"] == "monai.bundle.scripts" and files:
            folders += [Path(file).parent for file in _listed(files)]
            if isinstance(weights := names.get("ckpt_file_"), (str, os.PathLike)):
                exported = Path(weights)
        if parser is None and isinstance(candidate, monai.ConfigParser):  # type: ignore[union-attr]
            parser = candidate
    if parser is None:
        if warn:
            logger.warning("monai_ext: the config that is being run could not be told.")
        return None
    return Running(parser, tuple(dict.fromkeys(folders)), exported)


def _listed(files: Any) -> list[str]:
    """Config files as MONAI's commands take them: one, several, or several in one text."""
    if isinstance(files, str):
        return [files] if os.path.isfile(files) else files.split(",")
    return [os.fspath(file) for file in files] if isinstance(files, Sequence) else [os.fspath(files)]


def _callers() -> Iterator[dict[str, Any]]:
    """What the callers, innermost first, have in their hands, and the module of each."""
    frame = sys._getframe()
    while frame := frame.f_back:  # type: ignore[assignment]
        yield {**frame.f_locals, "__name__": frame.f_globals.get("__name__", "")}
