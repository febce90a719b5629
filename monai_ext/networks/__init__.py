# SPDX-License-Identifier: Apache-2.0
"""Published networks, their blocks, and their weights."""

from .paths import use_plain_path
from .weights import load_reference, load_weights

__all__ = ["load_reference", "load_weights", "use_plain_path"]
