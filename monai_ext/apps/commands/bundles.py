# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
from pathlib import Path

from tabulate import tabulate

from monai_ext.bundle import Bundle
from monai_ext.utils import scratch_folder

__all__ = ["bundles"]

PARTS = ("LICENSE", "configs", "docs")  # what a bundle is; not what a run left in it


def bundles(action: str = "list", name: str | None = None, folder: str | None = None) -> None:
    """List the bundles, or copy one to edit: ``bundles copy NAME DIR``.

    The list says what each segments, its version, and whether it has a trained model yet. A copy is a bundle of its
    own: it reads and writes its own models and results only, wherever it lies and whatever it is called.

    Args:
        action: list or copy.
        name: the bundle to copy.
        folder: the folder to make.
    """
    if action == "copy" and name is not None and folder is not None:
        print(_copy(Bundle.find(name), Path(folder).expanduser()))
        return
    if action != "list" or name is not None:
        raise ValueError("monai_ext: expected 'bundles', or 'bundles copy NAME DIR'.")
    known = Bundle.known()
    if not known:
        raise FileNotFoundError("monai_ext: no bundles found. Start in the folder that holds bundles/.")
    rows = [
        [name, bundle.metadata["task"], bundle.metadata["version"], _model(bundle)] for name, bundle in known.items()
    ]
    print(tabulate(rows, ["bundle", "task", "version", "model"], disable_numparse=True))
    print("\nTrain one: python -m monai.bundle run --config_file bundles/NAME/configs/train.json")
    print("Copy one to edit: python -m monai_ext bundles copy NAME DIR")


def _model(bundle: Bundle) -> str:
    if folds := bundle.folds:
        return f"{len(folds.checkpoints)} folds"
    return "yes" if bundle.weights.is_file() else "not yet"


def _copy(bundle: Bundle, folder: Path) -> str:
    """What to run in the copy."""
    if bundle.exported:
        raise ValueError(f"monai_ext: {bundle.exported}: is an exported model; there is no bundle to copy.")
    if folder.exists():
        raise FileExistsError(f"monai_ext: {folder}: is there already. Give a folder that is not.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(folder.parent, "copy-") as scratch:
        made = scratch / folder.name
        made.mkdir()
        for part in PARTS:
            source = bundle.folder / part
            if source.is_dir():
                shutil.copytree(source, made / part, ignore=shutil.ignore_patterns(".*", "__pycache__"))
            elif source.is_file():
                shutil.copy(source, made / part)
        made.rename(folder)
    return f"{folder}\n\nTrain it: python -m monai.bundle run --config_file {folder / 'configs' / 'train.json'}"
