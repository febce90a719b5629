# SPDX-License-Identifier: Apache-2.0
"""Boxes, arrows and words on a plane in inches: what the drawings of the methods are made of."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path as Line

__all__ = ["COLOURS", "Box", "Diagram", "draw_to"]

# kind of thing -> ground, edge
COLOURS = {
    "map": ("#dce9f5", "#3b6ea5"),
    "attention": ("#fde4cb", "#c8742b"),
    "convolution": ("#e0f0da", "#4f8f46"),
    "token": ("#e9def4", "#7a55a3"),
    "plain": ("#f2f2f2", "#707070"),
}
INK = "#303030"
Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """Where a box lies: its centre and size."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> Point:
        return self.x - self.width / 2, self.y

    @property
    def right(self) -> Point:
        return self.x + self.width / 2, self.y

    @property
    def top(self) -> Point:
        return self.x, self.y + self.height / 2

    @property
    def bottom(self) -> Point:
        return self.x, self.y - self.height / 2


class Diagram:
    """A drawing of ``width`` by ``height`` inches; the origin is its lower left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.figure = plt.figure(figsize=(width, height))
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(0, height))
        self.axes.axis("off")

    def box(
        self, x: float, y: float, text: str, kind: str = "plain", width: float = 1.3, height: float = 0.42, **font
    ) -> Box:
        ground, edge = COLOURS[kind]
        corner = (x - width / 2, y - height / 2)
        style = "round,pad=0,rounding_size=0.07"
        self.axes.add_patch(FancyBboxPatch(corner, width, height, style, facecolor=ground, edgecolor=edge, lw=1.1))
        self.text(x, y, text, **font)
        return Box(x, y, width, height)

    def grid(self, x: float, y: float, side: float, cells: int, kind: str = "map", lw: float = 0.5) -> Box:
        """A square cut into ``cells`` by ``cells``."""
        ground, edge = COLOURS[kind]
        self.axes.add_patch(
            Rectangle((x - side / 2, y - side / 2), side, side, facecolor=ground, edgecolor=edge, lw=1.1)
        )
        for i in range(1, cells):
            at = i * side / cells
            self.axes.plot([x - side / 2 + at] * 2, [y - side / 2, y + side / 2], color=edge, lw=lw)
            self.axes.plot([x - side / 2, x + side / 2], [y - side / 2 + at] * 2, color=edge, lw=lw)
        return Box(x, y, side, side)

    def rectangle(self, x: float, y: float, width: float, height: float, colour: str, **style) -> None:
        """A plain rectangle around a centre."""
        self.axes.add_patch(Rectangle((x - width / 2, y - height / 2), width, height, facecolor=colour, **style))

    def frame(self, x0: float, y0: float, x1: float, y1: float, title: str) -> None:
        """A dashed frame around parts that belong together."""
        style = "round,pad=0,rounding_size=0.1"
        self.axes.add_patch(
            FancyBboxPatch((x0, y0), x1 - x0, y1 - y0, style, facecolor="none", edgecolor="#9a9a9a", lw=0.9, ls="--")
        )
        self.text(x0 + 0.1, y1 - 0.14, title, ha="left", weight="bold")

    def node(self, x: float, y: float, symbol: str = "+", radius: float = 0.12) -> Box:
        """A circle with an operation in it."""
        self.axes.add_patch(Circle((x, y), radius, facecolor="white", edgecolor=INK, lw=1.0))
        self.text(x, y, symbol, fontsize=9)
        return Box(x, y, 2 * radius, 2 * radius)

    def text(self, x: float, y: float, text: str, fontsize: float = 8, ha: str = "center", **font) -> None:
        font = {"color": INK, "va": "center", "linespacing": 1.25, **font}
        self.axes.text(x, y, text, fontsize=fontsize, ha=ha, **font)

    def arrow(self, *points: Point, colour: str = INK, lw: float = 1.0, ls: str = "-") -> None:
        """A line through ``points`` that ends in an arrow head."""
        line = Line(points)
        self.axes.add_patch(
            FancyArrowPatch(
                path=line, arrowstyle="-|>", mutation_scale=8, color=colour, lw=lw, ls=ls, joinstyle="miter"
            )
        )

    def save(self, path: Path) -> None:
        """Write an SVG whose letters are outlines and whose bytes depend on the drawing alone."""
        with plt.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "path"}):
            self.figure.savefig(path, metadata={"Date": None})
        plt.close(self.figure)


def draw_to(draw: Callable[[], Diagram], description: str | None) -> None:
    """The command line of every drawing: ``python docs/figures/NAME.py docs/images/NAME.svg``."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("output", type=Path)
    draw().save(parser.parse_args().output)
