# SPDX-License-Identifier: Apache-2.0
"""The slices a report keeps of a case, and the drawings it makes of slices and numbers."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import torch

from monai_ext.transforms import slice_orientation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["OUTLINES", "Picture", "box_plots", "choose_slices", "class_colour", "data_uri", "draw_picture", "plots_uri"]

MAX_SIDE = 512
OPPOSITE = dict(zip("LRPASI", "RLAPIS"))
PLANES = {"S": "axial", "I": "axial", "P": "coronal", "A": "coronal", "L": "sagittal", "R": "sagittal"}
# sky blue and orange: apart in every common colour vision; the prediction lies thin upon the truth
OUTLINES = {"truth": "#56b4e9", "prediction": "#ff9d1e"}
_WIDTHS = {"truth": 3.4, "prediction": 1.5}
# Okabe and Ito's colours, black made light, so that Synapse's neighbours differ; then Tol's muted ones
_PALETTE = (
    "#d55e00", "#f0e442", "#e69f00", "#56b4e9", "#cc79a7", "#009e73", "#0072b2", "#dddddd",
    "#332288", "#88ccee", "#117733", "#ddcc77", "#cc6677", "#882255", "#44aa99", "#999933", "#aa4499",
)  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """One plane of a case as it is looked at: rows run down, columns to the right.

    Attributes:
        image: ``(rows, columns)`` or ``(rows, columns, 3)``, uint8.
        truth: ``(rows, columns)``, uint8 classes.
        prediction: the same.
        aspect: height of a pixel over its width.
        sides: what lies on the left and on the right of it, as letters of the patient's directions; empty if unknown.
        caption: what it shows.
    """

    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    aspect: float
    sides: tuple[str, ...]
    caption: str


def choose_slices(
    image: torch.Tensor | None,
    truth: torch.Tensor,
    prediction: torch.Tensor,
    affine: np.ndarray | None,
    spacing: Sequence[float],
    window: Sequence[float],
    transpose: bool,
) -> list[Picture]:
    """The slice where truth and prediction differ most and the one with the largest labelled area.

    Slices are those that 2D networks see, see :func:`~monai_ext.transforms.slice_orientation`: axial ones with the
    patient's right on the left and the front on top, unless another plane was acquired. A 2D image is one slice itself.

    Args:
        image: ``(C, *spatial)``; three channels of a 2D image are colours, of others the first is shown.
        truth: ``(*spatial)`` classes, on the CPU.
        prediction: the same.
        affine: voxel indices to RAS millimetres, in any orientation; None if unknown: axes are taken as L, P, S.
        spacing: size of a voxel along each axis.
        window: values of ``image`` shown as black and as white.
        transpose: a 2D image's first axis runs to the right, not down.
    """
    if truth.ndim == 2:
        axes = np.array([[0, 1], [1, 1]] if transpose else [[1, 1], [0, 1]])
        return [_picture(image, truth, prediction, axes, spacing, window, sides=(), caption="")]
    axes = nib.orientations.axcodes2ornt("LPS") if affine is None else slice_orientation(affine)
    stack = int(np.flatnonzero(axes[:, 0] == 2)[0])
    plane, sides = "axial", tuple[str, ...]()
    if affine is not None:
        codes = nib.aff2axcodes(affine @ nib.orientations.inv_ornt_aff(axes, truth.shape))
        plane, sides = PLANES[codes[2]], (OPPOSITE[codes[0]], codes[0])
    across = tuple(a for a in range(3) if a != stack)
    captions: dict[int, list[str]] = {}
    for name, mask in (("largest error", truth != prediction), ("largest organ area", truth > 0)):
        if mask.any():
            area = np.count_nonzero(mask.numpy(), axis=across)  # several times faster than a sum of booleans
            captions.setdefault(int(area.argmax()), []).append(name)
    if not captions:
        captions = {truth.shape[stack] // 2: ["nothing labelled"]}
    return [
        _picture(
            None if image is None else image[:1].select(stack + 1, index),
            truth.select(stack, index),
            prediction.select(stack, index),
            axes[list(across)],
            [spacing[a] for a in across],
            window,
            sides=sides,
            caption=f"{' and '.join(names)}: {plane} slice, index {index} of axis {stack}",
        )
        for index, names in captions.items()
    ]


def _picture(
    image: torch.Tensor | None,
    truth: torch.Tensor,
    prediction: torch.Tensor,
    axes: np.ndarray,
    spacing: Sequence[float],
    window: Sequence[float],
    sides: tuple[str, ...],
    caption: str,
) -> Picture:
    """``axes`` is a nibabel orientation: to which of (right, down) each axis of the plane goes, and whether flipped."""
    step = -(-max(truth.shape) // MAX_SIDE)

    def upright(plane: torch.Tensor) -> np.ndarray:
        turned = nib.apply_orientation(plane.numpy(), axes)[::step, ::step]
        return np.ascontiguousarray(turned.swapaxes(0, 1))

    if image is None:
        shown = torch.zeros(truth.shape, dtype=torch.uint8)
    else:
        low, high = window
        shown = image.movedim(0, -1) if len(image) == 3 else image[0]
        shown = ((shown.float() - low) / (high - low) * 255).nan_to_num().round().clamp(0, 255).to(torch.uint8)
    right, down = (spacing[int(np.flatnonzero(axes[:, 0] == goal)[0])] for goal in (0, 1))
    return Picture(upright(shown), upright(truth), upright(prediction), down / right, sides, caption)


def class_colour(number: int) -> str:
    """The colour of class ``number``, counted from 1."""
    return _PALETTE[(number - 1) % len(_PALETTE)]


def draw_picture(picture: Picture, class_names: Sequence[str], name: str) -> str:
    """The plane as inline SVG figures: image, truth, prediction, and the outlines of both.

    One class needs no panels of its own: image and outlines say it all.
    """
    paths = {"truth": _outlines(picture.truth), "prediction": _outlines(picture.prediction)}
    names = [html.escape(n) for n in class_names]
    organs = {
        kind: "".join(
            f'<path fill="{class_colour(i)}" stroke="{class_colour(i)}" fill-opacity="0.4" stroke-width="1.6" '
            f'd="{path}"><title>{names[i - 1]}</title></path>'
            for i, path in paths[kind].items()
        )
        for kind in paths
    }
    both = "".join(
        f'<path class="{kind}" fill="none" stroke="{colour}" stroke-width="{_WIDTHS[kind]}" d="{path}">'
        f"<title>{names[i - 1]}: {kind}</title></path>"
        for kind, colour in OUTLINES.items()
        for i, path in paths[kind].items()
    )
    panels = {"image": "", **(organs if len(names) > 1 else {}), "truth and prediction": both}
    return "".join(_panel(picture, caption, shapes, name) for caption, shapes in panels.items())


def _panel(picture: Picture, caption: str, shapes: str, name: str) -> str:
    rows, columns = picture.truth.shape
    height = rows * picture.aspect
    size = max(columns, height) / 16
    places = ((size / 3, "start"), (columns - size / 3, "end"))
    sides = "".join(
        f'<text x="{x:.1f}" y="{height / 2:.1f}" font-size="{size:.1f}" text-anchor="{anchor}">{side}</text>'
        for side, (x, anchor) in zip(picture.sides, places)
    )
    label = html.escape(f"{name}, {picture.caption}: {caption}")
    return (
        f'<figure><svg viewBox="0 0 {columns} {height:.2f}" role="img" aria-label="{label}">'
        f'<image width="{columns}" height="{height:.2f}" preserveAspectRatio="none" href="{_png(picture.image)}"/>'
        f'<g transform="scale(1 {picture.aspect:.5f})">{shapes}</g>{sides}</svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _outlines(classes: np.ndarray) -> dict[int, str]:
    """Class -> SVG path around its pixels; pixel (row, column) covers the unit square from (column, row)."""
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    paths = {}
    for number in np.unique(classes[classes > 0]).tolist():
        rings = axes.contour(np.pad(classes == number, 1).astype(float), levels=[0.5]).allsegs[0]
        paths[number] = "".join(_svg_path(ring - 0.5) for ring in rings)
    return paths


def _svg_path(ring: np.ndarray) -> str:
    """A closed ring without the points in the middle of straight runs."""
    ring = ring[:-1]
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    corner = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return "M" + " ".join(f"{x:g},{y:g}" for x, y in ring[corner]) + "Z"


def _png(image: np.ndarray) -> str:
    from matplotlib.image import imsave

    data = io.BytesIO()
    imsave(data, image, cmap="gray", vmin=0, vmax=255, format="png")
    return data_uri(data, "image/png")


def box_plots(dice: np.ndarray, hd95: np.ndarray, class_names: Sequence[str], unit: str) -> str:
    """Dice and HD95 ``(cases, classes)`` as a picture's data URI: boxes with every case as a point."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.1 + 0.36 * len(class_names)), layout="constrained")
    for axes, values, label in zip(
        figure.subplots(1, 2, sharey=True), (100 * dice, hd95), ("Dice, %", f"HD95, {unit} (finite values)")
    ):
        columns = [column[np.isfinite(column)] for column in values.T]
        places = range(len(columns), 0, -1)  # the first class on top
        axes.boxplot(
            columns,
            positions=places,
            orientation="horizontal",
            widths=0.55,
            showfliers=False,
            medianprops={"color": "#111", "linewidth": 1.6},
            boxprops={"color": "#667"},
            whiskerprops={"color": "#667"},
            capprops={"color": "#667"},
        )
        for place, column in zip(places, columns):
            spread = np.linspace(-0.16, 0.16, len(column)) if len(column) > 1 else np.zeros(len(column))
            axes.scatter(column, place + spread, s=11, color="#0072b2", alpha=0.6, linewidths=0, zorder=3)
        axes.set_yticks(list(places), list(class_names), parse_math=False)
        axes.set_xlabel(label)
    return plots_uri(figure)


def plots_uri(figure: Figure) -> str:
    """A figure of horizontal plots as a picture's data URI, with the look that all of them have."""
    for axes in figure.axes:
        axes.grid(axis="x", color="#e3e5e8")
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    data = io.BytesIO()
    figure.savefig(data, format="svg", metadata={"Date": None})
    return data_uri(data, "image/svg+xml")


def data_uri(data: io.BytesIO, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
