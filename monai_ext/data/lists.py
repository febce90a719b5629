# SPDX-License-Identifier: Apache-2.0
"""The one reader of a user's list of cases: MONAI's and the Decathlon's JSON, and nnU-Net's ``dataset.json``."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from monai.utils import ensure_tuple

from monai_ext.data.files.picture_reader import is_picture
from monai_ext.data.files.volume_finder import is_volume
from monai_ext.data.files.volume_reader import channel_files
from monai_ext.utils import modality_of, read_json, text_options, whole_option

__all__ = ["ONE_PICTURE", "PARTS", "CaseList", "case_name", "check_class_names", "listed_class_names", "read_list"]

PARTS = ("training", "validation", "test")
SUFFIX = re.compile(r"(\.(nii|gz|nrrd|nhdr|mha|mhd|hdr|img|npy|npz|h5|png|jpe?g|bmp|tiff?|dcm))+$", re.IGNORECASE)
CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")
BACKGROUND = ("background", "bg", "clear label", "unlabeled", "unlabelled", "")
# what lists have beside their cases without any bearing on training
DESCRIPTIVE = {
    *("name", "dataset_name", "description", "reference", "licence", "license", "release", "relase", "version", "date"),
    *("tensorImageSize", "tensorImagesize", "converted_by", "citation", "author", "authors", "contact", "url", "task"),
    *("numTraining", "numValidation", "numTest", "modality", "channel_names", "labels", "label_mapping"),
    *("file_ending", "dataset", "regions_class_order", "$schema", "dataset_release", "overwrite_image_reader_writer"),
}
OF_A_CASE = {"image", "label", "case_id", "fold"}
FOLDERS = {"training": ("imagesTr", "labelsTr"), "test": ("imagesTs", "labelsTs")}  # nnU-Net's
EXPECTED = (
    '{"training": [{"image": ..., "label": ...}, ...]}, or nnU-Net\'s dataset.json with "file_ending" beside its '
    "folders imagesTr and labelsTr"
)
ONE_PICTURE = (
    "Join up to three as one RGB picture; or write each, and the label, as a NIfTI of one slice (case_0000.nii.gz, "
    "case_0001.nii.gz, ...), of which there may be any number."
)
MAX_NAME = 64
MAX_VALUE = 254  # of labels; 255 is what is ignored, in memory
WHITE = (255, 65535)  # what masks of one class have for class 1


@dataclass(frozen=True)
class CaseList:
    """What a list says.

    Attributes:
        file: the list.
        parts: part -> its cases with a label, ``{"image": path, "label": path or paths, "case_id": str}``, and
            ``"fold"`` where the list has folds.
        class_names: number in the list -> name, as the list has it; background left out.
        label_mapping: value in label files -> class; None where the list has none.
        channel_names: of the images' channels; empty for one, and for the colours of pictures.
        regions: name -> label values of regions that may overlap, in the order in which they are written over each
            other; empty where labels are classes. ``class_names`` are theirs, then, by ``region_order``.
        region_order: the value that each region is written as, one of its own.
        ignore: the label value of voxels that nobody has looked at; None if there is none.
        modality: DICOM's code of what the list calls its images, a key of ``monai_ext.utils.MODALITIES``; None if it
            does not say.
        notes: what was left out, a sentence each.
    """

    file: Path
    parts: dict[str, list[dict[str, Any]]]
    class_names: dict[int, str] = field(default_factory=dict)
    label_mapping: dict[int, int] | None = None
    channel_names: tuple[str, ...] = ()
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    region_order: tuple[int, ...] = ()
    ignore: int | None = None
    modality: str | None = None
    notes: tuple[str, ...] = ()


def read_list(file: str | os.PathLike, folder: str | os.PathLike | None = None) -> CaseList:
    """Read a list of cases as MONAI's tools, the Medical Segmentation Decathlon and nnU-Net (1 and 2) write them.

    Test cases without a label (plain file names, most often) are left out, which ``notes`` says. nnU-Net's second
    version lists no cases: they are the files of ``imagesTr`` and ``labelsTr`` beside its ``dataset.json``, or those of
    its optional field ``dataset``; where its first version lists ``case.nii.gz``, the file may be ``case_0000.nii.gz``.

    Args:
        file: the JSON.
        folder: to which its paths belong; by default its own.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is no such list, or says something that cannot be kept: channels that differ from case to
            case, regions that overlap without an order, a training case without a label, a case that is listed twice.

    Examples::

        >>> read_list("Dataset001_BrainTumour/dataset.json").class_names
        {1: 'edema', 2: 'tumour'}
    """
    path = Path(file)
    content = read_json(path, "datalist")
    where = f"monai_ext: datalist {path}"
    if not isinstance(content, dict):
        raise ValueError(f"{where}: expected {EXPECTED}.")
    base = Path(folder) if folder else path.parent
    notes: list[str] = []
    modality, channels = _modality(where, content)
    labels = _labels(where, content.get("labels"), content.get("regions_class_order"), notes)
    names = labels.names
    listed = _listed(where, content)
    if not listed["training"] and ("file_ending" in content or isinstance(content.get("dataset"), dict)):
        parts, unlabelled = _nnunet_parts(where, content, base)
    elif not isinstance(content.get("training"), list):
        raise ValueError(f"{where}: expected {EXPECTED}.")
    else:
        parts, unlabelled = _listed_parts(where, content, listed, base)
    first = next((case for cases in parts.values() for case in cases), None)
    pictures = first is not None and is_picture(ensure_tuple(first["image"])[0])
    if pictures and len(names) == 1 and labels.ignore is None:
        names = {1 if number in WHITE else number: name for number, name in names.items()}
    if pictures:
        channels = []
        _check_one_picture(where, parts)
    channels = _channels(where, channels, parts)
    if unlabelled:
        few = ", ".join(unlabelled[:3]) + (", ..." if len(unlabelled) > 3 else "")
        cases = "1 test case has" if len(unlabelled) == 1 else f"{len(unlabelled)} test cases have"
        notes.append(f"{path.name}: {cases} no label and cannot be evaluated on, left out: {few}.")
    _compare_counts(path, content, parts, len(unlabelled), notes)
    _tell_unused(path, content, listed, notes)
    told = tuple("".join(c if c.isprintable() else "?" for c in note) for note in notes)
    mapping = _mapping(where, content, pictures and labels.ignore is None)
    ignore = labels.ignore if labels.ignore is not None else _ignored(mapping)
    return CaseList(
        path,
        parts,
        names,
        mapping,
        tuple(channels),
        labels.regions,
        labels.order,
        ignore,
        modality,
        told,
    )


def listed_class_names(file: str | os.PathLike) -> list[str]:
    """Names of classes 1, 2, ... in a list's ``labels``: what a bundle made by ``new`` segments.

    Raises:
        FileNotFoundError: if the list is not there.
        ValueError: if it names no classes, or not each of them.

    Examples::

        >>> listed_class_names("bundles/mine/datalist.json")
        ['vessel', 'cyst']
    """
    where = f"monai_ext: datalist {file}"
    content = read_json(file, "datalist")
    given = content if isinstance(content, dict) else {}
    labels = _labels(where, given.get("labels"), given.get("regions_class_order"), [])
    if labels.regions:
        return list(labels.regions)
    names = labels.names
    if not names or sorted(names) != list(range(1, len(names) + 1)):
        raise ValueError(f'{where}: "labels" names {sorted(names)}, expected each of the classes 1, 2, ...')
    return [names[number] for number in sorted(names)]


def case_name(path: str | os.PathLike) -> str:
    """A file's name without the suffixes of an image: ``a.1`` of ``scans/a.1.nii.gz`` and of ``a.1.npz::image``."""
    return SUFFIX.sub("", Path(str(path).split("::")[0]).name)


