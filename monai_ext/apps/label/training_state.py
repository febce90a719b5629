# SPDX-License-Identifier: Apache-2.0
"""Whether a training of the server is at work, and what ends it: files in a served bundle's folder, and its parent."""

from __future__ import annotations

import os
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["LOCK", "STATS", "WORK", "clear_dead_training", "end_with_parent"]

WORK, LOCK, STATS = "training", "training.lock", "training.json"


def clear_dead_training(bundle: Path) -> None:
    """Remove what a training left whose process is no more; one that is at work keeps its lock, and its folder."""
    with suppress(Timeout), FileLock(bundle / LOCK, timeout=0):
        shutil.rmtree(bundle / WORK, ignore_errors=True)


def end_with_parent(seconds: float = 1.0) -> None:
    """End this process and those that it started when the one that started it is gone, however that ended.

    A training that outlives its server would replace the model later, with nobody there who asked for it.
    """
    import psutil

    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(seconds)
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()
