# SPDX-License-Identifier: Apache-2.0
"""A picture as a scanner with another field of view, or of a patient of another shape, would show it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import ensure_tuple_rep

from .volumes import IGNORE

__all__ = ["FOREGROUND_CLASS", "RandViewd"]

FOREGROUND_CLASS = "foreground_class"  # the entry by which a sampler says what a view is to show
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
        foreground: part of the views of a larger picture that are cut around a labelled place, drawn by chance. Where
            the data have an entry ``FOREGROUND_CLASS``, as those of a ``SliceSampler`` with a share have, nothing is
            left to chance: the view shows a place of that class, turned and scaled as it may be, or, for 0, is cut
            anywhere. The entry is taken out.
        label_key: the entry that says which places are labelled: those above 0, but for 255, which is to be ignored.
        indices_key: the entry that says it instead, MONAI's ``ClassesToIndicesd`` of the label: flat indices of each
            class, background first. A class is drawn, each as often as any other, and one of its places. In volumes
            it is also the faster way: nobody has to look for labelled places each time. The entry is taken out.
        tilt: largest angle in radians by which a volume is turned in the other two planes, too. For voxels that are
            about as high as they are wide: turned in voxels, others would be sheared.
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
        indices_key: str | None = None,
        tilt: float = 0.0,
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
        self.foreground, self.label_key, self.indices_key, self.tilt = foreground, label_key, indices_key, tilt

    def draw(
        self,
        shape: Sequence[int],
        label: torch.Tensor | None = None,
        indices: Sequence[Any] = (),
        shown: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The first voxel of the cut, and the matrix from the view's offsets to the picture's; None for a plain cut."""
        self.randomize(None)
        axes = len(self.size)
        room = np.maximum(np.array(shape) - self.size, 0)
        start = (np.array(shape) - self.size) / 2 + self.R.uniform(-0.5, 0.5, size=axes) * room
        place = None
        if shown or (shown is None and self.foreground and room.any() and self.R.uniform() < self.foreground):
            place = self._labelled_place(shape, label, indices, shown)
        if place is not None:
            around = place - self.R.uniform(0.25, 0.75, size=axes) * self.size
            start = np.where(room > 0, np.clip(around, 0, room), start)
        if not self._do_transform:
            return np.round(start), None
        low, high = (float(np.log(limit)) for limit in self.scale)
        matrix = np.diag(np.exp(-self.R.uniform(low, high, size=axes)))
        matrix[0, 1] += self.R.uniform(-self.shear, self.shear)
        angle = self.R.uniform(-self.rotation, self.rotation)
        turn = np.eye(axes)
        turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        if self.tilt and axes == 3:
            for axis in (0, 1):
                angle = self.R.uniform(-self.tilt, self.tilt)
                tilted = np.eye(3)
                tilted[np.ix_([axis, 2], [axis, 2])] = [
                    [np.cos(angle), -np.sin(angle)],
                    [np.sin(angle), np.cos(angle)],
                ]
                turn = tilted @ turn
        start += self.R.uniform(-self.shift, self.shift, size=axes) * self.size
        matrix = turn @ matrix
        if shown and place is not None:
            start += self._back_into_view(place - start - (np.array(self.size) - 1) / 2, matrix)
        return start, matrix

    def _back_into_view(self, offset: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """By how much a view has to move so that it shows what lies at an offset from its middle, bent or not."""
        back, size = np.linalg.inv(matrix), np.array(self.size)
        seen = back @ offset
        margin = np.abs(back) @ (2 * self.bend * size) + 1  # a cubic goes beyond its points, by less than once more
        limit = np.maximum((size - 1) / 2 - margin, 0)
        return matrix @ (seen - np.clip(seen, -limit, limit))

    def _labelled_place(
        self, shape: Sequence[int], label: torch.Tensor | None, indices: Sequence[Any], shown: int | None
    ) -> np.ndarray | None:
        """A place of the class to be shown, or of one that is drawn; None where nothing is labelled."""
        if self.indices_key is not None:
            of_classes = indices[shown : shown + 1] if shown else indices[1:]
            having = [places for places in of_classes if len(places)]
            if not having:
                return None
            places = having[self.R.randint(len(having))]
            return np.array(np.unravel_index(int(places[self.R.randint(len(places))]), tuple(shape)))
        if label is None:
            return None
        found = torch.nonzero(label[0] == shown if shown else (label[0] > 0) & (label[0] != IGNORE))
        return found[self.R.randint(len(found))].numpy() if len(found) else None

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        shown: Any = d.pop(FOREGROUND_CLASS, None)
        indices: Any = () if self.indices_key is None else d.pop(self.indices_key)
        first = d[self.first_key(d)]
        if first.dim() != len(self.size) + 1:
            raise ValueError(f"monai_ext: RandViewd: got shape {list(first.shape)} for a view of {list(self.size)}.")
        start, matrix = self.draw(first.shape[1:], d.get(self.label_key), indices, shown)
        grid = None if matrix is None else self._grid(first.shape[1:], start, matrix)
        for key, mode in self.key_iterator(d, self.mode):
            value = torch.as_tensor(d[key]).as_subclass(torch.Tensor)
            beyond = 0.0 if mode == "nearest" else float(value.min())
            if grid is None:
                d[key] = self._cut(value, start.astype(int).tolist(), beyond)
            else:
                value, places = (value, grid) if value.dim() == 3 else _near(value, grid)
                seen = F.grid_sample(
                    value[None].float() - beyond, places, mode, padding_mode="zeros", align_corners=False
                )
                d[key] = (seen[0] + beyond).to(value.dtype)
        return d

    def _cut(self, value: torch.Tensor, start: list[int], beyond: float) -> torch.Tensor:
        if value.shape[1:] == self.size:
            return value.clone()  # what comes in may be kept by somebody
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


def _near(value: torch.Tensor, grid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The part of a volume that a view looks at, and the places in it: a volume is many times a patch."""
    sides = torch.tensor(value.shape[:0:-1], dtype=grid.dtype)  # the last axis first, as the grid has it
    places = ((grid + 1) * sides - 1) / 2
    low, high = (of(places.flatten(0, -2), dim=0).values for of in (torch.min, torch.max))
    # with a voxel around it, so that beyond its edges is beyond the volume's
    first = (low.floor() - 1).clamp(min=0).minimum(sides - 1)
    stop = (high.floor() + 3).minimum(sides).maximum(first + 1)
    part = value[(slice(None), *(slice(int(a), int(b)) for a, b in zip(first.flip(0), stop.flip(0), strict=True)))]
    return part, (2 * (places - first) + 1) / (stop - first) - 1
