# SPDX-License-Identifier: Apache-2.0
"""Write a bundle of one's own in the shape of one that is there."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_ext.bundle import find_bundle
from monai_ext.data.splits import hold_out, random_parts
from monai_ext.utils import scratch_folder

from .pairs import pair_files, read_decathlon
from .readme import readme
from .survey import Survey, survey

__all__ = ["new_bundle"]

NAME = re.compile(r"[a-z][a-z0-9_]*")
# MONAI Label takes bundles with these words in their names for other kinds of model
LABEL_WORDS = ("deepedit", "deepgrow", "detection", "classification")
SIDE = 32  # image sizes are multiples of it
SCALE = "ScaleIntensityRanged"
PERCENTILES = {"lower": 0.5, "upper": 99.5}


def new_bundle(
    name: str,
    bundle: str | os.PathLike | None = None,
    images: str | os.PathLike | None = None,
    labels: str | os.PathLike | None = None,
    datalist: str | os.PathLike | None = None,
    class_names: Sequence[str] = (),
    test_share: float = 0.2,
    where: str | os.PathLike = ".",
    progress: bool = True,
) -> tuple[Path, list[str]]:
    """Look at a user's data and write ``bundles/NAME`` for it: datalist, split, configs, metadata and README.

    Args:
        name: of the new bundle: small letters, digits and underscores.
        bundle: name or folder of the bundle to take network and recipe from; by default ``dcaunet_synapse`` for
            volumes and ``qtseg_busi`` for pictures.
        images: folder of images.
        labels: folder of labels, whose files agree with the images' in name.
        datalist: instead of the two, a Decathlon or nnU-Net ``dataset.json``.
        class_names: of the labels' values above 0, in rising order.
        test_share: part of the cases to test on.
        where: the folder that has, or gets, ``bundles``.
        progress: show a progress bar.

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
    target = Path(where) / "bundles" / name
    if target.exists():
        raise FileExistsError(f"monai_ext: {target}: is there already. Choose another name, or remove it.")
    names: dict[str, str] = {}
    tests: list[str] = []
    if datalist is not None:
        cases, names, tests = read_decathlon(Path(datalist))
    elif images is None or labels is None:
        raise ValueError("monai_ext: expected --images and --labels, or --datalist.")
    else:
        cases = pair_files(Path(images), Path(labels))
    found = survey(cases, progress)
    template = find_bundle(bundle or ("qtseg_busi" if found.pictures else "dcaunet_synapse"))
    configs = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in template.glob("configs/*.json")}
    if ("PictureReader" in str(configs["train"])) != found.pictures:
        kind, other = ("2D pictures", "volumes") if found.pictures else ("volumes", "2D pictures")
        raise ValueError(f"monai_ext: {template.name} is for {other}, the data are {kind}. Choose another --bundle.")
    values = [value for value in found.values if value]
    if len(values) > 255:
        raise ValueError(f"monai_ext: {len(values)} label values, expected at most 255: are these instances?")
    classes = list(class_names) or [names.get(str(value), f"class {value}") for value in values]
    if len(classes) != len(values) or len(set(classes)) < len(classes):
        raise ValueError(
            f"monai_ext: class_names: {len(classes)} ({', '.join(classes)}), expected {len(values)} different ones, "
            f"for label values {', '.join(map(str, values[:12]))}."
        )
    parts = _parts(list(cases), tests, test_share, str(images or datalist))
    base = Path(os.path.commonpath([Path(path).resolve().parent for case in cases.values() for path in case.values()]))
    size, size_reason = _image_size(configs["train"]["image_size"], found)
    choices = [size_reason, *_intensity(configs, found), *_what_else(parts, values, classes, found)]
    _fill_in(configs, name, template.name, base, classes, size, found)
    mapping = {} if found.pictures or values == list(range(1, len(values) + 1)) else _mapping(values)
    _point_to_data(configs, name, base, cases[parts["test"][0]]["image"])
    listed = {
        **({"label_mapping": mapping} if mapping else {}),
        "labels": {str(i): text for i, text in enumerate(["background", *classes])},
        **{
            part: [{"case_id": c, **{key: os.path.relpath(cases[c][key], base) for key in cases[c]}} for c in ids]
            for part, ids in parts.items()
        },
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(target.parent, "new-") as folder:
        made = folder / name
        for part in ("configs", "docs"):
            (made / part).mkdir(parents=True)
        for file, content in configs.items():
            (made / "configs" / f"{file}.json").write_text(_json(content), encoding="utf-8")
        (made / "datalist.json").write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
        shutil.copy(template / "configs" / "logging.conf", made / "configs")
        shutil.copy(template / "LICENSE", made)
        text = readme(name, template.name, configs, classes, parts, found, choices)
        (made / "docs" / "README.md").write_text(text, encoding="utf-8")
        (made / "docs" / "data_license.txt").write_text(
            "The data are the user's own; no data is part of this bundle.\n", encoding="utf-8"
        )
        made.rename(target)
    return target, choices


def _parts(cases: list[str], tests: list[str], test_share: float, where: str) -> dict[str, list[str]]:
    if not 0 < test_share < 1:
        raise ValueError(f"monai_ext: test_share must be between 0 and 1, got {test_share}.")
    if len(cases) < 3:
        raise ValueError(f"monai_ext: {where}: {len(cases)} case(s), at least 3 are needed: train, validate, test.")
    if tests:
        parts = {"training": [c for c in cases if c not in tests], "validation": [], "test": tests}
    else:
        # two are kept for training and validation
        share = min(test_share, (len(cases) - 2) / len(cases))
        parts = random_parts(cases, share, str, None, where)
    parts["training"], parts["validation"] = hold_out(parts["training"], str, where)
    return parts


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


def _intensity(configs: dict[str, Any], found: Survey) -> list[str]:
    """CT gets a window of the labelled tissue; other volumes are scaled each by its own percentiles."""
    if found.pictures:
        return ["intensity: as the recipe has it, from 8-bit colours."]
    window = _window(found.foreground)
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
                if found.modality == "CT":
                    step |= {"_target_": SCALE, "keys": "image", **limits, **common}
                else:
                    step |= {"_target_": "ScaleIntensityRangePercentilesd", "keys": "image", **PERCENTILES, **common}
        config.pop("intensity_window", None)
        if found.modality == "CT":
            _insert_after(config, "image_size", "intensity_window", window)
    if found.modality == "CT":
        low, high = found.foreground
        return [
            f"intensity_window: {window[0]} to {window[1]} HU, around the labelled tissue's 0.5th and 99.5th "
            f"percentiles ({low:.0f} and {high:.0f})."
        ]
    low, high = found.everywhere
    what = "MR" if found.modality == "MR" else "neither CT in Hounsfield units nor MR"
    return [
        f"intensity: values (0.5th and 99.5th percentiles {low:.4g} and {high:.4g}) are {what}'s; each volume is "
        "scaled to [0, 1] by its own percentiles 0.5 and 99.5."
    ]


def _window(foreground: tuple[float, float]) -> list[int]:
    """Fat and water stay apart around the organs: half as wide again as the labelled tissue, in steps of 5 HU."""
    low, high = foreground
    margin = max(50.0, (high - low) / 4)
    return [int(5 * np.floor((low - margin) / 5)), int(5 * np.ceil((high + margin) / 5))]


def _what_else(parts: Mapping[str, Any], values: list[int], classes: list[str], found: Survey) -> list[str]:
    counts = ", ".join(f"{len(ids)} {part}" for part, ids in parts.items())
    with_label = [found.values[value] for value in values]
    lines = [f"split: {counts} cases, by a seed that depends on their names only; change it in datalist.json."]
    lines.append(
        "classes: "
        + ", ".join(
            f"{text} (label value {v}, in {n} case{'s' * (n > 1)})" for text, v, n in zip(classes, values, with_label)
        )
        + "."
    )
    return lines


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
        config["image_size"] = size
        config["network_def"]["out_channels"] = number
        if "img_size" in config["network_def"]:
            config["network_def"]["img_size"] = size
    configs["train"]["num_classes"] = number
    report = configs["evaluate"]["validate#handlers"][-1]
    method = configs["train"]["network_def"]["_target_"].rpartition(".")[2]
    report |= {"class_names": classes, "title": f"{method} on {name}", "published": [], "notes": []}
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
    train["cases"] = (
        "$monai_ext.data.load_datalist(dataset_dir=@dataset_dir, datalist=@datalist, split=@split, exclude=@exclude, "
        "fold=@fold)"
    )
    inference["dataset_dir"] = str(Path(test_image).resolve())


def _mapping(values: list[int]) -> dict[str, int]:
    return {"0": 0} | {str(value): i for i, value in enumerate(values, start=1)}


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