def check_class_names(names: Sequence[str], what: str) -> None:
    """Names become texts of configs, tables and pictures: refuse what could be anything else there.

    Raises:
        ValueError: for one that is empty, too long, listed twice or called background, or has characters that configs
            take for code or that cannot be printed.
    """
    for name in names:
        odd = sorted({character for character in name if character in "$@%" or not character.isprintable()})
        if odd or not name.strip() or len(name) > MAX_NAME:
            found = f"has {', '.join(map(repr, odd))}" if odd else f"has {len(name)} letters"
            raise ValueError(
                f"monai_ext: {what}: class name {name!r:.100} {found}; expected 1 to {MAX_NAME} printable characters "
                "without $, @ and %, which configs take for code."
            )
    plain = [name.strip().lower() for name in names]
    twice = sorted({name for name in plain if plain.count(name) > 1 or name == "background"})
    if twice:
        raise ValueError(f"monai_ext: {what}: class name {twice[0]!r} is there twice, or is that of the background.")


def _listed(where: str, content: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Part -> its entries as they are; Auto3DSeg calls the last part ``testing``."""
    if content.get("test") and content.get("testing"):
        raise ValueError(f'{where}: has "test" and "testing". Keep one.')
    for key, value in content.items():
        has_cases = isinstance(value, list) and any(isinstance(case, dict) and "image" in case for case in value)
        if has_cases and key not in (*PARTS, "testing"):
            raise ValueError(
                f"{where}: {key!r} holds cases, expected them in {', '.join(PARTS)}. Rename it, or remove it."
            )
    listed = {part: content.get(part) or (content.get("testing") if part == "test" else None) or [] for part in PARTS}
    for part, cases in listed.items():
        if not isinstance(cases, list):
            raise ValueError(f"{where}: {part} is {cases!r:.200}, expected a list of cases.")
    return listed


def _check_one_picture(where: str, parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """A picture has its colours in one file; nnU-Net takes pictures as channels, too."""
    for case in (case for cases in parts.values() for case in cases):
        if len(files := ensure_tuple(case["image"])) > 1:
            names = ", ".join(Path(file).name for file in files[:4])
            raise ValueError(
                f"{where}: case {case['case_id']} has {len(files)} pictures ({names}), expected one, with its colours. "
                + ONE_PICTURE
            )


def _listed_parts(
    where: str, content: Mapping[str, Any], listed: Mapping[str, list[Any]], base: Path
) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    parts: dict[str, list[dict[str, Any]]] = {part: [] for part in PARTS}
    unlabelled: list[str] = []
    found: list[tuple[str, int, dict[str, Any]]] = []
    for part, i, entry in [(part, i, entry) for part, entries in listed.items() for i, entry in enumerate(entries)]:
        case = _entry(where, part, i, entry)
        images = _images(base, case["image"], content.get("file_ending"))
        image = Path(images[0])
        if case["label"] is None and (published := _test_label(image)) is not None:
            case["label"] = published
        if case["label"] is None:
            unlabelled.append(case_name(image))
        else:
            kept = images[0] if len(images) == 1 else images
            found.append((part, i, {**case, "image": kept, "listed": ensure_tuple(case["image"])[0]}))
    short, long = ([_default_id(case, depth) for *_, case in found] for depth in (1, None))
    places: dict[str, str] = {}
    for (part, i, case), name, path in zip(found, short, long):
        # files of one name in many folders are told apart by their folders
        case_id = case.get("case_id", name if short.count(name) == 1 else path)
        if case_id in places:
            raise ValueError(
                f"{where}: case {case_id:.200} is listed as {places[case_id]} and as {part}[{i}]. "
                'Remove one, or give each a "case_id" of its own.'
            )
        places[case_id] = f"{part}[{i}]"
        label = case["label"]
        files = str(base / label) if isinstance(label, (str, Path)) else [str(base / name) for name in label]
        fold = {"fold": case["fold"]} if "fold" in case else {}
        parts[part].append({"image": case["image"], "label": files, "case_id": case_id, **fold})
    return parts, unlabelled


def _entry(where: str, part: str, i: int, entry: Any) -> dict[str, Any]:
    """A case with its texts checked; ``label`` is None for a test case without one, ``image`` a list of channels."""
    case = {"image": entry} if isinstance(entry, str) and part == "test" else entry
    given = dict(case) if isinstance(case, dict) else {}
    image, label = given.get("image"), given.get("label")
    images = image if isinstance(image, list) and image else [image]
    labels = label if isinstance(label, list) and label else [label]
    files = [*images, *([] if label in (None, "", []) and part == "test" else labels)]
    if not all(isinstance(name, str) and name and "\0" not in name for name in files):
        raise ValueError(f'{where}: {part}[{i}] is {entry!r:.200}, expected {{"image": "file", "label": "file"}}.')
    if len(labels) > 1 and not is_picture(str(labels[0])):
        raise ValueError(
            f"{where}: {part}[{i}] has {len(labels)} label files; several are united for pictures only. Give "
            "one volume."
        )
    found: dict[str, Any] = {
        "image": images[0] if len(images) == 1 else images,
        "label": None if len(files) == len(images) else labels[0],
    }
    if len(labels) > 1:
        found["label"] = labels
    for key, kinds, expected in (("case_id", (str, int), "text"), ("fold", (str, int), "a whole number from 0")):
        value = given.get(key)
        if value is None:
            continue
        odd = isinstance(value, bool) or not isinstance(value, kinds) or value == ""
        if odd or (key == "fold" and not str(value).strip().isdecimal()):
            raise ValueError(f"{where}: {part}[{i}]: {key} {value!r:.200}, expected {expected}.")
        found[key] = int(value) if key == "fold" else str(value)
    return found


def _images(base: Path, names: str | list[str], ending: Any) -> list[str]:
    """The files of a listed image; nnU-Net lists ``case.nii.gz``, or ``case``, for ``case_0000.nii.gz`` and others."""
    if isinstance(names, list):
        return [str(base / name) for name in names]
    path = base / names
    if "::" in names or "*" in names or os.path.exists(path):  # False for a name that cannot be one, too
        return [str(path)]
    stem = case_name(path)
    suffixes = [path.name[len(stem) :], *([ending] if isinstance(ending, str) else [])]
    for end in filter(None, suffixes):
        if os.path.isfile(path.with_name(f"{stem}_0000{end}")):
            return [str(file) for file in _numbered(path.parent, stem, end)]
    return [str(path)]


def _numbered(folder: Path, stem: str, suffix: str) -> list[Path]:
    """The files of a case's channels in their order."""
    found = sorted(folder.glob(f"{glob.escape(stem)}_[0-9][0-9][0-9][0-9]{glob.escape(suffix)}"))
    return [file for file in found if file.is_file()]


def _channels(where: str, listed: Sequence[str], parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """The names of the channels, which every case has; files of nnU-Net's naming carry their numbers.

    Raises:
        ValueError: if one is missing or too many, or cases differ; names the case and the channel.
    """
    cases = [case for part in parts.values() for case in part]
    counts = {case["case_id"]: len(ensure_tuple(case["image"])) for case in cases}
    most = max(counts.values(), default=1)
    names = list(listed)
    if len(names) < 2 and most > 1:
        if names:
            raise ValueError(
                f"{where}: names one channel ({names[0]}), but case {max(counts, key=lambda c: counts[c])} has {most} "
                'files. Name each in "channel_names", or leave the others out.'
            )
        names = [f"channel {i}" for i in range(most)]
    if len(names) < 2:
        return []
    check_class_names(names, f"{where.removeprefix('monai_ext: ')}: channels")
    for case in cases:
        try:
            channel_files([str(file) for file in ensure_tuple(case["image"])], names)
        except ValueError as e:
            raise ValueError(f"{where}: case {case['case_id']}: {str(e).removeprefix('monai_ext: ')}") from None
    return names


def _test_label(image: Path) -> Path | None:
    """The label of a test image that is listed without one, in the folder where nnU-Net keeps them."""
    images, labels = FOLDERS["test"]
    if image.parent.name != images or not os.path.isdir(image.parent.with_name(labels)):
        return None
    stem = case_name(image)
    suffix = image.name[len(stem) :]
    named = [image.parent.with_name(labels) / f"{name}{suffix}" for name in (stem.removesuffix("_0000"), stem)]
    return next((path.absolute() for path in named if os.path.isfile(path)), None)


def _default_id(case: Mapping[str, Any], depth: int | None) -> str:
    """An image's name without suffixes, with ``depth`` None behind its folders."""
    path = Path(case["listed"])
    name, label = case_name(case["listed"]), case["label"]
    if isinstance(label, (str, Path)) and name == f"{case_name(label)}_0000":
        name = case_name(label)
    return name if depth else "/".join([*path.parts[:-1], name])


def _nnunet_parts(
    where: str, content: Mapping[str, Any], base: Path
) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """The cases of nnU-Net's second version, from ``dataset`` or from its folders."""
    parts: dict[str, list[dict[str, Any]]] = {part: [] for part in PARTS}
    ending = content.get("file_ending")
    if isinstance(content.get("dataset"), dict):
        for i, (name, files) in enumerate(content["dataset"].items()):
            given = files if isinstance(files, dict) else {}
            pair = _entry(where, "dataset", i, {"image": given.get("images"), "label": given.get("label")})
            images = [str(base / file) for file in ensure_tuple(pair["image"])]
            image = images[0] if len(images) == 1 else images
            parts["training"].append({"image": image, "label": str(base / pair["label"]), "case_id": str(name)})
        return parts, []
    if not isinstance(ending, str) or not ending.startswith("."):
        raise ValueError(f'{where}: "file_ending" is {ending!r:.100}, expected text such as ".nii.gz".')
    unlabelled: list[str] = []
    for part, names in FOLDERS.items():
        folders = base / names[0], base / names[1]
        if not folders[0].is_dir():
            if part == "training":
                raise FileNotFoundError(f"{where}: {folders[0]}: no such folder; expected {EXPECTED}.")
            continue
        channels: dict[str, list[Path]] = {}
        for path in _files(folders[0], ending):
            match = CHANNEL.fullmatch(path.name.removesuffix(ending))
            if not match:
                raise ValueError(f"{where}: {path}: expected names such as case_0000{ending}.")
            channels.setdefault(match["case"], []).append(path)
        truths = {path.name.removesuffix(ending): path for path in _files(folders[1], ending)}
        if not channels and part == "training":
            raise FileNotFoundError(f'{where}: {folders[0]}: no file that ends in {ending}, as "file_ending" says.')
        if not truths and part == "training":
            other = next((p.name for p in _files(folders[1], "") if is_volume(p) or is_picture(p)), None)
            what = f"its labels have another ending ({other})" if other else "there is no label in it"
            raise FileNotFoundError(
                f"{where}: {folders[1]}: {what}, expected case{ending} for each case of {names[0]}. Write images and "
                'labels in one format, which "file_ending" names.'
            )
        for case in sorted(channels):
            if case in truths:
                files = [str(path) for path in channels[case]]
                label = str(truths[case])
                parts[part].append({"image": files[0] if len(files) == 1 else files, "label": label, "case_id": case})
            elif part == "test":
                unlabelled.append(case)
            else:
                raise FileNotFoundError(f"{where}: {channels[case][0]}: no label {case}{ending} in {folders[1]}.")
        for case in sorted(truths.keys() - channels.keys()):
            raise FileNotFoundError(f"{where}: {truths[case]}: no image {case}_0000{ending} in {folders[0]}.")
    return parts, unlabelled


def _files(folder: Path, ending: str) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if path.name.endswith(ending) and path.name[0] != "."]


class _Labels(NamedTuple):
    names: dict[int, str]
    regions: dict[str, tuple[int, ...]]
    order: tuple[int, ...]
    ignore: int | None


def _labels(where: str, labels: Any, order: Any, notes: list[str]) -> _Labels:
    """What label values are, from ``{"1": name}``, nnU-Net's ``{name: 1}`` or ``{name: [1, 2]}``, or names in order."""
    if isinstance(labels, list):
        labels = {str(number): name for number, name in enumerate(labels)}
    if not labels:
        return _Labels({}, {}, (), None)
    if not isinstance(labels, dict):
        raise ValueError(f'{where}: labels is {labels!r:.200}, expected {{"0": "background", "1": "name", ...}}.')
    turned = not all(str(key).strip().lstrip("-").isdecimal() for key in labels)
    values: dict[str, tuple[int, ...]] = {}
    background, ignore = "background", None
    for key, value in labels.items():
        name, given = (key, value) if turned else (value, key)
        numbers = list(given) if isinstance(given, list) else [given]
        whole = [not isinstance(number, bool) and str(number).strip().isdecimal() for number in numbers]
        if not isinstance(name, str) or not whole or not all(whole):
            raise ValueError(f"{where}: labels: {key!r:.100}: {value!r:.100}, expected a name and a number from 0 on.")
        found = tuple(dict.fromkeys(int(number) for number in numbers))
        name = name.strip()
        if name.lower() == "ignore":
            if len(found) > 1 or not 0 < found[0] <= MAX_VALUE + 1 or ignore is not None:
                raise ValueError(
                    f"{where}: labels: 'ignore' is {value!r:.100}, expected one number from 1 to {MAX_VALUE + 1}."
                )
            ignore = found[0]
        elif found == (0,):
            background = name
        elif name in values:
            raise ValueError(f"{where}: labels: {name!r:.100} is there twice. Keep one.")
        else:
            values[name] = found
    if background.lower() not in BACKGROUND:
        notes.append(f"label 0 is background, whatever the list calls it ({background!r:.100}).")
    regions = any(len(numbers) > 1 for numbers in values.values())
    if not regions:
        names: dict[int, str] = {}
        for name, (number,) in values.items():
            if number in names:
                raise ValueError(f"{where}: labels: {number} is {names[number]!r:.100} and {name!r:.100}. Keep one.")
            names[number] = name
        if ignore in names:
            raise ValueError(f"{where}: labels: {ignore} is {names[ignore]!r:.100} and 'ignore'. Keep one.")
        return _Labels(names, {}, (), ignore)
    written = _region_order(where, values, order, ignore)
    return _Labels(dict(zip(written, values)), values, written, ignore)


def _region_order(
    where: str, regions: Mapping[str, tuple[int, ...]], order: Any, ignore: int | None
) -> tuple[int, ...]:
    """The value that each region is written as; a later one is written over those before it."""
    for name, values in regions.items():
        if odd := [value for value in values if not 0 < value <= MAX_VALUE or value == ignore]:
            raise ValueError(
                f"{where}: region {name!r:.100} has label value {odd[0]}, expected values from 1 to {MAX_VALUE} that "
                "are not 'ignore'."
            )
    every = [value for values in regions.values() for value in values]
    if order is None:
        both = next((value for value in every if every.count(value) > 1), None)
        if both is not None:
            names = [repr(name) for name, values in regions.items() if both in values]
            raise ValueError(
                f"{where}: regions {' and '.join(names[:2])} overlap (label value {both}), in no order. Say as which "
                'value each is written, a later one over those before it: "regions_class_order": [1, 2, ...].'
            )
        return tuple(min(values) for values in regions.values())
    given = order if isinstance(order, list) else []
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in given)
    if len(given) != len(regions) or not whole or len(set(given)) < len(given):
        raise ValueError(
            f"{where}: regions_class_order is {order!r:.100}, expected {len(regions)} different label values, one for "
            f"each of {', '.join(regions)}."
        )
    for (name, values), value in zip(regions.items(), given):
        if value not in values:
            raise ValueError(
                f"{where}: regions_class_order: {name!r:.100} is written as {value}, expected one of its own values, "
                f"{', '.join(map(str, values))}."
            )
    listed = list(regions.items())
    for i, (name, values) in enumerate(listed):
        if hides := [other for other, more in listed[i + 1 :] if set(values) <= set(more)]:
            raise ValueError(
                f"{where}: region {hides[0]!r:.100} is written after {name!r:.100}, which it covers. List the larger "
                "one first, with its number in regions_class_order."
            )
    return tuple(given)


