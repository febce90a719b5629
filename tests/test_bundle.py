# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os

import pytest

from monai_ext.bundle import find_bundle, flag, known_bundles, plain_cause


def chained(*errors: Exception) -> Exception:
    """As MONAI wraps them, once for each level of a config."""
    caught: Exception | None = None
    for error in errors:
        try:
            raise error from caught
        except Exception as e:
            caught = e
    assert caught is not None
    return caught


@pytest.mark.parametrize(
    ("error", "start"),
    [
        (
            chained(ValueError("monai_ext: a.nii: cut off"), RuntimeError("Failed to instantiate")),
            "monai_ext: a.nii: cut",
        ),
        (
            chained(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), RuntimeError("x")),
            "monai_ext: the GPU's",
        ),
        (
            RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed."),
            "monai_ext: a worker process was ended",
        ),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "monai_ext: the disk is full"),
        (OSError(errno.ESTALE, os.strerror(errno.ESTALE)), "monai_ext: the folder of the data went away"),
    ],
)
def test_the_cause_of_a_failure_in_plain_words(error, start):
    assert plain_cause(error).startswith(start)


def test_other_errors_keep_their_own_words():
    assert plain_cause(chained(KeyError("x"), TypeError("y"))) is None
    assert plain_cause(TypeError("Caught TypeError in DataLoader worker process 0.")) is None


def test_bundles_are_found_by_name_and_by_folder(tmp_path, monkeypatch):
    assert find_bundle("qtseg_busi") == known_bundles()["qtseg_busi"]
    folder = tmp_path / "bundles" / "mine" / "configs"
    folder.mkdir(parents=True)
    (folder / "metadata.json").write_text("{}")
    assert find_bundle(folder.parent) == folder.parent
    monkeypatch.chdir(tmp_path)
    assert "mine" in known_bundles()
    with pytest.raises(FileNotFoundError, match="Did you mean 'qtseg_busi'"):
        find_bundle("qtseg_bus")


def test_switches_as_command_lines_give_them():
    assert [flag(value) for value in (True, "true", "True", 1, "1", "yes")] == [True] * 6
    assert [flag(value) for value in (False, "false", "False", 0, "0", "no", None)] == [False] * 7
    with pytest.raises(ValueError, match="'maybe': expected true or false"):
        flag("maybe")
