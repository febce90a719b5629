# SPDX-License-Identifier: Apache-2.0
"""Draw XAttnRes: the read of earlier stages, a U-Net with it, and the block-level revision.

python docs/figures/xattnres.py docs/images/xattnres.svg
"""

from __future__ import annotations

import itertools

from diagram import Diagram, draw_to

SHADES = ("#9ecae1", "#6baed6", "#3182bd", "#fdae6b")


def read(d: Diagram) -> None:
    d.frame(0.15, 3.55, 10.35, 6.6, "one read: CrossStageAttentionResidual")
    sources = []
    for i, (words, side) in enumerate((("$e_1$", 0.62), ("$e_2$", 0.5), ("$e_3$", 0.38), ("$d_3$", 0.38))):
        y = 6.02 - 0.66 * i
        d.rectangle(0.75, y, side, side * 0.85, SHADES[i], edgecolor="#303030", lw=0.8)
        d.text(0.75, y, words)
        aligned = d.box(2.6, y, f"resize, 1x1: $v_{i + 1}$", "convolution", width=1.3, height=0.4, fontsize=7.5)
        d.arrow((1.1, y), aligned.left)
        score = d.box(4.75, y, "$\\langle w, \\mathrm{RMSNorm}(v_" + f"{i + 1}" + ")\\rangle$", "attention", 1.55, 0.4)
        d.arrow(aligned.right, score.left)
        sources.append(score)
    soft = d.box(
        6.65, 5.03, "softmax over sources,\nat each position", "attention", width=1.45, height=0.6, fontsize=7.5
    )
    for score in sources:
        d.arrow(score.right, soft.left)
    plus = d.box(8.35, 5.03, "weighted sum\nof the $v_k$", width=1.1, height=0.6, fontsize=7.5)
    d.arrow(soft.right, plus.left)
    d.arrow(plus.right, (9.35, 5.03))
    d.text(9.4, 5.03, "$r$, for one\nstage", ha="left")
    d.text(
        8.0,
        6.02,
        "w: one vector a stage (query), zero at first:\nthe read starts as the mean of its sources.",
        fontsize=7.5,
        style="italic",
    )
    d.text(
        8.0, 4.1, "The sources are all maps made so far,\nwhatever their stage and size.", fontsize=7.5, style="italic"
    )


def u_net(d: Diagram) -> None:
    d.frame(0.15, 0.2, 5.1, 3.4, "XAttnResUNet (3 of 5 stages)")
    rows = (2.75, 1.75, 0.75)
    encoders = [d.box(1.0, y, f"$e_{i + 1}$", "map", width=0.8) for i, y in enumerate(rows)]
    decoders = [d.box(4.25, y, f"$d_{i + 1}$", "map", width=0.8) for i, y in enumerate(rows[:2])]
    d.rectangle(2.6, 1.75, 0.5, 2.45, "#f2f2f2", edgecolor="#707070", lw=1.0)
    d.text(2.6, 1.75, "pool", rotation=90)
    for e in encoders:
        d.arrow(e.right, (2.35, e.y))
    for d_ in decoders:
        d.arrow((d_.left[0], d_.y + 0.12), (2.85, d_.y + 0.12), colour="#707070")
        d.arrow((2.85, d_.y - 0.12), (d_.left[0], d_.y - 0.12), colour="#c8742b")
    for i, d_ in enumerate(decoders, start=1):
        d.text(3.35, d_.y - 0.3, f"$e_{i} + r_{i}$", fontsize=7.5, color="#c8742b")
    for y in (2.25, 1.25):
        d.arrow((2.35, y), (1.0, y), (1.0, y - 0.27), colour="#c8742b")
    d.text(1.75, 2.36, "read", fontsize=7.5, color="#c8742b")
    d.arrow(encoders[2].bottom, (1.0, 0.42), (4.25, 0.42), decoders[1].bottom)
    d.arrow(decoders[1].top, decoders[0].bottom)
    d.text(4.33, 2.25, "up", fontsize=7.5, ha="left")
    d.arrow((0.35, 2.75), encoders[0].left)
    d.arrow(decoders[0].right, (4.95, 2.75))


def block_level(d: Diagram) -> None:
    d.frame(5.3, 0.2, 10.35, 3.4, "XAttnResBlockUNet: one level")
    memory = [d.box(6.1 + 0.95 * i, 2.55, f"block {i + 1}", "convolution", width=0.75, height=0.4) for i in range(3)]
    d.arrow((5.42, 2.55), memory[0].left)
    for a, b in itertools.pairwise(memory):
        d.arrow(a.right, b.left)
    d.text(7.05, 2.95, "encoder stage", fontsize=7.5)
    d.box(
        7.05,
        1.55,
        "MemoryRouting: which of the\nmaps, at each position?",
        "attention",
        width=2.3,
        height=0.55,
        fontsize=7.5,
    )
    for box in memory:
        d.arrow(box.bottom, (box.x, 1.83))
    coarse = d.box(6.0, 0.65, "decoder map,\nup x2", "map", width=0.95, height=0.5, fontsize=7.5)
    d.arrow((6.35, 0.9), (6.35, 1.27), colour="#7a55a3")
    d.text(6.43, 1.08, "query", ha="left", fontsize=7.5, color="#7a55a3")
    fuse = d.box(8.0, 0.65, "concatenate,\n1x1", "convolution", width=0.95, height=0.5, fontsize=7.5)
    d.arrow(coarse.right, fuse.left)
    d.arrow((8.0, 1.27), fuse.top)
    stage = d.box(9.5, 0.65, "block 1, ISAR,\nblock 2", "convolution", width=1.1, height=0.5, fontsize=7.5)
    d.arrow(fuse.right, stage.left)
    d.text(
        9.3,
        1.75,
        "ISAR:\nIntraStageAttentionResidual\nmixes the maps of its own\nstage between two blocks",
        fontsize=7.5,
    )


def draw() -> Diagram:
    d = Diagram(10.5, 6.75)
    read(d)
    u_net(d)
    block_level(d)
    return d


if __name__ == "__main__":
    draw_to(draw, __doc__)
