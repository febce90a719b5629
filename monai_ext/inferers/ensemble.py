# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import glob
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from monai.data import MetaTensor
from monai.utils import ensure_tuple

from monai_ext.inferers.outputs import check_logits
from monai_ext.networks import load_weights, ready_network

__all__ = ["ProbabilityEnsemble", "check_averages", "find_checkpoints", "with_weights"]

WEIGHTS = "model.pt"  # as training leaves them in a folder
Paths = str | os.PathLike | Sequence[str | os.PathLike]


class ProbabilityEnsemble(nn.Module):
    """Average the probabilities of several checkpoints, and of mirrored views, in the place of their one network.

    For each checkpoint the weights are loaded into ``network``, strictly, straight from the file; each view is
    mirrored, predicted and mirrored back. What comes out is the logarithm of the mean probability: softmax gives the
    mean probability itself, and arg-max its class, so the module stands in for the network in any inferer, for
    pictures, slices, windows or volumes. Memory holds one network and a few maps of probabilities, however many
    checkpoints there are.

    Checkpoints take turns on each call, so give an inferer batches as large as memory allows. One checkpoint is loaded
    once. The training mode of ``network`` is left as it is (MONAI's evaluators set it), gradients are not computed, and
    threads must not share one ensemble.

    Args:
        network: the network of all checkpoints.
        checkpoints: weights files, patterns or folders, see :func:`find_checkpoints`. Each file counts once.
        mirror_axes: spatial axes to mirror along; all combinations are averaged, four for two axes. Mirror only where
            training did, or where left and right mean the same.
        regions: of a network of regions, whose channels are a sigmoid each, what they are written as. Then what comes
            out is the log-odds of each region's mean probability: above 0 where that is above one half.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if no checkpoint is given, one is of another network or number of classes (what does not fit is
            listed), or ``mirror_axes`` are no different axes from 0 on; on a call, if the network returns anything but
            one tensor of logits for two classes or more, or the input lacks an axis to mirror.

    Shape:
        - input: ``(B, C, *spatial)``
        - output: ``(B, classes, *spatial)``, logarithms of probabilities, at least float32

    Examples::

        >>> network = UNetDCA(spatial_dims=2, in_channels=1, out_channels=9)
        >>> ensemble = ProbabilityEnsemble(network, "models/fold*/model.pt", mirror_axes=(0, 1)).eval()
        >>> labels = SliceBatchInferer(image_size=(224, 224))(volume, ensemble)
    """

    def __init__(
        self,
        network: nn.Module,
        checkpoints: Paths,
        mirror_axes: Sequence[int] = (),
        regions: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        axes = ensure_tuple(mirror_axes)
        if any(not isinstance(axis, int) or axis < 0 for axis in axes) or len(set(axes)) < len(axes):
            raise ValueError(f"monai_ext: mirror_axes must be different spatial axes from 0 on, got {mirror_axes!r}.")
        self.network = network
        self.regions = list(regions) if regions else None
        self.checkpoints = find_checkpoints(checkpoints)
        self.views = [
            tuple(axis + 2 for axis in chosen)
            for count in range(len(axes) + 1)
            for chosen in itertools.combinations(axes, count)
        ]
        for path in self.checkpoints:  # what does not fit shows before the work begins
            load_weights(network, path, mmap=True)

    @torch.no_grad()
    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return the logarithm of the mean probability; ``args`` and ``kwargs`` go to the network."""
        if max(self.views[-1], default=0) >= x.dim():
            raise ValueError(
                f"monai_ext: mirror_axes {[axis - 2 for axis in self.views[-1]]} for an input with {x.dim() - 2} "
                "spatial axes."
            )
        plain = x.as_tensor() if isinstance(x, MetaTensor) else x
        count = math.log(len(self.checkpoints) * len(self.views))
        inside = reduce(torch.logaddexp, self._log_probabilities(plain, *args, **kwargs)) - count
        # of regions: the logarithms of both sides' means, one behind the other
        result = torch.sub(*inside.chunk(2, dim=1)) if self.regions else inside
        return MetaTensor(result).copy_meta_from(x) if isinstance(x, MetaTensor) else result

    def _log_probabilities(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> Iterator[torch.Tensor]:
        """One map after the other, of each checkpoint and view."""
        for path in self.checkpoints:
            if len(self.checkpoints) > 1:
                load_weights(self.network, path, mmap=True)
            for axes in self.views:
                output = self.network(x.flip(axes), *args, **kwargs)
                if not self.regions and isinstance(output, torch.Tensor) and output.shape[1:2] == (1,):
                    raise ValueError("monai_ext: an ensemble needs a channel for each class, background too; got one.")
                logits = check_logits(output, x, "an input", self.regions).flip(axes)
                if self.regions:
                    yield nn.functional.logsigmoid(torch.cat([logits, -logits], dim=1))
                else:
                    yield logits.log_softmax(dim=1)


def with_weights(
    network: nn.Module,
    checkpoints: Paths,
    device: torch.device | str = "cpu",
    backend: str = "auto",
    precision: str = "auto",
    refuse_zero: bool = True,
    regions: Sequence[int] | None = None,
) -> nn.Module:
    """The network with its weights, ready to use, or where these are several, the :class:`ProbabilityEnsemble` of them.

    Args:
        network: whose weights they are.
        checkpoints: one weights file, or a list of them.
        device: where to compute.
        backend: of one network, see :func:`~monai_ext.networks.ready_network`; an ensemble computes with PyTorch.
        precision: likewise; an ensemble computes in float32.
        refuse_zero: see :func:`~monai_ext.networks.load_weights`.
        regions: see :class:`ProbabilityEnsemble`.

    Raises:
        FileNotFoundError, ValueError: as ``ready_network`` and ``ProbabilityEnsemble`` do; for a backend or precision
            that an ensemble has not.

    Examples::

        >>> network = UNetDCA(spatial_dims=2, in_channels=1, out_channels=9)
        >>> type(with_weights(network, ["fold0.pt", "fold1.pt"])).__name__
        'ProbabilityEnsemble'
    """
    paths = [checkpoints] if isinstance(checkpoints, (str, os.PathLike)) else list(checkpoints)
    if len(paths) == 1:
        return ready_network(network, paths[0], device, backend, precision, refuse_zero)
    check_averages(backend, precision)
    return ProbabilityEnsemble(network.to(device), paths, regions=regions).eval()


def check_averages(backend: str, precision: str) -> None:
    """Refuse a way to compute that averages do not have: they load weights in turns into one network of PyTorch's.

    Raises:
        ValueError: names the knob.
    """
    for knob, value in (("backend", backend), ("precision", precision)):
        if value not in ("auto", "torch", "float32"):
            raise ValueError(
                f"monai_ext: --{knob} {value}: averages, of several models or with --tta, compute with torch in "
                f"float32. Leave --{knob} out, or give one model (--ensemble false, or --checkpoint FILE)."
            )


def find_checkpoints(paths: Paths) -> list[str]:
    """Weights files by name, pattern or folder, each once.

    Args:
        paths: one or several of: a file; a pattern such as ``"models/fold*/model.pt"``; a folder, which stands for the
            ``model.pt`` in it or, without one, those in the folders right below it.

    Raises:
        FileNotFoundError: if a pattern or folder leads to no file.
        ValueError: if ``paths`` is empty.

    Examples::

        >>> find_checkpoints("models")
        ['models/fold0/model.pt', 'models/fold1/model.pt']
    """
    found: dict[Path, str] = {}
    for path in [paths] if isinstance(paths, (str, os.PathLike)) else paths:
        entry = os.fspath(path)
        matches = sorted(glob.glob(entry)) if glob.has_magic(entry) else [entry]
        files = [file for match in matches for file in (_in_folder(Path(match)) if os.path.isdir(match) else [match])]
        if not files:
            raise FileNotFoundError(
                f"monai_ext: {entry}: no weights there. Expected a file, a pattern that some file matches, or a folder "
                f"with {WEIGHTS} in it or in the folders below it."
            )
        for file in files:
            found.setdefault(Path(file).resolve(), file)
    if not found:
        raise ValueError("monai_ext: no checkpoint is given: name at least one weights file, pattern or folder.")
    return list(found.values())


def _in_folder(folder: Path) -> list[str]:
    here = folder / WEIGHTS
    return [str(here)] if here.is_file() else sorted(map(str, folder.glob(f"*/{WEIGHTS}")))
