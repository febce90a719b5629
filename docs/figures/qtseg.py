# SPDX-License-Identifier: Apache-2.0
"""Draw QTSeg: pyramid, bridge and query tokens, and one layer of dual-mix attention.

python docs/figures/qtseg.py docs/images/qtseg.svg
"""

from __future__ import annotations

import itertools

from diagram import Diagram, draw_to

# level -> channels, stride, layers; coarsest last
LEVELS = ((64, 8, 1), (128, 16, 2), (256, 32, 3))
ROWS = (5.75, 4.8, 3.85)


def network(d: Diagram) -> None:
    d.frame(0.15, 3.2, 10.35, 6.6, "QTSeg")
    d.text(0.5, 4.8, "image")
    encoder = d.box(1.4, 4.8, "FPNEncoder\n(YOLOv8-nano's\nbackbone and\nneck)", "convolution", width=1.1, height=2.4)
    d.arrow((0.7, 4.8), encoder.left)
    bridge = d.box(4.35, 4.8, "bridge:\nMultiLevel-\nFeature-\nDistribution", "convolution", width=1.05, height=2.4)
    stages = []
    for y, (width, stride, depth) in zip(ROWS, LEVELS):
        level = d.box(2.9, y, f"{width}, 1/{stride}", "map", width=0.9)
        d.arrow((encoder.right[0], y), level.left)
        d.arrow(level.right, (bridge.left[0], y))
        text = f"QueryTokenStage\n{depth} x DualMixAttention"
        stages.append(d.box(6.45, y, text, "attention", width=1.6, height=0.6, fontsize=7.5))
        d.arrow((bridge.right[0], y), stages[-1].left)
    for fine, coarse in itertools.pairwise(stages):
        d.arrow((coarse.x - 0.3, coarse.top[1]), (fine.x - 0.3, fine.bottom[1]), colour="#3b6ea5")
        d.arrow((coarse.x + 0.3, coarse.top[1]), (fine.x + 0.3, fine.bottom[1]), colour="#7a55a3")
    d.text(6.07, 4.33, "map x2", ha="right", fontsize=7.5, color="#3b6ea5")
    d.text(6.83, 4.33, "tokens", ha="left", fontsize=7.5, color="#7a55a3")
    tokens = d.box(8.35, 3.85, "tokens:\none per class", "token", width=1.1, height=0.5)
    d.arrow(tokens.left, stages[2].right, colour="#7a55a3")
    product = d.node(8.35, 5.75, "·", radius=0.14)
    d.arrow((stages[0].right[0], 5.85), (7.8, 5.85), (8.23, 5.82), colour="#3b6ea5")
    d.arrow((stages[0].right[0], 5.65), (7.8, 5.65), (8.23, 5.68), colour="#7a55a3")
    d.text(8.35, 5.35, "inner products\nat half size", fontsize=7.5)
    up = d.box(9.6, 5.75, "interpolate x2:\nlogits", width=1.1, height=0.5)
    d.arrow(product.right, up.left)


def layer(d: Diagram) -> None:
    d.frame(0.15, 0.2, 10.35, 3.05, "one layer of DualMixAttention")
    features = d.box(0.85, 2.2, "features X", "map", width=0.95)
    plus = d.node(1.75, 2.2)
    position = d.box(1.75, 1.35, "position P", "plain", width=0.9)
    d.arrow(features.right, plus.left)
    d.arrow(position.top, plus.bottom)
    spatial = d.box(3.3, 2.5, "spatial_gate: S", "attention", width=1.25, height=0.38)
    channel = d.box(3.3, 1.9, "channel_gate: Q", "attention", width=1.25, height=0.38)
    d.text(2.15, 2.32, "G")
    for gate in (spatial, channel):
        d.arrow(plus.right, (2.35, 2.2), (2.35, gate.y), gate.left)
    ask_s = d.box(5.15, 2.5, "attend_spatial", "attention", width=1.2, height=0.38)
    ask_q = d.box(5.15, 1.9, "attend_channel", "attention", width=1.2, height=0.38)
    d.arrow(spatial.right, ask_s.left)
    d.arrow(channel.right, ask_q.left)
    tokens = d.box(3.3, 0.75, "tokens T", "token", width=0.9)
    d.arrow(tokens.right, (4.35, 0.75), (4.35, 1.82), (4.53, 1.82), colour="#7a55a3")
    d.arrow((4.35, 1.82), (4.35, 2.42), (4.53, 2.42), colour="#7a55a3")
    total = d.node(6.2, 2.2)
    d.arrow(ask_s.right, (total.x, ask_s.y), total.top)
    d.arrow(ask_q.right, (5.98, ask_q.y), (6.12, 2.1))
    norm = d.box(6.95, 2.2, "mixed_norm:\nU", "token", width=0.8, height=0.5)
    d.arrow(total.right, norm.left)
    d.arrow((4.35, 0.75), (6.2, 0.75), total.bottom, colour="#7a55a3")
    mlp = d.box(8.1, 1.25, "mlp, mlp_norm", "token", width=1.05, height=0.38)
    d.arrow(norm.bottom, (norm.x, mlp.y), mlp.left)
    new = d.node(9.0, 0.75)
    d.arrow(mlp.right, (9.0, mlp.y), new.top)
    d.arrow((6.2, 0.75), new.left, colour="#7a55a3")
    d.text(9.3, 0.75, "new tokens", ha="left", fontsize=7.5)
    d.arrow(new.right, (9.28, 0.75))
    ask = d.box(8.35, 2.2, "attend_tokens:\nS + Q + P ask U", "attention", width=1.2, height=0.5)
    d.arrow(norm.right, ask.left)
    add = d.node(9.3, 2.2)
    d.arrow(ask.right, add.left)
    d.arrow(features.top, (features.x, 2.82), (9.3, 2.82), add.top, colour="#3b6ea5")
    d.arrow(add.right, (9.6, 2.2))
    d.text(9.64, 2.2, "new\nfeatures", ha="left", fontsize=7.5)


def draw() -> Diagram:
    d = Diagram(10.5, 6.75)
    network(d)
    layer(d)
    return d


if __name__ == "__main__":
    draw_to(draw, __doc__)
