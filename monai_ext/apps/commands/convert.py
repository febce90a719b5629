# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from typing import Any

__all__ = ["convert", "convert_reference"]


def convert(network: str, input: str, output: str, **arguments: Any) -> None:
    """Turn a checkpoint of the official repository into weights for a network here; nothing is dropped in silence.

    Args:
        network: the class, such as QTSeg.
        input: the official checkpoint.
        output: the file to write, such as models/model.pt of a bundle.
        arguments: the network's own, such as --in_channels 1 --out_channels 9.
    """
    print(f"{output}: {convert_reference(network, input, output, **arguments)} tensors for {network}")


def convert_reference(network: str, input: str | os.PathLike, output: str | os.PathLike, **arguments: Any) -> int:
    """Turn an official checkpoint file into a weights file of ours, ``models/model.pt`` of a bundle for instance.

    Args:
        network: name of a class of ``monai_ext.networks.nets``.
        input: the official checkpoint.
        output: where to write; replaced in one step.
        arguments: constructor arguments that fit the checkpoint (channels, classes).

    Returns:
        The number of tensors written.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: for an unknown network, or a checkpoint that does not fit it; all that does not is listed.
    """
    import torch

    from monai_ext.networks import load_reference, nets
    from monai_ext.networks.weights import read_weights
    from monai_ext.utils import replacing

    known = [name for name in nets.__all__ if hasattr(getattr(nets, name), "key_rules")]
    if network not in known:
        raise ValueError(f"monai_ext: network {network!r} is unknown; checkpoints are known for {', '.join(known)}.")
    state_dict = read_weights(input)
    net = getattr(nets, network)(**arguments)
    load_reference(net, state_dict, str(input))
    with replacing(output) as temporary:
        torch.save(net.state_dict(), temporary)
    return len(net.state_dict())
