# SPDX-License-Identifier: Apache-2.0
"""The README of a bundle of one's own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np

from .survey import Survey

__all__ = ["plain_text", "readme"]

TEXT = """# {name}

{summary}

Research only. Nothing here was validated for clinical use.

## Data

{data}

`datalist.json` lists the cases and their split; paths in it are relative to `dataset_dir` of `configs/train.json`.

## Choices

{choices}

Each is a knob at the top of `configs/train.json` and `configs/inference.json`, or in `datalist.json`; what training and
inference share has to be changed in both.

## Commands

From the folder that holds `bundles`:

```
python -m monai.bundle run --config_file bundles/{name}/configs/train.json
python -m monai.bundle run --config_file bundles/{name}/configs/train.json --resume true
python -m monai.bundle run --config_file "['bundles/{name}/configs/train.json','bundles/{name}/configs/evaluate.json']"
python -m monai_ext report bundles/{name}/eval
python -m monai_ext segment {name} FILE_OR_FOLDER OUTPUT
python -m monai_ext crossval --bundle {name}
python -m monai.bundle ckpt_export network_def --bundle_root bundles/{name} \
--config_file bundles/{name}/configs/inference.json
```

Training takes {epochs} epochs, the recipe's; `--epochs N` takes N. It writes `models/model.pt`, evaluation
`eval/report.html`.

## Verified here

Nothing yet: the bundle was made from the data, not trained.
"""


def readme(
    name: str,
    template: str,
    configs: Mapping[str, Any],
    classes: Sequence[str],
    parts: Mapping[str, Sequence[str]],
    found: Survey,
    choices: Sequence[str],
) -> str:
    """Return the text; every choice is there with its reason. Names of classes are text, never markup."""
    kind = "2D pictures" if found.pictures else f"volumes ({found.modality or 'neither CT nor MR'})"
    shapes = np.array([shape[: 2 if found.pictures else 3] for shape in found.shapes])
    lines = [f"* {len(shapes)} {kind}, {_range(shapes)} {'pixels' if found.pictures else 'voxels'}"]
    if found.spacings:
        lines.append(f"* voxels of {_range(np.array(found.spacings))} mm")
    lines.append(f"* label values {', '.join(map(str, found.values))}")
    network = configs["train"]["network_def"]["_target_"].rpartition(".")[2]
    summary = (
        f"Segments {plain_text(', '.join(classes))}. Network: `{network}`; recipe: that of the bundle `{template}`, "
        "whose README has its paper and what is inferred."
    )
    return TEXT.format(
        name=name,
        summary=fill(summary, 120),
        data="\n".join(lines),
        choices="\n".join(fill(f"* {plain_text(choice)}", 120, subsequent_indent="  ") for choice in choices),
        epochs=configs["train"]["epochs"],
    )


def plain_text(text: str) -> str:
    r"""What Markdown shows as ``text``, whatever is in it.

    Examples::

        >>> print(plain_text("<b>cyst</b>"))
        \<b\>cyst\</b\>
    """
    # an underscore inside a word, as in image_size, is one in Markdown too; a dash before a space may begin a list
    return re.sub(r"[\\`*\[\]<>#|&~]|(?<!\w)_|_(?!\w)|(?<!\S)[-+](?=\s)", r"\\\g<0>", text)


def _range(rows: np.ndarray) -> str:
    low, high = rows.min(axis=0), rows.max(axis=0)

    def text(row: np.ndarray) -> str:
        return "x".join(f"{value:.4g}" for value in row)

    return text(low) if np.array_equal(low, high) else f"{text(low)} to {text(high)}"
