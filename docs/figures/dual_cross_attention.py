# SPDX-License-Identifier: Apache-2.0
"""Draw Dual Cross-Attention: where it sits in a U-Net, what happens to one scale, and the two maps of scores.

python docs/figures/dual_cross_attention.py docs/images/dual_cross_attention.svg
"""

from __future__ import annotations

import itertools

from diagram import COLOURS, Diagram, draw_to

WIDTHS = (32, 64, 128, 256)


def u_net(d: Diagram) -> None:
    d.frame(0.15, 0.2, 4.45, 5.35, "in a U-Net")
    attention = d.box(2.3, 3.2, "Dual\nCross-\nAttention", "attention", width=0.95, height=3.2, weight="bold")
    encoders, decoders = [], []
    for i, width in enumerate(WIDTHS):
        y, size = 4.45 - 0.83 * i, 1.15 - 0.16 * i
        encoders.append(d.box(0.95, y, f"{width}, 1/{2**i}" if i else f"{width}, 1/1", "map", width=size))
        decoders.append(d.box(3.65, y, "decode", "convolution", width=size))
        d.arrow(encoders[-1].right, (attention.left[0], y))
        d.arrow((attention.right[0], y), decoders[-1].left)
    bottom = d.box(2.3, 0.75, "bottleneck, 1/16", "convolution", width=1.3)
    for upper, lower in itertools.pairwise(encoders):
        d.arrow(upper.bottom, lower.top)
    for upper, lower in itertools.pairwise(decoders):
        d.arrow(lower.top, upper.bottom)
    d.arrow(encoders[-1].bottom, (0.95, 0.75), bottom.left)
    d.arrow(bottom.right, (3.65, 0.75), decoders[-1].bottom)
    d.text(0.95, 4.93, "image", fontsize=7.5)
    d.text(3.65, 4.93, "logits", fontsize=7.5)


def one_scale(d: Diagram) -> None:
    d.frame(4.65, 2.75, 10.35, 5.35, "one scale i of S")
    top, low = 4.65, 3.35
    own = d.box(5.3, top, "map $x_i$\n$C_i \\times H_i \\times W_i$", "map", width=1.05, height=0.55)
    pool = d.box(6.65, top, "average to\n$P \\times P$ cells", width=1.15, height=0.55)
    project = d.box(8.0, top, "project:\nscale, shift", width=1.1, height=0.55)
    channel = d.box(9.5, top, "channel:\nChannelCrossAttention", "attention", width=1.5, height=0.55, fontsize=7.5)
    spatial = d.box(9.5, low, "spatial:\nSpatialCrossAttention", "attention", width=1.5, height=0.55, fontsize=7.5)
    up = d.box(7.95, low, "conv 1x1,\nup-sample", "convolution", width=1.05, height=0.55)
    plus = d.node(6.95, low)
    out = d.box(5.95, low, "norm, ReLU", "convolution", width=1.0, height=0.55)
    for a, b in ((own, pool), (pool, project), (project, channel)):
        d.arrow(a.right, b.left)
    d.arrow(channel.bottom, spatial.top)
    for a, b in ((spatial, up), (up, plus), (plus, out)):
        d.arrow(a.left, b.right)
    d.arrow(own.bottom, (own.x, 4.0), (plus.x, 4.0), plus.top)
    d.arrow(out.left, (4.85, low))
    d.text(5.05, low + 0.17, "skip", fontsize=7.5)
    for x, y, words in ((9.62, 4.0, "tokens of all\nscales meet"),):
        d.text(x, y, words, fontsize=7, ha="left")


def scores(d: Diagram) -> None:
    d.frame(4.65, 0.2, 10.35, 2.6, "what asks what")
    shades = ("#fbe9d7", "#f7cfa5", "#efae6c", "#e08f3d")
    x0, y, scale = 5.35, 1.45, 0.0046
    left = x0
    for width, shade in zip(WIDTHS, shades):
        size = width * scale
        d.rectangle(left + size / 2, y, size, 0.52, shade, edgecolor=COLOURS["attention"][1], lw=0.8)
        left += size
    d.text((x0 + left) / 2, y + 0.42, "channels of all scales, $C = \\sum C_i$", fontsize=7.5)
    d.text(x0 - 0.12, y, "$C_i$", ha="right")
    d.text(
        6.5,
        0.72,
        "channel scores: $q_i^T k / \\sqrt{C}$\nOne channel of scale i asks every\nchannel of every scale.",
        fontsize=7.5,
    )
    grid = d.grid(8.95, 1.52, 0.85, 10, "attention", lw=0.35)
    d.text(grid.x, grid.top[1] + 0.12, "$P^2$ positions", fontsize=7.5)
    d.text(grid.left[0] - 0.08, grid.y, "$P^2$", ha="right")
    d.text(
        8.95,
        0.66,
        "spatial scores: $q\\,k^T / \\sqrt{C/h}$\nOne position asks every position,\nboth seen by all scales.",
        fontsize=7.5,
    )


def draw() -> Diagram:
    d = Diagram(10.5, 5.5)
    u_net(d)
    one_scale(d)
    scores(d)
    return d


if __name__ == "__main__":
    draw_to(draw, __doc__)
