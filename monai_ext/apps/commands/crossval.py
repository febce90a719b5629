# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

__all__ = ["crossval"]


def crossval(
    bundle: str,
    folds: int | None = None,
    jobs: int | None = None,
    slurm: str | None = None,
    overwrite: bool = False,
    **knobs: Any,
) -> None:
    """Train the folds of a bundle, predict each case by the model that has not seen it, and use all folds as one model.

    In the bundle it leaves models/fold0.pt, ..., models/crossval.json with what was decided on, and one report over all
    cases in eval/crossval. segment, MONAI Label, MONAI Deploy and inference.json use these from then on. Stopped, for
    whatever reason, and started again, it does what is missing.

    Args:
        bundle: a bundle's name, or its folder.
        folds: their number; by default 5, or those that the list of cases has.
        jobs: how many folds at once; by default one on this machine, all on a cluster.
        slurm: train on a Slurm cluster with these options, such as partition=gpu,gpus_per_node=1,time=600 (minutes).
        overwrite: train folds anew that were trained with other data or knobs.
        knobs: of the bundle's train.json, such as --epochs 100.
    """
    from monai_ext.apps.commands.report import report
    from monai_ext.apps.crossval import crossval as run

    left = run(bundle, folds, jobs, slurm, overwrite, **knobs)
    report(str(left.report))
    kept = ", ".join(left.largest_component) or "no class"
    print(f"\nOnly the largest component is kept of: {kept} (see {left.models / 'crossval.json'}).")
