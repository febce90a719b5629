# SPDX-License-Identifier: Apache-2.0
"""How much memory a step of training takes, counted without taking it."""

from __future__ import annotations

import re
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["WORKSPACE", "memory_option", "step_bytes"]

CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)
WORKSPACE = 1.35  # what a step takes over what is counted, at the most
UNITS = {"MB": 10**6, "MIB": 1 << 20, "GB": 10**9, "GIB": 1 << 30}


def memory_option(value: Any) -> int:
    """A stated memory as bytes.

    Raises:
        ValueError: for anything but a number with its unit.

    Examples::

        >>> memory_option("8GB")
        8000000000
    """
    said = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([GM]i?B)", str(value).strip(), re.IGNORECASE)
    if said is None or float(said[1]) <= 0:
        raise ValueError(f"monai_ext: --memory {value}: expected a number and its unit, such as 8GB or 500MB.")
    return int(float(said[1]) * UNITS[said[2].upper()])


def step_bytes(network: torch.nn.Module, shape: Sequence[int]) -> int:
    """The most memory that one training step of a network takes, in bytes.

    The step runs on tensors that have shapes and no values (PyTorch's ``FakeTensorMode``), so it costs neither the
    memory nor the arithmetic that it tells of. What lives at once is counted: parameters, their gradients, everything
    that forward keeps for backward, a loss of Dice and cross entropy, and while a convolution is computed its inputs and
    outputs once more, in the layout of the library that does it; to that come the two moments of Adam. It is a count in float32: mixed precision takes less. What a library takes for itself (a convolution's workspace, an
    allocator's rounding) is not in it: on a CPU processes grew by 0.84 (QTSeg) to 1.31 times (DCA U-Net of three
    levels) as much. ``WORKSPACE`` is what a plan leaves for it.

    Args:
        network: as it would be trained; it keeps its weights, and has no gradients afterwards.
        shape: of the input, ``(B, C, *spatial)``.

    Raises:
        ValueError: as ``network`` raises it for a shape that it cannot have.

    Examples::

        >>> step_bytes(torch.nn.Conv3d(1, 2, 3, padding=1), (2, 1, 32, 32, 32)) > 2**20
        True
    """
    live = _Live()
    held = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    own = sum(value.numel() * value.element_size() for value in held.values())
    learnt = sum(value.numel() * value.element_size() for value in network.parameters() if value.requires_grad)
    mode = FakeTensorMode(allow_non_fake_inputs=True)  # constants of a block
    like = {key: mode.from_tensor(value.detach()) for key, value in held.items()}
    for key, parameter in network.named_parameters():
        like[key].requires_grad_(parameter.requires_grad)
    with mode:
        training = network.training
        network.train()
        try:
            with live:
                output = functional_call(network, like, (torch.empty(tuple(shape)),))
                several = [output] if isinstance(output, torch.Tensor) else list(output)  # deep supervision
                torch.stack([_loss(logits) for logits in several]).sum().backward()
        finally:
            network.train(training)
            network.zero_grad(set_to_none=True)  # of weights that blocks share, without values
    return own + 2 * learnt + live.peak


def _loss(logits: torch.Tensor) -> torch.Tensor:
    """What Dice and cross entropy keep; MONAI's own asks for values."""
    truth = torch.empty_like(logits)
    probabilities = logits.softmax(dim=1)
    overlap = (probabilities * truth).sum() / (probabilities.square().sum() + truth.square().sum())
    return overlap + (logits.log_softmax(dim=1) * truth).sum()


class _Live(TorchDispatchMode):
    """Count the bytes of all storages that were made inside and still live, and the most that there were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.seen: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, torch.Tensor):
                self._note(value.untyped_storage())
        if func in CONVOLUTIONS:
            copies = [value.nbytes for value in tree_leaves((args, out)) if isinstance(value, torch.Tensor)]
            self.peak = max(self.peak, self.now + sum(copies))
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self.seen:
            return

        def gone(_: weakref.ref) -> None:
            self.seen.pop(key, None)
            self.now -= size

        self.seen[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)
