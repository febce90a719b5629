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
from fastapi.routing import APIRoute
from monailabel.app import app as upstream
from monailabel.config import settings
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException, MONAILabelException
from monailabel.main import Main
from monailabel.utils.async_tasks.task import AsyncTask
from starlette.middleware.cors import CORSMiddleware

from monai_ext.apps.label.endpoints import replace
from monai_ext.apps.label.entrance import Entrance, Rules
from monai_ext.apps.label.knobs import RequestError

__all__ = ["application", "serve"]

logger = logging.getLogger(__name__)

# what viewers use; not the start-again of the server (/reload), whole-slide inference, other people's log-in, the
# upload and removal of weights, and of the proxy nothing but what an archive's address needs
SERVED = ("/info/", "/infer/", "/batch/", "/train/", "/activelearning/", "/scoring/", "/datastore/", "/session/")
SERVED += ("/logs/", "/ohif/", "/proxy/", "/model/")
PAGES = ("/", "/openapi.json", "/docs", "/favicon.ico")
LEFT_OUT = {("/train/", "POST"), ("/logs/gpu", "GET")}


def _in_a_thread(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """Upstream's endpoints are coroutines that never wait, so one request would hold up all others."""
    if not inspect.iscoroutinefunction(endpoint):
        return endpoint

    def call(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(endpoint(*args, **kwargs))

    call.__signature__ = inspect.signature(endpoint)  # type: ignore[attr-defined]
    call.__name__, call.__doc__ = endpoint.__name__, endpoint.__doc__
    return call


def _keep_routes(app: FastAPI, remote: bool) -> None:
    kept: list[Any] = []
    for route in app.router.routes:
        path = getattr(route, "path", "")
        if not isinstance(route, APIRoute):
            kept += [route] if path in (*PAGES, "/static") else []
            continue
        methods = {m for m in route.methods if (path, m) not in LEFT_OUT}
        served = path in PAGES or path.startswith(SERVED)
        changes_weights = path.startswith("/model/") and methods & {"PUT", "DELETE"}
        if not served or not methods or changes_weights or (path.startswith("/proxy/") and not remote):
            continue
        # the proxy does wait
        endpoint = route.endpoint if path.startswith("/proxy/") else _in_a_thread(route.endpoint)
        kept.append(
            APIRoute(
                path,
                endpoint,
                methods=methods,
                summary=route.summary,
                tags=route.tags,
                responses=route.responses,
                include_in_schema=route.include_in_schema,
                response_class=route.response_class,
            )
        )
    app.router.routes[:] = kept
    app.user_middleware[:] = [m for m in app.user_middleware if m.cls is not CORSMiddleware]


def _in_words(request: Request, error: Exception) -> JSONResponse:
    """Every error as JSON with its reason; of what nobody expected the log has the rest."""
    if isinstance(error, RequestError):
        return JSONResponse({"detail": str(error)}, error.status)
    if isinstance(error, HTTPException):
        return JSONResponse({"detail": error.detail}, error.status_code)
    if isinstance(error, (ImageNotFoundException, LabelNotFoundException)):
        return JSONResponse({"detail": f"monai_ext: {error}."}, 404)
    if isinstance(error, MONAILabelException):
        return JSONResponse({"detail": f"monai_ext: {error.msg}."}, 400)
    logger.error("monai_ext: %s %s failed", request.method, request.url.path, exc_info=error)
    text = str(error) if str(error).startswith("monai_ext: ") else "monai_ext: the server failed; its log says how."
    return JSONResponse({"detail": text}, 500)


def _ending_tasks(lifespan: Callable[[FastAPI], Any]) -> Callable[[FastAPI], Any]:
    """A server that is asked to end ends what it started first; upstream leaves it running."""

    @asynccontextmanager
    async def extended(app: FastAPI) -> AsyncIterator[None]:
        async with lifespan(app):
            yield
        for method in ("train", "batch_infer"):
            AsyncTask.stop(method)

    return extended


def application(rules: Rules) -> Entrance:
    """The application to serve, behind ``rules``."""
    replace()
    _keep_routes(upstream, settings.MONAI_LABEL_STUDIES.startswith(("http://", "https://")))
    upstream.router.lifespan_context = _ending_tasks(upstream.router.lifespan_context)
    for kind in (RequestError, ImageNotFoundException, LabelNotFoundException, MONAILabelException, Exception):
        upstream.add_exception_handler(kind, _in_words)
    return Entrance(upstream, rules)


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
