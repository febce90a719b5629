# SPDX-License-Identifier: Apache-2.0
"""How long one waits: ``import monai_ext`` beside ``import monai``, and the help of the command line.

    python -m benchmarks.startup [--rounds 9]

Whole processes, taking turns in one run; the first round of each warms the disk's cache and is not counted.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from statistics import median

COMMANDS = {
    "python": ["-c", "pass"],
    "import monai": ["-c", "import monai"],
    "import monai, monai_ext": ["-c", "import monai, monai_ext"],
    "import monai_ext": ["-c", "import monai_ext"],
    "python -m monai_ext --help": ["-m", "monai_ext", "--help"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for i in range(rounds + 1):
        for name, arguments in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-W", "ignore", *arguments], check=True, capture_output=True)
            if i:
                times[name].append(time.perf_counter() - start)
    print("| | s, median (range) |\n|---|---|")
    for name, values in times.items():
        print(f"| {name} | {median(values):.2f} ({min(values):.2f}-{max(values):.2f}) |")


if __name__ == "__main__":
    main()
