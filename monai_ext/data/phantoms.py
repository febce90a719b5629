# SPDX-License-Identifier: Apache-2.0
"""The old place of :mod:`monai_ext.phantoms`, kept for those who import from it."""

from monai_ext.phantoms import *  # noqa: F403
from monai_ext.phantoms import __all__ as __all__
