# SPDX-License-Identifier: Apache-2.0
"""What every part of the library may use."""

from .errors import end_with_plain_error, plain_cause
from .files import load_tensors, replacing
from .json_files import read_json, write_json
from .labels import whole_numbers
from .modalities import MODALITIES, VOLUME_MODALITIES, Modality, modality_of
from .options import number_option, path_option, text_options, whole_option
from .switches import flag

__all__ = [
    "MODALITIES",
    "VOLUME_MODALITIES",
    "Modality",
    "end_with_plain_error",
    "flag",
    "load_tensors",
    "modality_of",
    "number_option",
    "path_option",
    "plain_cause",
    "read_json",
    "replacing",
    "text_options",
    "whole_numbers",
    "whole_option",
    "write_json",
]
