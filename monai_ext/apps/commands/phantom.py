# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

__all__ = ["phantom"]


def phantom(name: str, folder: str, cases: int | None = None) -> None:
    """Write a dataset's phantom cohort: synthetic data in the publisher's layout, without clinical meaning.

    Args:
        name: the dataset, such as synapse; or brain_mr, four channels of mixed spacing with regions and an ignore label
            in nnU-Net's layout, or fine_vessels, big pictures with thin vessels, likewise.
        folder: where to write it.
        cases: how many cases; by default as many as every bundle's built-in cohort has.
    """
    from monai_ext.data import write_phantom

    write_phantom(name, folder, cases)
    print(f"{folder}: {name} phantom (phantom data, no clinical meaning)")
