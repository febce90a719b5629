# SPDX-License-Identifier: Apache-2.0
"""What a figure was measured on, and how much memory it took."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["cpu_model", "memory_taken"]


def cpu_model() -> str:
    info = Path("/proc/cpuinfo")  # Linux only
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def memory_taken(call: Callable[[], Any]) -> float:
    """MiB by which ``call`` raises the peak of resident memory over what the process holds before (Linux only).

    For a process of its own: what an earlier call left to the allocator would be used again. ``getrusage`` counts the
    process that started this one, too.
    """
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _peak()
    call()
    return _peak() - before


def _peak() -> float:
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
