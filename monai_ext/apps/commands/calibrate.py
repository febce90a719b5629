# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

__all__ = ["calibrate"]


def calibrate(bundle: str, checkpoint: str | None = None, **knobs: Any) -> None:
    """Measure how far labels of weights can be trusted, so that segment --quality true can tell without a truth.

    Looks at the training cases, and compares labels of the validation cases with their truth. Leaves
    model.quality.npz beside model.pt, which segment, MONAI Label and MONAI Deploy read. crossval does it by itself.

    Args:
        bundle: a bundle's name, or its folder.
        checkpoint: weights instead of the bundle's models/model.pt.
        knobs: of the bundle's train.json, such as --dataset_dir: the data that the weights were trained with.
    """
    from monai_ext.apps.quality import calibrate as run

    print(run(bundle, checkpoint, **knobs))
