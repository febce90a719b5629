# SPDX-License-Identifier: Apache-2.0
"""The processes of one run, as ``torchrun`` or a cluster starts them: they tell each by ``RANK`` and ``WORLD_SIZE``."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["join_processes", "process_device"]

LONGEST = timedelta(days=30)  # that one may work on its share while the others wait for it


def join_processes() -> tuple[int, int]:
    """Make one group of the processes of a run that was started with several, and return this one's number and theirs.

    Call it as often as you like: a group that is there stays. A process that was started alone is 0 of 1.

    Raises:
        ValueError: if the environment of a distributed run is not complete.

    Examples::

        >>> join_processes()
        (0, 1)
    """
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return 0, 1
    if missing := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise ValueError(
            f"monai_ext: WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {', '.join(missing)} is not set. Start several "
            "processes with torchrun, or unset WORLD_SIZE."
        )
    dist.init_process_group(timeout=LONGEST)
    return dist.get_rank(), dist.get_world_size()


def process_device() -> torch.device:
    """The first GPU, or of several processes on a machine each its own; the CPU where there is none.

    Examples::

        >>> process_device()
        device(type='cpu')
    """
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
