# SPDX-License-Identifier: Apache-2.0
"""The one table of modalities: DICOM's codes, what lists of cases call them, and the DICOM objects of their volumes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

__all__ = ["MODALITIES", "VOLUME_MODALITIES", "Modality", "modality_of"]


@dataclass(frozen=True)
class Modality:
    """A kind of image.

    Attributes:
        title: in words.
        words: what lists call it, in small letters.
        sop_classes: of its images in DICOM, one a file or all in one; only where there are rules for its volumes.
        scale: what its values are in a bundle's metadata.
    """

    title: str
    words: tuple[str, ...] = ()
    sop_classes: tuple[str, ...] = ()
    scale: str = "magnitude"


#: DICOM's code -> what it is
MODALITIES: dict[str, Modality] = {
    "CT": Modality(
        "computed tomography",
        ("ct", "cta", "cect", "ncct", "cbct", "ldct", "computed tomography"),
        ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"),
        "hounsfield",
    ),
    "MR": Modality(
        "magnetic resonance",
        (
            *("mr", "mri", "mra", "cmr", "lge", "cine", "cine mri", "bssfp", "magnetic resonance"),
            *("t1", "t1w", "t1gd", "t1ce", "t1c", "t2", "t2w", "t2f", "flair", "adc", "dwi", "pd", "pdw", "swi"),
        ),
        ("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4"),
    ),
    "PT": Modality("positron emission tomography", ("pt", "pet", "suv")),
    "US": Modality("ultrasound", ("us", "ultrasound", "echo")),
    "ES": Modality("endoscopy", ("es", "endoscopy", "colonoscopy")),
    "DMS": Modality("dermoscopy", ("dms", "dermoscopy")),
    "SM": Modality("slide microscopy", ("sm", "histopathology", "histology", "pathology", "h&e")),
    "GM": Modality("microscopy", ("gm", "microscopy", "fluorescence")),
    "OP": Modality("ophthalmic photography", ("op", "fundus")),
    "OPT": Modality("optical coherence tomography", ("opt", "oct")),
    "DX": Modality("radiography", ("dx", "cr", "xr", "xray", "x-ray", "radiography")),
    "MG": Modality("mammography", ("mg", "mammography")),
}
#: those of volumes that bundles here read, check and find in DICOM
VOLUME_MODALITIES = tuple(code for code, modality in MODALITIES.items() if modality.sop_classes)


def modality_of(text: Any) -> str | None:
    """The code of what a list or a person calls a modality; None where the word is none of the table's.

    Examples::

        >>> modality_of("MRI"), modality_of("noNorm")
        ('MR', None)
    """
    word = re.sub(r"[\s_]+", " ", str(text)).strip().lower()
    return next((code for code, modality in MODALITIES.items() if word in modality.words), None)
