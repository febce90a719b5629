# SPDX-License-Identifier: Apache-2.0
"""What configs need for images of several channels, regions that overlap, and voxels that nobody has looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from monai_ext.data.lists import CaseList
from monai_ext.transforms import IGNORE

from .planning import intensity_window
from .survey import Survey

__all__ = ["label_content", "use_channels", "use_label_loss", "use_regions"]

LOSS = "monai_ext.losses.LabelLoss"
WRITTEN = "monai_ext.transforms.ScoresToLabelsd"
# what the loss takes over from MONAI's of the recipe
OF_THE_RECIPE = ("lambda_dice", "lambda_ce", "include_background", "squared_pred", "batch")


def use_channels(configs: dict[str, Any], found: Survey, names: Sequence[str]) -> list[str]:
    """Read and scale each channel by its own rule: CT by a window, others by their own statistics."""
    windows: list[list[int] | None] = []
    reasons = []
    for channel in found.channels:
        if channel.modality == "CT":
            window, reason = intensity_window(replace(found, modality="CT", tissue=channel.tissue))
            reasons.append(f"{channel.name}: {reason.removeprefix('intensity_window: ').rstrip('.')}")
        else:
            window = None
            reasons.append(f"{channel.name}: by each volume's own percentiles 0.5 and 99.5")
        windows.append(window)
    scale = {"_target_": "monai_ext.transforms.ScaleChannelsd", "keys": "image", "windows": windows}
    train, inference = configs["train"], configs["inference"]
    for config, preprocessing in ((train, train["train"]["preprocessing"]), (inference, inference["preprocessing"])):
        config["channel_names"] = list(names)
        config["network_def"]["in_channels"] = len(names)
        steps: list[dict[str, Any]] = []
        for step in preprocessing["transforms"]:
            kind, keys = step["_target_"].rpartition(".")[2], step.get("keys")
            if kind == "LoadImaged":
                steps.append({**step, "keys": "image", "channel_names": "@channel_names"})
                steps += [{**step, "keys": "label"}] if "label" in keys and keys != "image" else []
            elif kind == "EnsureChannelFirstd":
                steps.append({**step, "keys": "image"})
                steps += [{**step, "keys": "label"}] if "label" in keys and keys != "image" else []
            else:
                steps.append(dict(scale) if kind.startswith("ScaleIntensityRange") else step)
        preprocessing["transforms"] = steps
    train["cases"] = train["cases"].removesuffix(")") + ", channel_names=@channel_names)"
    inference["dataset"]["data"] = "$monai_ext.data.find_images(@dataset_dir, @channel_names)"
    configs["evaluate"]["report_channel"] = 0
    for report in _of_class(configs["evaluate"], "monai_ext.apps.SegmentationReport"):
        report["channel"] = "@report_channel"
    metadata = configs["metadata"]
    metadata["image_classes"] = f"{len(names)} channels, {', '.join(names)}, each scaled to [0, 1]"
    image = metadata["network_data_format"]["inputs"]["image"]
    image |= {"num_channels": len(names), "channel_def": {str(i): name for i, name in enumerate(names)}}
    return [f"channels: {len(names)}, in this order, each scaled to [0, 1]: {'; '.join(reasons)}. Where the outside is "
            "exactly 0, percentiles are those of the body."]  # fmt: skip


def use_regions(configs: dict[str, Any], listed: CaseList) -> list[str]:
    """A sigmoid for each region, written as a label map in the list's order; scores are those of regions."""
    regions = [list(values) for values in listed.regions.values()]
    order = list(listed.region_order)
    train, inference = configs["train"], configs["inference"]
    train["regions"] = regions
    for config in (train, inference):
        config["region_order"] = order
        config["network_def"]["out_channels"] = len(regions)
    train["num_classes"] = max(map(max, regions)) + 1  # of label values; background is one
    inferers = [train["validate"]["inferer"], inference["inferer"], configs["ensemble_inference"]["network"]]
    for name, key in (("train_3d", "validate#inferer"), ("inference_3d", "inferer")):
        inferers += [configs[name][key]] if name in configs else []
    for part in inferers:
        part["regions"] = "@region_order"
    for part in (train["validate"], inference):  # pictures become labels when they are back on their own grid
        steps = part.get("postprocessing", {"transforms": []})["transforms"]
        for place, step in enumerate(steps):
            if step["_target_"] == "AsDiscreted":
                steps[place] = {"_target_": WRITTEN, "keys": step["keys"], "regions": "@region_order"}
    inference["network"] = inference["network"].removesuffix(")") + ", regions=@region_order)"
    (metric,) = train["validate"]["key_metric"].values()
    metric.pop("num_classes", None)
    metric["include_background"] = True  # every channel is a region
    metric["output_transform"] = "$monai_ext.metrics.compared_labels(@regions)"
    for report in _of_class(configs["evaluate"], "monai_ext.apps.SegmentationReport"):
        report["regions"] = "@regions"
    pred = configs["metadata"]["network_data_format"]["outputs"]["pred"]
    named = dict(sorted(zip(order, listed.regions)))
    pred |= {
        "num_channels": len(regions),
        "channel_def": {"0": "background", **{str(value): name for value, name in named.items()}},
    }
    told = [f"{name} ({', '.join(map(str, values))}) as {value}" for (name, values), value in zip(
        listed.regions.items(), order
    )]  # fmt: skip
    configs["metadata"]["pred_classes"] = f"{len(regions)} channels, a sigmoid each: {', '.join(listed.regions)}"
    configs["metadata"]["label_classes"] = f"single channel, label values of regions: {', '.join(told)}"
    return [
        f"regions: a sigmoid each, of the label values in brackets, written in this order over each other: "
        f"{', '.join(told)}."
    ]


