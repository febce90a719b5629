# SPDX-License-Identifier: Apache-2.0
"""MONAI Label's own server, started with the command of this library and stopped at the end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import requests

START = "import json, sys; from monai_ext.apps.label import label; label(**json.loads(sys.argv[1]))"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A running server; ``url`` is its address, ``app`` its folder."""

    def __init__(self, studies: Path | str, bundles: Iterable[Path], **options: object) -> None:
        self.studies = Path(studies)
        self.app = Path(str(options.get("app") or f"{studies}.monailabel"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = self.app.parent / f"server_{self.port}.log"
        named = {"studies": str(studies), "bundles": ",".join(map(str, bundles)), "port": self.port}
        self.arguments = [json.dumps({**named, **options})]
        self.headers = {"Authorization": f"Bearer {options['token']}"} if "token" in options else {}

    def __enter__(self) -> Server:
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        end = time.monotonic() + 180
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if requests.get(f"{self.url}/info/", headers=self.headers, timeout=60).ok:
                    return self
            except requests.ConnectionError:
                time.sleep(0.2)
        self.kill()
        raise RuntimeError(f"the server did not start:\n{self.log.read_text()[-3000:]}")

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End the server and what it started, at once, as a power cut does."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.process.wait()

    def weights(self, bundle: str) -> Path:
        return self.app / "model" / bundle / "models" / "model.pt"

    def infer(self, bundle: str, study: str, output: str = "image", **params) -> requests.Response:
        """``/infer`` as a viewer calls it."""
        return requests.post(
            f"{self.url}/infer/{bundle}",
            params={"image": study, "output": output},
            data={"params": json.dumps(params)},
            timeout=300,
        )

    def save_label(self, study: str, file: Path, **params) -> requests.Response:
        with file.open("rb") as content:
            return requests.put(
                f"{self.url}/datastore/label",
                params={"image": study, "tag": "final"},
                data={"params": json.dumps(params)},
                files={"label": (file.name, content)},
                timeout=60,
            )

    def ask(self, path: str, **params) -> requests.Response:
        return requests.get(f"{self.url}{path}", params=params, timeout=300)

    def next_sample(self, strategy: str, **params) -> requests.Response:
        return requests.post(f"{self.url}/activelearning/{strategy}", json=params, timeout=300)

    def wait_for(self, study: str) -> None:
        """Until a DICOM folder, which may be still being copied, is listed."""
        end = time.monotonic() + 60
        while not self.ask("/datastore/image/info", image=study).ok:
            assert time.monotonic() < end, self.log.read_text()[-3000:]
            time.sleep(0.2)

    def train(self, bundle: str, **params) -> requests.Response:
        return requests.post(f"{self.url}/train/{bundle}", json=params, timeout=60)

    def wait_for_training(self) -> dict:
        end = time.monotonic() + 300
        while time.monotonic() < end:
            task = requests.get(f"{self.url}/train/", timeout=60).json()
            if task["status"] not in ("SUBMITTED", "RUNNING"):
                return task
            time.sleep(0.3)
        raise TimeoutError("training did not end")
