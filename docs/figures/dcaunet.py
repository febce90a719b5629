# SPDX-License-Identifier: Apache-2.0
"""Draw DCAU-Net: the network, its differential cross attention, and its fusion of skips.

python docs/figures/dcaunet.py docs/images/dcaunet.svg
"""

from __future__ import annotations

import itertools

from diagram import Diagram, draw_to

CHANNELS, DEPTHS, SIZES = (64, 128, 256, 512), (3, 4, 8, 3), (56, 28, 14, 7)


def network(d: Diagram) -> None:
    d.frame(0.15, 3.35, 10.35, 6.6, "DCAUNet, an image of 224 x 224")
    stages = []
    for i, (width, depth, size) in enumerate(zip(CHANNELS, DEPTHS, SIZES)):
        text = f"stage {i + 1}: patch {4 if i == 0 else 2}x{4 if i == 0 else 2},\n{depth} x DCABlock"
        stages.append(d.box(1.95 + 2.35 * i, 4.05, text, "attention", width=1.55, height=0.6))
        d.text(stages[-1].x, 3.58, f"{width} x {size} x {size}", fontsize=7.5)
    d.text(0.6, 4.05, "image")
    d.arrow((0.85, 4.05), stages[0].left)
    for a, b in itertools.pairwise(stages):
        d.arrow(a.right, b.left)
    fusions = [d.box(stage.x, 5.5, "CSFF", "convolution", width=1.2, height=0.5) for stage in stages[:3]]
    for stage, fusion in zip(stages, fusions):
        d.arrow(stage.top, fusion.bottom)
        d.text(fusion.x + 0.08, 4.85, "skip", fontsize=7.5, ha="left")
    d.arrow(stages[3].top, (stages[3].x, 5.5), fusions[2].right)
    for i in (2, 1):
        d.arrow(fusions[i].left, fusions[i - 1].right)
    for x in (7.9, 5.45, 3.1):
        d.text(x + 0.02, 5.66, "up x2, 1x1", fontsize=7.5)
    d.arrow(fusions[0].left, (0.6, 5.5), (0.6, 5.98))
    d.box(0.85, 6.15, "head x4", "convolution", width=0.95, height=0.34)
    d.text(1.45, 6.15, "logits 224 x 224", ha="left")


def attention(d: Diagram) -> None:
    d.frame(0.15, 0.2, 6.15, 3.2, "DifferentialCrossAttention")
    grid = d.grid(0.95, 1.75, 1.12, 8)
    d.rectangle(0.95 - 0.35, 1.75 + 0.21, 0.05, 0.05, "#c8742b")
    d.text(0.95, 1.02, "56 x 56 positions ask", fontsize=7.5)
    d.text(0.95, 0.78, "8 x 8 means of\n7 x 7 windows answer", fontsize=7.5, va="top")
    maps = []
    for i, y in enumerate((2.35, 1.15)):
        maps.append(
            d.box(2.75, y, f"$A_{i + 1}$ = softmax\n$(q_{i + 1} k_{i + 1}^T / \\sqrt{{d}})$", "attention", 1.25, 0.56)
        )
        d.arrow(grid.right, (1.8, grid.y), (1.8, y), maps[-1].left)
    minus = d.node(3.85, 1.75, "$-$")
    d.arrow(maps[0].right, (minus.x, maps[0].y), minus.top)
    d.arrow(maps[1].right, (minus.x, maps[1].y), minus.bottom)
    d.text(3.93, 1.33, "$\\times\\,\\lambda$", ha="left")
    value = d.box(4.62, 1.75, "times $v$", width=0.72)
    norm = d.box(5.55, 1.75, "RMSNorm,\n$\\times(1-\\lambda_{init})$", width=0.98, height=0.5, fontsize=7.5)
    d.arrow(minus.right, value.left)
    d.arrow(value.right, norm.left)
    out = d.box(5.55, 0.75, "out", "convolution", width=0.6, height=0.34)
    d.arrow(norm.bottom, out.top)
    d.text(4.35, 2.62, "What both maps attend to\nalike is noise and cancels.", fontsize=7.5, style="italic")


def fusion(d: Diagram) -> None:
    d.frame(6.35, 0.2, 10.35, 3.2, "CSFF: ChannelSpatialFeatureFusion")
    skip = d.box(7.1, 2.5, "refine_skip\n3x3", "convolution", width=0.95, height=0.5, fontsize=7.5)
    up = d.box(7.1, 1.5, "refine_up\n3x3", "convolution", width=0.95, height=0.5, fontsize=7.5)
    fuse = d.box(8.5, 2.0, "concatenate,\nfuse: 3x3, 3x3", "convolution", width=1.15, height=0.55, fontsize=7.5)
    channel = d.box(9.75, 2.0, "channel\ngate", "attention", width=0.75, height=0.55, fontsize=7.5)
    spatial = d.box(9.75, 0.95, "position\ngate 7x7", "attention", width=0.75, height=0.55, fontsize=7.5)
    d.arrow(skip.right, (fuse.x, skip.y), fuse.top)
    d.arrow(up.right, (fuse.x, up.y), fuse.bottom)
    d.arrow(fuse.right, channel.left)
    d.arrow(channel.bottom, spatial.top)
    d.arrow(spatial.left, (8.3, 0.95))
    d.text(8.2, 0.95, "to the next level", ha="right", fontsize=7.5)


def draw() -> Diagram:
    d = Diagram(10.5, 6.75)
    network(d)
    attention(d)
    fusion(d)
    return d


if __name__ == "__main__":
    draw_to(draw, __doc__)
