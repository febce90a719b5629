# SPDX-License-Identifier: Apache-2.0
"""Networks as files that need nothing of this library to run: ``torch.export``, ONNX, OpenVINO and TorchScript."""

from .export_writer import EXPORT_FORMATS, Export, export_network, trace_network
from .exported_network import ExportedNetwork, export_extra, is_export, load_export

__all__ = [
    "EXPORT_FORMATS",
    "Export",
    "ExportedNetwork",
    "export_extra",
    "export_network",
    "is_export",
    "load_export",
    "trace_network",
]
