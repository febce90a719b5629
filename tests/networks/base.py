# SPDX-License-Identifier: Apache-2.0
"""One suite that every network passes; a network's own test file names its cases and adds what is special to it."""

from __future__ import annotations

import copy
import importlib.util
import io
import pickle
import re

import pytest
import torch
import torch.nn as nn

from monai_ext.networks import export_network, load_export, use_plain_path
from monai_ext.networks.exports import trace_network


def count_parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Float64 maps, up to the order of sums, which differs among processors and layouts."""
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10 * expected.abs().max().item())


def picture(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def lively(block: nn.Module) -> nn.Module:
    """Double precision, eval mode, and norms that are no identities, so that the order of operations shows."""
    torch.manual_seed(0)
    for module in block.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            for tensor in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return block.double().eval()


def assert_paths_agree(
    fast: nn.Module, twin: nn.Module, x: torch.Tensor, output: tuple[float, float], gradient: tuple[float, float]
) -> None:
    """Outputs and gradients of ``fast`` and of ``twin`` on its plain path; tolerances are relative and absolute."""
    plain = use_plain_path(twin).double().train(fast.training)
    plain.load_state_dict(fast.state_dict())
    x.requires_grad_()
    networks = (fast, plain)
    outputs = [network(x) for network in networks]
    torch.testing.assert_close(*outputs, rtol=output[0], atol=output[1])
    gradients = [
        torch.autograd.grad(y.square().sum(), [x, *network.parameters()], allow_unused=True)
        for y, network in zip(outputs, networks)
    ]
    for name, a, b in zip(["input", *(name for name, _ in fast.named_parameters())], *gradients):
        assert (a is None) == (b is None), name
        if a is not None:
            torch.testing.assert_close(a, b, rtol=gradient[0], atol=gradient[1], msg=name)


def losses_of_steps(
    network: nn.Module, x: torch.Tensor, label: torch.Tensor, optimizer: torch.optim.Optimizer, steps: int
) -> list[float]:
    """Cross-entropy before each of some steps; of several maps, their sum."""
    losses = []
    for _ in range(steps):
        maps = network.train()(x)
        loss = sum(nn.functional.cross_entropy(y, label) for y in (maps if isinstance(maps, (list, tuple)) else [maps]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert torch.isfinite(torch.tensor(losses)).all()
    return losses


class BaseNetworkTest:
    """Subclass, set the attributes, get the tests.

    ``cases`` are constructor arguments. Each is run at every size of ``sizes[spatial_dims]``; the first case of each
    ``spatial_dims`` is also scripted, exported, compiled and run under autocast, at the first size.
    """

    network: type[nn.Module]
    cases: list[dict] = []
    sizes: dict[int, list[tuple[int, ...]]] = {}
    too_small: dict[int, tuple[int, ...]] = {}  # one size below the stated minimum, per spatial_dims
    inert: tuple[str, ...] = ()  # regular expressions of parameters that the mathematics leaves without a gradient
    bad_arguments: list[tuple[dict, str]] = []  # (constructor arguments, pattern of the ValueError)
    train_outputs = 1  # how many maps forward returns in train mode
    two_paths = True  # False for a network without a faster path beside the plain one
    exported_sizes = {2: (64, 96), 3: (64, 96, 64)}  # at least twice the stride
    batch_one_trains = True  # False where the mathematics needs two samples

    def build(self, case: dict) -> nn.Module:
        torch.manual_seed(0)
        return self.network(**case)

    def input(self, case: dict, size: tuple[int, ...], batch: int = 1) -> torch.Tensor:
        return torch.rand(batch, case.get("in_channels", 1), *size, generator=torch.Generator().manual_seed(1))

    def test_eval_gives_one_map_of_logits(self, case, size):
        net = self.build(case).eval()
        with torch.no_grad():
            y = net(self.input(case, size))
        assert isinstance(y, torch.Tensor)
        assert y.shape == (1, case.get("out_channels", 9), *size)
        assert y.dtype == torch.float32
        assert torch.isfinite(y).all()

    def test_every_live_parameter_gets_a_gradient(self, first_case):
        net = self.build(first_case).train()
        size = self.sizes[first_case["spatial_dims"]][0]
        batch = 1 if self.batch_one_trains else 2
        outputs = net(self.input(first_case, size, batch))
        outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        assert len(outputs) == self.train_outputs
        generator = torch.Generator().manual_seed(2)
        # a random projection: the plain sum is blind to whatever a following norm removes
        loss = sum((y * torch.randn(y.shape, generator=generator)).sum() for y in outputs)
        loss.backward()
        dead = [n for n, p in net.named_parameters() if p.grad is None or not (p.grad.abs() > 0).any()]
        unexpected = [n for n in dead if not any(re.fullmatch(pattern, n) for pattern in self.inert)]
        assert not unexpected
        assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)

    def test_batch_entries_do_not_mix_in_eval(self, first_case):
        net = self.build(first_case).double().eval()
        x = self.input(first_case, self.sizes[first_case["spatial_dims"]][0], batch=2).double()
        with torch.no_grad():
            assert_same(net(x)[1:], net(x[1:]))

    def test_script_save_load(self, first_case):
        net = self.build(first_case).double().eval()
        x = self.input(first_case, self.sizes[first_case["spatial_dims"]][0]).double()
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.script(net), buffer)
        buffer.seek(0)
        with torch.no_grad():
            assert_same(torch.jit.load(buffer)(x), net(x))

    def test_plain_path_has_the_same_numbers(self, first_case):
        net = self.build(first_case).double().eval()
        x = self.input(first_case, self.sizes[first_case["spatial_dims"]][0]).double()
        if not self.two_paths:
            with pytest.raises(ValueError, match="has no two paths"):
                use_plain_path(net)
            return
        plain = use_plain_path(copy.deepcopy(net))
        assert list(plain.state_dict()) == list(net.state_dict())
        with torch.no_grad():
            expected = net(x)
            assert_same(plain(x), expected)
            assert_same(torch.jit.script(plain)(x), expected)
            assert torch.equal(use_plain_path(plain, False)(x), expected)

    def test_exports(self, first_case, tmp_path):
        """torch.export, ONNX and OpenVINO: at two batches and, where sizes are free, three sizes."""
        net = self.build(first_case).eval()
        channels, dims = first_case.get("in_channels", 1), first_case["spatial_dims"]
        size = self.exported_sizes[dims]
        program = trace_network(net, size, channels)
        formats = {"pt2": "pt2", "onnx": "onnx"}
        if dims == 2 and importlib.util.find_spec("openvino"):  # without it tests/networks/exports says so
            formats["openvino"] = "xml"
        for format, suffix in formats.items():
            made = export_network(net, size, channels, format, tmp_path / f"net.{suffix}", program=program)
            exported = load_export(made.path)
            sizes = exported.notes["sizes"]
            if getattr(net, "fixed_size", False):
                assert sizes == {"fixed": list(size)}
                x = self.input(first_case, (size[0] + net.stride, *size[1:]))
                with pytest.raises(ValueError, match="the one that it was exported at"):
                    exported(x)
                others = []
            else:
                least, most, step = sizes["least"], sizes["most"], sizes["multiple"]
                assert least <= min(size) and most >= max(size) + step
                others = [(least,) * dims, (size[0] + step, *size[1:])]
                with pytest.raises(ValueError, match="takes sizes in multiples of"):
                    exported(self.input(first_case, (size[0] + 1, *size[1:])))
            for shape in (size, *others):
                for batch in (1, 3):
                    x = self.input(first_case, shape, batch)
                    with torch.no_grad():
                        expected = net(x)
                        found = exported(x)
                    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))

    def test_compile_captures_the_whole_graph(self, first_case):
        # aot_eager runs the captured graph without generating code: what can break is the capture, and it is fast
        net = self.build(first_case).double().eval()
        x = self.input(first_case, self.sizes[first_case["spatial_dims"]][0]).double()
        torch._dynamo.reset()
        with torch.no_grad():
            compiled = torch.compile(net, fullgraph=True, backend="aot_eager")(x)
            assert_same(compiled, net(x))

    def test_bf16_autocast(self, first_case):
        net = self.build(first_case).eval()
        x = self.input(first_case, self.sizes[first_case["spatial_dims"]][0])
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            y = net(x)
        assert torch.isfinite(y.float()).all()
        with torch.no_grad():
            expected = net(x)
        # the error of a bfloat16 run, relative to what the map holds
        assert (y.float() - expected).norm() < 0.15 * expected.norm()

    def test_state_dict_and_pickle_round_trip(self, first_case):
        net = self.build(first_case).eval()
        x = self.input(first_case, self.sizes[first_case["spatial_dims"]][0])
        torch.manual_seed(99)
        other = self.network(**first_case).eval()
        other.load_state_dict(net.state_dict(), strict=True)
        with torch.no_grad():
            expected = net(x)
            assert torch.equal(other(x), expected)
            assert torch.equal(pickle.loads(pickle.dumps(net))(x), expected)

    def test_too_small_input_is_refused(self, first_case):
        size = self.too_small[first_case["spatial_dims"]]
        with pytest.raises(ValueError, match=r"at least \d+"):
            self.build(first_case).eval()(self.input(first_case, size))

    def test_wrong_channels_are_refused(self, first_case):
        case = dict(first_case)
        x = torch.rand(1, case.get("in_channels", 1) + 4, *self.sizes[case["spatial_dims"]][0])
        with pytest.raises(ValueError, match="channels"):
            self.build(first_case).eval()(x)

    def test_bad_argument(self, bad_argument):
        arguments, pattern = bad_argument
        with pytest.raises(ValueError, match=pattern):
            self.network(**arguments)
