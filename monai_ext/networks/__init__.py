# SPDX-License-Identifier: Apache-2.0
"""Published networks, their blocks, and their weights."""

from .backends import ready_network
from .exports import ExportedNetwork, export_extra, export_network, is_export, load_export
from .paths import use_plain_path
from .weights import load_reference, load_weights

__all__ = [
    "ExportedNetwork",
    "export_extra",
    "export_network",
    "is_export",
    "load_export",
    "load_reference",
    "load_weights",
    "ready_network",
    "use_plain_path",
]
