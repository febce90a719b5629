# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from typing import Any

from monai.data import NibabelWriter

from monai_ext.utils import replacing

__all__ = ["AtomicNibabelWriter"]


class AtomicNibabelWriter(NibabelWriter):
    """MONAI's NIfTI writer for ``SaveImaged(writer=...)``; an interrupted run leaves no half-written file."""

    def write(self, filename: str | os.PathLike, verbose: bool = False, **kwargs: Any) -> None:
        with replacing(filename) as temporary:
            super().write(temporary, verbose=verbose, **kwargs)
