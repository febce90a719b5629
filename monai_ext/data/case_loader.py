# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.data import DataLoader, MetaTensor, list_data_collate
from monai.utils import ensure_tuple
from torch.utils.data import Dataset, get_worker_info

from monai_ext.utils import innermost, plain_cause

__all__ = ["CaseLoader", "UnreadableCasesError"]

logger = logging.getLogger(__name__)
T = TypeVar("T")
LISTED = 10
AFTER_A_DEATH = 0.5  # seconds


class UnreadableCasesError(ValueError):
    """Some cases of many could not be read, segmented or written; the others are done."""

    traceback_helps = False


class CaseLoader(DataLoader):
    """MONAI's ``DataLoader`` for inference over many cases: one that fails does not stop the others.

    A case whose loading or preprocessing fails is logged in one line and left out; ``raise_failed`` tells of all of
    them when the others are done. :class:`~monai_ext.engines.CaseEvaluator` adds those that fail later, in the network
    or in writing. Where workers cannot work (a container's small shared memory, no memory for a second process), the
    cases that are left are read without them.

    The processes of a distributed run share the cases out: each takes every ``world size``-th one.

    How many cases there will be is known only at the end, so that the loader has no ``len()``: an engine would go back
    to the first cases to make up for those left out. Given among the engine's handlers it tells how many to expect.

    Args:
        dataset: of dictionaries; ``image`` of its ``data`` names a case.
        kwargs: of ``monai.data.DataLoader``.

    Examples::

        >>> loader = CaseLoader(Dataset(find_images("scans"), transform), batch_size=1)
        >>> evaluator = CaseEvaluator(device, loader, network, val_handlers=[loader])
        >>> evaluator.run()
        >>> loader.raise_failed()
    """

    def __init__(self, dataset: Any, **kwargs: Any) -> None:
        self.failed: list[tuple[str, str]] = []
        self.current: tuple[str, ...] = ()
        rank, processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        self.share = range(rank, len(dataset), processes)
        if processes > 1:
            kwargs["sampler"] = self.share
        if len(self.share) <= 1:
            kwargs["num_workers"] = 0  # a worker reads ahead; for one case it takes a second to start and to hand over
        collate = _Collate(kwargs.pop("collate_fn", list_data_collate))
        super().__init__(_Guarded(dataset), collate_fn=collate, **kwargs)

    def __len__(self) -> int:
        raise TypeError("monai_ext: CaseLoader: how many cases can be read is known at the end.")

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self.failed = []
        for batch, names, failed in self._batches():
            for name, reason in failed:
                self.fail(name, reason)
            if names:
                self.current = names
                yield batch

    def _batches(self) -> Iterator[_Batch]:
        """Those of the workers; where these die, the rest of them from here."""
        count = 0
        batches: Any = None
        try:
            batches = super().__iter__()
            for batch in batches:
                yield batch
                count += 1
            return
        except (RuntimeError, OSError, EOFError) as e:
            if not self.num_workers:
                raise
            # a broken connection may be seen before PyTorch's signal handler tells of the same worker, at any line
            told: Exception = e
            try:
                time.sleep(AFTER_A_DEATH)
                if batches is not None:
                    batches._shutdown_workers()  # sees them die, however long that takes, and listens no longer
            except RuntimeError as died:
                told = died
            cause = plain_cause(told) or f"monai_ext: {told}."
            logger.warning("%s The cases that are left are read without workers.", cause)
        for indices in list(self.batch_sampler)[count:]:  # type: ignore[arg-type]
            yield self.collate_fn([self.dataset[index] for index in indices])

    def fail(self, name: str, reason: str) -> None:
        """Note that a case failed, and say so."""
        logger.error("monai_ext: %s: left out: %s", name, reason.removeprefix("monai_ext: "))
        self.failed.append((name, reason))

    def fail_current(self, error: BaseException) -> None:
        """Note that the cases handed out last failed."""
        for name in self.current:
            self.fail(name, _reason(name, error))

    def attach(self, engine: Engine) -> None:
        """Tell an engine how many iterations to expect, and to stop sooner where cases are left out."""
        engine.add_event_handler(Events.STARTED, self._expect)
        engine.add_event_handler(Events.DATALOADER_STOP_ITERATION, self._stop)

    def raise_failed(self) -> None:
        """Tell of the cases that were left out, if there were any; of all processes, when each has done its share.

        Raises:
            UnreadableCasesError: with how many of how many, and why.
        """
        failed = gathered(self.failed)
        raise_failed([case for part in failed for case in part], len(self.dataset))  # type: ignore[arg-type]

    def _expect(self, engine: Engine) -> None:
        engine.state.epoch_length = -(-len(self.share) // (self.batch_size or 1))

    def _stop(self, engine: Engine) -> None:
        engine.terminate_epoch()


def gathered(mine: T) -> list[T]:
    """What every process of a distributed run has, in their order; each of them must ask."""
    if not dist.is_initialized():
        return [mine]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, mine)
    return found


