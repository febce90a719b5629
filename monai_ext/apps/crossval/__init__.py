# SPDX-License-Identifier: Apache-2.0
"""Cross-validation of a bundle: its folds trained, every case predicted by the one that has not seen it, and scored."""

from .conducting import Crossval, crossval
from .decision import Decision, decide

__all__ = ["Crossval", "Decision", "crossval", "decide"]
