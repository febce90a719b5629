# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_ext.apps.deploy``: the application inside a container, as MONAI Deploy's runners start one.

Three variables say where things are: ``HOLOSCAN_INPUT_PATH``, ``HOLOSCAN_OUTPUT_PATH`` and ``HOLOSCAN_MODEL_PATH``, a
bundle's folder, an exported ``model.ts``, or a folder with exactly one of these in it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from monai_ext.apps.deploy.command import deploy

__all__ = ["main", "model_in"]


def main() -> None:
    """Run; an error is one line and a non-zero exit status."""
    try:
        places = []
        for name in ("MODEL", "INPUT", "OUTPUT"):
            place = os.environ.get(f"HOLOSCAN_{name}_PATH")
            if not place:
                raise ValueError(f"monai_ext: HOLOSCAN_{name}_PATH is not set.")
            places.append(place)
        deploy(model_in(Path(places[0])), places[1], places[2])
    except (ValueError, FileNotFoundError) as e:
        sys.exit(str(e).splitlines()[0])


def model_in(place: Path) -> str:
    """The one model at ``place``: itself, or what lies in it.

    Raises:
        ValueError: if there is none, or more than one.
    """
    if place.is_file() or (place / "configs" / "inference.json").is_file():
        return str(place)
    found = [path.parents[1] for path in place.glob("*/configs/inference.json")]
    found += [path for path in place.rglob("*.ts") if not any(folder in path.parents for folder in found)]
    if len(found) != 1:
        names = ", ".join(sorted(path.name for path in found)) or "none"
        raise ValueError(f"monai_ext: {place}: expected one bundle or model.ts, found {names}.")
    return str(found[0])


if __name__ == "__main__":
    main()
