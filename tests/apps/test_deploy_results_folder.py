# SPDX-License-Identifier: Apache-2.0
"""The folder of one series' results: whole or not there, never mixed, one process at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from monai_ext.apps.deploy.results_folder import ResultsFolder


def write(output: Path, overwrite: bool = False, **files: str) -> Path:
    with ResultsFolder(output, "1.2", "1.2.3", overwrite) as results, results.filled() as folder:
        for name, content in files.items():
            (folder / name).write_text(content)
    return results.path


def content(output: Path) -> dict[str, str]:
    """Every file below, hidden ones too."""
    return {str(path.relative_to(output)): path.read_text() for path in output.rglob("*") if path.is_file()}


def test_replaced_as_a_whole(tmp_path):
    write(tmp_path, seg="1", stl="1")
    with pytest.raises(FileExistsError, match=r"1\.2/1\.2\.3: there are results .*--overwrite true"):
        write(tmp_path, seg="2")
    assert content(tmp_path) == {"1.2/1.2.3/seg": "1", "1.2/1.2.3/stl": "1"}
    write(tmp_path, overwrite=True, seg="2")
    assert content(tmp_path) == {"1.2/1.2.3/seg": "2"}


@pytest.mark.parametrize("kind", ["file", "dangling link", "link to a folder"])
def test_something_else_at_its_place(kind, tmp_path):
    place, elsewhere = tmp_path / "out" / "1.2" / "1.2.3", tmp_path / "elsewhere"
    place.parent.mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("x")
    if kind == "file":
        place.write_text("x")
    else:
        place.symlink_to(elsewhere if kind == "link to a folder" else tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match="there are results"):
        write(tmp_path / "out", seg="1")
    write(tmp_path / "out", overwrite=True, seg="1")
    assert not place.is_symlink()
    assert content(tmp_path / "out") == {"1.2/1.2.3/seg": "1"}
    assert content(elsewhere) == {"kept": "x"}


def test_an_error_leaves_nothing_new(tmp_path):
    for overwrite in (False, True):
        before = content(tmp_path)
        with (
            pytest.raises(ZeroDivisionError),
            ResultsFolder(tmp_path / "out", "1.2", "1.2.3", overwrite) as results,
            results.filled() as folder,
        ):
            (folder / "seg").write_text("half")
            raise ZeroDivisionError
        assert content(tmp_path) == before
        assert (tmp_path / "out").exists() == overwrite
        if not overwrite:
            write(tmp_path / "out", seg="1")


def test_a_process_ended_between_the_two_renames(tmp_path):
    """The old results come back; whoever comes next decides about them."""
    place = write(tmp_path, seg="1")
    place.rename(place.with_name(".1.2.3.old"))
    with pytest.raises(FileExistsError, match="there are results"):
        write(tmp_path, seg="2")
    assert content(tmp_path) == {"1.2/1.2.3/seg": "1"}
    place.with_name(".1.2.3.old").mkdir()  # and one that ended before the old ones were removed
    write(tmp_path, overwrite=True, seg="2")
    assert content(tmp_path) == {"1.2/1.2.3/seg": "2"}


def test_one_process_at_a_time(tmp_path):
    script = (
        "from pathlib import Path; from monai_ext.apps.deploy.results_folder import ResultsFolder\n"
        "with ResultsFolder(Path('out'), '1.2', '1.2.3'): print('held', flush=True); input()"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    other = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert other.stdout.readline() == "held\n"
        for overwrite in (False, True):
            with pytest.raises(BlockingIOError, match=rf"in use by process {other.pid} on .*another --output"):
                write(tmp_path / "out", overwrite, seg="1")
        with ResultsFolder(tmp_path / "out", "1.2", "1.2.4"):  # another series of the study
            pass
        assert (tmp_path / "out" / "1.2").is_dir()
    finally:
        other.kill()
        other.communicate()
    write(tmp_path / "out", seg="1")  # a killed process holds nothing
    assert content(tmp_path / "out") == {"1.2/1.2.3/seg": "1"}


def test_somebody_who_asks_for_no_lock(tmp_path):
    with (
        pytest.raises(FileExistsError, match="there are results"),
        ResultsFolder(tmp_path, "1.2", "1.2.3") as results,
        results.filled() as folder,
    ):
        (folder / "seg").write_text("2")
        results.path.mkdir()
        (results.path / "seg").write_text("1")
    assert content(tmp_path) == {"1.2/1.2.3/seg": "1"}


@pytest.mark.skipif(os.getuid() == 0, reason="the superuser may write anywhere")
def test_a_place_that_cannot_be_written_to(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OSError, match=r"monai_ext: .*1\.2: cannot be written to"):
            write(tmp_path / "out", seg="1")
    finally:
        tmp_path.chmod(0o700)
