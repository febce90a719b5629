# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from tabulate import tabulate

__all__ = ["compare"]


def compare(
    bundle: str,
    networks: str | None = None,
    network_def: str | None = None,
    folds: str | None = None,
    seeds: str = "0",
    steps: int | None = None,
    cpu_seconds: float | None = None,
    seconds: float | None = None,
    output: str | None = None,
    jobs: int | None = None,
    slurm: str | None = None,
    overwrite: bool = False,
    **knobs: Any,
) -> None:
    """Compare networks fairly: one recipe, the same cases, folds, seeds and budget, and one table.

    Leaves comparison.html with plots and comparison.json, and of each network its weights, labels and report. Stopped,
    for whatever reason, and started again, it does what is missing; networks, folds and seeds may be added.

    Args:
        bundle: a bundle's name, or its folder; its train.json is the recipe of all.
        networks: names with commas between; a wrong one lists all.
        network_def: a network of your own, as train.json has it, in JSON; several in a list.
        folds: numbers of folds, such as 0,1, each of which is tested once; by default the bundle's own split.
        seeds: of the trainings, such as 0,1.
        steps: the budget of each training, in steps.
        cpu_seconds: or in seconds of computing time.
        seconds: or in seconds by the clock.
        output: folder; by default eval/compare of the bundle.
        jobs: how many trainings at once; by default one on this machine, all on a cluster.
        slurm: train on a Slurm cluster with these options, such as partition=gpu,gpus_per_node=1,time=600 (minutes).
        overwrite: train anew what is of other data, knobs or budget.
        knobs: of the bundle's train.json, the same for all networks, such as --num_folds 3.
    """
    from monai_ext.apps.compare import compare as run
    from monai_ext.apps.compare.results import table_of

    left = run(
        bundle,
        networks,
        network_def,
        folds,
        seeds,
        steps,
        cpu_seconds,
        seconds,
        output,
        jobs,
        slurm,
        overwrite,
        **knobs,
    )
    head, cells = table_of(left.rows, left.unit)
    print("", tabulate(cells, head, disable_numparse=True), "", *left.said, "", sep="\n")
    print(left.folder / "comparison.html")