def _modality(where: str, content: Mapping[str, Any]) -> tuple[str | None, list[str]]:
    """The code of what the images are, and the channels that the list names."""
    listed: dict[str, list[str]] = {}
    for key in ("channel_names", "modality"):
        value = content.get(key)
        if isinstance(value, dict):
            # numbers and names have been seen either way round
            turned = not all(str(number).isdecimal() for number in value)
            listed[key] = [str(name) for name in (value if turned else value.values())]
        elif value not in (None, ""):
            try:
                listed[key] = text_options(value, key)
            except ValueError:
                raise ValueError(f'{where}: {key} is {value!r:.200}, expected {{"0": "CT"}}.') from None
    channels = max(listed.values(), key=len, default=[])
    return next((code for names in listed.values() for name in names if (code := modality_of(name))), None), channels


def _mapping(where: str, content: Mapping[str, Any], pictures: bool) -> dict[int, int] | None:
    mapping = content.get("label_mapping")
    if mapping is None:
        return None
    try:
        found = {whole_option(v, "a value", 0): whole_option(n, "a class", 0, 255) for v, n in mapping.items()}
    except (AttributeError, ValueError):
        raise ValueError(f'{where}: label_mapping is {mapping!r:.200}, expected {{"value": class}}.') from None
    # what masks of pictures are read as in any case, with the greys of their outlines
    plain = pictures and all(number == (1 if value in WHITE else value) for value, number in found.items())
    return None if plain else found


