# SPDX-License-Identifier: Apache-2.0
"""What a cross-validation left in a bundle: the checkpoints of its folds, and what is done to their labels."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from monai_ext.utils.json_files import read_json
from monai_ext.utils.switches import flag

__all__ = ["CROSSVAL", "FoldEnsemble", "fold_ensemble", "largest_component", "own_weights"]

CROSSVAL = "crossval.json"  # beside the checkpoints; written when all of them are there
FOLD = re.compile(r"fold\d+\.pt")


@dataclass(frozen=True)
class FoldEnsemble:
    """The result of ``python -m monai_ext crossval``.

    Attributes:
        checkpoints: one of each fold, in the order of the folds.
        largest_component: classes of which only the largest connected component is kept.
        model: hash of the ``model.pt`` that lay beside them then; None if there was none.
    """

    checkpoints: tuple[Path, ...]
    largest_component: tuple[int, ...]
    model: str | None = None


def fold_ensemble(folder: str | os.PathLike) -> FoldEnsemble | None:
    """The ensemble in a folder of weights; None if no cross-validation has ended there.

    Raises:
        FileNotFoundError: if one of its checkpoints is not there any more.
        ValueError: if ``crossval.json`` is none of this library's.

    Examples::

        >>> fold_ensemble("bundles/mine/models").largest_component
        (5,)
    """
    file = Path(folder, CROSSVAL)
    if not file.is_file():
        return None
    content = read_json(file, "cross-validation")
    try:
        names, kept, model = content["checkpoints"], content["largest_component"], content.get("model")
        valid = bool(names) and all(isinstance(name, str) and FOLD.fullmatch(name) for name in names)
        valid = valid and all(type(label) is int and 0 < label < 256 for label in kept)
        valid = valid and (model is None or isinstance(model, str))
    except (KeyError, TypeError, AttributeError):
        valid = False
    if not valid:
        raise ValueError(
            f"monai_ext: {file}: expected the checkpoints and classes of a cross-validation. Start crossval again, or "
            "remove the file."
        )
    checkpoints = tuple(Path(folder, name) for name in names)
    if missing := [path for path in checkpoints if not path.is_file()]:
        raise FileNotFoundError(
            f"monai_ext: {missing[0]}: not there, but {file} names it. Start crossval again, or give --ensemble false."
        )
    return FoldEnsemble(checkpoints, tuple(kept), model)


def own_weights(folder: str | os.PathLike, ensemble: bool | int | str | None = True) -> str | list[str]:
    """The weights that a bundle uses: those of a cross-validation's folds if one has ended there, else ``model.pt``.

    Configs take their ``ckpt_path`` from it.

    Args:
        folder: the bundle's ``models``.
        ensemble: false for ``model.pt`` in any case.

    Examples::

        >>> own_weights("bundles/mine/models"), own_weights("bundles/mine/models", ensemble=False)
        (['bundles/mine/models/fold0.pt', 'bundles/mine/models/fold1.pt'], 'bundles/mine/models/model.pt')
    """
    found = fold_ensemble(folder) if flag(ensemble) else None
    return f"{os.fspath(folder)}/model.pt" if found is None else [str(path) for path in found.checkpoints]


def largest_component(weights: str | os.PathLike | Sequence[str | os.PathLike]) -> list[int]:
    """The classes of which only the largest component is kept: those decided on for these weights.

    The decision of a cross-validation is about the ensemble of all its folds. Other weights, one of the folds among
    them, have none.

    Examples::

        >>> largest_component(["models/fold0.pt", "models/fold1.pt"]), largest_component("models/model.pt")
        ([5], [])
    """
    paths = [weights] if isinstance(weights, (str, os.PathLike)) else list(weights)
    folders = {Path(path).resolve().parent for path in paths}
    if len(folders) != 1 or not all(FOLD.fullmatch(Path(path).name) for path in paths):
        return []
    found = fold_ensemble(folders.pop())
    same = found is not None and {p.resolve() for p in found.checkpoints} == {Path(p).resolve() for p in paths}
    return list(found.largest_component) if found is not None and same else []
