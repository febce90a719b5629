# SPDX-License-Identifier: Apache-2.0
"""One check for networks with parameters that cannot matter: are they the same ones as in the authors' own code?"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn as nn

from monai_ext.networks import use_plain_path
from monai_ext.networks.weights import load_reference
from tests.data.parity import golden


def check_inert(network_factory: Callable[..., nn.Module], case_name: str, size: tuple[int, ...]) -> None:
    """Hold the parameters without a gradient against the stored ``zero_grad_params``, in float64, for both paths.

    Args:
        network_factory: builds the network.
        case_name: name of the case's files, without suffix.
        size: spatial size of the input; smaller than the case's own saves time.
    """
    case = golden.load_case(case_name)
    theirs = case["grad"]["zero_grad_params"]
    state = golden.build_state_dict(case)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, case["input"]["shape"][1], *size, dtype=torch.float64, generator=generator)
    for fast in (True, False):
        network = use_plain_path(network_factory(), not fast)
        load_reference(network, {key: torch.full_like(value, 1 + (key in theirs)) for key, value in state.items()})
        expected = {name for name, p in network.named_parameters() if (p == 2).all()}
        assert len(expected) == len(theirs)

        load_reference(network, state)
        network = network.double().eval()
        y = network(x)
        (y * torch.randn(y.shape, dtype=y.dtype, generator=generator)).sum().backward()
        sizes = {n: 0.0 if p.grad is None else p.grad.abs().max().item() for n, p in network.named_parameters()}
        # rounding leaves 1e-16 of the largest, the least live parameter has 1e-5 of it
        assert {name for name, s in sizes.items() if s < 1e-10 * max(sizes.values())} == expected, f"fast={fast}"