def use_label_loss(configs: dict[str, Any], ignore: int | None, regions: bool) -> list[str]:
    """The loss for both; it keeps the recipe's weights where these are those of MONAI's Dice and cross entropy."""
    train = configs["train"]
    before = train["loss"]
    kind = before["_target_"].rpartition(".")[2]
    kept = {key: before[key] for key in OF_THE_RECIPE if key in before} if kind.startswith("Dice") else {}
    if kind == "DiceLoss":
        kept["lambda_ce"] = 1.0 if regions else 0.0
    loss = {"_target_": LOSS, **({"regions": "@regions"} if regions else {}), **kept}
    train["loss"] = loss
    if not regions:
        (metric,) = train["validate"]["key_metric"].values()
        metric["output_transform"] = "$monai_ext.metrics.compared_labels()"
    choices = [f"loss: LabelLoss in place of {kind}: regions overlap."] if regions else []
    if ignore is not None:
        choices.append(
            f"ignore: voxels of label value {ignore} take no part in loss and scores (LabelLoss in place of {kind}); "
            "what holds nothing else is not drawn."
        )
    return choices


def label_content(listed: CaseList, classes: Sequence[str], mapping: Mapping[int, int]) -> dict[str, Any]:
    """What the bundle's own list says of labels and channels."""
    content: dict[str, Any] = {}
    if listed.regions:
        ignored = {} if listed.ignore is None else {"ignore": listed.ignore}
        regions = {name: list(values) for name, values in listed.regions.items()}
        content["labels"] = {"background": 0, **regions, **ignored}
        content["regions_class_order"] = list(listed.region_order)
    else:
        if any(value != number or number == IGNORE for value, number in mapping.items()):
            content["label_mapping"] = {str(value): number for value, number in mapping.items()}
        content["labels"] = {str(i): text for i, text in enumerate(["background", *classes])}
    if listed.channel_names:
        content["channel_names"] = {str(i): name for i, name in enumerate(listed.channel_names)}
    return content


def _of_class(config: Any, target: str) -> Iterator[dict[str, Any]]:
    if isinstance(config, dict) and config.get("_target_") == target:
        yield config
    for part in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        yield from _of_class(part, target)
