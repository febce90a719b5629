# SPDX-License-Identifier: Apache-2.0
"""Training slices, of volumes that are kept in memory once, or pictures, drawn by index and seed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, get_track_meta, set_track_meta
from monai.transforms import Compose, Lambda, Randomizable, apply_transform
from monai.utils import ensure_tuple
from torch.utils.data import Dataset, DistributedSampler

from monai_ext.transforms import FOREGROUND_CLASS, IGNORE, ResizeSlicesd

__all__ = ["SliceDataset", "SliceSampler"]

GRAIN = 0.05  # of the range from 0 to 1
TRIES = 8  # views drawn where all of one is to be ignored


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
    of an item with a ``case_id`` carries it, with the number of its slice. Where the sampler says which class a sample
    is to show, ``slice_transform`` finds it as the entry ``FOREGROUND_CLASS``. A slice or picture whose whole label is
    to be ignored (255) is none, and a view of which all is to be ignored is drawn again, a few times at most. After
    ``slice_transform``, an image of one value gets a faint grain: DCAU-Net has no finite gradient for one.

    Args:
        data: MONAI's datalist of volumes or pictures.
        transform: makes a dictionary of ``(C, H, W, D)`` arrays of one item of ``data``, or ``(C, H, W)`` of a picture.
        image_size: every slice is resized to it as the inferer does (images cubic, labels nearest); None keeps sizes.
        slice_transform: applied to a dictionary of ``(C, H, W)`` tensors.
        keys: the arrays that are sliced; others are left out.
        label_key: the label map that says which slices hold foreground; None if there is none.
        spatial_dim: the axis of the slices among the spatial ones; None for pictures.
        cache_rate: part of ``data`` kept in memory; each slice of the rest costs reading its volume. All are looked
            through once at the start.
        num_workers: threads that fill the cache.
        progress: whether filling the cache shows a progress bar.
        spacing: of a pixel in mm: every slice is resized to it instead of ``image_size``, so that it means the same in
            every scan; ``slice_transform`` cuts views of one size. None for slices of ``image_size``.

    Attributes:
        index: number in ``data`` and position of every slice.
        of_class: class -> the indices of all slices that hold it.
        foreground: whether a slice holds any.

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
        self.index: list[tuple[int, int]] = []
        self.of_class: dict[int, list[int]] = {}
        self._index_slices(data)
        self.foreground = np.full(len(self.index), label_key is None)
        for indices in self.of_class.values():
            self.foreground[indices] = True

    def _together(self, item: dict[str, Any]) -> dict[str, Any]:
        """Each slice in one piece of memory, which makes drawing one several times as fast."""
        axis = self.axis or 0
        return {**item, **{key: item[key].movedim(axis, 0).contiguous().movedim(0, axis) for key in self.keys}}

    def _index_slices(self, data: Sequence[dict[str, Any]]) -> None:
        """List every slice, and say which hold which class; a picture is a slice by itself."""
        for number in range(len(data)):
            volume = self._volume(number)
            first = volume[self.keys[0]]
            if any(volume[key].shape[1:] != first.shape[1:] for key in self.keys):
                sizes = ", ".join(f"{key} {tuple(volume[key].shape[1:])}" for key in self.keys)
                raise ValueError(f"monai_ext: {data[number]}: arrays of different size: {sizes}.")
            depth = 1 if self.axis is None else first.shape[self.axis]
            if self.label_key is None:
                self.index += [(number, position) for position in range(depth)]
                continue
            label = volume[self.label_key]
            slices = (label if self.axis is None else label.movedim(self.axis, 0)).reshape(depth, -1)
            # nothing can be learnt of a slice that nobody has looked at
            seen = (slices != IGNORE).any(dim=1).nonzero()[:, 0]
            for value, having in classes_of(slices[seen]).items():
                self.of_class.setdefault(value, []).extend((having + len(self.index)).tolist())
            self.index += [(number, int(position)) for position in seen]
        if not self.index:
            raise ValueError("monai_ext: SliceDataset: no slice to draw: every voxel of every label is to be ignored.")

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int | tuple[int, ...]) -> dict[Hashable, Any]:
        """The slice at ``item``, or at ``item[0]`` with its random transforms seeded by ``item[1]``.

        An ``item[2]`` is the class that ``slice_transform`` is to show, 0 for none.
        """
        index, seed, shown = of_sampler(item)
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
        sample = draw_seen(self.slice_transform, sample | shown, self.label_key)
        sample.pop(FOREGROUND_CLASS, None)
        for key in self.keys:
            if key != self.label_key:
                sample[key] = with_grain(sample[key])
        return sample

    def _volume(self, number: int) -> dict[str, torch.Tensor]:
        """The arrays of a volume as plain tensors: views of the cache, without the metadata of a MetaTensor."""
        volume = self.volumes[number]
        return {key: torch.as_tensor(volume[key]).as_subclass(torch.Tensor) for key in self.keys}


def draw_seen(transform: Callable, sample: dict[Hashable, Any], label_key: str | None) -> Any:
    """What a random transform makes of a sample, drawn again where nobody has looked at any of it."""

    def unseen(made: Any) -> bool:
        label = made.get(label_key) if isinstance(made, dict) else None
        return isinstance(label, torch.Tensor) and bool((label == IGNORE).all())

    with plain_tensors():
        for _ in range(TRIES):
            made = apply_transform(transform, dict(sample))
            if not any(map(unseen, made if isinstance(made, list) else [made])):
                break
    return made


def of_sampler(item: int | tuple[int, ...]) -> tuple[int, int | None, dict[Hashable, int]]:
    """Index, seed, and what a transform is told: all of it what :class:`SliceSampler` has drawn."""
    if not isinstance(item, tuple):
        return item, None, {}
    return item[0], item[1], {FOREGROUND_CLASS: item[2]} if len(item) > 2 else {}


def classes_of(labels: torch.Tensor) -> dict[int, torch.Tensor]:
    """Class -> the rows of ``labels`` ``(N, values)`` that hold it; what is ignored is none."""
    labels = torch.where(labels == IGNORE, 0, labels)
    values = range(1, int(labels.max()) + 1) if len(labels) else ()
    found = {value: (labels == value).any(dim=1).nonzero()[:, 0] for value in values}
    return {value: rows for value, rows in found.items() if len(rows)}


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

    With ``foreground_share`` it hands out ``(index, seed, class)``. Which samples are to show a class is no matter of
    chance: they are spread evenly, and each process has the same number in every run of ``batch_size`` samples, which
    is in every batch, wherever a training was resumed. It is ``batch_size * foreground_share``, rounded, as nnU-Net has
    it: 1 of 2, 3 of 8 for 0.33. The class is drawn, each as often as any other, and the sample has it: what is in few
    slices is seen, too. The dataset hands the class on to the transform that cuts views, ``RandViewd``; the other
    samples, of class 0, are cut anywhere.

    Args:
        dataset: the slices, pictures or patches.
        seed: seed of the run.
        foreground_weight: 0 takes every slice once an epoch; above 0 as many slices are drawn with replacement, a
            slice with foreground being ``1 + foreground_weight`` times as likely as one without.
        foreground_share: part of the samples that show a class.
        num_replicas: number of processes, by default that of the initialised process group.
        rank: this process.
        batch_size: of one process. None, or one of which the share rounds to nothing: ``foreground_share`` of the
            samples, spread evenly over batches.

    Raises:
        ValueError: if ``foreground_weight`` is negative, ``foreground_share`` not from 0 to 1, or ``batch_size`` less
            than 1.
    """

    def __init__(
        self,
        dataset: Dataset,
        seed: int = 0,
        foreground_weight: float = 0.0,
        num_replicas: int | None = None,
        rank: int | None = None,
        foreground_share: float = 0.0,
        batch_size: int | None = None,
    ) -> None:
        if foreground_weight < 0:
            raise ValueError(f"monai_ext: SliceSampler: foreground_weight must be at least 0, got {foreground_weight}.")
        if not 0 <= foreground_share <= 1:
            raise ValueError(f"monai_ext: SliceSampler: foreground_share must be from 0 to 1, got {foreground_share}.")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"monai_ext: SliceSampler: batch_size must be at least 1, got {batch_size}.")
        if not torch.distributed.is_initialized():
            num_replicas, rank = num_replicas or 1, rank or 0
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, seed=seed)
        self.foreground_weight = foreground_weight
        self.foreground_share = foreground_share
        batch = min(batch_size or 0, self.num_samples)  # an epoch may be shorter than a batch
        of_batch = Fraction(int(batch * foreground_share + 0.5), batch or 1)
        self.part = of_batch or Fraction(foreground_share).limit_denominator(1000)
        self.skip = 0

    def __iter__(self) -> Iterator[Any]:
        rng = np.random.default_rng((self.seed, self.epoch))
        count = len(self.dataset)  # type: ignore[arg-type]
        if self.foreground_weight > 0:
            weight = 1 + self.foreground_weight * self.dataset.foreground  # type: ignore[attr-defined]
            order = rng.choice(count, size=count, p=weight / weight.sum())
        else:
            order = rng.permutation(count)
        order = np.resize(order, self.total_size)  # every process gets as many: the first ones are taken twice
        shown = [self._show_classes(order, count, rng)] if self.foreground_share > 0 else []
        seeds = rng.integers(2**32, size=self.total_size)
        samples = [tuple(map(int, sample)) for sample in zip(order, seeds, *shown)][self.rank :: self.num_replicas]
        skipped, self.skip = self.skip, 0
        return iter(samples[skipped:])

    def _show_classes(self, order: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """The class that each sample is to show, or 0; where a sample has not got it, one that has takes its place."""
        shown = np.zeros(len(order), dtype=int)
        of_class: dict[int, list[int]] = self.dataset.of_class  # type: ignore[attr-defined]
        if not of_class:
            return shown
        classes = list(of_class)
        having = np.zeros((max(classes) + 1, count), dtype=bool)
        for value, indices in of_class.items():
            having[value, indices] = True
        own = np.arange(len(order)) // self.num_replicas  # a sample's place in its process
        before, after = (place * self.part.numerator // self.part.denominator for place in (own, own + 1))
        for place in np.flatnonzero(after > before):
            shown[place] = value = classes[rng.integers(len(classes))]
            if not having[value, order[place]]:
                order[place] = of_class[value][rng.integers(len(of_class[value]))]
        return shown
