# SPDX-License-Identifier: Apache-2.0
"""Training slices, of volumes that are kept in memory once, or pictures, drawn by index and seed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, get_track_meta, set_track_meta
from monai.transforms import Compose, Lambda, Randomizable, apply_transform
from monai.utils import ensure_tuple
from torch.utils.data import Dataset, DistributedSampler

from monai_ext.transforms import IGNORE, ResizeSlicesd

__all__ = ["SliceDataset", "SliceSampler"]

GRAIN = 0.05  # of the range from 0 to 1


@contextmanager
def plain_tensors() -> Iterator[None]:
    """MONAI's transforms without MetaTensor: a slice has no metadata to keep, and its care costs twice the work."""
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)


class SliceDataset(Dataset):
    """Every slice of a list of volumes, or every picture of a list, by index.

    ``transform`` (loading, orientation, intensity: all that is not random) runs once a volume, its slices are resized
    once, and the results stay in memory; worker processes share them instead of copying. ``slice_transform`` (the
    augmentation) works on one slice.

    Random transforms draw from a generator seeded by what ``SliceSampler`` hands out with the index, so a sample
    depends on seed, epoch and index only: not on the number of workers, nor on where a training was resumed. A sample
    of an item with a ``case_id`` carries it, with the number of its slice. A slice whose whole label is to be ignored
    (255) is none. After ``slice_transform``, an image of one value gets a faint grain: DCAU-Net has no finite gradient
    for one.

    Args:
        data: MONAI's datalist of volumes or pictures.
        transform: makes a dictionary of ``(C, H, W, D)`` arrays of one item of ``data``, or ``(C, H, W)`` of a picture.
        image_size: every slice is resized to it as the inferer does (images cubic, labels nearest); None keeps sizes.
        slice_transform: applied to a dictionary of ``(C, H, W)`` tensors.
        keys: the arrays that are sliced; others are left out.
        label_key: the label map that says which slices hold foreground; None if there is none.
        spatial_dim: the axis of the slices among the spatial ones; None for pictures.
        cache_rate: part of ``data`` kept in memory; each slice of the rest costs reading its volume.
        num_workers: threads that fill the cache.
        progress: whether filling the cache shows a progress bar.
        spacing: of a pixel in mm: every slice is resized to it instead of ``image_size``, so that it means the same in
            every scan; ``slice_transform`` cuts views of one size. None for slices of ``image_size``.

    Raises:
        ValueError: if ``data`` is empty, or the arrays of a volume differ in size.

    Examples::

        >>> slices = SliceDataset(load_datalist("synapse", folder)["training"], preprocessing)
        >>> slices[0]["image"].shape
        torch.Size([1, 224, 224])
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        transform: Callable,
        image_size: Sequence[int] | None = None,
        slice_transform: Callable | None = None,
        keys: Sequence[str] = ("image", "label"),
        label_key: str | None = "label",
        spatial_dim: int | None = -1,
        cache_rate: float = 1.0,
        num_workers: int | None = 1,
        progress: bool = True,
        spacing: Sequence[float] | float | None = None,
    ) -> None:
        if not data:
            raise ValueError("monai_ext: SliceDataset: no volume to draw slices from.")
        self.label_key = label_key
        self.keys = ensure_tuple(keys)
        self.axis = None if spatial_dim is None else spatial_dim % 3 + 1  # behind the channels
        self.slice_transform = slice_transform
        self.names = [str(item.get("case_id", "")) for item in data]
        steps: list[Callable] = [Lambda(transform)]  # CacheDataset keeps nothing that a plain function made
        if image_size is not None or spacing is not None:
            smooth = "cubic" if spacing is None else "antialiased"
            modes = ["nearest" if key == label_key else smooth for key in self.keys]
            axis = -1 if spatial_dim is None else spatial_dim
            steps.append(ResizeSlicesd(self.keys, image_size or 1, modes, spatial_dim=axis, spacing=spacing))
        if self.axis is not None:
            steps.append(Lambda(self._together))
        self.volumes = CacheDataset(
            data, Compose(steps), cache_rate=cache_rate, num_workers=num_workers, progress=progress, copy_cache=False
        )
        self.index = [(number, 0) for number in range(len(data))]
        self.foreground = np.ones(len(data), dtype=bool)
        self.of_class: dict[int, list[int]] = {}
        if self.axis is not None:
            self._index_slices(data, self.axis)

    def _together(self, item: dict[str, Any]) -> dict[str, Any]:
        """Each slice in one piece of memory, which makes drawing one several times as fast."""
        axis = self.axis or 0
        return {**item, **{key: item[key].movedim(axis, 0).contiguous().movedim(0, axis) for key in self.keys}}

    def _index_slices(self, data: Sequence[dict[str, Any]], axis: int) -> None:
        """List every slice, and say which hold foreground."""
        self.index = []
        foreground: list[np.ndarray] = []
        for number in range(len(data)):
            volume = self._volume(number)
            first = volume[self.keys[0]]
            if any(volume[key].shape[1:] != first.shape[1:] for key in self.keys):
                sizes = ", ".join(f"{key} {tuple(volume[key].shape[1:])}" for key in self.keys)
                raise ValueError(f"monai_ext: {data[number]}: arrays of different size: {sizes}.")
            depth = first.shape[axis]
            if self.label_key is None:
                self.index += [(number, position) for position in range(depth)]
                continue
            slices = volume[self.label_key].movedim(axis, 0).reshape(depth, -1)
            # nothing can be learnt of a slice that nobody has looked at
            seen = (slices != IGNORE).any(dim=1).nonzero()[:, 0]
            slices, begin = slices[seen] % IGNORE, len(self.index)  # what is ignored is no class
            self.index += [(number, int(position)) for position in seen]
            foreground.append((slices > 0).any(dim=1).numpy())
            for value in range(1, int(slices.max()) + 1 if len(slices) else 0):
                having = (slices == value).any(dim=1).nonzero()[:, 0] + begin
                if len(having):
                    self.of_class.setdefault(value, []).extend(having.tolist())
        if not self.index:
            raise ValueError("monai_ext: SliceDataset: no slice to draw: every voxel of every label is to be ignored.")
        self.foreground = np.concatenate(foreground) if foreground else np.ones(len(self.index), dtype=bool)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int | tuple[int, int]) -> dict[Hashable, Any]:
        """The slice at ``item``, or at ``item[0]`` with its random transforms seeded by ``item[1]``."""
        index, seed = item if isinstance(item, tuple) else (item, None)
        number, position = self.index[index]
        volume = self._volume(number)
        if self.axis is None:
            sample: dict[Hashable, Any] = {key: volume[key].clone() for key in self.keys}
        else:
            sample = {key: volume[key].select(self.axis, position).clone() for key in self.keys}
        if self.names[number]:
            sample["case_id"] = self.names[number] if self.axis is None else f"{self.names[number]} slice {position}"
        if self.slice_transform is None:
            return sample
        if seed is not None and isinstance(self.slice_transform, Randomizable):
            self.slice_transform.set_random_state(seed=seed)
        with plain_tensors():
            sample = apply_transform(self.slice_transform, sample)  # type: ignore[assignment]
        for key in self.keys:
            if key != self.label_key:
                sample[key] = with_grain(sample[key])
        return sample

    def _volume(self, number: int) -> dict[str, torch.Tensor]:
        """The arrays of a volume as plain tensors: views of the cache, without the metadata of a MetaTensor."""
        volume = self.volumes[number]
        return {key: torch.as_tensor(volume[key]).as_subclass(torch.Tensor) for key in self.keys}


def with_grain(image: torch.Tensor) -> torch.Tensor:
    """An image of one value, as slices beside a skull-stripped head are, with a grain; any other as it is.

    In a network that normalises over channels every feature of such an image is 0 before training, each layer's
    gradient some hundred times the next one's, and the first step no number.
    """
    if not torch.is_floating_point(image) or bool((image != image.flatten()[0]).any()):
        return image
    return image + GRAIN * torch.rand(image.shape, generator=torch.Generator().manual_seed(0)).to(image)


class SliceSampler(DistributedSampler):
    """Shuffled ``(index, seed)`` pairs for a ``SliceDataset``, shared out over processes, a function of the epoch.

    MONAI's engines tell it the epoch, as they do with any ``DistributedSampler``. ``skip`` leaves out that many of the
    next epoch's first samples, once: where a training was stopped within an epoch and goes on.

    Args:
        dataset: the slices.
        seed: seed of the run.
        foreground_weight: 0 takes every slice once an epoch; above 0 as many slices are drawn with replacement, a
            slice with foreground being ``1 + foreground_weight`` times as likely as one without.
        foreground_share: part of the samples, drawn by chance, that are taken from slices which hold a class, each
            class as often as any other: what is in few slices is seen, too. Pictures have none to choose from.
        num_replicas: number of processes, by default that of the initialised process group.
        rank: this process.

    Raises:
        ValueError: if ``foreground_weight`` is negative, or ``foreground_share`` not from 0 to 1.
    """

    def __init__(
        self,
        dataset: SliceDataset,
        seed: int = 0,
        foreground_weight: float = 0.0,
        num_replicas: int | None = None,
        rank: int | None = None,
        foreground_share: float = 0.0,
    ) -> None:
        if foreground_weight < 0:
            raise ValueError(f"monai_ext: SliceSampler: foreground_weight must be at least 0, got {foreground_weight}.")
        if not 0 <= foreground_share <= 1:
            raise ValueError(f"monai_ext: SliceSampler: foreground_share must be from 0 to 1, got {foreground_share}.")
        if not torch.distributed.is_initialized():
            num_replicas, rank = num_replicas or 1, rank or 0
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, seed=seed)
        self.foreground_weight = foreground_weight
        self.foreground_share = foreground_share
        self.skip = 0

    def __iter__(self) -> Iterator[Any]:
        rng = np.random.default_rng((self.seed, self.epoch))
        count = len(self.dataset)  # type: ignore[arg-type]
        if self.foreground_weight > 0:
            weight = 1 + self.foreground_weight * self.dataset.foreground  # type: ignore[attr-defined]
            order = rng.choice(count, size=count, p=weight / weight.sum())
        else:
            order = rng.permutation(count)
        if self.foreground_share > 0 and (of_class := list(self.dataset.of_class.values())):  # type: ignore[attr-defined]
            for place in np.flatnonzero(rng.random(count) < self.foreground_share):
                order[place] = rng.choice(of_class[rng.integers(len(of_class))])
        order = np.resize(order, self.total_size)  # every process gets as many: the first ones are taken twice
        seeds = rng.integers(2**32, size=self.total_size)
        samples = [(int(i), int(s)) for i, s in zip(order, seeds)][self.rank :: self.num_replicas]
        skipped, self.skip = self.skip, 0
        return iter(samples[skipped:])
