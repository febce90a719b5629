# SPDX-License-Identifier: Apache-2.0
"""Values as a config takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from monai_ext.utils.switches import flag

if TYPE_CHECKING:
    import torch

__all__ = ["literal", "mixed_precision", "use_device"]


def literal(value: Any) -> Any:
    """A value that a config takes as it is, whatever text it holds.

    MONAI's parser runs a text that begins with ``$``, replaces ``@`` by what it refers to, reads the file that ``%``
    names, and writes ``::`` for ``#`` anywhere. A text with one of these comes back as an expression for itself; other
    values are unchanged. MONAI looks into lists and mappings, so this does too, but not into tuples.

    Examples::

        >>> literal("scan.nii.gz"), literal("$1+1"), literal("a@b")
        ('scan.nii.gz', "$'$1+1'", "$'a\\\\x40b'")
    """
    if isinstance(value, str) and (value.startswith(("$", "%")) or "@" in value or "#" in value):
        return "$" + ascii(str(value)).replace("@", "\\x40").replace("#", "\\x23")
    if isinstance(value, Mapping):
        return {key: literal(inner) for key, inner in value.items()}
    return [literal(inner) for inner in value] if isinstance(value, list) else value


def mixed_precision(amp: bool | int | str | None, device: str | int | torch.device) -> bool:
    """Whether to compute in mixed precision: if ``amp`` says so, on a GPU. Both as a command line gives them, too."""
    import torch

    return flag(amp) and torch.device(device).type == "cuda"


def use_device(device: str | int | torch.device) -> None:
    """Make a GPU the current one; nothing to do for another device, or one without a number."""
    import torch

    chosen = torch.device(device)
    if chosen.type == "cuda" and chosen.index is not None:
        torch.cuda.set_device(chosen)
