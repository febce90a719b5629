# SPDX-License-Identifier: Apache-2.0
"""What is measured of one image and its label, without a truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.inferers import Inferer

from monai_ext.inferers import SliceBatchInferer
from monai_ext.inferers.outputs import check_logits
from monai_ext.transforms.score_labels import labels_of

__all__ = ["VIEWS", "Looker", "agreement", "feature_layers", "some_slices"]

SLICES = 16  # of a volume, which stand for all of them
LEVELS = 7  # halvings of the network's input at which features are looked for
QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
#: changes that a reader would not mind, by the noise, contrast, blur and sampling of another scanner
VIEWS = ("noise", "weaker", "stronger", "smooth", "small")


def some_slices(x: torch.Tensor, inferer: Inferer, most: int = SLICES) -> torch.Tensor | MetaTensor:
    """A volume's slices that stand for all, evenly spaced; what is no volume of slices as it is.

    Args:
        x: ``(1, C, *spatial)``, an image or its label.
        inferer: which tells along which axis slices lie.
        most: how many.
    """
    if x.dim() != 5 or not isinstance(inferer, SliceBatchInferer) or x.shape[inferer.spatial_dim + 2] <= most:
        return x
    axis = inferer.spatial_dim + 2
    chosen = np.linspace(0, x.shape[axis] - 1, most).round().astype(int)
    plain = x.as_tensor() if isinstance(x, MetaTensor) else x
    some = plain.index_select(axis, torch.as_tensor(chosen, device=plain.device))
    return MetaTensor(some).copy_meta_from(x) if isinstance(x, MetaTensor) else some


def view(x: torch.Tensor, kind: str) -> torch.Tensor:
    """An image as it might have been taken, too, see ``VIEWS``; on its grid, and always the same."""
    plain = x.as_tensor() if isinstance(x, MetaTensor) else x
    low, high = plain.amin(), plain.amax()
    scale = (high - low).clamp(min=1e-6)
    if kind == "noise":
        random = torch.Generator().manual_seed(0)
        changed = plain + 0.06 * scale * torch.randn(plain.shape, generator=random).to(plain)
    elif kind in ("weaker", "stronger"):
        middle = (low + high) / 2
        changed = middle + (plain - middle) * (0.8 if kind == "weaker" else 1.25)
    else:
        axes = [k for k in range(2, plain.dim()) if plain.shape[k] > 8][:2]  # in the plane of slices
        planes = plain.movedim(axes, (-2, -1))
        flat = planes.reshape(-1, 1, *planes.shape[-2:])
        if kind == "smooth":
            flat = F.avg_pool2d(F.pad(flat, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        else:
            size = flat.shape[-2:]
            less = [max(8, round(0.6 * side)) for side in size]
            flat = F.interpolate(flat, less, mode="bilinear", antialias=True)
            flat = F.interpolate(flat, size, mode="bilinear")
        changed = flat.reshape(planes.shape).movedim((-2, -1), axes)
    changed = changed.clamp(low, high)
    return MetaTensor(changed).copy_meta_from(x) if isinstance(x, MetaTensor) else changed


def agreement(a: torch.Tensor, b: torch.Tensor, values: Sequence[int]) -> np.ndarray:
    """Dice of two label maps for each label value; NaN for one that neither has.

    Examples::

        >>> agreement(torch.tensor([1, 1, 0, 2]), torch.tensor([1, 0, 0, 2]), (1, 2, 3))
        array([0.66666667, 1., nan])
    """
    count = max(values) + 1
    first, second = (part.reshape(-1).long().clamp(max=count) for part in (a, b))
    sizes = torch.bincount(first, minlength=count + 1) + torch.bincount(second, minlength=count + 1)
    both = torch.bincount(first[first == second], minlength=count + 1)
    chosen = [*values]
    with np.errstate(invalid="ignore"):
        return 2 * both.numpy()[chosen] / np.where((of := sizes.numpy()[chosen]) > 0, of, np.nan)


def feature_layers(network: nn.Module, x: torch.Tensor) -> list[str]:
    """Names of the modules whose outputs are a network's encoder: the last of each size up to the end of the smallest.

    Sizes are the input's, halved some times, by axis; what has another size (a pooled vector, a kernel) is no map.

    Args:
        network: in evaluation mode.
        x: what it is given, ``(B, C, *spatial)``.

    Examples::

        >>> feature_layers(DCAUNet(2, 1, 9).eval(), torch.rand(1, 1, 64, 64))[:3]
        ['encoder.stages.0', 'encoder.stages.1', 'encoder.stages.2']
    """
    possible = [{-(-side // 2**k) for k in range(LEVELS)} for side in x.shape[2:]]
    twice = torch.cat([x, x])  # what does not depend on the batch is none
    seen: list[tuple[str, tuple[int, ...]]] = []

    def look(name: str, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.dim() == x.dim() and len(output) == len(twice):
            shape = tuple(output.shape[2:])
            if all(side in sides for side, sides in zip(shape, possible)):
                seen.append((name, shape))

    with _watched({name: module for name, module in network.named_modules() if name}, look), torch.no_grad():
        network(twice)
    if not seen:
        raise ValueError(f"monai_ext: {type(network).__name__} has no maps of features to look at.")
    smallest = min((shape for _, shape in seen), key=lambda shape: int(np.prod(shape)))
    end = max(k for k, (_, shape) in enumerate(seen) if shape == smallest)
    whole = tuple(x.shape[2:])
    last = {shape: name for name, shape in seen[: end + 1] if shape != whole or shape == smallest}
    return list(dict.fromkeys(last.values()))


@contextmanager
def _watched(modules: Mapping[str, nn.Module], look: Callable[[str, Any], None]) -> Iterator[None]:
    hooks = [m.register_forward_hook(lambda _, __, out, name=name: look(name, out)) for name, m in modules.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@dataclass
class Looker:
    """Labels of images by one network, and what the network saw on its way to them.

    Args:
        network: with its weights, in evaluation mode.
        inferer: the bundle's.
        regions: values of the regions, where classes are regions.
        layers: names of the layers to look at; found on the first call if there are none.
        statistics: how many features are of the image's values; known after the first call.
    """

    network: nn.Module
    inferer: Inferer
    regions: Sequence[int] | None = None
    layers: list[str] = field(default_factory=list)
    statistics: int = 0

    @torch.no_grad()
    def labels(self, x: torch.Tensor) -> torch.Tensor:
        """The label map of ``(1, C, *spatial)``, on its grid."""
        found: Any = self.inferer(x, self.network)
        plain = found.as_tensor() if isinstance(found, MetaTensor) else found
        if plain.is_floating_point():
            return labels_of(check_logits(plain, x, "an image", self.regions), regions=self.regions).cpu()
        return plain.cpu()

    @torch.no_grad()
    def look(self, x: torch.Tensor) -> tuple[torch.Tensor, np.ndarray]:
        """The label map, and a row of features for each slice or window that the network was given.

        Features are the means of the layers' maps, and of what the network was given itself: quantiles, the shares of
        its least and largest value, and how rough it is.
        """
        low, high = (float(value) for value in torch.aminmax(x))
        rows: list[torch.Tensor] = []
        pooled: dict[str, torch.Tensor] = {}

        def look(name: str, output: torch.Tensor) -> None:
            if name:
                pooled[name] = output.float().flatten(2).mean(dim=2)

        def done(_: nn.Module, inputs: tuple[Any, ...], __: Any) -> None:
            if pooled:
                parts = [pooled[name] for name in self.layers]
                values = statistics(inputs[0].float(), low, high)
                self.statistics = values.shape[1]
                rows.append(torch.cat([values, *parts], dim=1).cpu())

        if not self.layers:
            self.layers = feature_layers(self.network, self._first_input(x))
        modules = dict(self.network.named_modules())
        with _watched({name: modules[name] for name in self.layers}, look):
            end = self.network.register_forward_hook(done)
            try:
                labels = self.labels(x)
            finally:
                end.remove()
        return labels, torch.cat(rows).double().numpy()

    def _first_input(self, x: torch.Tensor) -> torch.Tensor:
        """What the network is given of an image, one slice or window."""
        given: list[torch.Tensor] = []
        hook = self.network.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0][:1]))
        try:
            self.labels(some_slices(x, self.inferer, 1))
        finally:
            hook.remove()
        return given[0]


def statistics(x: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Of ``(B, C, *spatial)``, by channel: quantiles between the extremes, shares of these, and roughness."""
    flat = x.as_tensor() if isinstance(x, MetaTensor) else x
    values = flat.flatten(2)
    inside = torch.where((values > low) & (values < high), values, torch.nan)
    quantiles = torch.nanquantile(inside, torch.tensor(QUANTILES, device=values.device), dim=2)
    extremes = [(values <= low).float().mean(dim=2), (values >= high).float().mean(dim=2)]
    rough = [flat.diff(dim=axis).abs().flatten(2).mean(dim=2) for axis in range(2, flat.dim()) if flat.shape[axis] > 1]
    return torch.cat([*quantiles.nan_to_num(0.0), *extremes, torch.stack(rough).mean(dim=0)], dim=1)
