# SPDX-License-Identifier: Apache-2.0
"""What every part of the library may use."""

from .errors import config_errors, end_with_plain_error, ends_all, plain_cause
from .files import clear_dead, load_tensors, locked, replacing, scratch_folder
from .json_files import read_json, write_json
from .switches import flag

__all__ = [
    "clear_dead",
    "config_errors",
    "end_with_plain_error",
    "ends_all",
    "flag",
    "load_tensors",
    "locked",
    "plain_cause",
    "read_json",
    "replacing",
    "scratch_folder",
    "write_json",
]
