# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch

from monai_ext.networks.nets import DCAUNet, EMCADNet
from monai_ext.networks.utils import WEIGHTS_FOLLOW, weights_follow


def test_a_network_whose_weights_follow_is_the_same_when_they_are_there(monkeypatch):
    drawn: list[torch.Tensor] = []
    trunc_normal = torch.nn.init.trunc_normal_
    monkeypatch.setattr("torch.nn.init.trunc_normal_", lambda w, **how: drawn.append(w) or trunc_normal(w, **how))
    x = torch.rand(1, 1, 32, 32)
    small = {"channels": (32, 32, 32, 32), "depths": (1, 1, 1, 1)}
    for build in (lambda: DCAUNet(2, 1, 3, **small), lambda: EMCADNet(2, 1, 3, encoder="pvt_v2_b0")):
        first = build().eval()
        assert drawn
        drawn.clear()
        with weights_follow():
            second = build().eval()
        assert not drawn and not WEIGHTS_FOLLOW.get()
        second.load_state_dict(first.state_dict())
        assert torch.equal(first(x), second(x))
