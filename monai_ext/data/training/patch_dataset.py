# SPDX-License-Identifier: Apache-2.0
"""Training patches of volumes that are kept in memory once, drawn by index and seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from monai.data import CacheDataset
from monai.transforms import Compose, Lambda, Randomizable
from monai.utils import ensure_tuple
from torch.utils.data import Dataset

from monai_ext.data.training.slice_dataset import classes_of, draw_seen, of_sampler, with_grain
from monai_ext.transforms import FOREGROUND_CLASS, ResizeVolumed

__all__ = ["VolumePatchDataset"]


class VolumePatchDataset(Dataset):
    """A number of random patches of each volume of a list, by index: :class:`SliceDataset` for networks in 3D.

    ``transform`` (loading, orientation, intensity: all that is not random) and ``index_transform`` (where the voxels of
    each class are, ``ClassesToIndicesd`` for instance) run once a volume, and their results stay in memory; worker
    processes share them. ``patch_transform`` crops a patch at random and augments it. It draws from a
    generator seeded by what ``SliceSampler`` hands out with the index, so a patch depends on seed, epoch and index
    only: not on the number of workers, nor on where a training was resumed. Where the sampler says which class a patch
    is to show, ``patch_transform`` finds it as the entry ``FOREGROUND_CLASS``. A patch whose whole label is to be
    ignored (255) teaches nothing and is drawn again, a few times at most. An image of one value gets a grain, as slices
    do.

    Args:
        data: MONAI's datalist of volumes.
        transform: makes a dictionary of one item of ``data``.
        patch_transform: makes a patch, or a list of them, of the entries ``keys`` of that dictionary.
        index_transform: adds what ``patch_transform`` needs to choose patches; None if nothing.
        keys: entries that ``patch_transform`` needs; others are left out.
        patches_per_volume: how many indices each volume has.
        cache_rate: part of ``data`` kept in memory; each patch of the rest costs reading its volume.
        num_workers: threads that fill the cache.
        progress: whether filling the cache shows a progress bar.
        spacing: of a voxel in mm, one number for each axis or one for all: volumes are resized to it once, so that it
            means the same in every scan; None leaves them on their own grid.
        label_key: the entry that is a label map, if there is one.

    Raises:
        ValueError: if ``data`` is empty or ``patches_per_volume`` not positive.

    Examples::

        >>> crop = RandSpatialCropd(["image", "label"], roi_size=(96, 96, 64), random_size=False)
        >>> patches = VolumePatchDataset(load_datalist("synapse", folder)["training"], preprocessing, crop)
        >>> patches[0]["image"].shape
        torch.Size([1, 96, 96, 64])
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        transform: Callable,
        patch_transform: Callable,
        index_transform: Callable | None = None,
        keys: Sequence[str] = ("image", "label"),
        patches_per_volume: int = 1,
        cache_rate: float = 1.0,
        num_workers: int | None = 1,
        progress: bool = True,
        spacing: Sequence[float] | float | None = None,
        label_key: str | None = "label",
    ) -> None:
        if not data:
            raise ValueError("monai_ext: VolumePatchDataset: no volume to draw patches from.")
        if patches_per_volume < 1:
            raise ValueError(f"monai_ext: patches_per_volume must be at least 1, got {patches_per_volume}.")
        self.keys = ensure_tuple(keys)
        self.patches_per_volume = patches_per_volume
        self.patch_transform = patch_transform
        self.label_key = label_key
        steps = [transform]
        if spacing is not None:
            resized = ["image"] if label_key is None else ["image", label_key]
            steps.append(ResizeVolumed(resized, spacing, ["antialiased", "nearest"][: len(resized)]))
        steps += [] if index_transform is None else [index_transform]
        transform = Lambda(Compose(steps))  # CacheDataset keeps nothing that a plain function made
        self.volumes = CacheDataset(
            data, transform, cache_rate=cache_rate, num_workers=num_workers, progress=progress, copy_cache=False
        )

    def __len__(self) -> int:
        return len(self.volumes) * self.patches_per_volume

    @cached_property
    def of_class(self) -> dict[int, list[int]]:
        """Class -> the indices of all volumes that hold it; each label is looked at once, when first asked."""
        found: dict[int, list[int]] = {}
        for number in range(len(self.volumes) if self.label_key is not None else 0):
            first, label = number * self.patches_per_volume, torch.as_tensor(self.volumes[number][self.label_key])
            for value in classes_of(label.as_subclass(torch.Tensor).reshape(1, -1)):
                found.setdefault(value, []).extend(range(first, first + self.patches_per_volume))
        return found

    def __getitem__(self, item: int | tuple[int, ...]) -> Any:
        """The patch at ``item``, or at ``item[0]`` with its random transforms seeded by ``item[1]``.

        An ``item[2]`` is the class that ``patch_transform`` is to show, 0 for none.
        """
        index, seed, shown = of_sampler(item)
        volume = self.volumes[index // self.patches_per_volume]
        sample: dict[Any, Any] = {key: volume[key] for key in self.keys}
        for key, value in sample.items():
            if isinstance(value, torch.Tensor):
                sample[key] = value.as_subclass(torch.Tensor)  # views of the cache without the metadata
        if seed is not None and isinstance(self.patch_transform, Randomizable):
            self.patch_transform.set_random_state(seed=seed)
        patches = draw_seen(self.patch_transform, sample | shown, self.label_key)
        for patch in patches if isinstance(patches, list) else [patches]:
            if isinstance(patch, dict):
                patch.pop(FOREGROUND_CLASS, None)
                if isinstance(image := patch.get("image"), torch.Tensor):
                    patch["image"] = with_grain(image)
        return patches
