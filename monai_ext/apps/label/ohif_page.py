# SPDX-License-Identifier: Apache-2.0
"""The page of OHIF that MONAI Label brings along, as this server gives it out."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import FileResponse
from monailabel.endpoints import ohif
from monailabel.utils.others.generic import get_mime_type

__all__ = ["ohif_page"]

FILES = Path(ohif.__file__).resolve().parent / "static" / "ohif"


def ohif_page(path: str, request: Request) -> FileResponse:
    """A file of the page; the page itself for addresses that its own code understands.

    Upstream's finds no file of a folder, and its page asks port 8000, whatever the server's is: it is told by a cookie.
    """
    file = (FILES / path).resolve()
    if file.is_relative_to(FILES) and file.is_file() and file.name != "index.html":
        return FileResponse(file, media_type=get_mime_type(str(file)))
    answer = FileResponse(FILES / "index.html", media_type="text/html")
    answer.set_cookie("MONAILABEL_SERVER_URL", quote(str(request.base_url), safe=""), path="/ohif", samesite="strict")
    return answer
