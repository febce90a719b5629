# SPDX-License-Identifier: Apache-2.0
"""The page's server: on this machine, for this machine, and only what is in its table."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from urllib.parse import parse_qs, quote, urlsplit

from monai_ext.apps.view.layers import Layers, read_layers
from monai_ext.apps.view.viewed_cases import ViewedCase

__all__ = ["ViewServer"]

logger = logging.getLogger(__name__)
PAGE = Path(__file__).parent / "page"
FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "view.js": ("view.js", "text/javascript; charset=utf-8"),
    "view.css": ("view.css", "text/css; charset=utf-8"),
    "niivue.umd.js": ("niivue.umd.js", "text/javascript; charset=utf-8"),
    "LICENSE.niivue": ("LICENSE.niivue", "text/plain; charset=utf-8"),
}
# NiiVue has its fonts and pictures as data: addresses in itself
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# a report has its pictures and its style in itself, and no scripts
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
Answer = tuple[str, bytes]  # its type, and what it is


class ViewServer(ThreadingHTTPServer):
    """Serve cases as a page on 127.0.0.1, at an address that nobody can guess.

    Requests for another host or from another page's script are refused, so that no web site that is open in the same
    browser reads a scan. Nothing of a request becomes a path: addresses are looked up in a table.

    Args:
        cases: what the page shows.
        port: 0 for a free one.

    Raises:
        OSError: if the port is taken.

    Examples::

        >>> with ViewServer(find_viewed(["scan.nii.gz"], prediction="label.nii.gz")) as server:
        ...     print(server.url)
        ...     server.serve_forever()
    """

    daemon_threads = True

    def __init__(self, cases: Sequence[ViewedCase], port: int = 0) -> None:
        self.cases = list(cases)
        self.token = secrets.token_urlsafe(16)
        self.lock = Lock()
        self.layers = lru_cache(maxsize=1)(lambda number: read_layers(self.cases[number]))  # a scan may fill memory
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as e:
            raise OSError(
                f"monai_ext: port {port} of 127.0.0.1 cannot be had ({e.strerror}). Give another --port, or leave it "
                "out for a free one."
            ) from e
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}
        self.table = {f"/{self.token}/{name}": answer for name, answer in self._answers().items()}

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://127.0.0.1:{self.server_port}/{self.token}/"

    def _answers(self) -> dict[str, Callable[[], Answer]]:
        found: dict[str, Callable[[], Answer]] = {
            name: partial(_file, PAGE / file, kind) for name, (file, kind) in FILES.items()
        }
        found["cases.json"] = self._list
        for number, case in enumerate(self.cases):
            found[f"case/{number}.json"] = partial(self._describe, number)
            for layer in case.layer_names:
                found[f"case/{number}/{layer}.nii"] = partial(self._volume, number, layer)
        for name, file in self._reports().items():
            found[name] = partial(_file, file, "text/html; charset=utf-8")
        return found

    def _reports(self) -> dict[str, Path]:
        """Address -> file of the reports that the cases are of."""
        files = dict.fromkeys(case.report for case in self.cases if case.report)
        return {f"report/{number}": file for number, file in enumerate(files)}

    def case_in_report(self, path: str, name: str) -> str | None:
        """The page's address for a case of the report at ``path``; None if it has none of that name."""
        report = self._reports().get(path.removeprefix(f"/{self.token}/"))
        for number, case in enumerate(self.cases):
            if report is not None and case.report == report and case.name == name:
                return f"/{self.token}/#{number}"
        return None

    def _list(self) -> Answer:
        reports = {file: name for name, file in self._reports().items()}
        return _json(
            [{"name": case.name, "report": reports[case.report] if case.report else None} for case in self.cases]
        )

    def _read(self, number: int) -> Layers:
        with self.lock:
            return self.layers(number)

    def _describe(self, number: int) -> Answer:
        return _json(self._read(number).description())

    def _volume(self, number: int, layer: str) -> Answer:
        return "application/octet-stream", self._read(number).nifti(layer)


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer
    server_version, sys_version = "monai_ext", ""

    def do_GET(self) -> None:
        own = self.headers.get_all("Host", [])
        origins = self.headers.get_all("Origin", [])
        if len(own) != 1 or own[0] not in self.server.hosts or any(o != f"http://{own[0]}" for o in origins):
            self._send(403, "text/plain", b"monai_ext: this page is for the browser of its own machine.\n")
            return
        asked = urlsplit(self.path)
        answer = self.server.table.get(asked.path)
        if answer is None:
            self._send(404, "text/plain", b"monai_ext: there is nothing here.\n")
            return
        if (wanted := parse_qs(asked.query).get("view")) and "/report/" in asked.path:
            place = self.server.case_in_report(asked.path, wanted[0]) or f"/{self.server.token}/"
            self._send(303, "text/plain", b"", [("Location", quote(place, safe="/#"))])
            return
        try:
            kind, content = answer()
        except Exception as e:  # a case that cannot be shown is told on the page, and the others can
            text = " ".join(str(e).split()) or type(e).__name__
            text = text if text.startswith("monai_ext: ") else f"monai_ext: {text}"
            logger.warning("%s", text)
            self._send(500, "text/plain; charset=utf-8", text.encode())
            return
        self._send(200, kind, content)

    do_HEAD = do_GET

    def _send(self, status: int, kind: str, content: bytes, more: Sequence[tuple[str, str]] = ()) -> None:
        policy = REPORT_POLICY if "/report/" in self.path else POLICY
        headers = [
            ("Content-Type", kind),
            ("Content-Length", str(len(content))),
            ("Content-Security-Policy", policy),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            *more,
        ]
        self.send_response(status)
        for header in headers:
            self.send_header(*header)
        self.end_headers()
        if self.command != "HEAD":
            try:
                self.wfile.write(content)
            except ConnectionError:  # the page was left
                self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: addresses have the token."""


def _file(path: Path, kind: str) -> Answer:
    return kind, path.read_bytes()


def _json(content: object) -> Answer:
    return "application/json", json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
