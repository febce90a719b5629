# SPDX-License-Identifier: Apache-2.0
"""One switch chooses between the plain path and the fast one; that they agree is tested with each network and block."""

from __future__ import annotations

import copy
import inspect
import pickle
import warnings

import pytest
import torch
from monai.bundle import ConfigParser

from monai_ext.networks import use_plain_path
from monai_ext.networks.blocks import DCABlock, DifferentialCrossAttention, SpatialReductionAttention
from monai_ext.networks.nets import DCAUNet, UNetDCA, XAttnResEMCAD
from monai_ext.networks.paths import TwoPaths


def paths(network: torch.nn.Module) -> set[bool]:
    return {module.fast for module in network.modules() if isinstance(module, TwoPaths)}


def test_the_switch_reaches_every_part_and_goes_back():
    net = DCAUNet(depths=(1, 1, 1, 1))
    assert paths(net) == {True}
    assert use_plain_path(net) is net
    assert paths(net) == {False}
    assert paths(use_plain_path(net.encoder, False)) == {True}
    assert paths(net) == {True, False}
    assert paths(use_plain_path(net, plain=False)) == {True}
    assert paths(DCAUNet(depths=(1, 1, 1, 1))) == {True}  # no other network is touched


def test_copies_keep_the_path():
    net = use_plain_path(DCABlock(2, 64))
    assert paths(copy.deepcopy(net)) == paths(pickle.loads(pickle.dumps(net))) == {False}


def test_only_the_path_in_use_is_compiled():
    block = SpatialReductionAttention(2, 8, num_heads=2, reduction=2).eval()
    assert "scaled_dot_product_attention" in torch.jit.script(block).code
    scripted = torch.jit.script(use_plain_path(block))
    assert "scaled_dot_product_attention" not in scripted.code
    with pytest.raises(ValueError, match="monai_ext: .* has no two paths; switch before scripting"):
        use_plain_path(scripted)
    with pytest.raises(ValueError, match="monai_ext: Linear has no two paths"):
        use_plain_path(torch.nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (DifferentialCrossAttention, {"spatial_dims": 2, "channels": 64}),
        (UNetDCA, {"features": (8, 16, 32), "attention": False}),  # a constructor that is the base's
        (XAttnResEMCAD, {"encoder": "pvt_v2_b0"}),  # one that calls the base's
    ],
)
def test_old_calls_choose_the_path_and_are_told(kind, arguments):
    assert "fast" not in inspect.signature(kind).parameters
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        net = kind(**arguments)
    for fast in (True, False):
        with pytest.warns(DeprecationWarning, match=f"monai_ext: {kind.__name__}: instead of fast=") as seen:
            old = kind(**arguments, fast=fast)
        assert len(seen) == 1 and seen[0].filename == __file__
        assert paths(old) == {fast}
        assert list(old.state_dict()) == list(net.state_dict())


def test_old_configs_choose_the_path():
    config = {"net": {"_target_": "monai_ext.networks.nets.DCAUNet", "depths": [1, 1, 1, 1], "fast": False}}
    with pytest.warns(DeprecationWarning, match="monai_ext: DCAUNet"):
        assert paths(ConfigParser(config).get_parsed_content("net")) == {False}
