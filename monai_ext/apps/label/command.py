# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_ext label``: MONAI Label's own server with the bundles of this collection."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["label"]


def label(
    studies: str,
    bundles: str | Sequence[str] | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    app: str | None = None,
) -> None:
    """Start MONAI Label with bundles, for 3D Slicer or OHIF; nothing is downloaded.

    Args:
        studies: folder of studies: NIfTI files, folders with a DICOM series each, or pictures; or a DICOMweb server.
        bundles: names or folders of bundles, separated by commas; by default all that have weights (models/model.pt).
        host: address to listen on; 0.0.0.0 lets other machines connect.
        port: port to listen on.
        app: folder for what the server keeps, such as fine-tuned weights; by default .monailabel in the studies.
    """
    from monai_ext.apps.label.dicom_studies import convert_series
    from monai_ext.apps.label.folder import chosen_bundles, prepare_app

    if importlib.util.find_spec("monailabel") is None:
        raise ValueError(
            "monai_ext: MONAI Label is not installed here. 'make apps' makes an environment that has it; start this "
            "command with that environment's Python."
        )
    remote = studies.startswith(("http://", "https://"))
    if remote and app is None:
        raise ValueError("monai_ext: --app DIR is needed with a DICOMweb server: the server keeps its weights there.")
    folder = Path(studies).expanduser()
    if not remote and not folder.is_dir():
        raise FileNotFoundError(f"monai_ext: {studies}: no such folder of studies.")
    home = Path(app).expanduser() if app is not None else folder / ".monailabel"
    found = chosen_bundles(bundles)
    prepare_app(home, found)
    if not remote:
        convert_series(folder)
    _serve(home, studies if remote else str(folder.resolve()), host, port)


def _serve(app: Path, studies: str, host: str, port: int) -> None:
    """MONAI Label's own command, in this process."""
    from monai_ext.apps.label.compat import prepare_imports

    prepare_imports()
    from monailabel.main import Main

    options = {"--app": app, "--studies": studies, "--host": host, "--port": port}
    sys.argv = ["monailabel", "start_server", *(str(part) for pair in options.items() for part in pair)]
    Main().run()
