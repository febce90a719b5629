# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from monai_ext.utils import plain_cause

__all__ = ["config_errors"]


@contextmanager
def config_errors(file: str | os.PathLike) -> Iterator[None]:
    """Turn what MONAI raises from deep within a run into one ValueError that names the config and the first cause.

    Errors with a message of this library are left as they are.

    Examples::

        >>> with config_errors("bundles/mine/configs/inference.json"):
        ...     workflow.run()
    """
    try:
        yield
    except Exception as e:
        if plain_cause(e):
            raise
        first: BaseException = e
        while cause := first.__cause__ or first.__context__:
            first = cause
        reason = (str(first).strip().splitlines() or [""])[0][:300]
        raise ValueError(f"monai_ext: {file}: does not work as a config ({type(first).__name__}: {reason}).") from e
