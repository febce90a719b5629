# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
import torch.nn as nn

from monai_ext.networks.nets import PVTv2
from tests.data.parity import golden
from tests.networks.base import count_parameters


def test_sizes_of_the_variants():
    # the release's classifiers, less their heads of 1000 classes
    counts = {f"pvt_v2_b{i}": count_parameters(PVTv2(variant=f"pvt_v2_b{i}")) for i in (0, 1, 2)}
    assert counts == {"pvt_v2_b0": 3_409_760, "pvt_v2_b1": 13_496_000, "pvt_v2_b2": 24_849_856}


@pytest.mark.parametrize(("spatial_dims", "size"), [(2, (64, 64)), (2, (75, 33)), (3, (32, 33, 64))])
def test_four_maps_each_half_the_one_before(spatial_dims, size):
    net = PVTv2(spatial_dims, in_channels=1, variant="pvt_v2_b0").eval()
    with torch.no_grad():
        maps = net(torch.rand(2, 1, *size))
    for i, (y, width) in enumerate(zip(maps, (32, 64, 160, 256))):
        assert y.shape == (2, width, *(-(-side // 2 ** (i + 2)) for side in size))
        torch.testing.assert_close(y.mean(dim=1), torch.zeros_like(y[:, 0]), atol=1e-5, rtol=0)  # a norm comes last


def test_release_fits(tmp_path):
    state = golden.build_state_dict(golden.load_case("emcad_pvt_v2_b2_224"))
    release = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
    release |= {"head.weight": torch.zeros(1000, 512), "head.bias": torch.zeros(1000)}
    path = tmp_path / "pvt_v2_b2.pth"
    torch.save(release, path)
    net = PVTv2(variant="pvt_v2_b2", pretrained=path)
    assert torch.equal(net.embed[3][0].weight, release["patch_embed4.proj.weight"])
    assert torch.equal(net.blocks[1][2].attention.norm.bias, release["block2.2.attn.norm.bias"])
    assert torch.equal(net.blocks[2][5].mlp.depthwise.weight, release["block3.5.mlp.dwconv.dwconv.weight"])
    with pytest.raises(ValueError, match=r"pvt_v2_b2\.pth: its weights do not fit PVTv2"):
        PVTv2(variant="pvt_v2_b0", pretrained=path)
    with pytest.raises(FileNotFoundError, match=r"elsewhere\.pth"):
        PVTv2(variant="pvt_v2_b0", pretrained=tmp_path / "elsewhere.pth")


def test_initial_values_are_the_authors():
    torch.manual_seed(0)
    net = PVTv2(variant="pvt_v2_b0")
    block = net.blocks[3][0]
    assert block.mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert block.mlp.depthwise.weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.05)
    assert net.embed[3][0].weight.std().item() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.05)
    assert not any(m.bias.any() for m in net.modules() if isinstance(m, (nn.Linear, nn.Conv2d)))


def test_stochastic_depth_rises_linearly():
    net = PVTv2(variant="pvt_v2_b0", drop_path_rate=0.7)
    rates = [block.drop_path.drop_prob for stage in net.blocks for block in stage]
    assert rates == pytest.approx([0.1 * i for i in range(8)])


def test_norms_have_the_release_s_eps():
    net = PVTv2(variant="pvt_v2_b0")
    assert {stage[1].eps for stage in net.embed} == {1e-5}
    assert {block.attention.norm.eps for stage in net.blocks[:3] for block in stage} == {1e-5}
    assert {block.norm1.eps for stage in net.blocks for block in stage} == {1e-6}
    assert {block.norm2.eps for stage in net.blocks for block in stage} == {1e-6}
    assert {norm.eps for norm in net.norm} == {1e-6}


def test_reductions_may_differ_by_axis():
    net = PVTv2(3, 1, "pvt_v2_b0", reductions=((4, 8, 8), (2, 4, 4), (1, 2, 2), 1)).eval()
    with torch.no_grad():
        maps = net(torch.rand(1, 1, 32, 32, 32))
    assert [tuple(y.shape[2:]) for y in maps] == [(8,) * 3, (4,) * 3, (2,) * 3, (1,) * 3]
    assert net.blocks[0][0].attention.reduce.kernel_size == (4, 8, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3"),
        ({"variant": "b2"}, "variant must be one of 'pvt_v2_b0'.*got 'b2'"),
        ({"reductions": (8, 4)}, "4 stages"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PVTv2(**arguments)


def test_too_small_an_input_is_refused():
    with pytest.raises(ValueError, match="at least 32"):
        PVTv2(variant="pvt_v2_b0")(torch.rand(1, 3, 31, 64))
    with pytest.raises(ValueError, match="at least 64"):
        PVTv2(variant="pvt_v2_b0", reductions=(16, 4, 2, 1))(torch.rand(1, 3, 63, 64))
