# SPDX-License-Identifier: Apache-2.0
"""What every part of the library may use."""

from .errors import end_with_plain_error, plain_cause
from .files import load_tensors, replacing
from .json_files import read_json, write_json
from .knobs import number, path_text, texts, whole_number
from .modalities import MODALITIES, VOLUME_MODALITIES, Modality, modality_of
from .switches import flag

__all__ = [
    "MODALITIES",
    "VOLUME_MODALITIES",
    "Modality",
    "end_with_plain_error",
    "flag",
    "load_tensors",
    "modality_of",
    "number",
    "path_text",
    "plain_cause",
    "read_json",
    "replacing",
    "texts",
    "whole_number",
    "write_json",
]
