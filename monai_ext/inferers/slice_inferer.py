# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, sliding_window_inference
from tqdm import tqdm

from monai_ext.inferers.outputs import check_logits, device_of
from monai_ext.inferers.upsampled_labels import upsampled_labels
from monai_ext.transforms.score_labels import labels_of
from monai_ext.transforms.slice_resize import check_image_size, resize_slices, size_at_spacing
from monai_ext.utils import flag

__all__ = ["SliceBatchInferer"]

OUTPUTS = ("labels", "probabilities")
UPSAMPLINGS = ("bilinear", "nearest")
CHUNK = 1 << 24  # logits brought to full resolution at once


class SliceBatchInferer(Inferer):
    """Run a 2D network on the slices of a volume, in batches, and return the label map of the volume.

    Each batch of slices is gathered, moved to the network's device, resized to ``image_size`` by
    :func:`~monai_ext.transforms.resize_slices` (the function that training uses), predicted, brought back to the size
    of the slice and reduced to labels at once. Beyond the label map, memory holds one batch of logits at ``image_size``
    and a part of it at full resolution: it depends neither on the length of the volume nor, as whole volumes of logits
    do, on the number of classes. If the GPU runs out of memory, the batch is halved, with a warning.

    A ``MetaTensor`` gives a ``MetaTensor`` with the same affine, metadata and applied operations, as MONAI's own
    inferers do: ``Invertd(keys="pred", orig_keys="image", nearest_interp=True)`` and ``SaveImaged`` follow as usual;
    an arg-max transform must not. Nothing is stored in the inferer, so threads may share it.

    Args:
        image_size: size at which the network sees a slice, in the order of the volume's other two axes, or one number
            for both; ``None`` leaves slices as they are.
        batch_size: number of slices predicted at once.
        spatial_dim: axis along which the slices lie: 0, 1 or 2 of ``(H, W, D)``, or counted from the end.
        upsample: the way back to the slice's size. ``"bilinear"`` interpolates logits (probabilities, with ``mirror``)
            and takes the arg-max then, for smooth outlines. ``"nearest"`` takes it at ``image_size`` and repeats
            labels, as TransUNet's evaluation and the papers after it do.
        output: ``"labels"``, or ``"probabilities"`` for every class (softmax; float32, the memory of the whole volume
            times the classes) where uncertainty or an ensemble is asked for.
        mirror: average the probabilities over the four flips of the slice's axes; takes four times as long.
        sw_device: device for the slices; by default that of the network's parameters, else that of the input.
        device: device for the result; by default that of the input.
        progress: show a progress bar.
        spacing: size in mm of the pixels that the network was trained with. Slices are resized to it, so that a pixel
            means the same in every scan, and seen through windows of ``image_size``: one where the slice fits into it,
            else several that overlap by half, whose logits are averaged. The way back is the same. The input has to
            be a ``MetaTensor``, whose affine says how large its voxels are.
        regions: of a network of regions that may overlap, the value that each is written as, a later one over those
            before it; its channels are a sigmoid each, and its probabilities are those of regions.

    Raises:
        ValueError: if an argument is not as described; on a call, if the input is neither ``(B, C, H, W, D)`` nor
            ``(B, C, H, W)``, or the network returns anything but one tensor of logits.

    Shape:
        - input: ``(B, C, H, W, D)``, or images ``(B, C, H, W)``, each of them one slice
        - output: ``(B, 1, H, W, D)`` or ``(B, 1, H, W)``, uint8 (int16 above 256 classes); ``(B, K, ...)`` for
          probabilities. A network with one output channel means foreground where its logit is positive: ``K`` is 2.

    Examples::

        >>> network = nn.Conv2d(1, 9, kernel_size=1)
        >>> SliceBatchInferer(image_size=(224, 224))(torch.rand(1, 1, 512, 512, 30), network).shape
        torch.Size([1, 1, 512, 512, 30])
    """

    def __init__(
        self,
        image_size: Sequence[int] | int | None = (224, 224),
        batch_size: int = 24,
        spatial_dim: int = -1,
        upsample: str = "bilinear",
        output: str = "labels",
        mirror: bool = False,
        sw_device: torch.device | str | None = None,
        device: torch.device | str | None = None,
        progress: bool = False,
        spacing: Sequence[float] | float | None = None,
        regions: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if spacing is not None and image_size is None:
            raise ValueError("monai_ext: spacing: image_size is needed, too, the size of the network's windows.")
        if batch_size < 1:
            raise ValueError(f"monai_ext: batch_size must be at least 1, got {batch_size}.")
        if not -3 <= spatial_dim <= 2:
            raise ValueError(
                f"monai_ext: spatial_dim must be 0, 1 or 2, or -3 to -1 counted from the end; got {spatial_dim}."
            )
        if upsample not in UPSAMPLINGS:
            raise ValueError(
                f"monai_ext: upsample must be one of {', '.join(map(repr, UPSAMPLINGS))}; got {upsample!r}."
            )
        if output not in OUTPUTS:
            raise ValueError(f"monai_ext: output must be one of {', '.join(map(repr, OUTPUTS))}; got {output!r}.")
        self.image_size = None if image_size is None else check_image_size(image_size)
        self.batch_size = batch_size
        self.spatial_dim = spatial_dim % 3
        self.upsample = upsample
        self.output = output
        self.mirror = flag(mirror)  # a config's knob may come from the command line as a text
        self.sw_device = sw_device
        self.device = device
        self.progress = progress
        self.spacing = spacing
        self.regions = list(regions) if regions else None

    @torch.no_grad()
    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Return the labels (or probabilities) of ``inputs``; ``args`` and ``kwargs`` go to ``network``."""
        if inputs.dim() not in (4, 5) or 0 in inputs.shape:
            raise ValueError(
                f"monai_ext: expected volumes (B, C, H, W, D) or images (B, C, H, W), got {list(inputs.shape)}."
            )
        x = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        # (volumes, slices, C, h, w): a batch of images is taken for one volume of them
        stacks = x.movedim(self.spatial_dim + 2, 1) if x.dim() == 5 else x[None]
        device = torch.device(self.sw_device or device_of(network) or x.device)
        size = self.image_size
        if self.spacing is not None:
            size = size_at_spacing(inputs, self.spacing, self.spatial_dim)
            network = partial(self._windows, network)
        # on a CPU resizing reads slices where they are
        resized_here = device == x.device == torch.device("cpu") and size not in (None, stacks.shape[3:])
        batch_size = self.batch_size
        result = x.new_empty(0)  # until the number of classes is known
        with tqdm(total=stacks.shape[0] * stacks.shape[1], unit="slice", disable=not self.progress) as bar:
            for index, stack in enumerate(stacks):
                start = 0
                while start < len(stack):
                    batch = stack[start : start + batch_size]
                    if not resized_here:
                        batch = _gathered(batch).to(device)
                    values = self._predict_or_none(batch, size, network, *args, **kwargs)
                    if values is None:
                        batch_size = len(batch) // 2
                        torch.cuda.empty_cache()
                        warnings.warn(f"out of GPU memory with {len(batch)} slices at once; going on with {batch_size}")
                        continue
                    if result.numel() == 0:
                        shape = (x.shape[0], values.shape[1], *x.shape[2:])
                        result = torch.empty(shape, dtype=values.dtype, device=self.device or x.device)
                    target = result.movedim(self.spatial_dim + 2, 1) if x.dim() == 5 else result[None]
                    target[index, start : start + len(batch)] = values.to(result.device)
                    start += len(batch)
                    bar.update(len(batch))
        return MetaTensor(result).copy_meta_from(inputs) if isinstance(inputs, MetaTensor) else result

    def _predict_or_none(
        self,
        slices: torch.Tensor,
        size: tuple[int, int] | None,
        network: Callable[..., torch.Tensor],
        *args: Any,
        **kwargs: Any,
    ) -> torch.Tensor | None:
        """Return the result for ``slices``, or None if the GPU has not enough memory for more than one of them."""
        try:
            return self._predict(slices, size, network, *args, **kwargs)
        except torch.cuda.OutOfMemoryError:
            if len(slices) == 1:
                raise
        return None

    def _windows(
        self, network: Callable[..., torch.Tensor], x: torch.Tensor, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Logits of slices of any size, from windows of the size that the network was trained with."""

        def checked(windows: torch.Tensor) -> torch.Tensor:
            return check_logits(network(windows, *args, **kwargs), windows, "slices", self.regions)

        # a slice that is not larger than a window is one window, with zeros around it; as many at once as slices,
        # so that fewer slices take less memory
        logits = sliding_window_inference(x, self.image_size or (-1, -1), len(x), checked, overlap=0.5, mode="gaussian")
        return torch.as_tensor(logits)

    def _predict(
        self,
        slices: torch.Tensor,
        size: tuple[int, int] | None,
        network: Callable[..., torch.Tensor],
        *args: Any,
        **kwargs: Any,
    ) -> torch.Tensor:
        height, width = slices.shape[2:]
        mode = "cubic" if self.spacing is None else "antialiased"
        x = slices if size is None else resize_slices(slices, size, mode)
        if self.mirror:
            scores = torch.zeros(())
            for axes in ((), (2,), (3,), (2, 3)):
                logits = check_logits(network(x.flip(axes), *args, **kwargs), x, "slices", self.regions)
                scores = scores.to(logits) + self._probabilities(logits).flip(axes) / 4
        else:
            scores = check_logits(network(x, *args, **kwargs), x, "slices", self.regions)
        if self.output == "probabilities":
            probabilities = scores if self.mirror else self._probabilities(scores)
            return resize_slices(probabilities, (height, width), self.upsample).float()
        if self.mirror and self.regions:
            scores = scores - 0.5  # above 0 is above one half
        if self.upsample == "nearest":
            return resize_slices(labels_of(scores, regions=self.regions), (height, width), "nearest")
        parts = scores.split(max(1, CHUNK // (scores.shape[1] * height * width)))
        return torch.cat([upsampled_labels(part, (height, width), self.regions) for part in parts])

    def _probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.sigmoid() if self.regions else logits.softmax(dim=1)


def _gathered(slices: torch.Tensor) -> torch.Tensor:
    """Slices one behind the other in memory; a volume's last axis is turned to the front in blocks, as of a matrix."""
    count, channels, height, width = slices.shape
    step = slices.stride(3)
    one_block = slices.stride(2) == width * step and (channels == 1 or slices.stride(1) == height * width * step)
    if slices.stride(0) != 1 or not one_block:
        return slices.contiguous()
    return slices.movedim(0, -1).view(-1, count).t().contiguous().view(slices.shape)
