# SPDX-License-Identifier: Apache-2.0
"""What every part of the library may use."""

from .files import load_tensors, replacing
from .json_files import read_json, write_json

__all__ = ["load_tensors", "read_json", "replacing", "write_json"]
