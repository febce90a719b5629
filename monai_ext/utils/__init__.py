# SPDX-License-Identifier: Apache-2.0
"""What every part of the library may use."""

from .errors import config_errors, end_with_plain_error, ends_all, innermost, plain_cause
from .files import clear_dead, load_tensors, locked, replacing, scratch_folder
from .json_files import read_json, write_json
from .labels import whole_numbers
from .modalities import MODALITIES, VOLUME_MODALITIES, Modality, modality_of
from .options import number_option, path_option, text_options, whole_option
from .switches import flag

__all__ = [
    "MODALITIES",
    "VOLUME_MODALITIES",
    "Modality",
    "clear_dead",
    "config_errors",
    "end_with_plain_error",
    "ends_all",
    "flag",
    "innermost",
    "load_tensors",
    "locked",
    "modality_of",
    "number_option",
    "path_option",
    "plain_cause",
    "read_json",
    "replacing",
    "scratch_folder",
    "text_options",
    "whole_numbers",
    "whole_option",
    "write_json",
]
