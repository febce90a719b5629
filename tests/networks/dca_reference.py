# SPDX-License-Identifier: Apache-2.0
"""Networks with Dual Cross-Attention as functions of the official ``state_dict``, for those without a stored case.

Written down from the description of the published code, layer by layer and with its keys, and sharing nothing with
``monai_ext``. A run draws each tensor when its layer is met (by the rule of ``golden.fill``), so it yields the whole
``state_dict`` beside the logits. Eval mode, float64, 2D.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from tests.data.parity import golden


class Reference:
    """The layers; ``state_dict`` collects what they needed."""

    def __init__(self, attention: bool, out_channels: int = 9) -> None:
        self.attention = attention
        self.out_channels = out_channels
        self.state_dict: dict[str, torch.Tensor] = {}

    def tensor(self, key: str, *shape: int, alias: str = "") -> torch.Tensor:
        if key not in self.state_dict:
            value = golden.fill(alias or key, list(shape), "float32", conv_gain=1.0)
            self.state_dict[key] = torch.from_numpy(value.reshape(shape))
        assert self.state_dict[key].shape == shape, key
        return self.state_dict[key].double()

    def conv(self, key, x, out, kernel=3, stride=1, padding=None, dilation=1, bias=True):
        weight = self.tensor(f"{key}.weight", out, x.shape[1], kernel, kernel)
        b = self.tensor(f"{key}.bias", out) if bias else None
        return F.conv2d(x, weight, b, stride, dilation * (kernel // 2) if padding is None else padding, dilation)

    def up_conv(self, key, x, out):
        weight = self.tensor(f"{key}.weight", x.shape[1], out, 2, 2)
        return F.conv_transpose2d(x, weight, self.tensor(f"{key}.bias", out), stride=2)

    def norm(self, key, x, alias=""):
        self.state_dict[f"{key}.num_batches_tracked"] = torch.zeros((), dtype=torch.long)
        leaves = ("running_mean", "running_var", "weight", "bias")
        named = [(f"{key}.{leaf}", f"{alias}.{leaf}" if alias else "") for leaf in leaves]
        mean, var, weight, bias = (self.tensor(k, x.shape[1], alias=a) for k, a in named)
        return F.batch_norm(x, mean, var, weight, bias, eps=1e-5)

    def prelu(self, key, x):
        return F.prelu(x, self.tensor(f"{key}.weight", 1))

    def c3b(self, key, x, out, relu=True, **conv):
        y = self.norm(f"{key}.norm", self.conv(f"{key}.conv", x, out, **conv))
        return y.relu() if relu else y

    def affine(self, key, tokens):
        channels = tokens.shape[-1]
        weight = self.tensor(f"{key}.proj.depthwise.weight", channels, 1, 1, 1).flatten()
        return tokens * weight + self.tensor(f"{key}.proj.depthwise.bias", channels)

    def layer_norm(self, key, tokens):
        channels = tokens.shape[-1]
        weight, bias = self.tensor(f"{key}.weight", channels), self.tensor(f"{key}.bias", channels)
        return F.layer_norm(tokens, (channels,), weight, bias, eps=1e-6)

    def dca(self, maps, patch=8, spatial_heads=4, key="DCA"):
        grid = maps[0].shape[2] // patch
        scales = range(len(maps))
        tokens = [F.adaptive_avg_pool2d(x, grid).flatten(2).transpose(1, 2) for x in maps]
        tokens = [self.affine(f"{key}.avg_map.{i}", tokens[i]) for i in scales]

        block = f"{key}.attention.0"
        normed = [self.layer_norm(f"{block}.channel_norm.{i}", tokens[i]) for i in scales]
        merged = torch.cat(normed, 2)
        total = merged.shape[2]
        for i in scales:
            at = f"{block}.c_attention.{i}"
            q, k, v = (self.affine(f"{at}.{m}_map", u) for m, u in (("q", normed[i]), ("k", merged), ("v", merged)))
            weights = torch.softmax(torch.einsum("bnc,bnd->bcd", q, k) / math.sqrt(total), 2)
            mixed = torch.einsum("bcd,bnd->bnc", weights, v)
            tokens[i] = tokens[i] + self.affine(f"{at}.projection", mixed)

        normed = [self.layer_norm(f"{block}.spatial_norm.{i}", tokens[i]) for i in scales]
        merged = torch.cat(normed, 2)
        for i in scales:
            at = f"{block}.s_attention.{i}"
            q, k, v = (self.affine(f"{at}.{m}_map", u) for m, u in (("q", merged), ("k", merged), ("v", normed[i])))
            q, k, v = (x.reshape(*x.shape[:2], spatial_heads, -1) for x in (q, k, v))
            weights = torch.softmax(torch.einsum("bnhc,bmhc->bhnm", q, k) / math.sqrt(total // spatial_heads), 3)
            mixed = torch.einsum("bhnm,bmhc->bnhc", weights, v).flatten(2)
            tokens[i] = tokens[i] + self.affine(f"{at}.projection", mixed)

        outputs = []
        for i, x in enumerate(maps):
            y = tokens[i].transpose(1, 2).reshape(*x.shape[:2], grid, grid)
            y = F.interpolate(y, scale_factor=patch / 2**i, mode="bilinear", align_corners=True)
            y = self.conv(f"{key}.upconvs.{i}.conv.conv", y, x.shape[1], 1)
            outputs.append(self.norm(f"{key}.bn_relu.{i}.0", y + x).relu())
        return outputs


def up2(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def unet(r: Reference, x: torch.Tensor) -> torch.Tensor:
    skips = []
    for j, width in enumerate((32, 64, 128, 256), 1):
        x = r.conv(f"conv{j}.conv2.conv", r.c3b(f"conv{j}.conv1", x, width), width)
        skips.append(x)
        x = F.max_pool2d(r.norm(f"norm{j}", x).relu(), 2)
    x = r.c3b("conv5.conv2", r.c3b("conv5.conv1", x, 512), 512)
    if r.attention:
        skips = r.dca(skips)
    for m, width in enumerate((256, 128, 64, 32), 1):
        x = torch.cat([r.c3b(f"up{m}.conv", up2(x), width), skips[-m]], 1)
        x = r.c3b(f"upconv{m}.conv2", r.c3b(f"upconv{m}.conv1", x, width), width)
    return r.conv("out.conv", x, r.out_channels, 1)


def r2unet(r: Reference, x: torch.Tensor) -> torch.Tensor:
    def recurrent(f, x):
        y = f(x)
        y = f(x + y)
        return f(x + y)

    def unit(key, x, out):
        x0 = r.conv(f"{key}.conv.conv", x, out, 1)
        y = r.norm(f"{key}.norm_c", x0).relu()
        y = recurrent(lambda a: r.c3b(f"{key}.block.0.conv", a, out), y)
        y = recurrent(lambda a: r.conv(f"{key}.block.1.conv.conv", a, out), y)
        return r.norm(f"{key}.norm", x0 + y).relu(), x0 + y

    skips = []
    for j, width in enumerate((32, 64, 128, 256), 1):
        x, s = unit(f"rconv{j}", x, width)
        skips.append(s if r.attention else x)
        x = F.max_pool2d(x, 2)
    x, _ = unit("rconv5", x, 512)
    if r.attention:
        skips = r.dca(skips)
    for m, width in enumerate((256, 128, 64, 32), 1):
        x, _ = unit(f"rconv{m + 5}", torch.cat([r.c3b(f"up{m}.conv", up2(x), width), skips[-m]], 1), width)
    return r.conv("out", x, r.out_channels, 1)


def vnet(r: Reference, x: torch.Tensor) -> torch.Tensor:
    def act(key, x, suffix=""):
        return r.prelu(f"{key}.prelu{suffix}", r.norm(f"{key}.bn{suffix}", x))

    def chain(key, x, out, length):
        for i in range(length):
            x = r.conv(f"{key}.{i}.conv", x, out, 5)
            if i < length - 1:
                x = act(f"{key}.{i}", x)
        return x

    c = r.conv("conv1.conv", x, 32, 5)
    skips = [c + r.conv("conv1.conv_skip", x, 32, 1)]
    x = act("conv1", c)
    acts = [x]
    for j, (width, length) in enumerate(((64, 2), (128, 3), (256, 3), (512, 3)), 2):
        d = r.conv(f"conv{j}.down", x, width, 2, stride=2, padding=0)
        skips.append(chain(f"conv{j}.conv", d, width, length) + d)
        x = act(f"conv{j}", skips[-1])
        acts.append(x)
    skips = r.dca(skips[:4]) if r.attention else acts[:4]
    for m, (width, length) in enumerate(((256, 3), (128, 3), (64, 2), (32, 1)), 1):
        d = r.up_conv(f"up{m}.up", x, width)
        y = torch.cat([skips[-m], act(f"up{m}", d, "_in")], 1)
        y = r.conv(f"up{m}.conv", y, width, 5) if m == 4 else chain(f"up{m}.conv", y, width, length)
        x = act(f"up{m}", y + d)
    return r.conv("out", x, r.out_channels, 1)


def multires_unet(r: Reference, x: torch.Tensor) -> torch.Tensor:
    parts = {32: (8, 17, 26), 64: (17, 35, 53), 128: (35, 71, 106), 256: (71, 142, 213), 512: (142, 284, 427)}

    def block(key, x, features):
        c1 = r.c3b(f"{key}.c1", x, parts[features][0])
        c2 = r.c3b(f"{key}.c2", c1, parts[features][1])
        c3 = r.c3b(f"{key}.c3", c2, parts[features][2])
        shortcut = r.c3b(f"{key}.skip", x, sum(parts[features]), relu=False, kernel=1)
        return (r.norm(f"{key}.bn1", torch.cat([c1, c2, c3], 1)) + shortcut).relu()

    def path(key, x, width, length):
        for i in range(length):
            s = r.conv(f"{key}.convs.{i}.conv", x, width) + r.conv(f"{key}.skips.{i}.conv", x, width, 1)
            x = r.norm(f"{key}.bns.{i}", s).relu()
        return s if r.attention else x

    skips = []
    for j, width in enumerate((32, 64, 128, 256), 1):
        x = block(f"mr{j}", x, width)
        skips.append(path(f"respath{j}", x, width, 5 - j))
        x = F.max_pool2d(x, 2)
    x = block("mr5", x, 512)
    if r.attention:
        skips = r.dca(skips)
    for m, width in enumerate((256, 128, 64, 32), 1):
        x = r.norm(f"up{m}.1", r.up_conv(f"up{m}.0", x, width)).relu()
        x = block(f"mr{m + 5}", torch.cat([x, skips[-m]], 1), width)
    return r.conv("out", x, r.out_channels, 1)


def resunet_plus_plus(r: Reference, x: torch.Tensor) -> torch.Tensor:
    def squeeze_excite(key, x, hidden):
        channels = x.shape[1]
        y = x.mean((2, 3)) @ r.tensor(f"{key}.fc.0.weight", hidden, channels).T
        y = torch.sigmoid(y.relu() @ r.tensor(f"{key}.fc.2.weight", channels, hidden).T)
        return x * y[:, :, None, None]

    def res_conv(key, x, out, stride):
        y = r.conv(f"{key}.conv.1", r.norm(f"{key}.conv.0.bn", x).relu(), out, stride=stride)
        y = r.conv(f"{key}.conv.3", r.norm(f"{key}.conv.2.bn", y).relu(), out)
        return y + r.conv(f"{key}.skip", x, out, 1, stride=stride)

    def aspp(key, x, out, relu):
        rates = (1, 6, 12, 18)
        y = sum(r.c3b(f"{key}.block{i}", x, out, relu, dilation=rate) for i, rate in enumerate(rates, 1))
        return r.c3b(f"{key}.out", y, out, relu, kernel=1)

    def gate(key, skip, x):
        def norm(number, name, x):  # one module under two names
            r.norm(f"{key}.norm{number}", x)
            return r.norm(f"{key}.{name}.0", x, alias=f"{key}.norm{number}").relu()

        out = x.shape[1]
        a = F.max_pool2d(r.conv(f"{key}.conv_encoder.2", norm(1, "conv_encoder", skip), out), 2)
        b = r.conv(f"{key}.conv_decoder.2", norm(2, "conv_decoder", x), out)
        return r.conv(f"{key}.conv_attn.2", norm(3, "conv_attn", a + b), 1, 1) * x

    y = r.conv("input_layer.1", r.c3b("input_layer.0", x, 32), 32)
    x = y + r.conv("input_skip.0", x, 32)
    skips = []
    for j, (width, hidden) in enumerate(((64, 4), (128, 4), (256, 8)), 1):
        skips.append(x)
        x = res_conv(f"residual_conv{j}", squeeze_excite(f"squeeze_excite{j}", x, hidden), width, 2)
    x = aspp("aspp_bridge", x, 512, relu=False)
    if r.attention:
        skips = r.dca(skips, patch=4)
    for m, width in enumerate((256, 128, 64), 1):
        x = F.interpolate(gate(f"attn{m}", skips[-m], x), scale_factor=2, mode="nearest")
        x = res_conv(f"up_residual_conv{m}", torch.cat([x, skips[-m]], 1), width, 1)
    return r.conv("output_layer", aspp("aspp_out", x, 32, relu=True), r.out_channels, 1)


def doubleunet(r: Reference, x: torch.Tensor) -> torch.Tensor:
    def unit(key, x, out):
        raw = r.conv(f"{key}.conv2.conv", r.c3b(f"{key}.conv1", x, out), out)
        y = r.norm(f"{key}.bn", raw).relu()
        s = (y.mean((2, 3)) @ r.tensor(f"{key}.se.fc.0.weight", out // 8, out).T).relu()
        s = torch.sigmoid(s @ r.tensor(f"{key}.se.fc.2.weight", out, out // 8).T)
        return y * s[:, :, None, None], raw

    def aspp(key, x):
        y = [r.c3b(f"{key}.block1", x, 64, kernel=1)]
        for i, rate in enumerate((1, 6, 12, 18), 2):
            y.append(r.c3b(f"{key}.block{i}", x, 64, dilation=rate, bias=False))
        return r.c3b(f"{key}.out", torch.cat(y, 1), 64, kernel=1, bias=False)

    mean, std = (torch.tensor(v).double()[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    image = (x - mean) / std
    x = image
    vgg = []
    stages = ((64, (0, 2)), (128, (5, 7)), (256, (10, 12, 14, 16)), (512, (19, 21, 23, 25)), (512, (28, 30, 32, 34)))
    for j, (width, indices) in enumerate(stages, 1):
        for i in indices:
            raw = r.conv(f"vgg{j}.{i}", x, width)
            x = raw.relu()
        vgg.append(raw)
        if j < 5:
            x = F.max_pool2d(x, 2)
    x = aspp("aspp_1", x)
    vgg = r.dca(vgg[:4], key="DCA_vgg1") if r.attention else vgg[:4]
    for m, width in enumerate((256, 128, 64, 32), 1):
        x, _ = unit(f"decode{m}", torch.cat([vgg[-m], up2(x)], 1), width)
    x = torch.sigmoid(r.conv("out1.0", x, 3, 1)) * image
    own = []
    for j, width in enumerate((32, 64, 128, 256), 1):
        x, raw = unit(f"encode2_{j}", x, width)
        own.append(raw)
        x = F.max_pool2d(x, 2)
    x = aspp("aspp_2", x)
    if r.attention:
        vgg, own = r.dca(vgg, key="DCA_vgg2"), r.dca(own)
    for m, width in enumerate((256, 128, 64, 32), 1):
        x, _ = unit(f"decode2_{m}", torch.cat([vgg[-m], own[-m], up2(x)], 1), width)
    return r.conv("out", x, r.out_channels, 1)
