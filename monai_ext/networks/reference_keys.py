# SPDX-License-Identifier: Apache-2.0
"""Names of the official repositories' tensors -> ours, per network: ordered regular expressions."""

from __future__ import annotations

__all__ = ["RULES", "Rules"]

Rules = list[tuple[str, "str | None"]]

# PVT v2's release, alone or as EMCAD's backbone: stages count from 1
_PVT_V2: Rules = [
    *[(rf"^(backbone\.)?(patch_embed|block|norm){s}\.", rf"\g<1>\g<2>.{s - 1}.") for s in (1, 2, 3, 4)],
    (r"patch_embed\.(\d)\.proj\.", r"embed.\1.0."),
    (r"patch_embed\.(\d)\.norm\.", r"embed.\1.1."),
    (r"block\.", "blocks."),
    (r"attn\.q\.", "attention.query."),
    (r"attn\.kv\.", "attention.key_value."),
    (r"attn\.proj\.", "attention.project."),
    (r"attn\.sr\.", "attention.reduce."),
    (r"attn\.norm\.", "attention.norm."),
    (r"mlp\.dwconv\.dwconv\.", "mlp.depthwise."),
]
# EMCAD's levels count down to 1, the finest
_EMCAD: Rules = [
    *_PVT_V2,
    (r"^backbone\.", "encoder."),
    (r"^conv\.", "adapter."),
    *[(rf"^(?:decoder\.)?(mscb|cab|out_head){level}\.", rf"\1.{4 - level}.") for level in (4, 3, 2, 1)],
    *[(rf"^decoder\.(eucb|lgag){level}\.", rf"\1.{3 - level}.") for level in (3, 2, 1)],
    (r"^mscb\.(\d)\.0\.pconv1\.", r"mscam.\1.convolution.expand."),
    (r"^mscb\.(\d)\.0\.msdc\.dwconvs\.", r"mscam.\1.convolution.branches."),
    (r"^mscb\.(\d)\.0\.pconv2\.", r"mscam.\1.convolution.project."),
    (r"^cab\.(\d)\.", r"mscam.\1.channel_attention."),
    (r"^decoder\.sab\.", "mscam.0.spatial_attention."),
    (r"^eucb\.(\d)\.up_dwc\.", r"up.\1.up."),
    (r"^eucb\.(\d)\.pwc\.0\.", r"up.\1.project."),
    (r"^lgag\.(\d)\.W_g\.", r"gate.\1.from_gate."),
    (r"^lgag\.(\d)\.W_x\.", r"gate.\1.from_skip."),
    (r"^lgag\.(\d)\.psi\.", r"gate.\1.score."),
    (r"^out_head\.", "heads."),
]
# the block-level revision of XAttnRes: two convolutions and their norms are 0, 1 and 3, 4 of one sequence
_XATTNRES_BLOCK: Rules = [
    (r"^enc_stages\.", "encoder."),
    (r"^dec_stages\.", "decoder."),
    *[(rf"\.conv1\.{3 * i}\.", f".conv_{i}.conv.") for i in (0, 1)],
    *[(rf"\.conv1\.{3 * i + 1}\.", f".conv_{i}.adn.N.") for i in (0, 1)],
    (r"\.attn_res\.(\d+)\.query_generator\.", r".attention.\1.query."),
    (r"\.attn_res\.", ".attention."),
    (r"^kv_skips\.(\d+)\.phi_kv\.", r"skips.\1.key_value."),
    (r"^kv_skips\.(\d+)\.phi_q\.", r"skips.\1.query."),
    (r"^kv_skips\.(\d+)\.norm_k\.", r"skips.\1.norm."),
    (r"^fusions\.(\d+)\.0\.", r"fusions.\1.conv."),
    (r"^fusions\.(\d+)\.1\.", r"fusions.\1.adn.N."),
    (r"^out_conv\.", "head."),
]

