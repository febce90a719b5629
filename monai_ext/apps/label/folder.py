# SPDX-License-Identifier: Apache-2.0
"""The folder that MONAI Label serves: copies of the bundles' configs, and weights of its own."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from monai_ext.apps.label.training_state import clear_dead_training
from monai_ext.apps.quality import quality_file
from monai_ext.bundle import CROSSVAL, Bundle
from monai_ext.data.files.fingerprint import hash_file
from monai_ext.utils import read_json, replacing, write_json

__all__ = ["app_folder", "chosen_bundles", "prepare_app"]

logger = logging.getLogger(__name__)
# Label looks for a class in main.py; everything else is in the library
MAIN = """\
from monai_ext.apps.label.compat import prepare_imports

prepare_imports()

from monai_ext.apps.label.app import BundleApp  # noqa: E402, F401
"""


def app_folder(studies: Path, app: str | None) -> Path:
    """Where the server keeps what is its own: beside the studies, never among them, where uploads and viewers reach.

    Raises:
        ValueError: for a folder inside the studies.
    """
    home = Path(app).expanduser() if app is not None else studies.parent / f"{studies.resolve().name}.monailabel"
    if home.resolve().is_relative_to(studies.resolve()):
        raise ValueError(f"monai_ext: --app {home}: lies inside the studies, expected a folder elsewhere.")
    before = studies / ".monailabel"
    if app is None and before.is_dir() and not home.exists():
        logger.warning("monai_ext: %s is moved to %s, out of the studies.", before, home)
        shutil.move(before, home)
    return home


def chosen_bundles(bundles: str | Sequence[str] | None = None) -> dict[str, Bundle]:
    """Name -> bundle, every one of them with weights.

    Args:
        bundles: names or folders, separated by commas or in a list; None means all known ones that have weights.

    Raises:
        FileNotFoundError: if one is not there, or has no weights.
        ValueError: if none is named, or two have one name.
    """
    if bundles is None:
        found = {name: bundle for name, bundle in Bundle.known().items() if bundle.weights.is_file() or bundle.folds}
        if not found:
            raise FileNotFoundError(
                "monai_ext: no known bundle has weights (models/model.pt). Train one first, or name a folder with "
                "--bundles."
            )
        return found
    names = bundles.split(",") if isinstance(bundles, str) else [str(part) for part in bundles]
    found = {}
    for bundle in (Bundle.find(name.strip()) for name in names if name.strip()):
        bundle.require_weights()
        if bundle.name in found:
            raise ValueError(
                f"monai_ext: --bundles: {found[bundle.name].folder} and {bundle.folder} have one name. Serve one."
            )
        found[bundle.name] = bundle
    if not found:
        raise ValueError("monai_ext: --bundles names no bundle.")
    return found


def prepare_app(app: Path, bundles: Mapping[str, Bundle]) -> None:
    """Make, or bring up to date, the folder for ``monailabel start_server --app``.

    Configs are copied at every start: a request that reached them would change the copy, and never the bundle. Weights
    are copied once: fine-tuning changes the copy, ``model/NAME/models/model.pt``. A copy that was made stays, as it may
    hold what annotators taught it; delete it to start again from the bundle's. What a training left that ended with its
    server is removed.
    """
    for folder in (app / "model", app / "lib", app / "logs", app / "bin"):
        folder.mkdir(parents=True, exist_ok=True)
    with replacing(app / "main.py") as temporary:
        temporary.write_text(MAIN, encoding="utf-8")
    for served in (app / "model").iterdir():
        if served.name not in bundles:  # weights stay for the next time, but without configs it is not served
            shutil.rmtree(served / "configs", ignore_errors=True)
    for name, bundle in bundles.items():
        served = app / "model" / name
        shutil.rmtree(served / "configs", ignore_errors=True)
        (served / "configs").mkdir(parents=True)
        for config in sorted((bundle.folder / "configs").iterdir()):
            if config.is_file() and not config.name.startswith("."):
                shutil.copyfile(config, served / "configs" / config.name)
        clear_dead_training(served)
        weights = served / "models" / "model.pt"
        if not weights.is_file():
            with replacing(weights) as temporary:
                shutil.copyfile(bundle.require_weights(), temporary)
        _copy_folds(bundle, weights)
        _copy_quality(bundle, weights.parent)


def _copy_folds(bundle: Bundle, model: Path) -> None:
    """Copy what a cross-validation left, once; ``model`` is the served one that it lies beside."""
    folds = bundle.folds
    notes = model.with_name(CROSSVAL)
    if folds is None or notes.is_file():
        return
    for checkpoint in folds.checkpoints:
        with replacing(model.with_name(checkpoint.name)) as temporary:
            shutil.copyfile(checkpoint, temporary)
    content = read_json(bundle.weights.with_name(CROSSVAL), "cross-validation")
    write_json(notes, {**content, "model": hash_file(model)})


def _copy_quality(bundle: Bundle, models: Path) -> None:
    """Copy what is known of the labels of weights; of those that annotators have taught since it is not known."""
    for source in bundle.weights.parent.glob("*.pt"):
        served = models / source.name
        if quality_file(source).is_file() and served.is_file() and hash_file(served) == hash_file(source):
            with replacing(quality_file(served)) as temporary:
                shutil.copyfile(quality_file(source), temporary)
