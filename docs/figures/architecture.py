# SPDX-License-Identifier: Apache-2.0
"""Draw the rooms of the library, who may know whom, and the way of one volume from file to label.

python docs/figures/architecture.py docs/images/architecture.svg
"""

from __future__ import annotations

import itertools

from diagram import Diagram, draw_to


def rooms(d: Diagram) -> None:
    d.frame(0.15, 2.3, 10.35, 6.1, "Packages of monai_ext: each knows only what lies below it")
    wide = {"width": 9.6, "height": 0.4}
    d.box(5.25, 5.55, "apps: commands, report, MONAI Label, MONAI Deploy", "attention", **wide)
    d.box(5.25, 5.0, "handlers: checkpoints, records, progress", "attention", **wide)
    d.box(1.75, 4.4, "bundle", "token", width=2.6)
    d.box(5.25, 4.4, "data: datasets, files, training", "map", width=4.0)
    d.box(8.75, 4.4, "inferers", "convolution", width=2.6)
    for x, text, kind in (
        (1.35, "networks", "convolution"),
        (3.3, "losses, metrics", "convolution"),
        (5.25, "engines", "plain"),
        (7.2, "transforms", "map"),
        (9.15, "phantoms", "map"),
    ):
        d.box(x, 3.6, text, kind, width=1.75)
    d.box(5.25, 2.85, "utils: errors, files, JSON, switches", "plain", **wide)
    d.arrow((10.2, 5.7), (10.2, 2.65), colour="#9a9a9a")
    d.text(10.28, 4.2, "knows", rotation=90, fontsize=7)


def way(d: Diagram) -> None:
    d.frame(0.15, 0.2, 10.35, 2.05, "One volume, from file to label (every box is a line of inference.json)")
    steps = (
        ("VolumeReader\nfile to (X, Y, Z),\naffine in mm", "map"),
        ("checks,\norientation,\nintensity", "map"),
        ("SliceBatchInferer\nslices to network,\nlabels back", "convolution"),
        ("Invertd\nto the source's\ngrid", "map"),
        ("SaveImaged\nwriter, renamed\nwhen whole", "map"),
    )
    boxes = [
        d.box(1.2 + 2.02 * i, 1.05, text, kind, width=1.72, height=0.85, fontsize=7.5)
        for i, (text, kind) in enumerate(steps)
    ]
    for a, b in itertools.pairwise(boxes):
        d.arrow(a.right, b.left)


def draw() -> Diagram:
    d = Diagram(10.5, 6.25)
    rooms(d)
    way(d)
    return d


if __name__ == "__main__":
    draw_to(draw, __doc__)
