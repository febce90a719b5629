# SPDX-License-Identifier: Apache-2.0
"""Write a bundle of one's own in the shape of one that is there."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.utils import ensure_tuple

from monai_ext.bundle import Bundle
from monai_ext.data.lists import PARTS, CaseList, check_class_names, read_list
from monai_ext.data.splits import hold_out, random_parts
from monai_ext.transforms import IGNORE
from monai_ext.utils import MODALITIES, VOLUME_MODALITIES, number_option, scratch_folder, text_options

from .memory import memory_option, step_bytes
from .pairs import pair_files, short_ids
from .planning import SIDE, check_spacings, intensity_window, mirror_axes, picture_plan, slice_plan, tissue_contrast
from .readme import readme
from .special import label_content, use_channels, use_label_loss, use_regions
from .survey import Survey, survey
from .volume_planning import NoRoomError, VolumePlan, flat_volumes, volume_plan

__all__ = ["new_bundle"]

NAME = re.compile(r"[a-z][a-z0-9_]*")
# MONAI Label takes bundles with these words in their names for other kinds of model
LABEL_WORDS = ("deepedit", "deepgrow", "detection", "classification")
RECIPES = ("strong", "paper")
DIMS = ("2", "3", "auto")
OVERLAYS_3D = ("train_3d", "inference_3d", "strong_3d")
SCALE = "monai_ext.transforms.ScaleIntensityRanged"
PERCENTILES = {"lower": 0.5, "upper": 99.5}


def new_bundle(
    name: str,
    bundle: str | os.PathLike | None = None,
    images: str | os.PathLike | None = None,
    labels: str | os.PathLike | None = None,
    datalist: str | os.PathLike | None = None,
    class_names: str | Sequence[str] = (),
    test_share: float | str = 0.2,
    where: str | os.PathLike = ".",
    progress: bool = True,
    recipe: str = "strong",
    nnunet: str | os.PathLike | None = None,
    channel_names: str | Sequence[str] = (),
    dims: int | str = 2,
    memory: int | float | str = "8GB",
) -> tuple[Path, list[str]]:
    """Look at a user's data and write ``bundles/NAME`` for it: datalist, split, configs, metadata and README.

    Args:
        name: of the new bundle: small letters, digits and underscores.
        bundle: name or folder of the bundle to take network and recipe from; by default ``dcaunet_synapse`` for
            volumes and ``qtseg_busi`` for pictures.
        images: folder of images.
        labels: folder of labels, whose files agree with the images' in name.
        datalist: instead of the two, a list as ``monai_ext.data.read_list`` reads it: a Decathlon's or nnU-Net's
            ``dataset.json``. Its names, validation and test cases, folds, modality and label mapping are kept.
        class_names: of the labels' values above 0, in rising order; a list of them, or a text with commas between.
        test_share: part of the cases to test on.
        where: the folder that has, or gets, ``bundles``.
        progress: show a progress bar.
        recipe: ``"strong"``, augmentation that carries to other patients and scanners, or ``"paper"``, the bundle's
            own as published.
        nnunet: instead of images and labels, a dataset's folder as nnU-Net has it, such as
            ``nnUNet_raw/Dataset004_X``: channels, regions and ignored labels are kept.
        channel_names: what the channels of images in several files, or of four dimensions, are, in their order; a list
            has its own.
        dims: 2, a network on slices; 3, one on volumes, with voxels, patch and batch planned for ``memory``; or
            ``"auto"``: 3 unless the scans are rather slices, the network has no 3D, or it does not fit.
        memory: that a training step in 3D may take, with its unit, such as ``"8GB"``.

    Returns:
        The bundle's folder, and its choices, a sentence each.

    Raises:
        FileExistsError: if there is a bundle of that name.
        FileNotFoundError, ValueError: for data that cannot be used, or arguments that do not fit it.

    Examples::

        >>> new_bundle("my_task", "dcaunet_synapse", "scans", "segmentations")[0]
        PosixPath('bundles/my_task')
    """
    if not NAME.fullmatch(name) or any(word in name for word in LABEL_WORDS):
        raise ValueError(
            f"monai_ext: name {name!r}: expected small letters, digits and underscores, and none of the words "
            f"{', '.join(LABEL_WORDS)}."
        )
    if recipe not in RECIPES:
        raise ValueError(f"monai_ext: --recipe {recipe}: expected one of {', '.join(RECIPES)}.")
    if str(dims) not in DIMS:
        raise ValueError(f"monai_ext: --dims {dims}: expected one of {', '.join(DIMS)}.")
    budget = memory_option(memory)
    target = Path(where) / "bundles" / name
    if target.exists():
        raise FileExistsError(f"monai_ext: {target}: is there already. Choose another name, or remove it.")
    given_names = text_options(class_names, "class_names")
    check_class_names(given_names, "class_names")
    ways = [images is not None or labels is not None, datalist is not None, nnunet is not None]
    if sum(ways) != 1 or (ways[0] and (images is None or labels is None)):
        raise ValueError(
            "monai_ext: expected --images and --labels, or --datalist, or --nnunet, and only one of these."
        )
    if nnunet is not None:
        datalist = _nnunet_list(Path(nnunet))
    given_channels = text_options(channel_names, "channel_names")
    check_class_names(given_channels, "channel_names")
    if datalist is not None:
        listed = read_list(datalist)
        if given_channels and listed.channel_names and len(given_channels) != len(listed.channel_names):
            raise ValueError(
                f"monai_ext: channel_names: {len(given_channels)}, but {datalist} has {len(listed.channel_names)}."
            )
        listed = replace(listed, channel_names=tuple(given_channels)) if len(given_channels) > 1 else listed
    else:
        pairs = pair_files(Path(str(images)), Path(str(labels)))
        parts_found: dict[str, list[dict[str, Any]]] = {"training": [{**pairs[c], "case_id": c} for c in pairs]}
        several = max(len(ensure_tuple(pair["image"])) for pair in pairs.values())
        given_channels = given_channels or ([f"channel {i}" for i in range(several)] if several > 1 else [])
        channels = tuple(given_channels) if len(given_channels) > 1 else ()
        listed = CaseList(
            Path(str(images)), {part: parts_found.get(part, []) for part in PARTS}, channel_names=channels
        )
    source = str(datalist or images)
    ids = short_ids(listed.parts)
    cases = {ids[case["case_id"]]: case for part in PARTS for case in listed.parts[part]}
    given = {part: [ids[case["case_id"]] for case in listed.parts[part]] for part in PARTS}
    parts = _parts(given, test_share, source)
    found = survey(cases, progress, listed.modality, listed.channel_names, listed.ignore)
    template = Bundle.find(bundle or ("qtseg_busi" if found.pictures else "dcaunet_synapse"))
    if template.exported:
        raise ValueError(f"monai_ext: {template.exported}: is an exported model. Give a bundle's name or folder.")
    configs = {path.stem: template.config(path.stem) for path in template.folder.glob("configs/*.json")}
    if template.pictures != found.pictures:
        kind, other = ("2D pictures", "volumes") if found.pictures else ("volumes", "2D pictures")
        raise ValueError(f"monai_ext: {template.name} is for {other}, the data are {kind}. Choose another --bundle.")
    values = [value for value in found.values if value]
    if len(values) > 255:
        raise ValueError(f"monai_ext: {len(values)} label values, expected at most 255: are these instances?")
    classes, mapping, told = _classes(listed, values, given_names, found)
    folders = [Path(path).resolve().parent for case in cases.values() for path in _paths(case)]
    base = Path(os.path.commonpath(folders))
    test_image = ",".join(str(Path(file).resolve()) for file in ensure_tuple(cases[parts["test"][0]]["image"]))
    if odd := re.search(r"[@%](#|::)", str(base) + test_image):
        raise ValueError(
            f"monai_ext: {base}: {odd[0]!r} in a path is a reference to configs. Rename the folder or file."
        )
    check_spacings(found, {case: ensure_tuple(cases[case]["image"])[0] for case in cases})
    regions = len(listed.regions) or len(classes) + 1
    plan, dims_reason = _volume_plan(
        configs, str(dims), found, budget, len(listed.channel_names) or 1, regions, template
    )
    published = template.default("image_size")
    side = published if isinstance(published, int) else max(published)
    size, size_reason = _image_size(published, found)
    if plan is not None:
        size, size_reason = plan.size, plan.reason
        _use_volumes(configs, plan)
    elif recipe == "strong" and "strong" in configs and not found.pictures:
        pixel, size, size_reason = slice_plan(found, side)
        _use_spacing(configs, [pixel, pixel])
    elif recipe == "strong" and "strong" in configs:
        smaller, reason = picture_plan(found, side)
        if smaller is not None:
            size_reason = reason
            _use_windows(configs, smaller)
    members = [{value for value, target in mapping.items() if target == i + 1} for i in range(len(classes))]
    members = [set(values) for values in listed.regions.values()] or members
    names = {value: text for text, values in zip(classes, members, strict=True) for value in values}
    choices = [
        *dims_reason,
        *_recipe(configs, recipe, template, found, names, plan),
        size_reason,
        *_intensity(configs, found, listed),
        *_what_else(parts, given, classes, members, found),
    ]
    choices += [*told, *(note[0].upper() + note[1:] for note in listed.notes)]
    _fill_in(configs, name, template.name, base, classes, size, found)
    _point_to_data(configs, name, base, test_image)
    if listed.channel_names:
        choices += use_channels(configs, found, listed.channel_names)
    if listed.regions:
        choices += use_regions(configs, listed)
    if listed.regions or listed.ignore is not None:
        choices += use_label_loss(configs, listed.ignore, bool(listed.regions))
    content = {
        **label_content(listed, classes, {} if found.pictures else mapping),
        **({"modality": {"0": found.modality}} if found.modality else {}),
        **{part: [_entry(case, cases[case], base) for case in parts[part]] for part in PARTS},
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(target.parent, "new-") as folder:
        made = folder / name
        for part in ("configs", "docs"):
            (made / part).mkdir(parents=True)
        for file, config in configs.items():
            (made / "configs" / f"{file}.json").write_text(_json(config), encoding="utf-8")
        (made / "datalist.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        shutil.copy(template.folder / "configs" / "logging.conf", made / "configs")
        shutil.copy(template.folder / "LICENSE", made)
        text = readme(name, template.name, configs, classes, parts, found, choices)
        (made / "docs" / "README.md").write_text(text, encoding="utf-8")
        (made / "docs" / "data_license.txt").write_text(
            "The data are the user's own; no data is part of this bundle.\n", encoding="utf-8"
        )
        made.rename(target)
    return target, choices


def _recipe(
    configs: dict[str, Any],
    recipe: str,
    template: Bundle,
    found: Survey,
    names: Mapping[int, str],
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
    _lay_over(train, overlay)
    if plan is not None:
        train["tilt"] = plan.tilt
        train.pop("foreground_weight", None)  # patches are drawn by foreground_share
        train["train"]["sampler"].pop("foreground_weight", None)
    file = "strong" if plan is None else "strong_3d"
    choices = [f"recipe: strong, the overlay {file}.json: other fields of view, contrasts and scanners are imagined."]
    if plan is None:
        axes, reason = mirror_axes(found.centres, names=names)
    else:
        axes, reason = mirror_axes({case: body.centres for case, body in found.body.items()}, 3, names)
    train["mirror_axes"] = configs["ensemble_inference"]["mirror_axes"] = axes
    choices.append(reason)
    if "tissue_contrast" in overlay:
        train["tissue_contrast"], reason = tissue_contrast(found)
        choices.append(reason)
    return choices


def _lay_over(config: dict[str, Any], overlay: Mapping[str, Any]) -> None:
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


def _volume_plan(
    configs: dict[str, Any], dims: str, found: Survey, memory: int, channels: int, outputs: int, template: Bundle
) -> tuple[VolumePlan | None, list[str]]:
    """The plan of a network in 3D, or None for one in 2D; and why."""
    definition = configs["train"]["network_def"]
    method = definition["_target_"].rpartition(".")[2]
    if definition.get("spatial_dims") == 3:
        raise ValueError(
            f"monai_ext: {template.name}: is planned in 3D for other data. Give the bundle that it was made from with "
            "--bundle, and --dims 3."
        )
    if dims == "2":
        return None, []
    if found.pictures or "spatial_dims" not in definition:
        why = "the data are pictures" if found.pictures else f"{method} has no 3D"
        if dims == "3":
            raise ValueError(
                f"monai_ext: --dims 3: {why}. Leave out --dims{'' if found.pictures else ', or give another --bundle'}."
            )
        return None, [f"dims: 2, as {why}."]
    own = {name: configs.get(name) for name in OVERLAYS_3D}
    if own["train_3d"] is None:  # one for all, but for the network
        common = Bundle.find("dcaunet_synapse")
        own = {name: common.config(name) for name in OVERLAYS_3D}
    layers = {key: value for key, value in own["train_3d"].items() if key.startswith("network_def#")}
    built: dict[tuple[int, ...], torch.nn.Module] = {}

    def network(size: Sequence[int]) -> torch.nn.Module:
        plain = {"network_def": {**definition, "in_channels": channels, "out_channels": outputs}, "image_size": [*size]}
        _lay_over(plain, layers)
        if "pretrained" in definition:
            plain["network_def"]["pretrained"] = None
        sized = "img_size" in plain["network_def"]
        if sized:
            plain["network_def"]["img_size"] = list(size)
        key = tuple(size) if sized else ()
        if key not in built:
            built.clear()
            built[key] = ConfigParser(plain).get_parsed_content("network_def")
        return built[key]

    def cost(size: Sequence[int], batch: int) -> int:
        return step_bytes(network(size), (batch, channels, *size))

    first = network([SIDE] * 3)
    stride = int(getattr(first, "stride", getattr(first, "minimum", SIDE)))
    if dims == "auto" and (flat := flat_volumes(found, stride)):
        return None, [f"dims: 2, as {flat}."]
    try:
        plan = volume_plan(found, stride, cost, memory)
    except NoRoomError as e:
        if dims == "auto":
            return None, [f"dims: 2, as {e}, more than --memory."]
        raise ValueError(
            f"monai_ext: --memory {memory / 1e6:.0f}MB: not enough for {method} in 3D: {e}. Give more with --memory, "
            "or leave out --dims, or take a smaller network with --bundle."
        ) from None
    configs.update(own)
    flat = flat_volumes(found, stride)
    asked = f", though {flat}" if flat else ""
    return plan, [f"dims: 3, {'as asked' + asked if dims == '3' else 'as scans are volumes, and it fits'}."]


def _use_volumes(configs: dict[str, Any], plan: VolumePlan) -> None:
    """The overlays of 3D written in, with the plan: the bundle knows no slices any more."""
    train, inference = configs["train"], configs["inference"]
    for config, name in ((train, "train_3d"), (inference, "inference_3d")):
        overlay = configs.pop(name)
        _lay_over(config, overlay)
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


def _parts(given: Mapping[str, list[str]], test_share: float | str, where: str) -> dict[str, list[str]]:
    """The list's own validation and test cases; what it has none of is drawn from its training cases."""
    count = sum(map(len, given.values()))
    if count < 3:
        raise ValueError(f"monai_ext: {where}: {count} case(s), at least 3 are needed: train, validate, test.")
    share = number_option(test_share, "test_share")
    if not 0 < share < 1:
        raise ValueError(f"monai_ext: test_share must be between 0 and 1, got {share:g}.")
    parts = {part: list(given[part]) for part in PARTS}
    if not parts["test"]:
        kept = 1 if parts["validation"] else 2  # for training, and validation
        available = len(parts["training"])
        if available <= kept:
            raise ValueError(f"monai_ext: {where}: {available} training case(s), none can be spared to test on.")
        drawn = random_parts(parts["training"], min(share, (available - kept) / available), str, None, where)
        parts |= {part: drawn[part] for part in ("training", "test")}
    if not parts["validation"]:
        parts["training"], parts["validation"] = hold_out(parts["training"], str, where)
    if not parts["training"]:
        raise ValueError(f"monai_ext: {where}: no training case.")
    return parts


