# SPDX-License-Identifier: Apache-2.0
"""What a template's configs become for other data: recipe, sizes, spacing, intensities, names and places."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigParser

from monai_ext.apps.compare.candidates import network_in_recipe
from monai_ext.bundle import Bundle
from monai_ext.data.lists import CaseList
from monai_ext.networks.by_name import network_definition
from monai_ext.utils import MODALITIES, VOLUME_MODALITIES

from .planning import SIDE, intensity_window, picture_plan, slice_plan, tissue_contrast
from .survey import Survey
from .volume_planning import VolumePlan

__all__ = ["fill_in", "fit_loss", "lay_over", "point_to_data", "use_intensity", "use_network", "use_recipe", "use_size"]

SCALE = "monai_ext.transforms.ScaleIntensityRanged"
FREEZE = "monai_ext.handlers.FreezeUntil"
DIMS = "network_def#spatial_dims"
PERCENTILES = {"lower": 0.5, "upper": 99.5}


def use_network(configs: dict[str, Any], name: str, **options: Any) -> str:
    """Another network in the template's recipe, in training and inference; its name as it is spelled."""
    own = configs["train"]["network_def"]
    facts = {key: own[key] for key in ("spatial_dims", "in_channels", "out_channels") if key in own}
    # sides come with the plan
    found, definition = network_definition(name, {"spatial_dims": 2, **facts, "img_size": None, "pretrained": None})
    if definition["_target_"] == own["_target_"]:
        return found
    for config in (configs["train"], configs["inference"]):
        required = {key: value for key, value in config["network_def"].items() if key == "_requires_"}
        config["network_def"] = {"_target_": definition["_target_"], **required, **definition, **options}
    for part in ("train_3d", "inference_3d"):
        if part in configs:  # options of the template's network
            configs[part] = {k: v for k, v in configs[part].items() if not k.startswith("network_def#") or k == DIMS}
    train = configs["train"]
    if "pretrained" in definition:
        train["network_def"]["pretrained"] = "@pretrained"
        del configs["inference"]["network_def"]["pretrained"]
    else:
        train.pop("pretrained", None)
    # of the template's own encoder
    train["train"]["handlers"] = [each for each in train["train"]["handlers"] if each["_target_"] != FREEZE]
    train.pop("warm_up", None)
    return found


def fit_loss(train: dict[str, Any], name: str, template: Bundle) -> None:
    """Build a network that is not the template's once, and give a loss of several maps to one that has several."""
    if train["network_def"]["_target_"] == template.config("train")["network_def"]["_target_"]:
        return
    candidate = network_in_recipe(name, dict(train["network_def"]), ConfigParser(deepcopy(train)))
    train["loss"] = candidate.overlay.get("loss", train["loss"])


def use_recipe(
    configs: dict[str, Any],
    recipe: str,
    template: Bundle,
    found: Survey,
    mirrored: tuple[list[int], str],
    plan: VolumePlan | None,
) -> list[str]:
    """Write the overlay of the strong recipe into ``train.json``, with what the data say about it."""
    overlay, overlay_3d = configs.pop("strong", None), configs.pop("strong_3d", None)
    overlay = overlay if plan is None else overlay_3d
    if recipe == "paper":
        return [f"recipe: paper, as {template.name} has it; flips are those of its paper, whatever the classes."]
    if overlay is None:
        return [f"recipe: {template.name}'s own, which has no configs/strong.json."]
    train = configs["train"]
    lay_over(train, overlay)
    if plan is not None:
        train["tilt"] = plan.tilt
        train.pop("foreground_weight", None)  # patches are drawn by foreground_share
    file = "strong" if plan is None else "strong_3d"
    choices = [f"recipe: strong, the overlay {file}.json: other fields of view, contrasts and scanners are imagined."]
    axes, reason = mirrored
    train["mirror_axes"] = configs["ensemble_inference"]["mirror_axes"] = axes
    choices.append(reason)
    if "tissue_contrast" in overlay:
        train["tissue_contrast"], reason = tissue_contrast(found)
        choices.append(reason)
    return choices


def lay_over(config: dict[str, Any], overlay: Mapping[str, Any]) -> None:
    """What MONAI does with a second config; new knobs come behind the batch's size."""
    for key, value in overlay.items():
        *path, last = key.split("#")
        part = config
        for step in path:
            part = part[step]
        if last in part or path or isinstance(value, dict):
            part[last] = value
        else:
            _insert_after(config, "batch_size", last, value)


def use_size(
    configs: dict[str, Any],
    published: int | list[int],
    found: Survey,
    plan: VolumePlan | None,
    recipe: str,
    anywhere: bool,
) -> tuple[int | list[int], str]:
    """Configs for images of one size, and which it is and why: the plan's in 3D, or what recipe and data ask for."""
    if plan is not None:
        _use_volumes(configs, plan)
        return plan.size, plan.reason
    side = published if isinstance(published, int) else max(published)
    if recipe == "strong" and "strong" in configs and not found.pictures:
        pixel, planned, reason = slice_plan(found, side, anywhere)
        _use_spacing(configs, [pixel, pixel])
        return planned, reason
    size, reason = _image_size(published, found)
    if recipe == "strong" and "strong" in configs:
        smaller, smaller_reason = picture_plan(found, side)
        if smaller is not None:
            _use_windows(configs, smaller)
            return size, smaller_reason
    return size, reason


