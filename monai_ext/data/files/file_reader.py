# SPDX-License-Identifier: Apache-2.0
"""What the readers of volumes and of pictures share."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from typing import Any

from monai.data import ImageReader
from monai.utils import ensure_tuple

__all__ = ["FileReader"]

# LoadImage makes all of MONAI's readers, whichever it is asked for; one warns each time that a library is missing
logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")


class FileReader(ImageReader):
    """A reader that is asked for by name, and works in ``get_data``."""

    def verify_suffix(self, filename: Sequence[str | os.PathLike] | str | os.PathLike) -> bool:
        return True

    def read(self, data: Sequence[str | os.PathLike] | str | os.PathLike, **kwargs: Any) -> Any:
        # the work is done in get_data: LoadImage turns an error here into a search through other readers
        return ensure_tuple(data)
