# SPDX-License-Identifier: Apache-2.0
"""A page in a real browser: Chromium without a screen, asked through ``chromedriver`` (W3C WebDriver)."""

from __future__ import annotations

import base64
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from tests_apps.server import free_port

DRIVER, BROWSER = shutil.which("chromedriver"), shutil.which("chromium")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--use-gl=swiftshader", "--enable-unsafe-swiftshader"),
    *("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-dev-shm-usage", "--window-size=1500,900"),
)
needs_browser = pytest.mark.skipif(
    DRIVER is None or BROWSER is None, reason="Chromium is not installed (Debian: chromium, chromium-driver)"
)


class Browser:
    """One window; a context. ``folder`` is for its profile."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.session = ""

    def __enter__(self) -> Browser:
        self.process = subprocess.Popen(
            [str(DRIVER), f"--port={self.port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        options = {"binary": BROWSER, "args": [*FLAGS, f"--user-data-dir={self.folder / 'profile'}"]}
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        end = time.monotonic() + 60
        while True:
            try:
                started = self._call("POST", "", {"capabilities": {"alwaysMatch": capabilities}})
                self.session = f"/{started['sessionId']}"
                return self
            except requests.ConnectionError:
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
        answer = requests.request(method, address, json=body if method == "POST" else None, timeout=180).json()
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


def segment_in_ohif(browser: Browser, server: str, study: str, model: str) -> None:
    """Find a study in OHIF's list, open it with MONAI Label, and let a model segment it, with the mouse alone."""
    browser.open(f"{server}/ohif/")
    browser.wait("return document.body.innerText.includes('Study List')")
    browser.click("button", "Confirm and Hide")
    browser.wait("return document.body.innerText.includes(arguments[0])", study)
    browser.click("td", study)
    browser.click("button", "MONAI Label")
    browser.wait("return document.getElementById('monailabelServerURL')")
    ready = "return [...cornerstone.cache.getVolumes()].some(v => v.loadStatus && v.loadStatus.loaded)"
    browser.wait(f"try {{ {ready} }} catch (e) {{ return false }}")
    browser.click("button.actionButton")
    browser.wait("return document.body.innerText.includes(arguments[0])", model)
    browser.wait(
        "try { return services.segmentationService.getLabelmapVolume('1') && true } catch (e) { return false }"
    )
    browser.click("label", "Auto-Segmentation")
    browser.run(CHOOSE, model)
    browser.click("button[title='Run Segmentation']")
    browser.wait(f"return ({LABELMAP}).values.some(v => v)")


# a model in the tab that has the button, as a person does
CHOOSE = """
    let around = document.querySelector("button[title='Run Segmentation']");
    while (!around.querySelector('select')) around = around.parentElement;
    const box = around.querySelector('select');
    Object.getOwnPropertyDescriptor(HTMLSelectElement.prototype, 'value').set.call(box, arguments[0]);
    box.dispatchEvent(new Event('change', {bubbles: true}));
"""
# the labels that the page shows, and where it shows them (LPS, mm)
LABELMAP = """(() => {
    const volume = services.segmentationService.getLabelmapVolume('1');
    return {
        values: [...volume.voxelManager.getCompleteScalarDataArray()],
        shape: [...volume.dimensions], origin: [...volume.origin],
        spacing: [...volume.spacing], direction: [...volume.direction],
    };
})()"""
