# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from typing import Any

__all__ = ["datasets"]


def datasets(action: str = "list", name: str | None = None, folder: str | None = None, **options: Any) -> None:
    """List the datasets that are known, or check one: ``datasets check NAME DIR``.

    A check reads every image and label and prints cases found, split, label counts and every problem: files that are
    damaged, do not fit each other or hold unknown labels, images in two parts of the split, empty labels, values that
    are not the modality's. Its exit status is 1 if training would fail or be wrong.

    Args:
        action: list or check.
        name: the dataset, such as synapse.
        folder: where it lies, as its publisher distributes it.
        options: for a check: --datalist FILE (a list of your own, with --num_classes and --modality), --fold K,
            --split paper, --exclude 0021 (several with commas between).
    """
    from tabulate import tabulate

    if action == "list":
        from monai_ext.data import DATASETS

        rows = [[key, info.title, ", ".join(info.class_names)] for key, info in DATASETS.items()]
        print(tabulate(rows, ["dataset", "title", "classes"], maxcolwidths=[None, 50, 50]))
        print("\nCheck yours: python -m monai_ext datasets check NAME DIR")
        return
    known = ("datalist", "num_classes", "modality", "split", "exclude", "fold", "num_folds", "split_file")
    unknown = [key for key in options if key not in known]
    if action != "check" or name is None or (folder is None and "datalist" not in options) or unknown:
        given = f" (there is no option --{unknown[0]}, but {', '.join(f'--{key}' for key in known)})" if unknown else ""
        raise ValueError(f"monai_ext: expected 'datasets', or 'datasets check NAME DIR'{given}.")
    from monai_ext.apps.data_check import check_dataset

    found = check_dataset(name, folder, **options)
    title = " (phantom data, no clinical meaning)" if found.phantom else ""
    print(", ".join(f"{count} {part}" for part, count in found.parts.items()) + f" cases{title}\n")
    unit = "% of the picture" if found.pictures else "mL"
    counts = zip(found.class_names, found.with_class, found.volume)
    print(tabulate(counts, ["class", "cases", f"median {unit}"], floatfmt=".1f", disable_numparse=[0]) + "\n")
    counts = zip(found.class_names, *found.with_class_in.values())
    print(tabulate(counts, ["cases with", *found.with_class_in], disable_numparse=[0]))
    for kind, lines in (("problem", found.errors), ("note", found.notes)):
        for line in lines:
            print(f"\n{kind}: {line}")
    if found.errors:
        count = len(found.errors)
        sys.exit(f"monai_ext: {count} problem{'s' * (count > 1)} to put right before training.")
    print("\nNo problem found.")
