# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from monai_ext.utils import clear_dead, files, locked, replacing, scratch_folder

ROOT = Path(__file__).parents[2]


def python(code: str, *args: object) -> subprocess.Popen:
    """Another process, once it has printed its first line."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-c", f"import sys, time\nfrom pathlib import Path\n{code}"]
    process = subprocess.Popen([*command, *map(str, args)], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


WRITING = """
from monai_ext.utils.files import replacing
with replacing(Path(sys.argv[1]) / "last.pt") as temporary:
    temporary.write_bytes(b"half")
    print("ready", flush=True)
    time.sleep(600)
"""
HOLDING = """
from monai_ext.utils.files import locked
with locked(sys.argv[1]):
    print("ready", flush=True)
    time.sleep(600)
"""
FORKING = """
import multiprocessing
from monai_ext.utils.files import locked
with locked(sys.argv[1]):
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
    child.start()
    Path(sys.argv[2]).write_text(str(child.pid))
    print("ready", flush=True)
    time.sleep(600)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_whole_under_its_name(tmp_path):
    with replacing(tmp_path / "new" / "a.nii.gz") as temporary:
        assert temporary.name.endswith(".a.nii.gz")  # writers choose the format by the name
        temporary.write_text("new")
        assert not (tmp_path / "new" / "a.nii.gz").exists()
    assert (tmp_path / "new" / "a.nii.gz").read_text() == "new"
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE((tmp_path / "new" / "a.nii.gz").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    (tmp_path / "a.csv").write_text("old")
    with pytest.raises(error), replacing(tmp_path / "a.csv") as temporary:
        temporary.write_text("half")
        raise error
    assert (tmp_path / "a.csv").read_text() == "old"
    assert names(tmp_path) == ["a.csv"]


def test_a_name_as_long_as_the_system_allows(tmp_path):
    name = "a" * 250 + ".csv"
    with replacing(tmp_path / name) as temporary:
        temporary.write_text("whole")
    assert names(tmp_path) == [name]


def test_what_a_dead_writer_left_goes_and_what_a_live_one_writes_stays(tmp_path):
    (tmp_path / "last.pt").write_bytes(b"old")
    dead, live = python(WRITING, tmp_path), python(WRITING, tmp_path)
    kill(dead)
    try:
        assert len(names(tmp_path)) == 3
        clear_dead(tmp_path)
        [left] = [path for path in tmp_path.iterdir() if path.is_dir()]
        assert (left / ".last.pt").read_bytes() == b"half"
    finally:
        kill(live)
    clear_dead(tmp_path)
    assert names(tmp_path) == ["last.pt"]
    assert (tmp_path / "last.pt").read_bytes() == b"old"


def test_the_next_process_that_writes_there_clears_the_dead(tmp_path, monkeypatch):
    kill(python(WRITING, tmp_path))
    monkeypatch.setattr(files, "_cleared", set())  # as a new process has it
    with replacing(tmp_path / "other") as temporary:
        temporary.write_text("whole")
    assert names(tmp_path) == ["other"]


def test_hidden_files_of_others_stay(tmp_path):
    (tmp_path / ".part").mkdir()
    for name in (".DS_Store", ".a.lock", ".abcdefgh.last.pt", "scratch.monai_ext"):
        (tmp_path / name).write_text("mine")
    before = names(tmp_path)
    clear_dead(tmp_path)
    assert names(tmp_path) == before
    clear_dead(tmp_path / "missing")


def test_a_lock_is_one_process_only_and_says_whose(tmp_path):
    first = python(HOLDING, tmp_path)
    try:
        told = rf"{tmp_path.name}: in use by process {first.pid} on .*Wait a bit"
        with pytest.raises(BlockingIOError, match=told), locked(tmp_path, remedy="Wait a bit."):
            raise AssertionError("two hold the lock")
        clear_dead(tmp_path)
        assert names(tmp_path) == [".monai_ext.lock"]
    finally:
        kill(first)
    with locked(tmp_path), pytest.raises(BlockingIOError, match=f"process {os.getpid()} on"), locked(tmp_path):
        raise AssertionError("two hold the lock")
    assert names(tmp_path) == []


def test_a_lock_ends_with_its_process_whatever_its_workers_do(tmp_path):
    first = python(FORKING, tmp_path / "a", tmp_path / "pid")
    kill(first)
    worker = int((tmp_path / "pid").read_text())
    try:
        os.kill(worker, 0)
        with locked(tmp_path / "a"):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


def test_who_waits_gets_the_lock_in_turn(tmp_path):
    first = python(HOLDING.replace("600", "1"), tmp_path)
    with locked(tmp_path, wait=True):
        assert first.wait() == 0
    assert names(tmp_path) == []


def test_a_share_without_locks(tmp_path, monkeypatch):
    """There a lock file names its owner, and counts as long as that is alive."""
    refuse = (
        "import errno, fcntl\ndef flock(*_): raise OSError(errno.ENOLCK, 'No locks available')\nfcntl.flock = flock\n"
    )
    scope: dict = {}
    exec(refuse, scope)
    monkeypatch.setattr("fcntl.flock", scope["flock"])
    dead, live = python(refuse + WRITING, tmp_path / "a"), python(refuse + WRITING, tmp_path / "a")
    holder = python(refuse + HOLDING, tmp_path / "b")
    kill(dead)
    try:
        clear_dead(tmp_path / "a")
        assert len(names(tmp_path / "a")) == 1
        with replacing(tmp_path / "a" / "new") as temporary:
            temporary.write_text("whole")
        assert (tmp_path / "a" / "new").read_text() == "whole"
        with pytest.raises(BlockingIOError, match=f"b: in use by process {holder.pid} on"), locked(tmp_path / "b"):
            raise AssertionError("two hold the lock")
    finally:
        kill(live)
        kill(holder)
    with locked(tmp_path / "b"):
        pass
    clear_dead(tmp_path / "a")
    assert names(tmp_path / "a") == ["new"] and names(tmp_path / "b") == []


def test_scratch_folders_are_hidden_and_go(tmp_path):
    with scratch_folder(tmp_path / "out", "segment-") as scratch:
        assert scratch.parent == tmp_path / "out" and scratch.name.startswith(".segment-")
        (scratch / "a.nii").write_text("whole")
        clear_dead(tmp_path / "out")
        (scratch / "a.nii").replace(tmp_path / "out" / "a.nii")
    assert names(tmp_path / "out") == ["a.nii"]


def test_many_may_start_at_once(tmp_path):
    """A folder that is made but not locked yet may be taken for dead: nobody loses what he writes."""
    code = """
from monai_ext.utils import files
print("ready", flush=True)
while not Path(sys.argv[2]).exists():
    pass
for number in range(40):
    files.clear_dead(sys.argv[1])
    with files.replacing(Path(sys.argv[1]) / f"{sys.argv[3]}-{number}") as temporary:
        temporary.write_text("whole")
"""
    processes = [python(code, tmp_path / "out", tmp_path / "go", number) for number in range(3)]
    (tmp_path / "go").touch()
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert len(names(tmp_path / "out")) == 120
    assert {path.read_text() for path in (tmp_path / "out").iterdir()} == {"whole"}
