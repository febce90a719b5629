# SPDX-License-Identifier: Apache-2.0
"""What every result of a run says of itself: which program it is from, and that it is research."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydicom import Dataset

import monai_ext
from monai_ext.apps.anatomy import Structure, structure_of
from monai_ext.data.files.dicom.headers import text

__all__ = ["NOTE", "Origin", "series_number"]

NOTE = "Research only; not for diagnosis or treatment."


@dataclass(frozen=True)
class Origin:
    """A bundle as the results of a run name it.

    Attributes:
        title: its name.
        version: of the bundle.
        classes: name -> value in the label, in the order of the values.
        note: what is to be known of each result.
        run: tells this result from all others, see :meth:`of_result`.
    """

    title: str
    version: str
    classes: Mapping[str, int]
    note: str = NOTE
    run: str = ""

    @classmethod
    def of(cls, title: str, metadata: Mapping[str, Any], note: str = NOTE) -> Origin:
        """From a bundle's ``metadata.json``."""
        channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
        named = sorted((int(value), name) for value, name in channels.items())
        return cls(title, str(metadata["version"]), {name: value for value, name in named if value > 0}, note)

    def of_result(self, label: np.ndarray, sources: Sequence[Dataset]) -> Origin:
        """The same, for the results of one label of one series: made again, they have the same UIDs."""
        about = [self.title, self.version, self.note, monai_ext.__version__, *(str(s.SOPInstanceUID) for s in sources)]
        digest = hashlib.sha256(json.dumps([about, label.shape]).encode())
        digest.update(np.asarray(label, dtype=np.uint8).tobytes())
        return replace(self, run=digest.hexdigest())

    def uid(self, kind: str) -> str:
        """A UID of a series, an object or a segment of this result; a random one where it is of no result."""
        return f"2.25.{(uuid.uuid5(uuid.NAMESPACE_OID, f'{self.run} {kind}') if self.run else uuid.uuid4()).int}"

    def keywords(self, kind: str, words: str, source: Dataset, number: int) -> dict[str, Any]:
        """What highdicom's objects are told of series, object and program alike.

        Args:
            kind: of the result, for its UIDs.
            words: what it is, in its series' description.
            source: an image of the series.
            number: of the kind, see :func:`series_number`.
        """
        return {
            "series_instance_uid": self.uid(f"{kind} series"),
            "series_number": series_number(source, number),
            "sop_instance_uid": self.uid(kind),
            "instance_number": 1,
            "manufacturer": "monai_ext",
            "manufacturer_model_name": self.title,
            "software_versions": monai_ext.__version__,
            "device_serial_number": "0",
            "series_description": self.series_description(words),
        }

    @property
    def structures(self) -> dict[str, Structure]:
        """Code and colour of each class.

        Raises:
            ValueError: if a class has no coded term.
        """
        return {name: structure_of(name) for name in self.classes}

    def series_description(self, kind: str) -> str:
        """One that fits DICOM's 64 characters."""
        return f"{kind} by {self.title}. {self.note}"[:64]


def series_number(source: Dataset, kind: int) -> int:
    """One for each kind of result, a thousand above the source's, where DICOM's whole numbers reach that far."""
    number = text(source, "SeriesNumber")
    above = int(number) + 1000 if number.isdecimal() else 1000
    return kind + (above if above < 2**31 - 1000 else 1000)
