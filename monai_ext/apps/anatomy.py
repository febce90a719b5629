# SPDX-License-Identifier: Apache-2.0
"""What the classes of bundles are called in DICOM (SNOMED CT), and in which colour viewers show them."""

from __future__ import annotations

import zlib

from monai_ext.data.datasets import DATASETS, Structure

__all__ = ["STRUCTURES", "Structure", "colour_of", "structure_of"]

#: class name in a bundle's metadata -> structure, as the datasets say it
STRUCTURES: dict[str, Structure] = {
    name: structure for dataset in DATASETS.values() for name, structure in zip(dataset.class_names, dataset.structures)
}


def colour_of(name: str) -> tuple[int, int, int]:
    """The colour of a class; one of its own, the same always, for a name that is not in ``STRUCTURES``."""
    known = STRUCTURES.get(name.lower())
    if known is not None:
        return known.colour
    red, green, blue = zlib.crc32(name.lower().encode()).to_bytes(4, "big")[:3]
    return 64 + red * 3 // 4, 64 + green * 3 // 4, 64 + blue * 3 // 4


def structure_of(name: str) -> Structure:
    """Code and colour of a class, as DICOM objects need them.

    Raises:
        ValueError: for a class that no dataset of the collection has.
    """
    structure = STRUCTURES.get(name.lower())
    if structure is None:
        raise ValueError(
            f"monai_ext: class {name!r} has no coded term, so DICOM cannot name it. Known are {', '.join(STRUCTURES)}. "
            "Name it as one of them, give its code in the structures of a dataset (monai_ext.data.datasets), or let "
            "deploy write no DICOM (--results stl)."
        )
    return structure
