# SPDX-License-Identifier: Apache-2.0
"""MONAI Label's web application as this collection serves it: behind a door, and with requests checked.

What MONAI Label 0.8.5 does itself is imported; what it leaves open is closed here, a function each, and can go when
upstream closes it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from monailabel import app as upstream
from monailabel.config import settings
from monailabel.endpoints import (
    activelearning,
    batch_infer,
    datastore,
    infer,
    info,
    logs,
    model,
    scoring,
    session,
    train,
)
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException, MONAILabelException
from monailabel.main import Main
from monailabel.utils.async_tasks.task import AsyncTask

from monai_ext.apps.archive import ArchiveError, is_address
from monai_ext.apps.label.archive_routes import archive_routes
from monai_ext.apps.label.archived_studies import status_of, with_password
from monai_ext.apps.label.endpoints import download_label, replace
from monai_ext.apps.label.entrance import Entrance, Rules
from monai_ext.apps.label.ohif_page import ohif_page
from monai_ext.apps.label.request_knobs import RequestError

__all__ = ["application", "serve"]

logger = logging.getLogger(__name__)

# what viewers use; not whole-slide inference, other people's log-in, or the start-again of the server
ROUTERS = (info, model, infer, batch_infer, train, activelearning, scoring, datastore, logs, session)
# of these not: training of everything at once, the output of a program, and weights from anywhere
LEFT_OUT = {
    ("/train/", "POST"),
    ("/scoring/", "POST"),
    ("/logs/gpu", "GET"),
    ("/model/{model}", "PUT"),
    ("/model/{model}", "DELETE"),
    ("/datastore/label", "GET"),  # ours says in which form, too
}


def _in_a_thread(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """Upstream's endpoints are coroutines that never wait, so one request would hold up all others."""
    if not inspect.iscoroutinefunction(endpoint):
        return endpoint

    def call(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(endpoint(*args, **kwargs))

    call.__signature__ = inspect.signature(endpoint)  # type: ignore[attr-defined]
    call.__name__, call.__doc__ = endpoint.__name__, endpoint.__doc__
    return call


def _add_routes(app: FastAPI, remote: bool) -> None:
    for module in ROUTERS:
        for route in module.router.routes:
            methods = {method for method in route.methods if (route.path, method) not in LEFT_OUT}
            if methods:
                app.add_api_route(
                    route.path,
                    _in_a_thread(route.endpoint),
                    methods=sorted(methods),
                    summary=route.summary,
                    tags=route.tags,
                    include_in_schema=route.include_in_schema,
                )
    app.add_api_route("/datastore/label", download_label, tags=["Datastore"], summary="Download Label")
    app.add_api_route("/ohif/{path:path}", ohif_page, include_in_schema=False)
    if remote:  # OHIF reaches the archive through it
        app.include_router(archive_routes(with_password(settings.MONAI_LABEL_STUDIES)))
    app.mount("/static", StaticFiles(directory=upstream.static_dir))
    app.add_api_route("/", upstream.custom_swagger_ui_html, include_in_schema=False)
    app.add_api_route("/favicon.ico", upstream.favicon, include_in_schema=False)


def _in_words(request: Request, error: Exception) -> JSONResponse:
    """Every error as JSON with its reason; of what nobody expected the log has the rest."""
    if isinstance(error, RequestError):
        return JSONResponse({"detail": str(error)}, error.status)
    if isinstance(error, ArchiveError):
        return JSONResponse({"detail": str(error)}, status_of(error))
    if isinstance(error, HTTPException):
        return JSONResponse({"detail": error.detail}, error.status_code)
    if isinstance(error, (ImageNotFoundException, LabelNotFoundException)):
        return JSONResponse({"detail": f"monai_ext: {error}."}, 404)
    if isinstance(error, MONAILabelException):
        return JSONResponse({"detail": f"monai_ext: {error.msg}."}, 400)
    logger.error("monai_ext: %s %s failed", request.method, request.url.path, exc_info=error)
    text = str(error) if str(error).startswith("monai_ext: ") else "monai_ext: the server failed; its log says how."
    return JSONResponse({"detail": text}, 500)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Upstream's; and a server that is asked to end ends what it started first."""
    async with upstream.lifespan(app):
        yield
    for method in ("train", "batch_infer"):
        AsyncTask.stop(method)


def application(rules: Rules) -> Entrance:
    """The application to serve, behind ``rules``."""
    replace()
    app = FastAPI(title="monai_ext bundles", docs_url=None, redoc_url="/docs", lifespan=_lifespan)
    _add_routes(app, is_address(settings.MONAI_LABEL_STUDIES))
    missing = (ImageNotFoundException, LabelNotFoundException, MONAILabelException)
    for kind in (RequestError, ArchiveError, *missing, Exception):
        app.add_exception_handler(kind, _in_words)
    return Entrance(app, rules)


_rules: list[Rules] = []  # of this process's server: uvicorn asks for the application by name


def serve(arguments: list[str], rules: Rules) -> None:
    """MONAI Label's own command in this process, with this application in place of its own."""
    _rules[:] = [rules]
    # upstream fails on it; --origins says the same, and is compared for every request
    os.environ.pop("MONAI_LABEL_CORS_ORIGINS", None)
    sys.argv = ["monailabel", "start_server", *arguments, "--uvicorn_app", f"{__name__}:served"]
    Main().run()


def __getattr__(name: str) -> Any:
    if name == "served":  # made when uvicorn asks for it: MONAI Label has its settings then
        return application(*_rules)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