def raise_failed(failed: Sequence[tuple[str, str]], total: int) -> None:
    """Tell in one line of the cases that failed, if there are any.

    Args:
        failed: name and reason of each.
        total: how many cases there were.

    Raises:
        UnreadableCasesError: with how many of how many, and why.
    """
    if not failed:
        return
    reasons = [reason.removeprefix("monai_ext: ") for _, reason in failed]
    if total == 1:
        raise UnreadableCasesError(f"monai_ext: {reasons[0]}")
    told = "; ".join(reason.rstrip(".") for reason in reasons[:LISTED])
    more = f"; and {len(failed) - LISTED} more" if len(failed) > LISTED else ""
    raise UnreadableCasesError(f"monai_ext: {len(failed)} of {total} cases failed: {told}{more}.")


_Batch = tuple[Any, tuple[str, ...], list[tuple[str, str]]]  # collated cases, their names, name and reason of others


@dataclass(frozen=True)
class _Collate:
    """Picklable, without the loader, for workers that are not forked."""

    collate: Callable[[list[Any]], Any]

    def __call__(self, items: list[tuple[str, Any, str | None]]) -> _Batch:
        read = [item for item in items if item[2] is None]
        batch = self._batch([item for _, item, _ in read]) if read else None
        failed = [(name, reason) for name, _, reason in items if reason is not None]
        return batch, tuple(name for name, _, _ in read), failed

    def _batch(self, items: list[Any]) -> Any:
        """One case as a batch of itself, without a copy of its volume."""
        item = items[0]
        volumes = {key: value for key, value in item.items() if isinstance(value, MetaTensor)} if _alone(items) else {}
        if not volumes or self.collate is not list_data_collate:
            return self.collate(items)
        # what MONAI makes of the metadata, with a voxel in the volume's place
        batch = self.collate([{**item, **{key: _of_one_voxel(value) for key, value in volumes.items()}}])
        for key, value in volumes.items():
            batch[key] = MetaTensor(value.as_tensor()[None]).copy_meta_from(batch[key])
        return batch


def _alone(items: list[Any]) -> bool:
    """Whether this is one case, and no worker's, which copies it into shared memory."""
    return len(items) == 1 and isinstance(items[0], dict) and get_worker_info() is None


def _of_one_voxel(volume: MetaTensor) -> MetaTensor:
    return MetaTensor(volume.as_tensor().new_zeros([1] * volume.ndim)).copy_meta_from(volume)


class _Guarded(Dataset):
    """A dataset whose failures are items: name, item, and why there is none."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[str, Any, str | None]:
        cases = getattr(self.dataset, "data", None)
        case = cases[index] if cases is not None else {}
        # of several channels the first one's file
        name = str(ensure_tuple(case.get("image", f"case {index}") if isinstance(case, dict) else case)[0])
        try:
            return name, self.dataset[index], None
        except Exception as e:  # a damaged file may raise anything
            return name, None, _reason(name, e)


def _reason(name: str, error: BaseException) -> str:
    if told := plain_cause(error):
        return told
    error = innermost(error)
    return f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
