# SPDX-License-Identifier: Apache-2.0
"""A phantom cohort is there as a whole or not at all, whoever else makes it and whenever its maker is killed."""

from __future__ import annotations

import os
import re
import signal
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest

from monai_ext.data import load_datalist, write_phantom
from monai_ext.phantoms import (
    ct_phantom_case,
    ct_phantom_case_ids,
    mr_phantom_case,
    mr_phantom_ids,
    read_marker,
    write_ct_phantom,
    write_mr_phantom,
)
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


# how each is written small; the other data that it must leave alone; the call of nibabel that writes its
# second case, and the files of five cases
WRITERS = {
    "ct": (partial(write_ct_phantom, in_plane=32, slices=12), "RawData/Training/img/img0040.nii.gz", 4, 10),
    "mr": (partial(write_mr_phantom, in_plane=24, slices=4), "training/patient090/patient090_frame01.nii.gz", 6, 20),
}
each_writer = pytest.mark.parametrize(("write", "other", "second", "count"), WRITERS.values(), ids=WRITERS)


@each_writer
def test_stopped_in_the_middle_leaves_no_half_file(tmp_path, monkeypatch, write, other, second, count):
    real_save, calls = nibabel.save, []

    def failing_save(image, path):
        calls.append(path)
        if len(calls) == second:
            Path(path).write_bytes(b"half a file")
            raise OSError("disk full")
        real_save(image, path)

    monkeypatch.setattr(nibabel, "save", failing_save)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path, 5, progress=False, workers=1)
    assert not list(tmp_path.iterdir())  # and nothing else
    monkeypatch.undo()
    write(tmp_path, 5, progress=False, workers=2)
    made = list(tmp_path.rglob("*.nii.gz"))
    assert len(made) == count
    assert all(np.asarray(nibabel.load(file).dataobj).any() for file in made)
    assert len(read_marker(tmp_path)["cases"]) == 5


@each_writer
def test_other_data_and_other_seeds_are_left_alone(tmp_path, write, other, second, count):
    (tmp_path / other).parent.mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), tmp_path / other)
    with pytest.raises(ValueError, match=rf"{re.escape(Path(other).name)}: exists, but is not of this phantom"):
        write(tmp_path, 5, progress=False)
    assert list(tmp_path.rglob("*.nii.gz")) == [tmp_path / other]
    write(tmp_path / "cohort", 5, progress=False)
    with pytest.raises(ValueError, match="seed 0.*expected.*seed 1"):
        write(tmp_path / "cohort", 5, seed=1, progress=False)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        *[(partial(ct_phantom_case_ids, n), f"num_cases must be 5 to 30, got {n}") for n in (0, 4, 31)],
        *[(partial(mr_phantom_ids, n), f"num_cases must be 5 to 100, got {n}") for n in (0, 4, 101)],
        (partial(ct_phantom_case, 11), r"case_id must be one of Synapse's .*got 11\."),
        (partial(mr_phantom_case, 101), r"patient must be 1 to 100, got 101\."),
    ],
)
def test_what_no_cohort_has_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


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
