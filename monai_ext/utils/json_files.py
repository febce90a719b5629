# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import codecs
import json
import os
from pathlib import Path
from typing import Any

from .files import replacing

__all__ = ["read_json", "write_json"]

LARGEST = 1 << 28  # bytes
MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_json(path: str | os.PathLike, what: str) -> Any:
    """The content of a JSON file.

    Args:
        path: the file.
        what: it is, for errors.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is no file, or no valid JSON; the file is named.

    Examples::

        >>> read_json("cases.json", "datalist")["training"]
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"monai_ext: {what} {path}: no such file.")
    if not path.is_file() or path.stat().st_size > LARGEST:
        raise ValueError(f"monai_ext: {what} {path}: is no JSON file.")
    try:
        content = path.read_bytes()
        # as Windows writes it: with a mark at the start that tells the encoding
        return json.loads(content if content.startswith(MARKS) else content.decode("utf-8"))
    except RecursionError as e:
        raise ValueError(f"monai_ext: {what} {path}: no valid JSON (nested too deeply).") from e
    except ValueError as e:
        raise ValueError(f"monai_ext: {what} {path}: no valid JSON ({e}).") from e


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Replace a JSON file in one step.

    Examples::

        >>> write_json("split.json", {"training": ["0005"], "test": ["0001"]})
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
