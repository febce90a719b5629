# SPDX-License-Identifier: Apache-2.0
"""One check for every network: does it compute what the authors' own code computed?"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
import torch.nn as nn

from monai_ext.networks import use_plain_path
from monai_ext.networks.weights import load_reference
from tests.data.parity import golden
from tests.networks.base import count_parameters

Forward = Callable[[nn.Module, torch.Tensor], "torch.Tensor | Mapping[str, torch.Tensor]"]


def _call(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return network(x)


def check_parity(
    network_factory: Callable[..., nn.Module], case_name: str, forward: Forward = _call, plain_gradients: bool = True
) -> None:
    """Run one case of ``tests/data/parity`` through both paths of our network, in float64 and eval mode.

    The official ``state_dict`` goes in through ``load_reference``. Held against the stored numbers: the parameter
    count, the outputs (on the grid and by their statistics), and three norms of gradients.

    Args:
        network_factory: builds the network.
        case_name: name of the case's files, without suffix.
        forward: gives the primary output, or several outputs by their stored names.
        plain_gradients: check the gradients of the plain path too, not only those of the fast one.
    """
    case = golden.load_case(case_name)
    state_dict = golden.build_state_dict(case)
    for fast in (True, False):
        network = use_plain_path(network_factory(), not fast)
        assert count_parameters(network) == case["params"]["total"]
        load_reference(network, state_dict)
        network = network.double().eval()

        with_gradients = fast or plain_gradients
        x = golden.build_input(case).double().requires_grad_(with_gradients)
        with torch.set_grad_enabled(with_gradients):
            outputs = forward(network, x)
        if isinstance(outputs, torch.Tensor):
            outputs = {case["primary_output"]: outputs}
        # what is stored was rounded to float32: a correct network shows 3e-8 to 6e-8 on the grid
        assert max(golden.grid_errors(case_name, outputs).values()) <= 2e-7, f"fast={fast}"
        assert max(golden.stats_errors(case, outputs).values()) <= 2e-7, f"fast={fast}"
        if with_gradients:
            _check_gradients(network, x, outputs[case["primary_output"]], case["grad"])


def _check_gradients(network: nn.Module, x: torch.Tensor, output: torch.Tensor, expected: Mapping[str, float]) -> None:
    projection = torch.from_numpy(np.random.default_rng(777).standard_normal(tuple(output.shape)))
    (of_projection,) = torch.autograd.grad((output * projection).sum(), x, retain_graph=True)
    output.sum().backward()
    of_parameters = [p.grad.norm() for p in network.parameters() if p.grad is not None]
    assert x.grad is not None
    got = {
        "input_grad_norm_sum": x.grad.norm().item(),
        "input_grad_norm_cot777": of_projection.norm().item(),
        "param_grad_norm_sum": torch.stack(of_parameters).norm().item(),
    }
    assert got == pytest.approx({key: expected[key] for key in got}, rel=1e-6, abs=0)
