# SPDX-License-Identifier: Apache-2.0
"""Time of each network's fast path against its plain path, which goes by the paper's equations.

    python -m benchmarks.networks [--networks NAME ...] [--size 224 ...] [--backward] [--rounds 7]

Every network of ``monai_ext.networks.nets`` that has two paths is built with its default arguments, and copied. Both
run alternately in one process on one thread, on one 2D image in evaluation mode; a round gives one ratio, so that a
machine that slows down slows both. With ``--backward`` a run is forward and backward. The largest difference between
the two outputs is printed beside the largest output; the script stops if it is above a ten-thousandth of it (the tests
hold the paths together in double precision).
"""

from __future__ import annotations

import argparse
import copy
import inspect
import time
from statistics import median

import torch
import torch.nn as nn

from benchmarks.machine import cpu_model
from monai_ext.networks import nets, use_plain_path
from monai_ext.networks.paths import TwoPaths

TOLERANCE = 1e-4


def with_two_paths() -> list[str]:
    return [name for name in nets.__all__ if issubclass(getattr(nets, name), TwoPaths) and name != "DCAUNetEncoder"]


def build(name: str, size: int) -> tuple[nn.Module, nn.Module, torch.Tensor]:
    """Return the network's plain and fast form with equal weights, and an image for them."""
    network = getattr(nets, name)
    parameters = inspect.signature(network).parameters
    arguments = {"spatial_dims": 2}
    if "img_size" in parameters:
        arguments["img_size"] = size
    torch.manual_seed(0)
    fast = network(**arguments)
    images = torch.rand(2, parameters["in_channels"].default, size, size)
    give_statistics(fast, images)
    # without the order of weights in memory that some networks choose for their fast path
    plain = use_plain_path(copy.deepcopy(fast)).to(memory_format=torch.contiguous_format)
    return plain, fast, images[:1]


def give_statistics(network: nn.Module, x: torch.Tensor) -> None:
    """Let batch norm see images, as training does: without, activations of a new network grow from layer to layer."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        network.train()(x)
    network.eval()


def maps_of(output: torch.Tensor | list[torch.Tensor]) -> list[torch.Tensor]:
    return [output] if isinstance(output, torch.Tensor) else list(output)


def run(network: nn.Module, x: torch.Tensor, backward: bool) -> float:
    """Return the milliseconds of one run."""
    network.zero_grad()
    start = time.perf_counter()
    with torch.set_grad_enabled(backward):
        maps = maps_of(network(x))
    if backward:
        sum((y * y).mean() for y in maps).backward()
    return (time.perf_counter() - start) * 1e3


def compare(name: str, size: int, backward: bool, rounds: int) -> str:
    """Return one row of the table."""
    plain, fast, x = build(name, size)
    with torch.no_grad():
        pairs = list(zip(maps_of(plain(x)), maps_of(fast(x)), strict=True))
    error = max((a - b).abs().max().item() for a, b in pairs)
    largest = max(a.abs().max().item() for a, _ in pairs)
    if not error <= TOLERANCE * largest:
        raise SystemExit(f"{name} at {size}: the two paths differ by {error:.1e} in outputs of up to {largest:.1e}.")
    times: dict[nn.Module, list[float]] = {plain: [], fast: []}
    for i in range(rounds + 1):
        for network in (plain, fast) if i % 2 else (fast, plain):
            milliseconds = run(network, x, backward)
            if i > 0:  # the first round warms up
                times[network].append(milliseconds)
    ratios = [a / b for a, b in zip(times[plain], times[fast], strict=True)]
    return (
        f"| {name} | {size} | {median(times[plain]):.0f} | {median(times[fast]):.0f} | "
        f"x{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) | {error:.0e} of {largest:.2g} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=with_two_paths(), default=with_two_paths(), metavar="NAME")
    parser.add_argument("--size", nargs="+", action="extend", type=int, help="sides of the image, 224 by default")
    parser.add_argument("--backward", action="store_true", help="time forward and backward")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{cpu_model()}, 1 thread, torch {torch.__version__}, float32, {options.rounds} rounds")
    print(f"{'forward and backward' if options.backward else 'forward'}, one image\n")
    print("| network | size | plain ms | fast ms | ratio: median (min-max) | largest difference |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in options.networks:
        for size in options.size or [224]:
            print(compare(name, size, options.backward, options.rounds), flush=True)


if __name__ == "__main__":
    main()
