# SPDX-License-Identifier: Apache-2.0
"""The command line: ``python -m monai_ext COMMAND``. Heavy imports wait until a command needs them."""

from __future__ import annotations

import sys
from typing import Any

import fire


def phantom(name: str, folder: str, cases: int | None = None) -> None:
    """Write a dataset's phantom cohort: synthetic data in the publisher's layout, without clinical meaning.

    Args:
        name: the dataset, such as synapse.
        folder: where to write it.
        cases: how many cases; by default as many as the dataset has.
    """
    from monai_ext.data import write_phantom

    write_phantom(name, folder, cases)
    print(f"{folder}: {name} phantom (phantom data, no clinical meaning)")


def convert(network: str, input: str, output: str, **arguments: Any) -> None:
    """Turn a checkpoint of the official repository into weights for a network here; nothing is dropped in silence.

    Args:
        network: the class, such as QTSeg.
        input: the official checkpoint.
        output: the file to write, such as models/model.pt of a bundle.
        arguments: the network's own, such as --in_channels 1 --out_channels 9.
    """
    from monai_ext.networks.weights import convert_reference

    print(f"{output}: {convert_reference(network, input, output, **arguments)} tensors for {network}")


def main() -> None:
    try:
        fire.Fire({"phantom": phantom, "convert": convert}, name="monai_ext")
    except (ValueError, FileNotFoundError) as e:
        message = str(e)
        sys.exit(message if message.startswith("monai_ext: ") else f"monai_ext: {message}")


if __name__ == "__main__":
    main()
