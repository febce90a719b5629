# SPDX-License-Identifier: Apache-2.0
"""What OHIF's page of the server asks of the archive, passed on: DICOMweb below ``/proxy/dicom``, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator

import requests
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from monai_ext.apps.archive import TIMEOUT
from monai_ext.apps.label.request_knobs import RequestError

__all__ = ["archive_routes"]

# Studies, series and instances, with what DICOMweb has of each
STUDIES = re.compile(r"(studies|series|instances)(/[0-9A-Za-z.,_-]+)*/?")
STORED = re.compile(r"studies(/[0-9.]{1,64})?/?")
PASSED_ON = ("accept", "content-type")  # of the request; the token is this server's, a cookie nobody's
PASSED_BACK = ("content-type", "content-encoding", "content-length", "etag", "last-modified", "warning")


def archive_routes(address: str) -> APIRouter:
    """Routes to the archive at ``address``; ``wado``, ``qido`` and ``stow`` are the prefixes that OHIF is told to use.

    Other headers than those of the content stay here, both ways, and the query goes along. Upstream's own, which these
    replace, drop it, answer one request at a time, and send the archive this server's token.
    """
    router = APIRouter(prefix="/proxy/dicom", tags=["Others"])

    def passed(method: str, path: str, request: Request, body: bytes | None) -> StreamingResponse:
        first, _, rest = path.partition("/")
        asked = rest if first in ("wado", "qido", "stow") else path
        if not (STORED if method == "POST" else STUDIES).fullmatch(asked):
            raise RequestError(404, f"monai_ext: {path!r:.200}: nothing of DICOMweb.")
        headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        try:
            answer = requests.request(
                method,
                f"{address.rstrip('/')}/{asked}",
                params=request.url.query,
                headers=headers,
                data=body,
                stream=True,
                timeout=TIMEOUT,
            )
        except requests.RequestException as e:
            raise RequestError(503, f"monai_ext: the archive does not answer ({type(e).__name__}).") from e
        back = {name: answer.headers[name] for name in PASSED_BACK if name in answer.headers}

        def content() -> Iterator[bytes]:
            with answer:
                while chunk := answer.raw.read(1 << 16):  # as it came, compressed or not
                    yield chunk

        return StreamingResponse(content(), answer.status_code, back)

    @router.get("/{path:path}", include_in_schema=False)
    def ask(path: str, request: Request) -> StreamingResponse:
        return passed("GET", path, request, None)

    @router.post("/{path:path}", include_in_schema=False)
    async def store(path: str, request: Request) -> StreamingResponse:
        body = await request.body()
        return await run_in_threadpool(passed, "POST", path, request, body)

    return router