def _ignored(mapping: Mapping[int, int] | None) -> int | None:
    """The value that a mapping, as bundles' lists have it, leads to nobody's class."""
    return next((value for value, number in (mapping or {}).items() if number == MAX_VALUE + 1), None)


def _compare_counts(
    file: Path, content: Mapping[str, Any], parts: Mapping[str, Sequence[Any]], unlabelled: int, notes: list[str]
) -> None:
    for part, key in (("training", "numTraining"), ("validation", "numValidation"), ("test", "numTest")):
        count = len(parts[part]) + (unlabelled if part == "test" else 0)
        said = content.get(key)
        if isinstance(said, int) and said != count and (said or count):
            notes.append(f"{file.name}: {key} is {said}, but there {'is' if count == 1 else 'are'} {count}.")


def _tell_unused(file: Path, content: Mapping[str, Any], listed: Mapping[str, Sequence[Any]], notes: list[str]) -> None:
    unknown = sorted(set(map(str, content)) - DESCRIPTIVE - {*PARTS, "testing"})
    if reader := content.get("overwrite_image_reader_writer"):
        unknown.append(f"overwrite_image_reader_writer ({reader!s:.60}: files are read by what they are)")
    fields = {str(key) for part in listed.values() for case in part if isinstance(case, dict) for key in case}
    unknown += [f"{name} of cases" for name in sorted(fields - OF_A_CASE)]
    if unknown:
        few = ", ".join(name[:80] for name in unknown[:8]) + (", ..." if len(unknown) > 8 else "")
        notes.append(f"{file.name}: not used: {few}.")
