# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import Inferer
from monai.utils import BlendMode, PytorchPadMode, ensure_tuple, ensure_tuple_rep, fall_back_tuple, look_up_option
from tqdm import tqdm

from monai_ext.inferers.outputs import check_logits, device_of
from monai_ext.inferers.upsampled_labels import neighbours, upsampled_labels
from monai_ext.transforms.score_labels import label_dtype, labels_of
from monai_ext.transforms.slice_resize import resize_volume, volume_size_at_spacing

__all__ = ["SlidingWindowLabelInferer"]

CHUNK = 1 << 19  # logits reduced to labels at once: what a core keeps close by
RESAMPLED = 1 << 24  # probabilities brought to the source's grid at once


class SlidingWindowLabelInferer(Inferer):
    """Run a network on overlapping windows and return the label map: MONAI's ``SlidingWindowInferer`` and an arg-max.

    The labels are those of MONAI's, but no volume of logits is ever held: windows come in the order of the first
    axis, and once all windows over a row are added up, the row becomes labels. So beyond the label map, memory holds
    logits over one window's length of the first axis, and stitching passes over each logit once.

    A ``MetaTensor`` gives a ``MetaTensor`` with the same affine, metadata and applied operations: ``Invertd`` and
    ``SaveImaged`` follow as usual; an arg-max transform must not.

    Args:
        roi_size: size of a window, one number or one per axis; where it is not positive, the input's. Inputs smaller
            than a window are padded, labels cropped back.
        sw_batch_size: number of windows predicted at once.
        overlap: part of a window that the next one covers again, one number or one per axis, from 0 to below 1.
        mode: weight of the logits in a window, ``"gaussian"`` (less towards the borders) or ``"constant"``.
        sigma_scale: standard deviation of the Gaussian over the window's size.
        padding_mode: of ``torch.nn.functional.pad``.
        cval: value for constant padding.
        sw_device: device for windows and stitching; by default that of the network's parameters, else of the input.
        device: device for the labels; by default that of the input.
        progress: show a progress bar.
        regions: of a network of regions that may overlap, the value that each is written as, a later one over those
            before it.
        spacing: size in mm of the voxels that the network was trained with, one number for each axis or one for all.
            Volumes are resized to it (:func:`~monai_ext.transforms.resize_volume`, as training does), and
            probabilities go back to the source's grid before their arg-max, a few rows at a time, as soon as no
            window comes over them. The input has to be a ``MetaTensor``, whose affine says how large its voxels are.

    Raises:
        ValueError: if an argument is not as described; on a call, if ``roi_size`` has another number of axes than the
            input, or the network returns anything but one tensor of logits of the window's size; with ``spacing``, if
            the input is no volume with an affine.

    Shape:
        - input: ``(B, C, *spatial)``
        - output: ``(B, 1, *spatial)``, uint8 (int16 above 256 classes). A network with one output channel means
          foreground where its logit is positive.

    Examples::

        >>> network = nn.Conv3d(1, 9, kernel_size=1)
        >>> SlidingWindowLabelInferer(roi_size=(96, 96, 64))(torch.rand(1, 1, 200, 180, 90), network).shape
        torch.Size([1, 1, 200, 180, 90])
    """

    def __init__(
        self,
        roi_size: Sequence[int] | int,
        sw_batch_size: int = 1,
        overlap: Sequence[float] | float = 0.5,
        mode: str = "gaussian",
        sigma_scale: float = 0.125,
        padding_mode: str = "constant",
        cval: float = 0.0,
        sw_device: torch.device | str | None = None,
        device: torch.device | str | None = None,
        progress: bool = False,
        regions: Sequence[int] | None = None,
        spacing: Sequence[float] | float | None = None,
    ) -> None:
        super().__init__()
        if sw_batch_size < 1:
            raise ValueError(f"monai_ext: sw_batch_size must be at least 1, got {sw_batch_size}.")
        if not all(0 <= part < 1 for part in ensure_tuple(overlap)):
            raise ValueError(f"monai_ext: overlap must be from 0 to below 1, got {overlap}.")
        self.roi_size = roi_size
        self.sw_batch_size = sw_batch_size
        self.overlap = overlap
        self.mode = look_up_option(mode, BlendMode)
        self.sigma_scale = sigma_scale
        self.padding_mode = look_up_option(padding_mode, PytorchPadMode)
        self.cval = cval
        self.sw_device = sw_device
        self.device = device
        self.progress = progress
        self.regions = list(regions) if regions else None
        self.spacing = spacing

    @torch.no_grad()
    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Return the labels of ``inputs``; ``args`` and ``kwargs`` go to ``network``."""
        size = inputs.shape[2:]
        if isinstance(self.roi_size, Sequence) and len(self.roi_size) != len(size):
            raise ValueError(
                f"monai_ext: roi_size {list(self.roi_size)} for an input {list(inputs.shape)}: {len(size)} axes."
            )
        x = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        source: Sequence[int] | None = None
        if self.spacing is not None:
            grid = volume_size_at_spacing(inputs, self.spacing)
            if grid != tuple(size):
                source, size = size, torch.Size(grid)
                x = torch.stack([resize_volume(volume, grid) for volume in x])
        roi = fall_back_tuple(self.roi_size, size)
        missing = [max(window - side, 0) for window, side in zip(roi, size)]
        padding = [part for gap in reversed(missing) for part in (gap // 2, gap - gap // 2)]
        if any(padding):
            x = F.pad(x, padding, mode=self.padding_mode, value=self.cval)
        steps = [
            window if window == side else max(1, int(window * (1 - part)))
            for window, side, part in zip(roi, x.shape[2:], ensure_tuple_rep(self.overlap, len(size)))
        ]
        windows = [(b, w) for b in range(len(x)) for w in dense_patch_slices(x.shape[2:], roi, steps)]
        device = torch.device(self.sw_device or device_of(network) or x.device)
        weight = compute_importance_map(roi, self.mode, self.sigma_scale, device, torch.float32)
        inside = [slice(gap // 2, gap // 2 + side) for gap, side in zip(missing, size)]
        shape = (len(x), 1, *(source or x.shape[2:]))
        ready: _Labels = _Labels(shape, torch.device(self.device or x.device), self.regions)
        if source is not None:
            ready = _ResampledLabels(shape, torch.device(self.device or x.device), self.regions, inside)
        labels = _Stitcher(x.shape, roi, weight, ready)
        with tqdm(total=len(windows), unit="window", disable=not self.progress) as bar:
            for start in range(0, len(windows), self.sw_batch_size):
                chosen = windows[start : start + self.sw_batch_size]
                batch = torch.stack([x[b][(slice(None), *window)] for b, window in chosen]).to(device)
                logits = check_logits(network(batch, *args, **kwargs), batch, "windows", self.regions)
                if logits.shape[2:] != batch.shape[2:]:
                    raise ValueError(
                        f"monai_ext: the network returned shape {list(logits.shape)} for windows "
                        f"{list(batch.shape)}, expected "
                        "logits of the windows' size."
                    )
                for (b, window), patch in zip(chosen, logits):
                    labels.add(b, window, patch)
                del batch, logits, patch  # gone before the next ones come
                bar.update(len(chosen))
        result = labels.finish()
        if source is None:
            result = result[(slice(None), slice(None), *inside)].contiguous()
        return MetaTensor(result).copy_meta_from(inputs) if isinstance(inputs, MetaTensor) else result


class _Labels:
    """Keep the arg-max of rows of logits."""

    def __init__(self, shape: Sequence[int], device: torch.device, regions: Sequence[int] | None) -> None:
        self.shape, self.device, self.regions = shape, device, regions
        self.labels = torch.empty(0)  # until the number of classes is known

    def allocate(self, classes: int) -> None:
        dtype = label_dtype(max([classes - 1, *(self.regions or ())]) + 1)
        self.labels = torch.empty(tuple(self.shape), dtype=dtype, device=self.device)

    def take(self, batch: int, start: int, scores: torch.Tensor) -> None:
        """The rows ``(K, rows, ...)`` from ``start`` on; they come in their order."""
        rows = labels_of(scores, 0, self.regions).to(self.device)
        self.labels[batch, :, start : start + scores.shape[1]] = rows


class _ResampledLabels(_Labels):
    """Bring rows of probabilities to the source's grid, and keep their arg-max.

    Args:
        inside: where the resized volume lies in the padded one that rows come from.
    """

    def __init__(
        self, shape: Sequence[int], device: torch.device, regions: Sequence[int] | None, inside: Sequence[slice]
    ) -> None:
        super().__init__(shape, device, regions)
        self.inside = inside
        self.length = inside[0].stop - inside[0].start
        self.before, self.after, self.part = neighbours(self.length, self.shape[2], torch.float32)
        self.held = torch.empty(0)  # the last row, which the next one is interpolated with
        self.first = self.done = 0  # what row the first held one is, and how many of the source's are labels

    def take(self, batch: int, start: int, scores: torch.Tensor) -> None:
        start -= self.inside[0].start
        rows = scores[:, max(-start, 0) : self.length - start, self.inside[1], self.inside[2]]
        if rows.shape[1] <= 0:
            return
        # of regions: above 0 is above one half
        probabilities = rows.sigmoid() - 0.5 if self.regions else rows.softmax(dim=0)
        if max(start, 0) == 0:
            self.first, self.done, self.held = 0, 0, probabilities[:, :0]
        self.held = torch.cat([self.held, probabilities], dim=1)
        stop = self.first + self.held.shape[1]
        ready = int((self.after < stop).sum())
        step = max(1, RESAMPLED // (len(scores) * self.shape[3] * self.shape[4]))
        for begin in range(self.done, ready, step):
            these = slice(begin, min(begin + step, ready))
            low, high = (self.held[:, (at[these] - self.first).to(rows.device)] for at in (self.before, self.after))
            part = self.part[these].to(rows)[:, None, None]
            between = torch.lerp(low, high, part).movedim(0, 1)
            labels = upsampled_labels(between, self.shape[3:], self.regions)  # a row of the source is a slice
            self.labels[batch, :, these] = labels.movedim(0, 1).to(self.device)
        self.done = max(self.done, ready)
        kept = min(int(self.before[self.done]) if self.done < len(self.before) else stop, stop - 1)
        self.held, self.first = self.held[:, kept - self.first :].clone(), kept


class _Stitcher:
    """Add up weighted windows, ordered along the first axis, and hand each row on that is complete.

    Row ``i`` of the volume lies at ``i`` modulo the window's length, so that nothing is moved when windows go on.
    """

    def __init__(self, shape: Sequence[int], roi: Sequence[int], weight: torch.Tensor, ready: _Labels) -> None:
        self.shape = shape
        self.rows = roi[0]
        self.weight = weight
        self.ready = ready
        self.batch, self.start = 0, 0  # of the rows that are being added up
        self.scores = self.weights = self.product = torch.empty(0)  # until the number of classes is known

    def add(self, batch: int, window: Sequence[slice], logits: torch.Tensor) -> None:
        if not self.scores.numel():
            self._allocate(logits)
        if batch != self.batch:
            self._complete(self.shape[2])
            self.batch, self.start = batch, 0
        self._complete(window[0].start)
        offset = self.start % self.rows
        parts = (
            (slice(offset, None), slice(None, self.rows - offset)),
            (slice(None, offset), slice(self.rows - offset, None)),
        )
        for label, patch in enumerate(logits):
            # a product rounded before it is added, as MONAI has it: addcmul_ would flip a label in some millions
            torch.mul(patch, self.weight, out=self.product)
            for rows, source in parts:
                self.scores[(label, rows, *window[1:])].add_(self.product[source])
        for rows, source in parts:
            self.weights[(rows, *window[1:])].add_(self.weight[source])

    def finish(self) -> torch.Tensor:
        self._complete(self.shape[2])
        return self.ready.labels

    def _allocate(self, logits: torch.Tensor) -> None:
        self.weight = self.weight.to(logits.dtype)
        self.product = torch.empty_like(self.weight)
        self.scores = logits.new_zeros((len(logits), self.rows, *self.shape[3:]))
        self.weights = logits.new_zeros((self.rows, *self.shape[3:]))
        self.ready.allocate(len(logits))

    def _complete(self, stop: int) -> None:
        """Hand the rows up to ``stop`` on; no window will come over them."""
        step = max(1, CHUNK // self.scores[:, 0].numel())
        while self.start < stop:
            offset = self.start % self.rows
            count = min(step, stop - self.start, self.rows - offset)
            rows = slice(offset, offset + count)
            scores = self.scores[:, rows]
            scores /= self.weights[rows]
            self.ready.take(self.batch, self.start, scores)
            scores.zero_()
            self.weights[rows].zero_()
            self.start += count
