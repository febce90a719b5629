# SPDX-License-Identifier: Apache-2.0
"""The only place that knows DICOM: one policy for every command that reads a series.

A series comes in single files or as enhanced multi-frame objects, in any transfer syntax for which pydicom finds a
decoder. Each slice is rescaled by its own slope and intercept to float32. Slices of a tilted gantry make a sheared
volume, as its affine says. What is no regular volume is refused, with the reason.
"""

from .finding import MODALITIES, Series, find_series, holds_series, image_folders, select_series
from .frames import Frame
from .volume import Volume, one_series, read_series, read_volume, series_geometry

__all__ = [
    "MODALITIES",
    "Frame",
    "Series",
    "Volume",
    "find_series",
    "holds_series",
    "image_folders",
    "one_series",
    "read_series",
    "read_volume",
    "select_series",
    "series_geometry",
]