def _classes(
    listed: CaseList, values: list[int], given: list[str], found: Survey
) -> tuple[list[str], dict[int, int], list[str]]:
    """Names of classes 1, 2, ..., which class each label value is, and what a person should know about them."""
    where, names, mapping = f"monai_ext: {listed.file}", dict(listed.class_names), listed.label_mapping
    told: list[str] = []
    if listed.regions:
        if given:
            raise ValueError(f"{where}: --class_names: the list names regions. Change their names there.")
        known = {0, *(value for values in listed.regions.values() for value in values)}
        if unknown := [value for value in found.values if value not in known]:
            raise ValueError(f"{where}: label value {unknown[0]} is in the files, but in no region. Add it to one.")
        check_class_names(list(listed.regions), str(listed.file))
        return list(listed.regions), {value: value for value in sorted(known)}, told
    if mapping is not None:
        numbers = sorted(set(mapping.values()) - {0, IGNORE})
        if numbers != list(range(1, len(numbers) + 1)):
            raise ValueError(
                f"{where}: label_mapping leads to the classes {numbers}, expected 1, 2, ... without a gap."
            )
        if unknown := [value for value in found.values if value not in mapping]:
            raise ValueError(f"{where}: label value {unknown[0]} is in the files, but not in its label_mapping.")
    else:
        numbers = values
        mapping = {0: 0} | {value: i for i, value in enumerate(values, start=1)}
        if names and not given and (unknown := [value for value in values if value not in names]):
            raise ValueError(
                f"{where}: label value {unknown[0]} is in the files, but its labels do not name it. Add it there, or "
                "name all with --class_names."
            )
        if missing := [] if given else [f"{value} ({name})" for value, name in names.items() if value not in values]:
            told.append(f"no case has label {', '.join(missing)}: left out.")
    classes = given or [names.get(i, f"class {i}") for i in numbers]
    check_class_names(classes, str(listed.file))
    if len(classes) != len(numbers):
        raise ValueError(
            f"monai_ext: class_names: {len(classes)} ({', '.join(classes)}), expected {len(numbers)} different ones, "
            f"for label values {', '.join(map(str, values[:12]))}."
        )
    if listed.ignore is not None:
        mapping = {**mapping, listed.ignore: IGNORE}
    return classes, mapping, told


