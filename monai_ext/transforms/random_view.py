# SPDX-License-Identifier: Apache-2.0
"""A picture as a scanner with another field of view, or of a patient of another shape, would show it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import ensure_tuple_rep

__all__ = ["RandViewd"]

POINTS = 4  # of the grid that bends, along an axis
MODES = ("bilinear", "nearest")


class RandViewd(RandomizableTransform, MapTransform):
    """Cut a view of one size out of a slice or volume of any, turned, scaled and sheared at random, in one resampling.

    It is MONAI's random crop, pad and affine transform in one, in single precision and for a third of their time. The
    view lies anywhere within a larger picture, and in the middle, shifted at random, where the picture is smaller;
    beyond its edges there are its lowest value and, in entries of mode ``"nearest"``, zeros.

    Args:
        keys: entries ``(C, *spatial)`` of one size.
        size: of the view.
        mode: ``"bilinear"`` (trilinear in 3D) or ``"nearest"``, one for all keys or one each.
        rotation: largest angle in radians, in the plane of the first two axes.
        scale: range of the size at which things appear, drawn for each axis by itself: 2 shows them twice as long.
        shear: largest shear of the first two axes.
        shift: largest shift of a picture's middle, as part of ``size``.
        bend: how far things are pushed about, largest, as part of ``size``: smoothly, from a grid of 4 points an axis.
            Organs get shapes and places that no patient of the training has. Below a sixth nothing folds.
        foreground: part of the views of a larger picture that are cut around a labelled place, drawn by chance.
        label_key: the entry that says which places are labelled: those above 0.
        prob: probability of turning, scaling, shearing, shifting and bending; what remains is the cut.

    Raises:
        ValueError: if ``scale`` is no range of positive numbers, or ``mode`` is another.

    Shape:
        - input: ``(C, *spatial)``, two or three spatial axes
        - output: ``(C, *size)``, of the same type

    Examples::

        >>> view = RandViewd(["image", "label"], (128, 128), ["bilinear", "nearest"], rotation=0.3, scale=(0.7, 1.4))
        >>> view({"image": torch.rand(1, 170, 100), "label": torch.zeros(1, 170, 100)})["image"].shape
        torch.Size([1, 128, 128])
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: Sequence[int],
        mode: Sequence[str] | str = "bilinear",
        rotation: float = 0.0,
        scale: Sequence[float] = (1.0, 1.0),
        shear: float = 0.0,
        shift: float = 0.0,
        bend: float = 0.0,
        prob: float = 1.0,
        foreground: float = 0.0,
        label_key: str = "label",
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        low, high = scale
        if not 0 < low <= high:
            raise ValueError(f"monai_ext: RandViewd: scale must be a range of positive numbers, got {list(scale)}.")
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        if any(name not in MODES for name in self.mode):
            raise ValueError(f"monai_ext: RandViewd: mode must be one of {', '.join(MODES)}, got {self.mode}.")
        self.size = tuple(int(side) for side in size)
        self.rotation, self.scale, self.shear, self.shift, self.bend = rotation, (low, high), shear, shift, bend
        self.foreground, self.label_key = foreground, label_key

    def draw(self, shape: Sequence[int], label: torch.Tensor | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """The first voxel of the cut, and the matrix from the view's offsets to the picture's; None for a plain cut."""
        self.randomize(None)
        axes = len(self.size)
        room = np.maximum(np.array(shape) - self.size, 0)
        start = (np.array(shape) - self.size) / 2 + self.R.uniform(-0.5, 0.5, size=axes) * room
        if label is not None and self.foreground and room.any() and self.R.uniform() < self.foreground:
            places = torch.nonzero(label[0] > 0)
            if len(places):
                place = places[self.R.randint(len(places))].numpy() - self.R.uniform(0.25, 0.75, size=axes) * self.size
                start = np.where(room > 0, np.clip(place, 0, room), start)
        if not self._do_transform:
            return np.round(start), None
        low, high = (float(np.log(limit)) for limit in self.scale)
        matrix = np.diag(np.exp(-self.R.uniform(low, high, size=axes)))
        matrix[0, 1] += self.R.uniform(-self.shear, self.shear)
        angle = self.R.uniform(-self.rotation, self.rotation)
        turn = np.eye(axes)
        turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        start += self.R.uniform(-self.shift, self.shift, size=axes) * self.size
        return start, turn @ matrix

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        first = d[self.first_key(d)]
        if first.dim() != len(self.size) + 1:
            raise ValueError(f"monai_ext: RandViewd: got shape {list(first.shape)} for a view of {list(self.size)}.")
        start, matrix = self.draw(first.shape[1:], d.get(self.label_key))
        grid = None if matrix is None else self._grid(first.shape[1:], start, matrix)
        for key, mode in self.key_iterator(d, self.mode):
            value = torch.as_tensor(d[key]).as_subclass(torch.Tensor)
            beyond = 0.0 if mode == "nearest" else float(value.min())
            if grid is None:
                d[key] = self._cut(value, start.astype(int).tolist(), beyond)
            else:
                seen = F.grid_sample(
                    value[None].float() - beyond, grid, mode, padding_mode="zeros", align_corners=False
                )
                d[key] = (seen[0] + beyond).to(value.dtype)
        return d

    def _cut(self, value: torch.Tensor, start: list[int], beyond: float) -> torch.Tensor:
        if value.shape[1:] == self.size:
            return value
        # a negative padding cuts
        sides = zip(start, self.size, value.shape[1:], strict=True)
        padding = [part for first, side, length in sides for part in (first + side - length, -first)]
        return F.pad(value, padding[::-1], value=beyond).contiguous()

    def _grid(self, shape: Sequence[int], start: np.ndarray, matrix: np.ndarray) -> torch.Tensor:
        """PyTorch's coordinates: the last axis first, from -1 to 1 between the outer edges."""
        sides, size = np.array(shape), np.array(self.size)
        middle = start + (size - 1) / 2
        theta = np.column_stack([matrix * size / sides[:, None], (2 * middle + 1) / sides - 1])
        order = np.arange(len(size))[::-1]
        theta = np.column_stack([theta[:, :-1][order][:, order], theta[order, -1]])
        grid = F.affine_grid(torch.from_numpy(theta).float()[None], [1, 1, *self.size], align_corners=False)
        if self.bend:
            pushed = self.R.uniform(-self.bend, self.bend, size=(1, len(size), *[POINTS] * len(size)))
            pushed *= (2 * size / sides)[order].reshape(1, -1, *[1] * len(size))
            mode = "bicubic" if len(size) == 2 else "trilinear"
            smooth = F.interpolate(torch.from_numpy(pushed).float(), self.size, mode=mode, align_corners=True)
            grid += smooth.movedim(1, -1)
        return grid
