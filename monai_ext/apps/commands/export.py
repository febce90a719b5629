# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

__all__ = ["export", "export_bundle"]


def export(bundle: str, output: str, checkpoint: str | None = None, format: str = "pt2") -> None:
    """Write a bundle's network with its weights as a file that runs without this library.

    The file holds the bundle's metadata and what preprocessing depends on. It is compared with the network before it
    appears. segment and deploy take it as --checkpoint.

    Args:
        bundle: a bundle's name, or its folder.
        output: the file to write, replaced in one step: .pt2, .onnx, .xml (OpenVINO; its weights go beside it, into
            .bin) or .ts.
        checkpoint: weights instead of the bundle's models/model.pt.
        format: pt2, onnx, openvino or torchscript.
    """
    print(export_bundle(bundle, output, checkpoint, format))


def export_bundle(
    bundle: str | os.PathLike,
    output: str | os.PathLike,
    checkpoint: str | os.PathLike | None = None,
    format: str = "pt2",
) -> str:
    """Write a bundle's network with its weights as a file, at the size that the weights were trained with.

    Args:
        bundle: a bundle's name or folder.
        output: the file to write.
        checkpoint: weights instead of the bundle's own.
        format: one of ``monai_ext.networks.exports.EXPORT_FORMATS``.

    Returns:
        what was written and how far it is from the network, in a line.

    Raises:
        FileNotFoundError: if there is no such bundle, or no weights.
        ValueError: for another format or suffix, a package that is missing, or a network that the format cannot hold.
    """
    from monai_ext.bundle import Bundle, trained_with
    from monai_ext.networks.exports import export_network

    found = Bundle.find(bundle)
    if found.exported:
        raise ValueError(f"monai_ext: {found.exported}: is an exported model already. Give the bundle's folder.")
    weights = found.require_weights() if checkpoint is None else checkpoint
    network = found.network(weights)
    config = found.parser("inference", ckpt_path=str(weights))
    axes = int(config.get("network_def#spatial_dims", 2))
    sides = config.get_parsed_content("image_size")
    size = [sides] * axes if isinstance(sides, int) else sides
    if size is None:  # images are taken as they are; the metadata name a size that will do
        size = found.metadata["network_data_format"]["inputs"]["image"]["spatial_shape"]
    extra = {
        "metadata": {**found.metadata, "trained_with": trained_with(weights)},
        "inference": found.config("inference"),
    }
    made = export_network(network, size, found.in_channels, format, output, extra)
    return (
        f"{made.path}: sizes: {made.sizes}; any batch. Compared with the network, logits differ by at most "
        f"{made.difference:.1e} of the largest, and {made.labels:.4%} of the labels are equal."
    )
