# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_ext.networks import use_plain_path
from monai_ext.networks.nets import XAttnResBlockUNet
from tests.networks.base import BaseNetworkTest, count_parameters, losses_of_steps
from tests.networks.inert import check_inert
from tests.networks.parity import check_parity

SMALL = {"channels": (8, 12, 16, 16), "encoder_blocks": (2, 2, 3, 3), "decoder_blocks": (3, 3, 2)}
DEEP = {"encoder_attention": True, "decoder_blocks": (3, 3, 3, 3)}


class TestXAttnResBlockUNet(BaseNetworkTest):
    network = XAttnResBlockUNet
    cases = [
        {"spatial_dims": 2, "in_channels": 3, "out_channels": 2, "encoder_attention": True, **SMALL},
        {"spatial_dims": 2, "in_channels": 1, "out_channels": 9},
        {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "distinct_memory": True, **SMALL},
        {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "distinct_memory": True, **SMALL},
    ]
    sizes = {2: [(48, 48), (35, 50)], 3: [(16, 16, 16), (17, 20, 27)]}
    too_small = {2: (7, 32), 3: (16, 16, 7)}
    inert = (
        r".*\.conv_[01]\.conv\.bias",  # a batch norm follows
        r"(en|de)coder\.\d\.attention\.0\..*",  # the published memory holds one map here
        r".*\.attention\.\d\.norm\.scale",  # the query starts at zero
    )
    bad_arguments = [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3"),
        ({"channels": (8, 16, 32)}, "the last two equal"),
        ({"encoder_blocks": (2, 2)}, "need 5 encoder_blocks"),
        ({"decoder_blocks": (2, 2, 2, 2, 2)}, "4 decoder_blocks"),
        ({"decoder_blocks": (2, 2, 0, 2)}, "num_blocks"),
        ({"key_ratio": -1.0}, "key_ratio"),
        ({"query_init": "one"}, "query_init"),
    ]

    def test_published_size(self):
        assert count_parameters(XAttnResBlockUNet(2, 1, 9)) == 2_808_792
        assert count_parameters(XAttnResBlockUNet(2, 1, 9, decoder_attention=False)) == 2_808_792 - 7_272
        assert count_parameters(XAttnResBlockUNet(2, 1, 9, **DEEP)) == 3_040_938

    @pytest.mark.parametrize(
        ("name", "arguments"), [("xattnres_block_224x224", {}), ("xattnres_block_enc_dec3_128", DEEP)]
    )
    def test_computes_what_the_authors_code_computes(self, name, arguments):
        check_parity(lambda: XAttnResBlockUNet(2, 1, 9, **arguments), name, plain_gradients="enc" in name)

    @pytest.mark.parametrize(
        ("name", "arguments"), [("xattnres_block_224x224", {}), ("xattnres_block_enc_dec3_128", DEEP)]
    )
    def test_what_is_inert_in_the_authors_code_is_inert_here(self, name, arguments):
        check_inert(lambda: XAttnResBlockUNet(2, 1, 9, **arguments), name, (32, 48))

    def test_distinct_memory_brings_the_attention_to_life(self):
        torch.manual_seed(0)
        arguments = {**SMALL, "decoder_blocks": (2, 2, 2), "query_init": "random"}
        net = XAttnResBlockUNet(2, 1, 2, distinct_memory=True, **arguments).double()
        x = torch.rand(1, 1, 32, 32, dtype=torch.float64)
        y = net(x)
        (y * torch.randn_like(y)).sum().backward()
        largest = max(p.grad.abs().max() for p in net.parameters())
        attention = {n: p.grad.abs().max() for n, p in net.named_parameters() if ".attention." in n}
        assert len(attention) == 6
        assert all(size > 1e-7 * largest for size in attention.values())

    @pytest.mark.parametrize("fast", [True, False])
    def test_every_parameter_is_in_the_graph_of_training(self, fast):
        # distributed training waits for the gradient of each
        net = use_plain_path(XAttnResBlockUNet(2, 1, 2, encoder_attention=True, **SMALL), not fast).train()
        net(torch.rand(1, 1, 16, 16)).sum().backward()
        assert all(p.grad is not None for p in net.parameters())

    def test_published_attention_before_a_second_block_changes_nothing(self):
        case = {"spatial_dims": 2, **SMALL, "decoder_blocks": (2, 2, 2), "query_init": "random"}
        x = self.input(case, (32, 32))
        with torch.no_grad():
            net = self.build(case).eval()
            without = XAttnResBlockUNet(**{**case, "decoder_attention": False}).eval()
            without.load_state_dict({k: v for k, v in net.state_dict().items() if ".attention." not in k})
            assert torch.equal(net(x), without(x))

    @pytest.mark.parametrize("dims", [2, 3])
    def test_fast_path_equals_plain_path(self, dims):
        size = (37, 26, 18)[:dims]
        results = []
        for fast in (True, False):
            case = {"spatial_dims": dims, "encoder_attention": True, "query_init": "random", **SMALL}
            net = use_plain_path(self.build(case).double().train(), not fast)
            y = net(self.input(case, size, batch=2).double())
            (y * torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(0))).sum().backward()
            results.append([y, *(p.grad for p in net.parameters())])
        largest = max(t.abs().max() for t in results[0])
        for fast, plain in zip(*results):
            torch.testing.assert_close(fast, plain, rtol=1e-8, atol=1e-12 * largest)

    def test_learns_on_volumes_constant_along_one_axis(self):
        net = self.build({"spatial_dims": 3, "out_channels": 2, "distinct_memory": True, **SMALL})
        x = torch.rand(2, 1, 17, 19, 1, generator=torch.Generator().manual_seed(0)).expand(-1, -1, -1, -1, 18)
        label = (x[:, 0] > 0.5).long()
        losses = losses_of_steps(net, x, label, torch.optim.Adam(net.parameters(), lr=3e-3), 8)
        assert losses[-1] < 0.8 * losses[0]
