# SPDX-License-Identifier: Apache-2.0
"""What the classes of bundles are called in DICOM (SNOMED CT), and in which colour viewers show them."""

from __future__ import annotations

import zlib
from typing import NamedTuple

__all__ = ["STRUCTURES", "Structure", "colour_of"]


class Structure(NamedTuple):
    """A structure by its SNOMED CT code, as DICOM PS3.16 uses it, and its colour in 0 to 255."""

    code: str
    meaning: str
    colour: tuple[int, int, int]
    side: str | None = None
    abnormal: bool = False


#: class name in a bundle's metadata -> structure; neighbours differ in colour, unlike in an anatomical atlas
STRUCTURES: dict[str, Structure] = {
    "aorta": Structure("15825003", "Aorta", (224, 97, 76)),
    "gallbladder": Structure("28231008", "Gallbladder", (139, 150, 98)),
    "left kidney": Structure("64033007", "Kidney", (66, 135, 201), side="Left"),
    "right kidney": Structure("64033007", "Kidney", (122, 193, 214), side="Right"),
    "liver": Structure("10200004", "Liver", (221, 130, 101)),
    "pancreas": Structure("15776009", "Pancreas", (250, 208, 96)),
    "spleen": Structure("78961009", "Spleen", (157, 108, 162)),
    "stomach": Structure("69695003", "Stomach", (118, 190, 128)),
    "right ventricle": Structure("53085002", "Right ventricle", (88, 140, 196)),
    "myocardium": Structure("49848007", "Left ventricle myocardium", (192, 104, 88)),
    "left ventricle": Structure("87878005", "Left ventricle", (216, 60, 60)),
    "lesion": Structure("52988006", "Lesion", (144, 238, 144), abnormal=True),
    "nodule": Structure("27925004", "Nodule", (144, 238, 144), abnormal=True),
    "polyp": Structure("41329004", "Polyp", (144, 238, 144), abnormal=True),
}


def colour_of(name: str) -> tuple[int, int, int]:
    """The colour of a class; one of its own, the same always, for a name that is not in ``STRUCTURES``."""
    known = STRUCTURES.get(name.lower())
    if known is not None:
        return known.colour
    red, green, blue = zlib.crc32(name.lower().encode()).to_bytes(4, "big")[:3]
    return 64 + red * 3 // 4, 64 + green * 3 // 4, 64 + blue * 3 // 4
