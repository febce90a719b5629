# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

__all__ = ["convert"]


def convert(network: str, input: str, output: str, **arguments: Any) -> None:
    """Turn a checkpoint of the official repository into weights for a network here; nothing is dropped in silence.

    Args:
        network: the class, such as QTSeg.
        input: the official checkpoint.
        output: the file to write, such as models/model.pt of a bundle.
        arguments: the network's own, such as --in_channels 1 --out_channels 9.
    """
    from monai_ext.networks.weights import convert_reference

    print(f"{output}: {convert_reference(network, str(input), str(output), **arguments)} tensors for {network}")
