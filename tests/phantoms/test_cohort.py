# SPDX-License-Identifier: Apache-2.0
"""A phantom cohort is there as a whole or not at all, whoever else makes it and whenever its maker is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from monai_ext.data import load_datalist, write_phantom
from monai_ext.phantoms import write_ct_phantom
from monai_ext.phantoms.beside import STRAY
from monai_ext.phantoms.cohort import write_cohort
from tests.utils.test_files import names, python

WHOLE = {"CVC-ColonDB", "PHANTOM.json", "__MACOSX", *STRAY}  # the tree as it unpacks
TINIEST = {"in_plane": 24, "slices": 8}
MAKING = """
from monai_ext.data import write_phantom
print("ready", flush=True)
while not Path(sys.argv[2]).exists():
    pass
write_phantom("colondb", sys.argv[1], 5)
"""
SLOW = """
from monai_ext.phantoms.cohort import write_cohort
def make(place, case):
    (place / f"{case}.nii").write_text("whole")
    if case == 2:
        print("ready", flush=True)
        time.sleep(600)
write_cohort(Path(sys.argv[1]), "g", 0, [1, 2, 3], [1, 2, 3], lambda place, case: False, make, 1, False, "w")
"""


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_several_that_start_at_once_make_one_cohort(tmp_path):
    processes = [python(MAKING, tmp_path / "colondb", tmp_path / "go") for _ in range(3)]
    (tmp_path / "go").touch()
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert len(load_datalist("colondb", tmp_path / "colondb", split="paper")["test"]) > 0
    assert names(tmp_path) == ["colondb", "go"]
    hidden = [name for name in files(tmp_path / "colondb") if "/." in name or name[0] == "."]
    assert all(name == ".DS_Store" or Path(name).name.startswith("._") for name in hidden)  # a publisher's, no writer's


def test_a_killed_maker_leaves_no_cohort_and_the_next_nothing_else(tmp_path):
    maker = python(SLOW, tmp_path / "cohort")
    maker.send_signal(signal.SIGKILL)
    maker.wait()
    assert not (tmp_path / "cohort").exists()
    write_ct_phantom(tmp_path / "cohort", 5, progress=False, **TINIEST)
    assert names(tmp_path) == ["cohort"]
    assert names(tmp_path / "cohort") == ["PHANTOM.json", "RawData"]


@pytest.mark.parametrize("hidden", [".DS_Store", ".abcdefgh.1.png", ".abcdefgh.monai_ext"])
def test_hidden_files_stop_no_cohort(tmp_path, hidden):
    """What a system hides stays; what a dead writer left does not."""
    folder = tmp_path / "colondb"
    folder.mkdir()
    path = folder / hidden
    path.mkdir() if hidden.endswith("monai_ext") else path.touch()
    write_phantom("colondb", folder, 5)
    assert set(names(folder)) == {*WHOLE, *(() if hidden.endswith("monai_ext") else (hidden,))}
    (folder / ".DS_Store").touch()
    write_phantom("colondb", folder, 5)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_whose_parent_is_not_to_be_written(tmp_path):
    folder = tmp_path / "mounted" / "colondb"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o500)
    try:
        write_phantom("colondb", folder, 5)
    finally:
        folder.parent.chmod(0o700)
    assert set(names(folder)) == WHOLE


def test_the_same_without_a_parent_to_lock(tmp_path, monkeypatch):
    from monai_ext.phantoms import cohort

    real = cohort.locked

    def refuse(folder, *args, **kwargs):
        if Path(folder) == tmp_path:
            raise PermissionError(13, "Permission denied")
        return real(folder, *args, **kwargs)

    monkeypatch.setattr(cohort, "locked", refuse)
    (tmp_path / "colondb").mkdir()
    write_phantom("colondb", tmp_path / "colondb", 5)
    assert set(names(tmp_path / "colondb")) == WHOLE
    with pytest.raises(PermissionError):
        write_phantom("colondb", tmp_path / "missing", 5)


def test_an_error_in_a_case_leaves_nothing(tmp_path):
    def make(place, case):
        (place / f"{case}.nii").write_text("whole")
        if case == 2:
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_cohort(tmp_path / "c", "g", 0, [1, 2], [1, 2], lambda place, case: False, make, 1, False, "w")
    assert names(tmp_path) == []
