# SPDX-License-Identifier: Apache-2.0
"""Draw EMCAD: encoder and decoder, and the insides of its three blocks.

python docs/figures/emcad.py docs/images/emcad.svg
"""

from __future__ import annotations

import itertools

from diagram import Diagram, draw_to

# of pvt_v2_b2
WIDTHS, DEPTHS, REDUCTIONS = (64, 128, 320, 512), (3, 4, 6, 3), (8, 4, 2, 1)


def network(d: Diagram) -> None:
    d.frame(0.15, 2.75, 10.35, 6.6, "EMCADNet with pvt_v2_b2")
    d.text(0.5, 3.45, "image")
    stages, levels = [], []
    for i, (width, depth, reduction) in enumerate(zip(WIDTHS, DEPTHS, REDUCTIONS)):
        x = 1.95 + 2.3 * i
        text = (
            f"{depth} x PVTBlock\nkeys / {reduction}x{reduction}" if reduction > 1 else f"{depth} x PVTBlock\nall keys"
        )
        stages.append(d.box(x, 3.45, text, "attention", width=1.25, height=0.55))
        d.text(x + 0.1, 3.0, f"{width}, 1/{4 * 2**i}", fontsize=7.5)
        levels.append(d.box(x, 5.55, "MSCAM", "attention", width=0.95, height=0.45))
        d.arrow(levels[-1].top, (x, 6.1))
        d.text(x + 0.07, 6.25, f"head, x{4 * 2**i}", fontsize=7.5)
    d.arrow((0.75, 3.45), stages[0].left)
    for a, b in itertools.pairwise(stages):
        d.arrow(a.right, b.left)
    for i in range(3):
        x = stages[i].x
        gate = d.box(x, 4.35, "LGAG", "attention", width=0.8, height=0.38)
        plus = d.node(x, 4.98)
        d.arrow(stages[i].top, gate.bottom)
        d.arrow(gate.top, plus.bottom)
        d.arrow(plus.top, levels[i].bottom)
        up = d.box(x + 1.2, 4.98, "EUCB", "convolution", width=0.62, height=0.36)
        d.arrow(levels[i + 1].left, (up.x, 5.55), up.top)
        d.arrow(up.left, plus.right)
        d.arrow(up.bottom, (up.x, 4.35), gate.right)
    d.arrow(stages[3].top, levels[3].bottom)
    d.text(0.72, 5.6, "eval() returns\nthe finest logits", fontsize=7.5)


def blocks(d: Diagram) -> None:
    d.frame(0.15, 0.2, 6.3, 2.6, "MSCAM")
    y = 1.35
    channel = d.box(0.8, y, "channel\ngate (CAB)", "attention", width=0.95, height=0.55, fontsize=7.5)
    spatial = d.box(1.95, y, "position gate\n(SAB), shared", "attention", width=1.05, height=0.55, fontsize=7.5)
    expand = d.box(3.05, y, "1x1,\nC to 2C", "convolution", width=0.68, height=0.55, fontsize=7.5)
    total, branches = d.node(4.65, y), []
    for dy, side in ((0.5, 1), (0.0, 3), (-0.5, 5)):
        branch = d.box(3.95, y + dy, f"{side}x{side}", "convolution", width=0.52, height=0.32, fontsize=7.5)
        branches.append(branch)
        d.arrow(expand.right, branch.left)
        d.arrow(branch.right, total.left if dy == 0 else (total.top if dy > 0 else total.bottom))
    d.text(3.95, 0.5, "depth-wise", fontsize=7.5)
    project = d.box(5.3, y, "shuffle,\n1x1", "convolution", width=0.68, height=0.55, fontsize=7.5)
    plus = d.node(5.95, y)
    d.arrow(channel.right, spatial.left)
    d.arrow(spatial.right, expand.left)
    d.arrow(total.right, project.left)
    d.arrow(project.right, plus.left)
    d.arrow((2.6, y), (2.6, 2.2), (plus.x, 2.2), plus.top)
    d.text(4.25, 2.31, "MSCB (MultiScaleConvBlock)", fontsize=7.5)

    d.frame(6.5, 0.2, 8.75, 2.6, "LGAG")
    skip = d.box(7.05, 0.75, "from_skip\n3x3, pairs", "convolution", width=0.85, height=0.48, fontsize=7.5)
    gate = d.box(7.05, 1.8, "from_gate\n3x3, pairs", "convolution", width=0.85, height=0.48, fontsize=7.5)
    add = d.node(7.75, 1.28)
    d.arrow(gate.right, (add.x, gate.y), add.top)
    d.arrow(skip.right, (add.x, skip.y), add.bottom)
    score = d.box(8.3, 1.28, "score,\nsigmoid", "attention", width=0.62, height=0.48, fontsize=7.5)
    d.arrow(add.right, score.left)
    d.text(8.15, 0.72, "times skip", fontsize=7.5)
    d.arrow(score.bottom, (8.3, 0.82))

    d.frame(8.95, 0.2, 10.35, 2.6, "EUCB")
    parts = [
        d.box(9.65, y, text, "convolution", width=1.1, height=0.34, fontsize=7.5)
        for y, text in ((2.0, "nearest x2"), (1.3, "3x3 depth-wise"), (0.6, "1x1, new width"))
    ]
    for a, b in itertools.pairwise(parts):
        d.arrow(a.bottom, b.top)


def draw() -> Diagram:
    d = Diagram(10.5, 6.75)
    network(d)
    blocks(d)
    return d


if __name__ == "__main__":
    draw_to(draw, __doc__)
