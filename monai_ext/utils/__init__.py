# SPDX-License-Identifier: Apache-2.0
"""What every part of the library may use."""

from .files import load_tensors, replacing

__all__ = ["load_tensors", "replacing"]
