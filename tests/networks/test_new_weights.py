# SPDX-License-Identifier: Apache-2.0
"""Networks of published size as their constructors leave them."""

import inspect

import pytest
import torch

from monai_ext.networks import nets

FLOAT16_MAX = 65504


@pytest.mark.parametrize("name", nets.__all__)
def test_training_fits_float16(name):
    """Bundles train in float16 on a GPU: maps near its largest number become infinite, and no step is ever taken."""
    network = getattr(nets, name)
    known = inspect.signature(network).parameters
    torch.manual_seed(0)
    net = network(spatial_dims=2, **{k: v for k, v in {"in_channels": 3, "img_size": 64}.items() if k in known}).train()
    largest = {}

    def note(module, inputs, outputs):
        for y in outputs if isinstance(outputs, (list, tuple)) else [outputs]:
            if torch.is_tensor(y):
                largest[type(module).__name__] = max(largest.get(type(module).__name__, 0), float(y.abs().max()))

    for module in net.modules():
        module.register_forward_hook(note)
    with torch.no_grad():
        net(torch.rand(2, 3, 64, 64))
    assert {kind: value for kind, value in largest.items() if not value < FLOAT16_MAX / 16} == {}