# Dual Cross-Attention: six networks that share the module. Some of the authors' layers wrap their convolution once
# more than others of the same kind, hence the optional "conv."
_DCA: Rules = [
    (r"^DCA\.", "dca."),
    (r"\.proj\.depthwise\.", "."),
    (r"\.avg_map\.", ".project."),
    *[
        (rf"\.attention\.(\d+)\.{short}_attention\.(\d+)\.{theirs}\.", rf".{kind}.\1.attention.\2.{ours}.")
        for short, kind in (("c", "channel"), ("s", "spatial"))
        for theirs, ours in (("q_map", "query"), ("k_map", "key"), ("v_map", "value"), ("projection", "project"))
    ],
    (r"\.attention\.(\d+)\.(channel|spatial)_norm\.", r".\2.\1.norm."),
    (r"\.upconvs\.(\d+)\.(?:conv\.)+", r".conv.\1."),
    (r"\.bn_relu\.(\d+)\.0\.", r".norm.\1."),
]
_UNET_DCA: Rules = [
    *_DCA,
    *[(rf"^conv{i + 1}\.", f"encoder.{i}.") for i in range(4)],
    *[(rf"^norm{i + 1}\.", f"encoder_norm.{i}.") for i in range(4)],
    (r"^conv5\.", "bottleneck."),
    *[(rf"^up{i + 1}\.conv\.", f"up.{i}.1.") for i in range(4)],
    *[(rf"^upconv{i + 1}\.", f"decoder.{i}.") for i in range(4)],
    *[(rf"\.conv{i + 1}\.", f".{i}.") for i in range(2)],
    (r"^(encoder|bottleneck|up|decoder)\.(.*)\.norm\.", r"\1.\2.adn.N."),
    (r"^out\.(?:conv\.)?", "head."),
]
_R2UNET_DCA: Rules = [
    *_DCA,
    *[(rf"^rconv{i + 1}\.", f"encoder.{i}.") for i in range(4)],
    (r"^rconv5\.", "bottleneck."),
    *[(rf"^rconv{i + 6}\.", f"decoder.{i}.") for i in range(4)],
    *[(rf"^up{i + 1}\.conv\.", f"up.{i}.1.") for i in range(4)],
    (r"^(encoder\.\d|bottleneck|decoder\.\d)\.conv\.(?:conv\.)?", r"\1.project."),
    (r"\.norm_c\.", ".project_norm."),
    (r"\.block\.", ".recurrent."),
    (r"^(up\.\d\.1|.*\.recurrent\.0\.conv)\.norm\.", r"\1.adn.N."),
    (r"^out\.(?:conv\.)?", "head."),
]
_VNET_DCA: Rules = [
    *_DCA,
    (r"^conv1\.", "input."),
    *[(rf"^conv{i + 2}\.", f"down.{i}.") for i in range(4)],
    *[(rf"^up{i + 1}\.", f"up.{i}.") for i in range(4)],
    (r"^(down|up)\.(\d)\.conv\.(\d)\.(?:conv\.)?(weight|bias)$", r"\1.\2.conv.\3.conv.\4"),
    (r"\.conv\.(\d)\.bn\.", r".conv.\1.adn.N."),
    (r"\.conv\.(\d)\.prelu\.", r".conv.\1.adn.A."),
    (r"^(input|up\.3)\.conv\.(?:conv\.)?(weight|bias)$", r"\1.conv.0.conv.\2"),  # their chains of one have no index
    (r"^input\.conv_skip\.(?:conv\.)?", "input.project."),
    (r"^(down|up)\.(\d)\.\1\.conv\.", r"\1.\2.\1."),
    *[(rf"\.{theirs}_in\.", f".up_{ours}.") for theirs, ours in (("bn", "norm"), ("prelu", "act"))],
    *[(rf"\.{theirs}\.", f".{ours}.") for theirs, ours in (("bn", "norm"), ("prelu", "act"))],
    (r"^out\.(?:conv\.)?", "head."),
]
_MULTIRES_UNET_DCA: Rules = [
    *_DCA,
    *[(rf"^mr{i + 1}\.", f"encoder.{i}.") for i in range(4)],
    (r"^mr5\.", "bottleneck."),
    *[(rf"^mr{i + 6}\.", f"decoder.{i}.") for i in range(4)],
    *[(rf"^respath{i + 1}\.", f"paths.{i}.") for i in range(4)],
    *[(rf"^up{i + 1}\.0\.(?:conv\.)?", f"up.{i}.conv.") for i in range(4)],
    *[(rf"^up{i + 1}\.1\.", f"up.{i}.adn.N.") for i in range(4)],
    (r"^paths\.(\d)\.bns\.", r"paths.\1.norms."),
    (r"^paths\.(\d)\.(convs|skips)\.(\d)\.conv\.", r"paths.\1.\2.\3."),
    *[(rf"\.c{i + 1}\.", f".convs.{i}.") for i in range(3)],
    (r"\.(convs\.\d|skip)\.norm\.", r".\1.adn.N."),
    (r"\.bn1\.", ".norm."),
    (r"^out\.(?:conv\.)?", "head."),
]
_DCA_ASPP: Rules = [
    *[(rf"^(pyramid\d?|bridge)\.block{i + 1}\.", rf"\1.branches.{i}.") for i in range(5)],
    (r"^(pyramid\d?|bridge)\.(.*)\.norm\.", r"\1.\2.adn.N."),
]
_RESUNET_PLUS_PLUS_DCA: Rules = [
    *_DCA,
    (r"^input_layer\.0\.norm\.", "input.0.adn.N."),
    (r"^input_layer\.(\d)\.(?:conv\.)?(weight|bias)$", r"input.\1.conv.\2"),
    (r"^input_skip\.0\.(?:conv\.)?", "input_skip."),
    *[(rf"^squeeze_excite{i + 1}\.fc\.", f"squeeze_excite.{i}.mlp.") for i in range(3)],
    *[(rf"^residual_conv{i + 1}\.", f"encoder.{i}.") for i in range(3)],
    *[(rf"^up_residual_conv{i + 1}\.", f"decoder.{i}.") for i in range(3)],
    *[(rf"\.conv\.{2 * i}\.bn\.", f".norm{i + 1}.") for i in range(2)],
    *[(rf"^(encoder|decoder)\.(\d)\.conv\.{2 * i + 1}\.(?:conv\.)?", rf"\1.\2.conv{i + 1}.") for i in range(2)],
    (r"\.skip\.conv\.", ".skip."),
    (r"^aspp_bridge\.", "bridge."),
    (r"^aspp_out\.", "pyramid."),
    *_DCA_ASPP,
    *[(rf"^attn{i + 1}\.", f"gates.{i}.") for i in range(3)],
    # the gates' norms have two names each in the official state_dict
    *[
        (rf"^(gates\.\d)\.(?:norm{i + 1}|conv_{theirs}\.0)\.", rf"\1.{ours}norm.")
        for i, (theirs, ours) in enumerate((("encoder", "skip_"), ("decoder", ""), ("attn", "weight_")))
    ],
    *[
        (rf"\.conv_{theirs}\.2\.(?:conv\.)?", f".{ours}conv.")
        for theirs, ours in (("encoder", "skip_"), ("decoder", ""), ("attn", "weight_"))
    ],
    (r"^output_layer\.(?:conv\.)?", "head."),
]
_DOUBLEUNET_DCA: Rules = [
    (r"^DCA_vgg", "dca_vgg"),
    *_DCA,
    *[
        (rf"^vgg{stage + 1}\.{first + 2 * i}\.", f"vgg.{stage}.{2 * i}.")  # index among all of VGG19's layers
        for stage, first in enumerate((0, 5, 10, 19, 28))
        for i in range(4)
    ],
    *[(rf"^decode{i + 1}\.", f"decoder1.{i}.") for i in range(4)],
    *[(rf"^(en|de)code2_{i + 1}\.", rf"\1coder2.{i}.") for i in range(4)],
    (r"^((?:en|de)coder\d\.\d)\.conv([12])\.norm\.", r"\1.conv\2.adn.N."),
    *[(rf"^((?:en|de)coder\d\.\d)\.conv{i + 1}\.", rf"\1.conv.{i}.") for i in range(2)],
    (r"\.bn\.", ".norm."),
    (r"\.se\.fc\.", ".squeeze_excite.mlp."),
    (r"^aspp_", "pyramid"),
    *_DCA_ASPP,
    (r"^out1\.0\.(?:conv\.)?", "head1."),
    (r"^out\.(?:conv\.)?", "head2."),
]
# QTSeg's encoder numbers its layers as YOLOv8 does
_QTSEG_LAYERS = {
    "conv_0": "stage2.0",
    "conv_1": "stage2.1",
    "c2f_2": "stage2.2",
    "conv_3": "stage3.0",
    "c2f_4": "stage3.1",
    "conv_5": "stage4.0",
    "c2f_6": "stage4.1",
    "conv_7": "stage5.0",
    "c2f_8": "stage5.1",
    "sppf_9": "stage5.2",
    "c2f_12": "merge4",
    "c2f_15": "merge3",
    "conv_16": "down4",
    "c2f_18": "output4",
    "conv_19": "down5",
    "c2f_21": "output5",
}
_QTSEG_ENCODER: Rules = [
    (r"\.bn\.", ".norm."),
    (r"\.m\.(\d+)\.cv1\.", r".chain.\1.first."),
    (r"\.m\.(\d+)\.cv2\.", r".chain.\1.second."),
    (r"sppf_9\.cv1\.", "sppf_9.reduce."),
    (r"c2f_(\d+)\.cv1\.", r"c2f_\1.split."),
    (r"(c2f|sppf)_(\d+)\.cv2\.", r"\1_\2.merge."),
    *[(rf"^(image_encoder\.)?{theirs}\.", rf"\g<1>{ours}.") for theirs, ours in _QTSEG_LAYERS.items()],
]
_QTSEG: Rules = [
    *_QTSEG_ENCODER,
    (r"^image_encoder\.", "encoder."),
    (r"^bridge\.neck_(\d)_(\d)\.", r"bridge.levels.\1.shares.\2."),
    (r"\.conv_transpose\.", ".conv."),
    (r"^mask_decoder\.mask_tokens\.weight$", "tokens"),
    *[(rf"^mask_decoder\.([A-Z]+)_s{level}\.", rf"stages.{2 - level}.\1.") for level in (0, 1, 2)],
    (r"\.DMAB\.layers\.", ".layers."),
    (r"\.DMAB\.final_attn_token_to_image\.", ".final_attention."),
    (r"\.DMAB\.norm_final_attn\.", ".final_norm."),
    *[(rf"\.MLP\.(\d+)\.layers\.{i}\.", rf".token_mlps.\1.{2 * i}.") for i in (0, 1, 2)],
    (r"\.PE\.positional_encoding_gaussian_matrix$", ".position.matrix"),
    (r"\.SUB\.", ".upsample."),
    (r"\.dm_attention\.spatial_attention\.cv1\.", ".spatial_gate.conv."),
    (r"\.dm_attention\.channel_attention\.", ".channel_gate."),
    (r"\.dm_attention\.(spatial|channel)_token_mix_attention\.", r".attend_\1."),
    (r"\.dm_attention\.token_layernorm\.", ".mixed_norm."),
    (r"\.token_layernorm\.", ".mlp_norm."),
    (r"\.token_mlp\.lin", ".mlp.linear"),
    (r"\.feature_mix\.", ".attend_tokens."),
    *[(rf"\.{name[0]}_proj\.", f".{name}.") for name in ("query", "key", "value")],
    (r"\.out_proj\.", ".out."),
]

RULES: dict[str, Rules] = {
    "DoubleUNetDCA": _DOUBLEUNET_DCA,
    "MultiResUNetDCA": _MULTIRES_UNET_DCA,
    "R2UNetDCA": _R2UNET_DCA,
    "ResUNetPlusPlusDCA": _RESUNET_PLUS_PLUS_DCA,
    "UNetDCA": _UNET_DCA,
    "VNetDCA": _VNET_DCA,
    "EMCADNet": _EMCAD,
    "PVTv2": [(r"^head\.", None), *_PVT_V2],
    "XAttnResEMCAD": _EMCAD,  # without reads the two are one network
    "XAttnResBlockUNet": _XATTNRES_BLOCK,
    "FPNEncoder": _QTSEG_ENCODER,
    "QTSeg": _QTSEG,
}
