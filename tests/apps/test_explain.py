# SPDX-License-Identifier: Apache-2.0
"""The maps that explain draws are those that the networks compute with."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image

from monai_ext.apps.explain import attention_maps, explain, source_weights
from monai_ext.data import write_phantom
from monai_ext.networks import use_plain_path
from monai_ext.networks.nets import DCAUNet, UNetDCA, XAttnResEMCAD, XAttnResUNet
from monai_ext.phantoms import PHANTOM_NOTE
from tests.data.volumes import save, volume


def random_network(network: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(0)
    for name, parameter in network.named_parameters():
        if name.endswith("query"):
            torch.nn.init.normal_(parameter)
    return network.double().eval()


@pytest.mark.parametrize("fast", [True, False])
def test_source_weights_make_the_reads(fast):
    """Weighing the aligned sources with them gives what the read gave."""
    network = random_network(use_plain_path(XAttnResUNet(2, 1, 3, features=(4, 8, 8, 16)), not fast))
    given = {}
    for name, module in network.named_modules():
        if name.startswith("decoder_reads.") and name.count(".") == 1:
            module.register_forward_hook(
                lambda m, i, o, name=name: given.__setitem__(name, (m.align(i[0], list(i[1])), o))
            )
    reads = source_weights(network, torch.rand(1, 1, 32, 48, dtype=torch.float64))
    assert [read.name for read in reads] == [f"encoder_reads.{i}" for i in range(3)] + [
        f"decoder_reads.{i}" for i in range(3)
    ]
    assert reads[-1].sources == ("e1", "e2", "e3", "e4", "d1", "d2")
    for read in reads:
        torch.testing.assert_close(read.weights.sum(dim=0), torch.ones_like(read.weights[0]))
        if read.name in given:
            values, output = given[read.name]
            made = sum(weight * value[0] for weight, value in zip(read.weights, values))
            torch.testing.assert_close(made, output[0], rtol=1e-9, atol=1e-9)
            assert read.weights.std() > 0.01


def test_sources_of_a_pyramid_are_named():
    reads = source_weights(
        random_network(XAttnResEMCAD(2, 1, 3, encoder="pvt_v2_b0")), torch.rand(1, 1, 64, 64).double()
    )
    assert reads[-1].sources == ("e1", "e2", "e3", "e4", "d1", "d2", "d3")


def test_attention_maps_make_the_output():
    """For one head a layer: the two maps, applied to the values by the paper's equations, give the layer's output."""
    network = random_network(DCAUNet(2, 1, 3))
    at = (37, 90)
    seen = {}
    name, layer = next((n, m) for n, m in network.named_modules() if n.endswith("stages.0.blocks.0.attention"))
    layer.register_forward_hook(lambda m, i, o: seen.update(x=i[0], y=o))
    maps = {m.name: m for m in attention_maps(network, torch.rand(1, 1, 112, 112).double(), at)}
    assert len(maps) == sum(type(m).__name__ == "DifferentialCrossAttention" for m in network.modules())
    x, found = seen["x"], maps[name]
    row, column = at[0] * x.shape[2] // 112, at[1] * x.shape[3] // 112
    for grid in (found.first, found.second):
        assert grid.sum().item() == pytest.approx(1)
    assert found.first.shape == layer.summarise(x).shape[2:]
    value = layer.value(layer.summarise(x).flatten(2).transpose(1, 2)).unflatten(2, [layer.heads, layer.head_dim])
    assert layer.heads == 2
    # means over heads hold for each head where queries and keys of all heads are alike
    with torch.no_grad():
        for projection in (layer.query, layer.key):
            projection.weight.copy_(projection.weight[: layer.head_dim].repeat(layer.heads, 1))
    same = {m.name: m for m in attention_maps(network, torch.rand(1, 1, 112, 112).double(), at)}[name]
    x = seen["x"]
    value = layer.value(layer.summarise(x).flatten(2).transpose(1, 2)).unflatten(2, [layer.heads, layer.head_dim])
    mixed = torch.einsum("m,bmhc->bhc", same.difference.flatten(), value)
    output = layer.out(((1 - layer.lambda_init) * layer.norm(mixed)).flatten(1))
    torch.testing.assert_close(output[0], seen["y"][0, :, row, column], rtol=1e-8, atol=1e-8)


def test_figures(tmp_path):
    torch.manual_seed(0)
    source = save(tmp_path / "scan.nii.gz", volume(3)[0])
    for bundle, network in (("dcaunet_synapse", DCAUNet(2, 1, 9)), ("xattnres_unet_synapse", XAttnResUNet(2, 1, 9))):
        weights = tmp_path / f"{bundle}.pt"
        torch.save(network.state_dict(), weights)
        made = explain(bundle, source, tmp_path / f"{bundle}.png", weights, slice=2, image_size=[32, 32])
        pixels = np.asarray(Image.open(made).convert("RGB"))
        assert min(pixels.shape[:2]) > 400
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100
        with pytest.raises(ValueError, match="slice 9, expected 0 to 5"):
            explain(bundle, source, tmp_path / "none.png", weights, slice=9, image_size=[32, 32])
    with pytest.raises(ValueError, match="position .*outside"):
        explain(
            "dcaunet_synapse",
            source,
            tmp_path / "none.png",
            tmp_path / "dcaunet_synapse.pt",
            at=(40, 2),
            image_size=[32, 32],
        )
    with pytest.raises(ValueError, match=r"ending in \.png"):
        explain("dcaunet_synapse", source, tmp_path / "none.gif", tmp_path / "dcaunet_synapse.pt")
    with pytest.raises(ValueError, match="QTSeg has neither XAttnRes reads nor"):
        explain("qtseg_busi", source, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_a_phantom_is_called_one(tmp_path):
    write_phantom("clinicdb", tmp_path / "data", 4)
    picture = next(path for path in sorted((tmp_path / "data").rglob("*.tif")) if path.name[0] != ".")
    torch.save(XAttnResEMCAD(2, 3, 2, encoder="pvt_v2_b2").state_dict(), tmp_path / "model.pt")
    explain("xattnres_emcad_clinicdb", picture, tmp_path / "a.svg", tmp_path / "model.pt", image_size=[64, 64])
    said = re.findall(r"<!-- (.*?) -->", (tmp_path / "a.svg").read_text(encoding="utf-8"), re.DOTALL)
    assert any(PHANTOM_NOTE in text for text in said)


def test_a_network_without_such_blocks():
    with pytest.raises(ValueError, match="UNetDCA has no CrossStageAttentionResidual"):
        source_weights(UNetDCA(2, 1, 2, img_size=32).eval(), torch.rand(1, 1, 32, 32))
