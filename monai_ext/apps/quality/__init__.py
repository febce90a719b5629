# SPDX-License-Identifier: Apache-2.0
"""Whether a label can be trusted, and whether an image is like those that its model was trained on."""

from .assessing import Assessor, Judge, Judged, Quality, is_calibrated, judged
from .calibrating import calibrate, calibrate_weights
from .quality_file import quality_file

__all__ = [
    "Assessor",
    "Judge",
    "Judged",
    "Quality",
    "calibrate",
    "calibrate_weights",
    "is_calibrated",
    "judged",
    "quality_file",
]
