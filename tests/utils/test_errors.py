# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import pickle
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from monai_ext.utils import config_errors, plain_cause
from tests.bundles.runs import BUNDLES, ROOT

COMMANDS = (None, "training", "evaluation", "inference", "segment", "deploy")


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


def system(number: int, path: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), path)


def no_memory() -> Exception:
    """What NumPy says itself."""
    with pytest.raises(MemoryError) as caught:
        np.ones(1 << 60, np.uint8)
    return caught.value


def no_cpu_memory() -> Exception:
    """What PyTorch says itself."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50, dtype=torch.uint8)
    return caught.value


TOLD = [
    (chained(ValueError("monai_ext: a.nii: cut off"), RuntimeError("Failed to instantiate")), "a.nii: cut off"),
    (
        chained(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), RuntimeError("x")),
        "the GPU's memory is full",
    ),
    (RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed."), "a worker process was ended"),
    (
        RuntimeError("DataLoader worker (pid 12) is killed by signal: Bus error. It is possible"),
        "the memory that workers",
    ),
    (RuntimeError("unable to write to file </torch_1_2_3>: No space left on device (28)"), "the memory that workers"),
    (system(errno.ENOSPC), "a file of this run: no space is left on its disk. Make room"),
    (chained(system(errno.ENOSPC, "/o/a b.nii.gz"), RuntimeError("x")), "/o/a b.nii.gz: no space is left on its disk"),
    (system(errno.EDQUOT, "/o/it's"), "/o/it's: your quota"),
    (system(errno.EROFS, "/o/a"), "/o/a: lies on a disk that can be read only"),
    (system(errno.EACCES, "/o/a"), "/o/a: permission denied"),
    (system(errno.EPERM, "/o/a"), "/o/a: permission denied"),
    (system(errno.EIO, "/o/a"), "/o/a: its disk or network share failed"),
    (system(errno.EMFILE, "/o/a"), "/o/a: too many files are open. Raise the limit (ulimit -n)"),
    (system(errno.ENAMETOOLONG, "/o/a"), "/o/a: its name is too long"),
    (system(errno.EISDIR, "/o/a"), "/o/a: is a folder"),
    (system(errno.ESTALE, "/o/a"), "/o/a: its folder went away"),
    (system(errno.ENOMEM), "a file of this run: the memory is full"),
    (FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"), "no room for temporary files in "),
    (
        RuntimeError("[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed writing file"),
        "a file could",
    ),
    (no_memory(), "the memory is full"),
    (no_cpu_memory(), "the memory is full"),
]


@pytest.mark.parametrize(("error", "start"), TOLD)
def test_the_cause_of_a_failure_in_plain_words(error, start):
    for command in COMMANDS:
        told = plain_cause(error, command)
        assert told.startswith(f"monai_ext: {start}")
        assert len(told.splitlines()) == 1


def test_no_error_of_the_system_is_hidden_by_one_that_was_dealt_with():
    error = chained(system(errno.EACCES, "/etc/first"), system(errno.ENOSPC, "/o/second"))
    assert plain_cause(error).startswith("monai_ext: /o/second: no space is left")


def test_other_errors_keep_their_own_words():
    assert plain_cause(chained(KeyError("x"), TypeError("y"))) is None


def test_advice_names_options_that_the_command_has():
    import json
    import re

    for bundle in BUNDLES:
        configs = {name: json.loads((ROOT / f"bundles/{bundle}/configs/{name}.json").read_text()) for name in NAMES}
        for command, files in FILES.items():
            knobs = {key for file in files for key in configs[file]}
            for error, _ in TOLD:
                named = set(re.findall(r"--(\w+)(?![\w-]*-)", plain_cause(error, command)))
                assert named - {"shm"} <= knobs, (bundle, command, error)
    for error, _ in TOLD:
        assert not re.search(r"(fewer|smaller) (workers|batches)|resume|no workers", plain_cause(error, "deploy"))


NAMES = ("train", "evaluate", "inference")
FILES = {None: (), "training": ("train",), "evaluation": ("train", "evaluate"), "inference": ("inference",)}
FILES["segment"], FILES["deploy"] = FILES["inference"], ()


class Failing(Dataset):
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise self.error


@pytest.mark.parametrize(
    "error", [ValueError("monai_ext: a.nii: cut off"), system(errno.EIO, "/d/a.nii"), MemoryError()]
)
def test_a_message_survives_a_worker(error):
    with pytest.raises(type(error)) as caught:
        list(DataLoader(Failing(error), num_workers=1))
    assert plain_cause(caught.value) == plain_cause(error)
    assert plain_cause(pickle.loads(pickle.dumps(caught.value))) == plain_cause(error)


def test_an_error_of_a_config_names_it_and_the_first_cause():
    told = r"^monai_ext: c\.json: does not work as a config \(KeyError: 'x'\)\.$"
    with pytest.raises(ValueError, match=told), config_errors("c.json"):
        raise chained(KeyError("x"), RuntimeError("y"))
    with pytest.raises(OSError, match="^monai_ext: ours"), config_errors("c.json"):
        raise OSError("monai_ext: ours")
    told = r"^monai_ext: /o/a: no space.*finished labels are kept"
    with pytest.raises(ValueError, match=told), config_errors("c.json", "segment"):
        raise system(errno.ENOSPC, "/o/a")


def test_an_error_that_was_dealt_with_is_not_the_cause():
    """importlib.metadata turns a StopIteration into its own error: the one that says something."""
    with pytest.raises(ValueError, match=r"PackageNotFoundError: .*no-such-package"), config_errors("c.json"):
        try:
            version("no-such-package")
        except PackageNotFoundError as e:
            raise RuntimeError("Failed to evaluate an expression") from e
