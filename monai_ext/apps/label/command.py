# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_ext label``: MONAI Label's own server with the bundles of this collection."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from monai_ext.utils import VOLUME_MODALITIES, flag

if TYPE_CHECKING:
    from monai_ext.apps.label.entrance import Rules
    from monai_ext.bundle import Bundle

__all__ = ["SCRATCH", "label"]

SCRATCH = "scratch"  # in the app's folder: files of requests, emptied at each start
SHORTEST = 16  # characters of a token


def label(
    studies: str,
    bundles: str | Sequence[str] | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    app: str | None = None,
    origins: str | Sequence[str] | None = None,
    token: str | None = None,
    insecure: bool = False,
) -> None:
    """Start MONAI Label with bundles, for 3D Slicer or OHIF; nothing is downloaded.

    Args:
        studies: folder of studies: NIfTI files, folders with a DICOM series each, or pictures; or a DICOMweb server.
        bundles: names or folders of bundles, separated by commas; by default all that have weights (models/model.pt).
        host: address to listen on; another than 127.0.0.1 lets other machines connect, and needs --token.
        port: port to listen on.
        app: folder for what the server keeps, such as fine-tuned weights; by default STUDIES.monailabel beside them.
        origins: pages of other servers that may ask, such as http://viewer:3000, separated by commas.
        token: what every request has to show as "Authorization: Bearer TOKEN".
        insecure: let other machines connect without a token.
    """
    from monai_ext.apps.archive import is_address
    from monai_ext.apps.label.entrance import Rules, checked_origins, is_loopback, own_hosts
    from monai_ext.apps.label.folder import app_folder, chosen_bundles, prepare_app

    if importlib.util.find_spec("monailabel") is None:
        raise ValueError(
            "monai_ext: MONAI Label is not installed here. 'make apps' makes an environment that has it; start this "
            "command with that environment's Python."
        )
    if not is_loopback(host) and token is None and not flag(insecure):
        raise ValueError(
            f"monai_ext: --host {host} lets other machines read and change the studies. Give --token TOKEN, which "
            "requests have to show, or --insecure true where the network is your own."
        )
    if token is not None and len(str(token)) < SHORTEST:
        raise ValueError(f"monai_ext: --token: {len(str(token))} characters, expected at least {SHORTEST}.")
    hosts, any_address = own_hosts(host)
    rules = Rules(hosts, any_address, checked_origins(origins), None if token is None else str(token))
    remote = is_address(studies)
    if remote and app is None:
        raise ValueError("monai_ext: --app DIR is needed with a DICOMweb server: the server keeps its weights there.")
    folder = Path(studies).expanduser()
    if not remote and not folder.is_dir():
        raise FileNotFoundError(f"monai_ext: {studies}: no such folder of studies.")
    home = Path(str(app)).expanduser() if remote else app_folder(folder, app)
    served = chosen_bundles(bundles)
    if remote and (reason := _not_of_an_archive(served)):
        raise ValueError(
            f"monai_ext: --bundles: {reason}. From a DICOMweb server only bundles of CT and MR volumes can be served."
        )
    prepare_app(home, served)
    # patients' images: with the rest, not in the home folder, and not where all programs write
    os.environ["MONAI_LABEL_SESSION_PATH"] = str(home.resolve() / "sessions")
    scratch = home / SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)  # of a server that was killed
    scratch.mkdir()
    _serve(home, studies if remote else str(folder.resolve()), host, port, rules)


def _not_of_an_archive(bundles: Mapping[str, Bundle]) -> str | None:
    """Why none of the bundles can work on the series of an archive."""
    kinds = {name: "pictures" if b.pictures else str(b.modality) for name, b in bundles.items()}
    if any(kind in VOLUME_MODALITIES for kind in kinds.values()):
        return None
    return "; ".join(f"{name} segments {kind}" for name, kind in kinds.items())


def _serve(app: Path, studies: str, host: str, port: int, rules: Rules) -> None:
    from monai_ext.apps.label.compat import prepare_imports

    prepare_imports()
    from monai_ext.apps.label.server import serve

    options = {"--app": app, "--studies": studies, "--host": host, "--port": port}
    serve([str(part) for pair in options.items() for part in pair], rules)