def _image_size(published: int | list[int], found: Survey) -> tuple[int | list[int], str]:
    """The template's size, unless the data are smaller."""
    longest = int(np.median([max(shape[:2]) for shape in found.shapes]))
    side = published if isinstance(published, int) else max(published)
    if longest >= side:
        text = f"image_size: {side}, the recipe's; the images' longer side is {longest} (median)."
    else:
        side = max(2 * SIDE, SIDE * -(-longest // SIDE))
        text = f"image_size: {side}, the images' longer side ({longest}, median) rounded up to a multiple of {SIDE}."
    return (side if isinstance(published, int) else [side, side]), text


def _use_volumes(configs: dict[str, Any], plan: VolumePlan) -> None:
    """The overlays of 3D written in, with the plan: the bundle knows no slices any more."""
    train, inference = configs["train"], configs["inference"]
    for config, name in ((train, "train_3d"), (inference, "inference_3d")):
        overlay = configs.pop(name)
        lay_over(config, overlay)
        config["batch_size"] = plan.batch
        config.pop("mirror", None)  # of slices; --tta mirrors
    inference["displayable_configs"] = {"windows_per_batch": "@batch_size"}
    inference["inferer"]["sw_batch_size"] = "@displayable_configs#windows_per_batch"
    _use_spacing(configs, plan.spacing)


def _use_spacing(configs: dict[str, Any], spacing: list[float]) -> None:
    """A pixel of one size in every scan, in training, validation and inference; it travels with the weights."""
    train, inference = configs["train"], configs["inference"]
    for config in (train, inference):
        # weights that note nothing of it were trained with slices squeezed to one size
        _insert_after(
            config, "image_size", "spacing", f"$@as_trained.get('spacing', None if @as_trained else {spacing})"
        )
    for part in (train["train"]["dataset"], train["validate"]["inferer"], inference["inferer"]):
        part["spacing"] = "@spacing"


def _use_windows(configs: dict[str, Any], smaller: float) -> None:
    """Pictures as large as they are, or ``smaller`` times as small; views in training, windows in inference."""
    train, inference = configs["train"], configs["inference"]
    for part in (train["train"]["preprocessing"], train["validate"]["preprocessing"], inference["preprocessing"]):
        steps = []
        for step in part["transforms"]:
            if step["_target_"] == "Resized":
                modes = ["area", "nearest-exact"] if isinstance(step["keys"], list) else "area"
                zoom = {"_target_": "Zoomd", "keys": step["keys"], "zoom": 1 / smaller, "mode": modes}
                steps += [] if smaller == 1 else [{**zoom, "keep_size": False}]
            else:
                steps.append(step)
        part["transforms"] = steps
    windows = {
        "_target_": "monai_ext.inferers.WindowImageInferer",
        "roi_size": "$[@image_size] * 2 if isinstance(@image_size, int) else @image_size",
        "sw_batch_size": 4,
        "overlap": 0.25,
        "mode": "gaussian",
    }
    train["validate"]["inferer"], inference["inferer"] = dict(windows), dict(windows)


def use_intensity(configs: dict[str, Any], found: Survey, listed: CaseList) -> list[str]:
    """CT gets a window of the labelled tissue; other volumes are scaled each by its own percentiles."""
    if found.pictures:
        return ["intensity: as the recipe has it, from 8-bit colours."]
    unlike = []
    if listed.modality and listed.modality != found.modality:
        reason = "most volumes have other values" if listed.modality in VOLUME_MODALITIES else "which has no rule here"
        unlike = [f"modality: the list says {listed.modality} ({MODALITIES[listed.modality].title}), {reason}."]
    of_one = found.modality == "CT" and not listed.channel_names
    window, window_reason = intensity_window(found) if of_one else ([], "")
    for config, steps in (
        (configs["train"], configs["train"]["train"]["preprocessing"]["transforms"]),
        (configs["inference"], configs["inference"]["preprocessing"]["transforms"]),
    ):
        for step in steps:
            kind = step["_target_"].rpartition(".")[2]
            if kind == "CheckVolumed":
                step.pop("modality", None)
                step |= {"modality": found.modality} if found.modality else {}
            elif kind.startswith("ScaleIntensityRange"):
                common = {key: step[key] for key in ("b_min", "b_max", "clip")}
                limits = {"a_min": "$@intensity_window[0]", "a_max": "$@intensity_window[1]"}
                step.clear()
                if of_one:
                    step |= {"_target_": SCALE, "keys": "image", **limits, **common}
                else:
                    step |= {"_target_": "ScaleIntensityRangePercentilesd", "keys": "image", **PERCENTILES, **common}
        config.pop("intensity_window", None)
        for handler in _handlers(config, "monai_ext.handlers.SaveWeights"):
            handler["trained_with"] = {"image_size": "@image_size"}
            if of_one:
                handler["trained_with"]["intensity_window"] = "@intensity_window"
            if "spacing" in config:
                handler["trained_with"]["spacing"] = "@spacing"
        if of_one:
            _insert_after(config, "image_size", "intensity_window", _as_trained("intensity_window", window))
    if listed.channel_names:
        return unlike
    if found.modality == "CT":
        return [window_reason, *unlike]
    low, high = found.everywhere
    what = "MR" if found.modality == "MR" else "neither CT in Hounsfield units nor MR"
    return [
        f"intensity: values (0.5th and 99.5th percentiles {low:.4g} and {high:.4g}) are {what}'s; each volume is "
        "scaled to [0, 1] by its own percentiles 0.5 and 99.5.",
        *unlike,
    ]


def fill_in(
    configs: dict[str, Any],
    name: str,
    template: str,
    base: Path,
    classes: list[str],
    size: int | list[int],
    found: Survey,
) -> None:
    """Names, numbers of classes and sizes, wherever a config or the metadata has them."""
    number = len(classes) + 1
    for config in (configs["train"], configs["inference"]):
        config["image_size"] = _as_trained("image_size", size)
        config["network_def"]["out_channels"] = number
        if "img_size" in config["network_def"]:
            config["network_def"]["img_size"] = size
    configs["train"]["num_classes"] = number
    configs["train"].setdefault("as_trained", {})
    for config in (configs["evaluate"], configs["inference"]):
        config["as_trained"] = "$monai_ext.bundle.trained_with(@ckpt_path)"
    method = configs["train"]["network_def"]["_target_"].rpartition(".")[2]
    for report in _handlers(configs["evaluate"], "monai_ext.apps.SegmentationReport"):
        report |= {"class_names": "@class_names", "title": f"{method} on {name}", "published": [], "notes": []}
        report["match"] = None
        report.pop("patient", None)
    configs["evaluate"]["tolerances"] = None
    metadata = configs["metadata"]
    listed = ", ".join(f"{i} {text}" for i, text in enumerate(["background", *classes]))
    modality = "colour picture" if found.pictures else found.modality or "other"
    metadata |= {
        "version": "0.1.0",
        "changelog": {"0.1.0": f"made from {template} for data of one's own"},
        "name": name,
        "task": f"Segmentation of {', '.join(classes)}",
        "description": f"{method}, with the recipe of the bundle {template}: segments {', '.join(classes)}.",
        "data_source": f"{len(found.shapes)} cases of one's own, see datalist.json",
        "label_classes": f"single channel, {listed}",
        "pred_classes": f"{number} channels, background and the classes in the order of label_classes",
    }
    if not found.pictures:
        scaled = "Hounsfield units in a window" if found.modality == "CT" else "intensities between percentiles"
        metadata["image_classes"] = f"single channel {modality}, {scaled} scaled to [0, 1]"
    formats = metadata["network_data_format"]
    image, pred = formats["inputs"]["image"], formats["outputs"]["pred"]
    if not found.pictures:
        image |= {"modality": modality, "format": "hounsfield" if found.modality == "CT" else "magnitude"}
    shape = [size, size] if isinstance(size, int) else list(size)
    image["spatial_shape"] = shape
    pred |= {"spatial_shape": shape, "num_channels": number}
    pred["channel_def"] = {str(i): text for i, text in enumerate(["background", *classes])}


def point_to_data(configs: dict[str, Any], name: str, base: Path, test_image: str) -> None:
    """Where the bundle, its list and a first image lie."""
    train, inference = configs["train"], configs["inference"]
    for config in (train, inference):
        config["bundle_root"] = f"$monai_ext.bundle_root({name!r})"
    del train["dataset_name"]
    train["dataset_dir"] = str(base)
    train["datalist"] = "$@bundle_root + '/datalist.json'"
    # names are data: the config says only where they are
    _insert_after(
        train, "datalist", "class_names", "$monai_ext.data.listed_class_names(@bundle_root + '/datalist.json')"
    )
    train["cases"] = (
        "$monai_ext.data.load_datalist(dataset_dir=@dataset_dir, datalist=@datalist, split=@split, exclude=@exclude, "
        "fold=@fold, num_folds=@num_folds, class_names=@class_names)"
    )
    inference["dataset_dir"] = test_image


def _as_trained(knob: str, value: Any) -> str:
    """The recipe's value where the weights bring none."""
    return f"$@as_trained.get({knob!r}, {value!r})"


def _handlers(config: Any, target: str) -> list[dict[str, Any]]:
    """Those of one class, wherever in the config they are."""
    parts = config.values() if isinstance(config, dict) else config if isinstance(config, list) else ()
    own = [config] if isinstance(config, dict) and config.get("_target_") == target else []
    return own + [handler for part in parts for handler in _handlers(part, target)]


def _insert_after(config: dict[str, Any], key: str, new: str, value: Any) -> None:
    items = list(config.items())
    place = list(config).index(key) + 1
    config.clear()
    config.update([*items[:place], (new, value), *items[place:]])
