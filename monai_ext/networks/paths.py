# SPDX-License-Identifier: Apache-2.0
"""The plain path of a network, which goes by the papers' equations, and its fast one, which gives the same numbers."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import torch.nn as nn

__all__ = ["TwoPaths", "use_plain_path"]

Network = TypeVar("Network", bound=nn.Module)


class TwoPaths(nn.Module):
    """A module that has a fast path beside the plain one, itself or in its parts; :func:`use_plain_path` chooses.

    Attributes:
        fast: the path that ``forward`` takes; for TorchScript a constant, so that only this path is compiled.
    """

    __constants__ = ["fast"]
    fast = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _taking_fast(cls.__init__)  # type: ignore[method-assign]


def use_plain_path(network: Network, plain: bool = True) -> Network:
    """Turn a built network, or block, to its plain path, or with ``plain=False`` back to the fast one it begins with.

    Numbers, parameters and ``state_dict`` are the same. Script, export or compile afterwards.

    Returns:
        ``network`` itself.

    Raises:
        ValueError: if nothing in it has two paths, as in a network of another library or one that is scripted already.

    Examples::

        >>> net = use_plain_path(UNetDCA(spatial_dims=2, in_channels=1, out_channels=9))
    """
    modules = [module for module in network.modules() if isinstance(module, TwoPaths)]
    if not modules:
        raise ValueError(f"monai_ext: {type(network).__name__} has no two paths; switch before scripting it.")
    for module in modules:
        module.fast = not plain
    return network


def _taking_fast(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor that still takes the keyword ``fast``, by which calls and configs chose the path once."""

    @functools.wraps(init)
    def wrapped(self: TwoPaths, *args: Any, fast: bool | None = None, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if fast is not None:
            message = f"monai_ext: {type(self).__name__}: instead of fast=, call use_plain_path on what was built."
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            use_plain_path(self, not fast)

    return wrapped
