# SPDX-License-Identifier: Apache-2.0
"""What every part of the library may use."""

from .files import replacing

__all__ = ["replacing"]
