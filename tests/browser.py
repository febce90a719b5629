# SPDX-License-Identifier: Apache-2.0
"""A page in a real browser: Chromium without a screen, asked through ``chromedriver`` (W3C WebDriver)."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

DRIVER, BROWSER = shutil.which("chromedriver"), shutil.which("chromium")
FLAGS = (
    # WebGL in software
    *("--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    *("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-dev-shm-usage"),
)
needs_browser = pytest.mark.skipif(
    DRIVER is None or BROWSER is None, reason="Chromium is not installed (Debian: chromium, chromium-driver)"
)


class Browser:
    """One window; a context. ``folder`` is for its profile, ``size`` is in pixels."""

    def __init__(self, folder: Path, size: tuple[int, int] = (1500, 900)) -> None:
        self.folder, self.size = folder, size
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.session = ""

    def __enter__(self) -> Browser:
        self.process = subprocess.Popen(
            [str(DRIVER), f"--port={self.port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        options = {
            "binary": BROWSER,
            "args": [
                *FLAGS,
                f"--window-size={self.size[0]},{self.size[1]}",
                f"--user-data-dir={self.folder / 'profile'}",
            ],
        }
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        end = time.monotonic() + 60
        while True:
            try:
                started = self._call("POST", "", {"capabilities": {"alwaysMatch": capabilities}})
                self.session = f"/{started['sessionId']}"
                return self
            except urllib.error.URLError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def __exit__(self, *_: object) -> None:
        try:
            self._call("DELETE", "")
        finally:
            self.process.terminate()
            self.process.wait(timeout=60)

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        address = f"http://127.0.0.1:{self.port}/session{self.session}{path}"
        data = json.dumps(body).encode() if method == "POST" else None
        request = urllib.request.Request(address, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=180) as given:
                answer = json.load(given)
        except urllib.error.HTTPError as e:  # chromedriver says what is wrong in the answer
            answer = json.load(e)
        if isinstance(answer["value"], dict) and "error" in answer["value"]:
            raise RuntimeError(f"{answer['value']['error']}: {answer['value']['message'][:500]}")
        return answer["value"]

    def open(self, address: str) -> None:
        self._call("POST", "/url", {"url": address})

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script of the page returns."""
        return self._call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def text(self) -> str:
        return str(self.run("return document.body.innerText"))

    def wait(self, script: str, *arguments: Any, seconds: float = 120) -> Any:
        """The first value of a script that is true."""
        end = time.monotonic() + seconds
        while not (value := self.run(script, *arguments)):
            if time.monotonic() > end:
                raise TimeoutError(f"{script}: never true. The page says: {self.text()[-2000:]}")
            time.sleep(0.5)
        return value

    def click(self, selector: str, text: str = "") -> None:
        """Click with the mouse on the middle of the smallest thing on the page that has this text."""
        place = self.wait(
            """
            const found = [...document.querySelectorAll(arguments[0])].filter(
                e => e.textContent.includes(arguments[1]) && e.getClientRects().length);
            if (!found.length) return null;
            found.sort((a, b) => a.textContent.length - b.textContent.length);
            found[0].scrollIntoView({block: 'center'});
            const box = found[0].getBoundingClientRect();
            return [Math.round(box.x + box.width / 2), Math.round(box.y + box.height / 2)];
            """,
            selector,
            text,
        )
        move = {"type": "pointerMove", "duration": 0, "x": place[0], "y": place[1], "origin": "viewport"}
        press = [move, {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": press}
        self._call("POST", "/actions", {"actions": [mouse]})

    def picture(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self._call("GET", "/screenshot")))

    def messages(self) -> list[str]:
        """Errors in the browser's console since the last call."""
        said = self._call("POST", "/se/log", {"type": "browser"})
        return [one["message"] for one in said if one["level"] == "SEVERE"]
