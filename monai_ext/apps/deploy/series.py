# SPDX-License-Identifier: Apache-2.0
"""Names that the one DICOM package has now, where they were once."""

from monai_ext.data.files.dicom import MODALITIES, Series, Volume, find_series, read_volume, select_series

__all__ = ["MODALITIES", "Series", "Volume", "find_series", "read_volume", "select_series"]
