# SPDX-License-Identifier: Apache-2.0
"""A ``.pt2`` file read without trust.

``torch.export.load`` unpickles whatever a file asks it to, looks the functions of the graph up by name in all of
``torch``, evaluates the sizes with ``sympy`` and runs the guards as Python. So each part is held against what
``torch.export.save`` writes of a network of tensors, before PyTorch sees it; anything else is refused.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from typing import Any

import torch

__all__ = ["extra_of", "guarded_program"]

# what lies in the archive; compiled code (aotinductor) and pickled objects have other names
ENTRY = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)|models/model\.json"
    r"|extra/\w+\.json|data/(weights|constants)/(model_(weights|constants)_config\.json|(weight|tensor)_\d+)"
    r"|data/sample_inputs/model\.pt"
)
TARGET = re.compile(
    r"torch\.ops\.aten\.[a-z_]\w*\.\w+|torch\.sym_(max|min|int|float|not|ite|sum|sqrt)"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_|getitem)"
    r"|math\.(trunc|ceil|floor)"
)
# aten functions that reach beyond tensors
NO_TENSORS = re.compile(r"torch\.ops\.aten\._?(from_file|save|load)\b.*")
NAME = re.compile(r"(?!(.*\.)?__)[\w.]*")
TEXT = re.compile(r"[\w.,> -]*")  # such as the equation of einsum: an argument, which nobody evaluates
VERSION = re.compile(r"[\w.+-]*")
SIZE = re.compile(
    r"((Symbol|Integer|Rational|Add|Mul|Pow|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|IntTrueDiv)\("
    r"|'[su]\d+'|\b[su]\d+\b|\b(positive|integer|nonnegative)=True\b|\b\d{1,12}\b|[-+*/%(), ])*"
)
GUARD = re.compile(
    r"(L\['\w+'\]\.size\(\)\[\d\]|\b(max|min)\(|\b(and|or|not)\b|\b\d{1,12}\b|[-+*/%()<>=!, ])*"
)  # of sizes alone
NODE = r'\{"type": (null|"builtins\.(tuple|list|dict)"), "context": "?(null|\[\])"?, "children_spec": \['
SPECIFICATION = re.compile(rf"\[1, ({NODE}|\]\}}|, )*\]")


def guarded_program(path: str | os.PathLike) -> torch.export.ExportedProgram:
    """The program in a ``.pt2`` file, on the CPU.

    Raises:
        ValueError: says what the file holds that it may not, or that it is damaged.
    """
    parts = _parts(path)
    model = json.loads(parts["models/model.json"])
    _check_graph(model)
    for name in ("weights", "constants"):
        config = json.loads(parts[f"data/{name}/model_{name}_config.json"])
        for key, entry in config["config"].items():
            if entry.get("use_pickle") or not re.fullmatch(r"(weight|tensor)_\d+", str(entry.get("path_name"))):
                raise ValueError(f"{key} is no plain tensor")
    # PyTorch reads these with pickle where it cannot read them without
    torch.load(io.BytesIO(parts["data/sample_inputs/model.pt"]), weights_only=True)
    # what has been looked at is what PyTorch gets, whatever else the file's own archive may hold
    checked = io.BytesIO()
    with zipfile.ZipFile(checked, "w", zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            archive.writestr(f"model/{name}", content)
    checked.seek(0)
    return torch.export.load(checked)


def extra_of(path: str | os.PathLike, name: str) -> Any:
    """A JSON file that travels in a ``.pt2`` or a TorchScript file; None if there is none of that name."""
    with zipfile.ZipFile(path) as archive:
        found = next((entry for entry in archive.namelist() if entry.endswith(f"/extra/{name}.json")), None)
        return None if found is None else json.loads(archive.read(found))


def _parts(path: str | os.PathLike) -> dict[str, bytes]:
    """The files of the archive without its folder; reading compares their checksums."""
    parts: dict[str, bytes] = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.namelist():
            name = entry.partition("/")[2]
            if not ENTRY.fullmatch(name) or name in parts:
                raise ValueError(f"holds {entry!r:.80}, which no exported network has")
            parts[name] = archive.read(entry)
    return parts


def _check_graph(value: Any, key: str = "") -> None:
    """Raise unless every text of a graph is a name, a size, a guard over sizes or a function of tensors."""
    if isinstance(value, dict):
        for inner, content in value.items():
            if not NAME.fullmatch(inner) and not SIZE.fullmatch(inner):
                raise ValueError(f"its graph holds {inner!r:.80}")
            _check_graph(content, inner)
    elif isinstance(value, list):
        for content in value:
            _check_graph(content, key)
    elif isinstance(value, str):
        if key == "target":
            fits = TARGET.fullmatch(value) is not None and not NO_TENSORS.fullmatch(value)
        elif key == "guards_code":
            fits = GUARD.fullmatch(value) is not None
        elif key in ("in_spec", "out_spec"):
            fits = SPECIFICATION.fullmatch(value) is not None
        elif key == "expr_str":
            fits = SIZE.fullmatch(value) is not None
        elif key == "as_string":
            fits = TEXT.fullmatch(value) is not None
        elif key == "torch_version":
            fits = VERSION.fullmatch(value) is not None
        else:
            fits = (NAME.fullmatch(value) or SIZE.fullmatch(value)) is not None
        if not fits:
            raise ValueError(f"its graph has the {key or 'text'} {value!r:.80}, which no exported network has")
