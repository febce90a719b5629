# SPDX-License-Identifier: Apache-2.0
"""The door of the server: who may ask, from which page, and how much; checked before anything of MONAI Label's runs."""

from __future__ import annotations

import hmac
import ipaddress
import json
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from monai_ext.apps.label.request_knobs import RequestError, checked_name

__all__ = ["Entrance", "Rules", "own_hosts"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
NAMES = {"image": "study", "id": "study", "label": "label", "tag": "tag", "session_id": "session", "model": "model"}


@dataclass(frozen=True)
class Rules:
    """What the door lets through.

    Attributes:
        hosts: names by which the server may be called, without port.
        any_address: numeric addresses may be called, too: no other name can be made to mean one.
        origins: pages of other servers that may ask, such as ``http://viewer:3000``.
        token: what a request has to show as ``Authorization: Bearer TOKEN``; None: nothing.
        most_bytes: of a request's body.
    """

    hosts: frozenset[str] = frozenset(LOOPBACK)
    any_address: bool = False
    origins: frozenset[str] = frozenset()
    token: str | None = None
    most_bytes: int = 4 << 30


def own_hosts(host: str) -> tuple[frozenset[str], bool]:
    """The names under which a server that listens on ``host`` is called, and whether any numeric address is.

    Examples::

        >>> own_hosts("127.0.0.1")
        (frozenset({'127.0.0.1', 'localhost', '[::1]'}), False)
    """
    if is_loopback(host):
        return frozenset({*LOOPBACK, host}), False
    names = {host, socket.gethostname().lower(), socket.getfqdn().lower()}
    return frozenset({*LOOPBACK, *names}), True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Entrance:
    """ASGI middleware: Host and Origin, token, size and names of every request.

    A page of another server can send a browser's requests here, and a name of its own can be made to mean 127.0.0.1: so
    both the page (Origin, Sec-Fetch-Site) and the name (Host) are compared, for each request and not only for those
    that browsers ask about first.

    Args:
        app: what is behind the door.
        rules: who may pass.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], rules: Rules) -> None:
        self.app = app
        self.rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        try:
            if scope["type"] != "http":
                raise RequestError(400, "monai_ext: only HTTP is answered.")
            headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
            origin = self._check(scope, headers)
        except RequestError as e:
            await _refuse(send, e)
            return
        counted = _Counted(receive, self.rules.most_bytes)

        async def answer(message: MutableMapping[str, Any]) -> None:
            if origin and message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"access-control-allow-origin", origin.encode())]
                message["headers"] += [(b"vary", b"Origin")]
            await send(message)

        if scope["method"] == "OPTIONS" and origin:
            await _answer_preflight(answer)
            return
        await self.app(scope, counted, answer)

    def _check(self, scope: Scope, headers: dict[str, str]) -> str | None:
        """The Origin to allow in the answer, of another server; None of the server's own pages and of programs."""
        host = headers.get("host", "")
        if not self._is_own(host):
            raise RequestError(421, f"monai_ext: host {host!r:.80} is not this server's. Name it with --origins.")
        origin = headers.get("origin")
        own = origin is not None and origin == f"{scope.get('scheme', 'http')}://{host}"
        if origin is not None and not own and origin not in self.rules.origins:
            raise RequestError(403, f"monai_ext: pages of {origin!r:.80} may not ask here; --origins names others.")
        followed = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
        if origin is None and headers.get("sec-fetch-site") in ("cross-site", "same-site") and not followed:
            raise RequestError(403, "monai_ext: pages of other servers may not ask here; --origins names others.")
        path = scope["path"]
        if path.startswith("//") or "\\" in path or "\0" in path or ".." in path.split("/"):
            raise RequestError(400, f"monai_ext: {path!r:.80}: no address of this server.")
        preflight = scope["method"] == "OPTIONS" and not own and origin is not None
        if self.rules.token is not None and not preflight:
            shown = headers.get("authorization", "").partition(" ")
            known = hmac.compare_digest(shown[2].strip().encode(), self.rules.token.encode())
            if shown[0].lower() != "bearer" or not known:
                raise RequestError(401, "monai_ext: expected 'Authorization: Bearer TOKEN' with the server's token.")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self.rules.most_bytes:
            raise RequestError(413, f"monai_ext: {length:.20} bytes, at most {self.rules.most_bytes} are taken.")
        for key, value in parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=False):
            if key in NAMES:
                checked_name(NAMES[key], value)
        return origin if not own else None

    def _is_own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        named = {urlsplit(origin).hostname for origin in self.rules.origins}
        if name in {known.strip("[]").lower() for known in self.rules.hosts} | named:
            return True
        if not self.rules.any_address:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


class _Counted:
    """A body that ends with an error where it is longer than it may be, whatever its header said."""

    def __init__(self, receive: Receive, most: int) -> None:
        self.receive, self.most, self.read = receive, most, 0

    async def __call__(self) -> MutableMapping[str, Any]:
        message = await self.receive()
        self.read += len(message.get("body", b""))
        if self.read > self.most:
            return {"type": "http.disconnect"}
        return message


async def _refuse(send: Send, error: RequestError) -> None:
    body = json.dumps({"detail": str(error)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _answer_preflight(send: Send) -> None:
    headers = [
        (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, DELETE"),
        (b"access-control-allow-headers", b"authorization, content-type"),
        (b"content-length", b"0"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def checked_origins(origins: str | Iterable[str] | None) -> frozenset[str]:
    """``--origins``: addresses such as ``http://viewer:3000``, separated by commas or in a list.

    Raises:
        ValueError: for what is no such address.
    """
    parts = origins.split(",") if isinstance(origins, str) else list(origins or ())
    found = set()
    for part in (str(part).strip().rstrip("/") for part in parts):
        split = urlsplit(part)
        if split.scheme not in ("http", "https") or not split.hostname or f"{split.scheme}://{split.netloc}" != part:
            raise ValueError(f"monai_ext: --origins {part!r}: expected addresses such as http://viewer:3000.")
        found.add(part)
    return frozenset(found)
