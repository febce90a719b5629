# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

__all__ = ["reproduce"]


def reproduce(record: str, output_dir: str | None = None, **knobs: Any) -> None:
    """Start a recorded run again, on the same cases, into a folder of its own.

    A record holds the config of the run, and a config is code: start only what you or people you trust recorded.

    Args:
        record: run_training.json, run_evaluation.json or run_inference.json of a run's output_dir.
        output_dir: where to write; by default the folder "reproduced" beside the record.
        knobs: of the bundle's config, such as --dataset_dir DIR where the data lies elsewhere now.
    """
    from monai_ext.apps.reproduce import reproduce as run

    print(run(record, output_dir, **knobs))
