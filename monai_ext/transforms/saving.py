# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from monai.transforms import SaveImaged

__all__ = ["SaveImageByCased"]


class SaveImageByCased(SaveImaged):
    """MONAI's ``SaveImaged``, with files named by their case: ``<output_dir>/<case_id>_<output_postfix><output_ext>``.

    ``SaveImaged`` names a file after its image alone, so that ``patient1/ct`` and ``patient2/ct`` overwrite each other;
    of a folder called ``1.2.840.7`` it takes the ``.7`` for a suffix. Cases without ``case_id`` are named as it does.

    Examples::

        >>> save = SaveImageByCased("pred", output_dir="labels", output_postfix="seg", writer=AtomicNibabelWriter)
        >>> save({"pred": label, "case_id": "patient1_ct"})  # labels/patient1_ct_seg.nii.gz
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if "case_id" not in data:
            return super().__call__(data)
        d = dict(data)
        layout: Any = self.saver.folder_layout
        for key in self.key_iterator(d):
            name = f"{d['case_id']}_{layout.postfix}" if layout.postfix else str(d["case_id"])
            self.saver(d[key], filename=Path(layout.output_dir, name))
        return d
