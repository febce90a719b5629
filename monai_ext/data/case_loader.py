# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.data import DataLoader, list_data_collate
from torch.utils.data import Dataset

from monai_ext.utils import plain_cause

__all__ = ["CaseLoader", "UnreadableCasesError"]

logger = logging.getLogger(__name__)
LISTED = 10


class UnreadableCasesError(ValueError):
    """Some cases of many could not be read; the others are done.

    Attributes:
        done: files that were written for these, where a command writes them.
    """

    traceback_helps = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.done: list[Path] = []


class CaseLoader(DataLoader):
    """MONAI's ``DataLoader`` for inference over many cases: one that cannot be read does not stop the others.

    A case whose loading or preprocessing fails is logged in one line and left out; ``raise_failed`` tells of all of
    them when the others are done. What fails later, in the network or in writing, stops the run as ever.

    How many cases there will be is known only at the end, so that the loader has no ``len()``: an engine would go back
    to the first cases to make up for those left out. Given among the engine's handlers it tells how many to expect.

    Args:
        dataset: of dictionaries; ``image`` of its ``data`` names a case.
        kwargs: of ``monai.data.DataLoader``.

    Examples::

        >>> loader = CaseLoader(Dataset(find_images("scans"), transform), batch_size=1)
        >>> evaluator = SupervisedEvaluator(device, loader, network, val_handlers=[loader])
        >>> evaluator.run()
        >>> loader.raise_failed()
    """

    def __init__(self, dataset: Any, **kwargs: Any) -> None:
        self.failed: list[tuple[str, str]] = []
        self.collate = kwargs.pop("collate_fn", list_data_collate)
        if len(dataset) == 1:
            kwargs["num_workers"] = 0  # a worker reads ahead; for one case it takes a second to start and to hand over
        super().__init__(_Guarded(dataset), collate_fn=self._collate, **kwargs)

    def __len__(self) -> int:
        raise TypeError("CaseLoader: how many cases can be read is known at the end.")

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self.failed = []
        for batch, failed in super().__iter__():
            for case in failed:
                logger.error("monai_ext: %s: left out: %s", case.name, case.reason.removeprefix("monai_ext: "))
                self.failed.append((case.name, case.reason))
            if batch is not None:
                yield batch

    def attach(self, engine: Engine) -> None:
        """Tell an engine how many iterations to expect, and to stop sooner where cases are left out."""
        engine.add_event_handler(Events.STARTED, self._expect)
        engine.add_event_handler(Events.DATALOADER_STOP_ITERATION, self._stop)

    def raise_failed(self) -> None:
        """Tell of the cases that were left out, if there were any.

        Raises:
            UnreadableCasesError: with how many of how many, and why.
        """
        if not self.failed:
            return
        total = len(self.dataset)  # type: ignore[arg-type]
        if total == 1:
            reason = self.failed[0][1]
            raise UnreadableCasesError(reason if reason.startswith("monai_ext: ") else f"monai_ext: {reason}")
        told = "; ".join(reason.removeprefix("monai_ext: ").rstrip(".") for _, reason in self.failed[:LISTED])
        more = f"; and {len(self.failed) - LISTED} more" if len(self.failed) > LISTED else ""
        raise UnreadableCasesError(f"monai_ext: {len(self.failed)} of {total} cases could not be read: {told}{more}.")

    def _collate(self, items: list[Any]) -> tuple[Any, list[_Failed]]:
        failed = [item for item in items if isinstance(item, _Failed)]
        read = [item for item in items if not isinstance(item, _Failed)]
        return self.collate(read) if read else None, failed

    def _expect(self, engine: Engine) -> None:
        engine.state.epoch_length = -(-len(self.dataset) // (self.batch_size or 1))  # type: ignore[arg-type]

    def _stop(self, engine: Engine) -> None:
        engine.terminate_epoch()


@dataclass(frozen=True)
class _Failed:
    name: str
    reason: str


class _Guarded(Dataset):
    """A dataset whose failures are items."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except Exception as e:  # a damaged file may raise anything
            cases = getattr(self.dataset, "data", None)
            case = cases[index] if cases is not None else {}
            name = str(case.get("image", f"case {index}") if isinstance(case, dict) else case)
            lines = str(e).strip().splitlines()
            return _Failed(name, plain_cause(e) or f"{name}: {lines[-1] if lines else type(e).__name__}")
