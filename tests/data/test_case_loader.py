# SPDX-License-Identifier: Apache-2.0
"""Cases that fail, and workers that cannot work; what a damaged file does is in ``tests/reliability``."""

from __future__ import annotations

import errno
import os
import signal

import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Flip
from torch.utils.data import get_worker_info

from monai_ext.data import CaseLoader, UnreadableCasesError
from monai_ext.engines import CaseEvaluator
from monai_ext.utils import plain_cause

CASES = [{"image": f"scan{k}", "value": k} for k in range(5)]


class Dying:
    """Ends its worker process at one case, as the system does; in the main process it does nothing."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, case: dict) -> dict:
        if case["value"] == 2 and get_worker_info() is not None:
            os.kill(os.getpid(), self.number)
        return case


@pytest.mark.parametrize("number", [signal.SIGBUS, signal.SIGKILL])
def test_where_workers_die_the_rest_is_read_without_them(number, caplog):
    loader = CaseLoader(Dataset(CASES, Dying(number)), batch_size=1, num_workers=1)
    assert [int(batch["value"]) for batch in loader] == [0, 1, 2, 3, 4]
    assert loader.failed == []
    assert "The cases that are left are read without workers." in caplog.text
    if number == signal.SIGBUS:
        assert "/dev/shm" in caplog.text


class Broken:
    """Batches of workers whose connection breaks after the first."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.watched = True

    def __iter__(self):
        yield {"value": torch.tensor([0])}, ("scan0",), []
        raise self.error

    def _shutdown_workers(self) -> None:
        self.watched = False


@pytest.mark.parametrize("error", [EOFError(), ConnectionResetError(), RuntimeError("a worker is dead")])
def test_however_a_workers_end_is_seen_the_rest_is_read(error, monkeypatch, caplog):
    """PyTorch's handler may be later than the end of a pipe, and is not to be heard after that."""
    batches = Broken(error)
    loader = CaseLoader(Dataset(CASES), batch_size=1, num_workers=1)
    monkeypatch.setattr(DataLoader, "__iter__", lambda _: batches)
    assert [int(batch["value"]) for batch in loader] == [0, 1, 2, 3, 4]
    assert not batches.watched
    assert "The cases that are left are read without workers." in caplog.text


def network(x: torch.Tensor) -> torch.Tensor:
    if x.item() == 1:
        raise MemoryError
    if x.item() == 3:
        raise RuntimeError("a size\nthat does not fit")
    return x


def test_a_case_that_fails_in_the_network_costs_itself_only():
    loader = CaseLoader([{"image": torch.tensor([float(k)])} for k in range(5)], batch_size=1)
    seen = []
    evaluator = CaseEvaluator(
        torch.device("cpu"),
        loader,
        network,  # type: ignore[arg-type]
        inferer=lambda x, network: network(x),
        postprocessing=lambda item: seen.append(item["pred"].item()) or item,
        val_handlers=[loader],
    )
    evaluator.mode = lambda network: torch.no_grad()  # a function has no mode
    evaluator.run()
    assert seen == [0, 2, 4]
    assert [reason for _, reason in loader.failed] == [
        "monai_ext: the memory is full. Use fewer workers or smaller batches.",
        "case 3: RuntimeError: a size that does not fit",
    ]
    with pytest.raises(UnreadableCasesError, match="^monai_ext: 2 of 5 cases failed: the memory is full"):
        loader.raise_failed()


def test_a_full_disk_ends_the_run():
    loader = CaseLoader([{"image": torch.tensor([float(k)])} for k in range(3)], batch_size=1)
    seen = []

    def save(item: dict) -> None:
        seen.append(item["pred"].item())
        raise RuntimeError(f"no suitable writer\nOSError: [Errno {errno.ENOSPC}] No space left on device: '/o/a.nii'")

    evaluator = CaseEvaluator(
        torch.device("cpu"), loader, torch.nn.Identity(), postprocessing=save, val_handlers=[loader]
    )
    with pytest.raises(RuntimeError) as ended:
        evaluator.run()
    assert plain_cause(ended.value).startswith("monai_ext: /o/a.nii: no space is left on its disk.")
    assert seen == [0]


FLIP = Flip(0)  # knows what it has done by its own place in memory


def placed(case: dict) -> dict:
    """A volume with a place in the patient and a history, as preprocessing leaves it."""
    volume = MetaTensor(torch.rand(1, 3, 4, 5), affine=torch.diag(torch.tensor([-1.0, 2.0, 3.0, 1.0])))
    volume.meta["filename_or_obj"] = case["image"]
    return {**case, "image": FLIP(volume)}


def test_a_case_alone_is_a_batch_without_a_copy():
    item = placed(CASES[3])
    (batch,) = CaseLoader(Dataset([item]), batch_size=1)
    expected = list_data_collate([item])
    assert batch["image"].data_ptr() == item["image"].data_ptr()
    assert torch.equal(batch["image"].as_tensor(), expected["image"].as_tensor())
    assert batch.keys() == expected.keys() and torch.equal(batch["value"], expected["value"])
    one, other = (decollate_batch(b)[0]["image"] for b in (batch, expected))
    assert batch["image"].meta.keys() == expected["image"].meta.keys() and one.shape == other.shape
    assert one.meta["filename_or_obj"] == other.meta["filename_or_obj"] and torch.equal(one.affine, other.affine)
    assert len(one.applied_operations) == len(other.applied_operations) == 1
    assert torch.equal(FLIP.inverse(one), FLIP.inverse(other))
