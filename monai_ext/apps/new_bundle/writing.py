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

import torch
from monai.bundle import ConfigParser
from monai.utils import ensure_tuple

from monai_ext.bundle import Bundle
from monai_ext.data.lists import PARTS, CaseList, check_class_names, read_list
from monai_ext.data.splits import hold_out, random_parts
from monai_ext.transforms import IGNORE
from monai_ext.utils import number_option, scratch_folder, text_options

from .adapting import (
    fill_in,
    fit_loss,
    lay_over,
    point_to_data,
    use_intensity,
    use_network,
    use_recipe,
    use_size,
)
from .memory import memory_option, step_bytes
from .pairs import pair_files, short_ids
from .planning import SIDE, check_spacings, mirror_axes, slice_network
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
    network: str | None = None,
) -> tuple[Path, list[str]]:
    """Look at a user's data and write ``bundles/NAME`` for it: datalist, split, configs, metadata and README.

    Args:
        name: of the new bundle: small letters, digits and underscores.
        bundle: name or folder of the bundle to take network and recipe from; by default ``dcaunet_synapse`` for
            volumes, with a planned network on slices, and ``qtseg_busi`` for pictures.
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
        network: name of a network to take in place of the bundle's, see
            :func:`~monai_ext.networks.by_name.known_networks`.

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
    listed, source = _listed(images, labels, datalist, nnunet, channel_names)
    ids = short_ids(listed.parts)
    cases = {ids[case["case_id"]]: case for part in PARTS for case in listed.parts[part]}
    given = {part: [ids[case["case_id"]] for case in listed.parts[part]] for part in PARTS}
    parts = _parts(given, test_share, source)
    coded = bool(listed.regions) or listed.ignore is not None or listed.label_mapping is not None
    found = survey(cases, progress, listed.modality, listed.channel_names, listed.ignore, coded)
    template = Bundle.find(bundle or ("qtseg_busi" if found.pictures else "dcaunet_synapse"))
    if template.exported:
        raise ValueError(f"monai_ext: {template.exported}: is an exported model. Give a bundle's name or folder.")
    configs = {path.stem: template.config(path.stem) for path in template.folder.glob("configs/*.json")}
    if template.pictures != found.pictures:
        kind, other = ("2D pictures", "volumes") if found.pictures else ("volumes", "2D pictures")
        raise ValueError(f"monai_ext: {template.name} is for {other}, the data are {kind}. Choose another --bundle.")
    if network is not None:
        network = use_network(configs, network)
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
    network_reason = f"network: {network}, as asked." if network else ""
    members = [{value for value, target in mapping.items() if target == i + 1} for i in range(len(classes))]
    members = [set(values) for values in listed.regions.values()] or members
    names = {value: text for text, values in zip(classes, members, strict=True) for value in values}
    if plan is None:
        mirrored = mirror_axes(found.centres, names=names)
    else:
        mirrored = mirror_axes({case: body.centres for case, body in found.body.items()}, 3, names)
    anywhere = mirrored[0] == [0, 1]
    if network is None and bundle is None and recipe == "strong" and plan is None and not found.pictures:
        chosen, options, network_reason = slice_network(anywhere)
        network = use_network(configs, chosen, **options) if chosen else None
    size, size_reason = use_size(configs, template.default("image_size"), found, plan, recipe, anywhere)
    choices = [
        *dims_reason,
        *([network_reason] if network_reason else []),
        *use_recipe(configs, recipe, template, found, mirrored, plan),
        size_reason,
        *use_intensity(configs, found, listed),
        *_what_else(parts, given, classes, members, found),
    ]
    choices += [*told, *(note[0].upper() + note[1:] for note in listed.notes)]
    fill_in(configs, name, template.name, base, classes, size, found)
    point_to_data(configs, name, base, test_image)
    if listed.channel_names:
        choices += use_channels(configs, found, listed.channel_names)
    if listed.regions:
        choices += use_regions(configs, listed)
    if listed.regions or listed.ignore is not None:
        choices += use_label_loss(configs, listed.ignore, bool(listed.regions))
    if network is not None:
        fit_loss(configs["train"], network, template)
    content = {
        **label_content(listed, classes, mapping),
        **({"modality": {"0": found.modality}} if found.modality else {}),
        **{part: [_entry(case, cases[case], base) for case in parts[part]] for part in PARTS},
    }
    text = readme(name, template.name, configs, classes, parts, found, choices)
    _write(target, template.folder, configs, content, text)
    return target, choices


def _listed(
    images: str | os.PathLike | None,
    labels: str | os.PathLike | None,
    datalist: str | os.PathLike | None,
    nnunet: str | os.PathLike | None,
    channel_names: str | Sequence[str],
) -> tuple[CaseList, str]:
    """The user's cases, in whichever way they were given, and where they are from."""
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
        return listed, str(datalist)
    pairs = pair_files(Path(str(images)), Path(str(labels)))
    parts: dict[str, list[dict[str, Any]]] = {part: [] for part in PARTS}
    parts["training"] = [{**pair, "case_id": case} for case, pair in pairs.items()]
    several = max(len(ensure_tuple(pair["image"])) for pair in pairs.values())
    given_channels = given_channels or ([f"channel {i}" for i in range(several)] if several > 1 else [])
    channels = tuple(given_channels) if len(given_channels) > 1 else ()
    return CaseList(Path(str(images)), parts, channel_names=channels), str(images)


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
    layers = {key: value for key, value in (own["train_3d"] or {}).items() if key.startswith("network_def#")}
    built: dict[tuple[int, ...], torch.nn.Module] = {}

    def network(size: Sequence[int]) -> torch.nn.Module:
        sized_def = {**definition, "in_channels": channels, "out_channels": outputs}
        plain: dict[str, Any] = {"network_def": sized_def, "image_size": list(size)}
        lay_over(plain, layers)
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


def _write(target: Path, template: Path, configs: Mapping[str, Any], datalist: Mapping[str, Any], text: str) -> None:
    """The bundle's folder, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(target.parent, "new-") as folder:
        made = folder / target.name
        for part in ("configs", "docs"):
            (made / part).mkdir(parents=True)
        for file, config in configs.items():
            (made / "configs" / f"{file}.json").write_text(_json(config), encoding="utf-8")
        (made / "datalist.json").write_text(json.dumps(datalist, indent=1) + "\n", encoding="utf-8")
        shutil.copy(template / "configs" / "logging.conf", made / "configs")
        shutil.copy(template / "LICENSE", made)
        (made / "docs" / "README.md").write_text(text, encoding="utf-8")
        (made / "docs" / "data_license.txt").write_text(
            "The data are the user's own; no data is part of this bundle.\n", encoding="utf-8"
        )
        made.rename(target)


def _json(content: Any) -> str:
    """With short lists on one line, as the other bundles have it."""
    text = json.dumps(content, indent=4, ensure_ascii=False)
    short = re.compile(r"\[\s+([^\[\]{}]{1,100}?)\s+\]")
    return short.sub(lambda m: "[" + re.sub(r",\s*\n\s*", ", ", m[1]) + "]", text) + "\n"
