# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_ext.apps.deploy``: the application inside a container, as MONAI Deploy's runners start one.

Three variables say where things are: ``HOLOSCAN_INPUT_PATH``, ``HOLOSCAN_OUTPUT_PATH`` and ``HOLOSCAN_MODEL_PATH``, a
bundle's folder, an exported ``model.ts``, or a folder with exactly one of these in it.
"""

from __future__ import annotations

import os
import sys

from monai_ext.apps.deploy.command import deploy
from monai_ext.utils import plain_cause

__all__ = ["main"]


def main() -> None:
    """Run; an error is one line and a non-zero exit status."""
    try:
        places = []
        for name in ("MODEL", "INPUT", "OUTPUT"):
            place = os.environ.get(f"HOLOSCAN_{name}_PATH")
            if not place:
                raise ValueError(f"monai_ext: HOLOSCAN_{name}_PATH is not set.")
            places.append(place)
        deploy(places[0], places[1], places[2])
    except Exception as e:
        cause = plain_cause(e, "deploy")
        if cause is None and not isinstance(e, (ValueError, OSError)):
            raise
        sys.exit(cause or f"monai_ext: {(str(e).splitlines() or [type(e).__name__])[0]}")


if __name__ == "__main__":
    main()