def _nnunet_list(folder: Path) -> Path:
    """The ``dataset.json`` of a dataset's folder."""
    if not folder.is_dir():
        raise FileNotFoundError(f"monai_ext: --nnunet {folder}: no such folder; expected one such as Dataset004_X.")
    file = folder / "dataset.json"
    if not file.is_file():
        inside = sorted(path.parent.name for path in folder.glob("*/dataset.json"))
        hint = f" Give one of those in it: {', '.join(inside[:5])}." if inside else ""
        raise FileNotFoundError(f"monai_ext: --nnunet {folder}: no dataset.json in it, which nnU-Net asks for.{hint}")
    return file


def _paths(case: Mapping[str, Any]) -> list[str]:
    return [*ensure_tuple(case["image"]), *ensure_tuple(case["label"])]


def _entry(name: str, case: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """A case as the bundle's list has it."""
    images, labels = ([os.path.relpath(path, base) for path in ensure_tuple(case[key])] for key in ("image", "label"))
    fold = {"fold": case["fold"]} if "fold" in case else {}
    image = images[0] if len(images) == 1 else images
    return {"case_id": name, "image": image, "label": labels[0] if len(labels) == 1 else labels, **fold}


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


def _intensity(configs: dict[str, Any], found: Survey, listed: CaseList) -> list[str]:
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


def _what_else(
    parts: Mapping[str, list[str]],
    given: Mapping[str, list[str]],
    classes: list[str],
    members: Sequence[set[int]],
    found: Survey,
) -> list[str]:
    counts = ", ".join(f"{len(ids)} {part}" for part, ids in parts.items())
    kept = [part for part in ("validation", "test") if given[part]]
    drawn = [part for part in ("validation", "test") if not given[part]]
    how = [f"{' and '.join(kept)} as listed"] if kept else []
    how += [f"{' and '.join(drawn)} by a seed that depends on the cases' names only"] if drawn else []
    lines = [f"split: {counts} cases, {', '.join(how)}; change it in datalist.json."]
    described = []
    for text, values in zip(classes, members, strict=True):
        having = {part: sum(bool(found.of_case[case] & values) for case in ids) for part, ids in parts.items()}
        several = f"label value{'s' * (len(values) > 1)} {', '.join(map(str, sorted(values)))}"
        described.append(f"{text} ({several}, in {', '.join(f'{n} {part}' for part, n in having.items())} cases)")
        if not having["training"]:
            lines.append(f"{text} is in no training case and cannot be learnt: move one there in datalist.json.")
        elif missing := [part for part, n in having.items() if not n]:
            lines.append(f"{text} is in no {' and no '.join(missing)} case: nothing will be known about it there.")
    return [lines[0], f"classes: {', '.join(described)}.", *lines[1:]]


def _fill_in(
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


def _point_to_data(configs: dict[str, Any], name: str, base: Path, test_image: str) -> None:
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


def _json(content: Any) -> str:
    """With short lists on one line, as the other bundles have it."""
    text = json.dumps(content, indent=4, ensure_ascii=False)
    short = re.compile(r"\[\s+([^\[\]{}]{1,100}?)\s+\]")
    return short.sub(lambda m: "[" + re.sub(r",\s*\n\s*", ", ", m[1]) + "]", text) + "\n"
