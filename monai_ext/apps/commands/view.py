# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import webbrowser

from monai_ext.utils import whole_option

__all__ = ["view"]


def view(
    *cases: str,
    truth: str | None = None,
    prediction: str | None = None,
    bundle: str | None = None,
    port: int = 0,
    browser: bool = True,
) -> None:
    """Show scans with their labels in three planes and in 3D, on a page that only this machine can open.

    Ctrl-C ends it.

    Args:
        cases: scans, pictures, DICOM series, folders of them, or folders of runs: an evaluation's output_dir, or what
            segment wrote.
        truth: a label of the one scan that is given.
        prediction: another, to be compared with it.
        bundle: names the classes and the modality; the folder of a run knows its own.
        port: of the page's address; 0 for a free one.
        browser: open the page in the browser; false to print its address alone.
    """
    from monai_ext.apps.view import ViewServer, check_grids, find_viewed

    port = whole_option(port, "port", 0, 65535)
    found = find_viewed(cases, truth, prediction, bundle)
    if truth is not None or prediction is not None:
        check_grids(found[0])
    with ViewServer(found, port) as server:
        print(server.url, flush=True)
        if browser:
            _open_page(server.url)
        server.serve_forever()


def _open_page(url: str) -> None:
    """In a window; a browser of the terminal would show nothing, and take the terminal."""
    try:
        found = webbrowser.get()
    except webbrowser.Error:
        return
    if type(found) is not webbrowser.GenericBrowser:
        found.open(url)
