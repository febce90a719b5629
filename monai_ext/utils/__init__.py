# SPDX-License-Identifier: Apache-2.0
"""What every part of the library may use."""

from .errors import config_errors, end_with_plain_error, plain_cause
from .files import load_tensors, replacing
from .json_files import read_json, write_json
from .switches import flag

__all__ = [
    "config_errors",
    "end_with_plain_error",
    "flag",
    "load_tensors",
    "plain_cause",
    "read_json",
    "replacing",
    "write_json",
]
