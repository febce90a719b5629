# SPDX-License-Identifier: Apache-2.0
"""Parts and commands in processes of their own, with limits of time."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.job import ROOT, Job, Row, Steps


def one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text[:400]}"


def call(job: Job, words: list[str | Path], **environment: str) -> None:
    """``python -m ...`` in a process of its own, with its last line as the error."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "MONAI_DATA_DIRECTORY": str(job.folder / "cache"), "MPLBACKEND": "Agg", **environment},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=max(1.0, job.left()),
    )
    if done.returncode:
        print(done.stderr[-4000:], file=sys.stderr, flush=True)
        said = [line for line in done.stderr.splitlines() if line.strip()]
        ours = [line for line in said if line.startswith("monai_ext:")]
        first = [line for line in said if re.match(r"[\w.]+(Error|Exception): ", line)][:1]  # later ones wrap it
        raise RuntimeError(f"{' '.join(map(str, words))[:300]}: {(ours or first or said or ['no message'])[-1]}")


def how_to_start(device: torch.device) -> Any:
    """Processes by fork, which spares them the imports, unless something imported has the GPU open already."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=torch.ones, args=(2,), kwargs={"device": str(device)})
    process.start()
    process.join()
    return context if process.exitcode == 0 else multiprocessing.get_context("spawn")


def _work(name: str, steps: Callable[[Job], Steps], job: Job, pipe: Any) -> None:
    """A part in a process of its own; what it starts, too, ends with its group."""
    os.setsid()
    began = name
    try:
        for what, needs, step in steps(job):
            rows = [{"what": what, "not run": "time"}]
            if job.left() >= needs:
                began = what
                pipe.send((what, []))
                try:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        rows = step()
                except Exception as e:
                    traceback.print_exc()
                    rows = [{"what": what, "failed": one_line(e)}]
            pipe.send((what, rows))
            gc.collect()
            torch.cuda.empty_cache()
    except Exception as e:
        traceback.print_exc()
        pipe.send((began, [{"what": began, "failed": one_line(e)}]))
    pipe.send(None)


def run_part(
    name: str, steps: Callable[[Job], Steps], job: Job, context: Any, report: Callable[[list[Row]], None]
) -> None:
    """Run one part and hand its rows on as they come, whatever becomes of it."""
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(name, steps, job, sender))
    process.start()
    sender.close()
    doing = name
    try:
        while receiver.poll(max(0.0, job.left())):
            message = receiver.recv()
            if message is None:
                return
            doing, rows = message
            report(rows)
        report([{"what": doing, "not run": "stopped at the limit of time, in this step or after it"}])
        return
    except EOFError:
        pass
    finally:  # after an interrupt, too: the part has a session of its own
        process.join(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()
    report([{"what": doing, "failed": f"the process ended with status {process.exitcode}"}])
