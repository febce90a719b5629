# SPDX-License-Identifier: Apache-2.0
"""From a bundle and an image to a figure of what the network looked at."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from monai.utils import ensure_tuple

from monai_ext.bundle import Bundle, check_knobs
from monai_ext.data import find_images, is_phantom
from monai_ext.inferers.outputs import check_logits
from monai_ext.networks import load_weights
from monai_ext.networks.blocks import CrossStageAttentionResidual, DifferentialCrossAttention
from monai_ext.phantoms import PHANTOM_NOTE
from monai_ext.transforms import check_image_size, resize_slices, size_at_spacing
from monai_ext.transforms.score_labels import labels_of
from monai_ext.utils import replacing

from .maps import AttentionMaps, SourceWeights, attention_maps, source_weights

__all__ = ["explain"]

CELL = 1.6  # inches of one map


def explain(
    bundle: str | os.PathLike,
    input: str | os.PathLike,
    output: str | os.PathLike,
    checkpoint: str | os.PathLike | None = None,
    slice: int | None = None,
    at: Sequence[int] | None = None,
    **knobs: Any,
) -> Path:
    """Draw what a bundle's network looked at in one image, or one slice of a volume.

    XAttnRes networks: what each read took from each source. DCAU-Net: the two attention maps of one position, and their
    difference, in the last layer of each stage (``attention_maps`` gives all).

    Args:
        bundle: a bundle's name or folder.
        input: an image that the bundle segments; of several channels as ``segment`` takes them, the first is shown.
        output: the figure to write: .png, .svg or .pdf.
        checkpoint: weights instead of the bundle's own.
        slice: of a volume, counted from the feet in axial ones; by default the one with the largest prediction.
        at: row and column of the position, in pixels of the network's input; by default inside the largest prediction.
        knobs: values for the bundle's ``inference.json``.

    Returns:
        ``output``.

    Raises:
        FileNotFoundError: for a bundle, an image or weights that are not there.
        ValueError: for a network without such blocks, or one in 3D, or a slice or position outside the image.
    """
    found = Bundle.find(bundle)
    if Path(output).suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"monai_ext: {output}: expected a figure's name, ending in .png, .svg or .pdf.")
    given = {} if checkpoint is None else {"ckpt_path": str(checkpoint)}
    parser = found.parser("inference", **given, **knobs)
    check_knobs(parser)
    network = parser.get_parsed_content("network_def").to(parser.get_parsed_content("device")).eval()
    if parser.get("network_def#spatial_dims", 2) == 3:
        raise ValueError(f"monai_ext: {found.name}: its network is one in 3D; explain draws slices, of networks in 2D.")
    kinds = {type(module) for module in network.modules()}
    if not kinds & {CrossStageAttentionResidual, DifferentialCrossAttention}:
        raise ValueError(
            f"monai_ext: {found.name}: {type(network).__name__} has neither XAttnRes reads nor DCAU-Net's "
            "differential attention; explain draws these two."
        )
    load_weights(network, found.require_weights() if checkpoint is None else checkpoint)
    case = str(input)
    if found.channel_names:
        (case, *more) = [entry["image"] for entry in find_images(input, found.channel_names)]
        if more:
            raise ValueError(f"monai_ext: {input}: {1 + len(more)} images, expected one. Give one of its files.")
    volume = parser.get_parsed_content("preprocessing")({"image": case})["image"]
    image = volume.as_tensor()
    spacing = parser.get_parsed_content("spacing") if "spacing" in parser else None
    size = size_at_spacing(volume, spacing) if spacing else parser.get_parsed_content("image_size")
    mode = "antialiased" if spacing else "cubic"
    stack = image.movedim(-1, 0) if image.dim() == 4 else image[None]  # slices, or the one picture
    batches = [resize_slices(part, size, mode) if image.dim() == 4 else part for part in stack.split(8)]
    if spacing:  # a slice that is smaller than the network's window has zeros around it, as in inference
        window = check_image_size(parser.get_parsed_content("image_size"))
        batches = [_at_least(part, window) for part in batches]
    device = next(network.parameters()).device
    with torch.no_grad():
        order = parser.get_parsed_content("region_order") if "region_order" in parser else None
        logits = (check_logits(network(part.to(device)), part, "slices", order) for part in batches)
        labels = torch.cat([labels_of(part, regions=order)[:, 0].cpu() for part in logits])
    inputs = torch.cat(batches)
    index = int((labels > 0).flatten(1).sum(dim=1).argmax()) if slice is None else int(slice)
    if not 0 <= index < len(inputs):
        raise ValueError(f"monai_ext: {input}: slice {index}, expected 0 to {len(inputs) - 1}.")
    x, label = inputs[index : index + 1].to(device), labels[index]
    where = Path(ensure_tuple(case)[0]).name + (f", slice {index}" if image.dim() == 4 else "")
    title = f"{type(network).__name__}, {where}" + (f" ({PHANTOM_NOTE})" if is_phantom(ensure_tuple(case)[0]) else "")
    # a slice's first axis lies across, see slice_orientation; a picture's runs down
    turn = image.dim() == 4
    if CrossStageAttentionResidual in kinds:
        figure = _draw_reads(source_weights(network, x), x, label, turn, title)
    else:
        place = [int(v) for v in at] if at is not None else _inside(label)
        layers = _last_of_each_stage(attention_maps(network, x, place))
        figure = _draw_attention(layers, x, label, place, turn, title)
    with replacing(output) as temporary:
        figure.savefig(temporary, dpi=150, bbox_inches="tight")
    return Path(output)


def _at_least(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Slices in the middle of zeros, where they are smaller than ``size``."""
    gaps = [max(wanted - side, 0) for wanted, side in zip(size, x.shape[2:])]
    return torch.nn.functional.pad(x, [part for gap in gaps[::-1] for part in (gap // 2, gap - gap // 2)])


def _inside(label: torch.Tensor) -> list[int]:
    """A position of the prediction near its middle; the image's middle where nothing was predicted."""
    places = (label > 0).nonzero().float()
    if not len(places):
        return [side // 2 for side in label.shape]
    nearest = (places - places.mean(dim=0)).square().sum(dim=1).argmin()
    return [int(v) for v in places[nearest]]


def _upright(plane: torch.Tensor, turn: bool) -> np.ndarray:
    return (plane.T if turn else plane).numpy()


def _show_image(axes: Any, x: torch.Tensor, label: torch.Tensor, turn: bool) -> None:
    plane = (x[0, 0] if turn else x[0].mean(dim=0)).cpu()
    axes.imshow(_upright(plane, turn), cmap="gray")
    if (label > 0).any():
        axes.contour(_upright(label > 0, turn), levels=[0.5], colors="#ff9d1e", linewidths=0.8)
    axes.set_title("image, prediction", fontsize=7)


def _last_of_each_stage(layers: list[AttentionMaps]) -> list[AttentionMaps]:
    return list({layer.name.partition(".blocks.")[0]: layer for layer in layers}.values())


def _draw_reads(reads: list[SourceWeights], x: torch.Tensor, label: torch.Tensor, turn: bool, title: str) -> Figure:
    columns = 1 + max(len(read.sources) for read in reads)
    figure = Figure(figsize=(CELL * columns, CELL * len(reads)), layout="constrained")
    grid = figure.subplots(len(reads), columns, squeeze=False)
    _bare(grid)
    _show_image(grid[0][0], x, label, turn)
    for row, read in zip(grid, reads):
        for axes, source, weights in zip(row[1:], read.sources, read.weights):
            shown = axes.imshow(_upright(weights, turn), cmap="viridis", vmin=0, vmax=1)
            axes.set_title(f"{source}: {weights.mean():.2f}", fontsize=7)
            axes.axis("on")
        row[1].set_ylabel(f"{read.name}\n{'x'.join(map(str, read.weights.shape[1:]))}", fontsize=6)
    figure.colorbar(shown, ax=grid.ravel().tolist(), shrink=0.4, label="weight of the source; its mean above")
    figure.suptitle(title, fontsize=9, parse_math=False)
    return figure


def _draw_attention(
    layers: list[AttentionMaps], x: torch.Tensor, label: torch.Tensor, at: Sequence[int], turn: bool, title: str
) -> Figure:
    figure = Figure(figsize=(4.5 * CELL, 1.1 * CELL * len(layers)), layout="constrained")
    grid = figure.subplots(len(layers), 4, squeeze=False)
    _bare(grid)
    _show_image(grid[0][0], x, label, turn)
    across, down = (at[0], at[1]) if turn else (at[1], at[0])
    grid[0][0].plot(across, down, "+", color="#d55e00", markersize=9)
    for row, layer in zip(grid, layers):
        peak = max(float(layer.first.max()), float(layer.second.max()))
        for axes, values, text, low, colours in (
            (row[1], layer.first, "A1", 0.0, "viridis"),
            (row[2], layer.second, "A2", 0.0, "viridis"),
            (row[3], layer.difference, f"A1 {-layer.factor:+.2f} A2", -peak, "RdBu_r"),
        ):
            axes.imshow(_upright(values, turn), vmin=low, vmax=peak, cmap=colours)
            axes.set_title(f"{text}, {'x'.join(map(str, values.shape))} keys", fontsize=6)
            axes.axis("on")
        row[1].set_ylabel(layer.name, fontsize=5)
    figure.suptitle(f"{title}: what + attends to, mean over heads", fontsize=9, parse_math=False)
    return figure


def _bare(grid: Any) -> None:
    for axes in grid.ravel():
        axes.set_xticks([])
        axes.set_yticks([])
        axes.axis("off")
