# SPDX-License-Identifier: Apache-2.0
"""Which files belong to a case: given one by one, or found from what a run left in its folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai.utils import ensure_tuple

from monai_ext.apps.report.kept_labels import CASES_FILE, read_kept
from monai_ext.apps.reproduce import bundle_of_record, read_record
from monai_ext.bundle import Bundle
from monai_ext.data import find_images, find_pictures
from monai_ext.data.files.label_notes import noted_labels
from monai_ext.data.files.picture_reader import is_picture
from monai_ext.data.files.volume_finder import is_volume

__all__ = ["ViewedCase", "find_viewed"]

SEGMENTED, EVALUATED = "run_inference.json", "run_evaluation.json"


@dataclass(frozen=True)
class ViewedCase:
    """A scan or a picture, and the labels of it.

    Attributes:
        name: what it is called.
        scan: its file, or one for each channel, or the folder of a DICOM series.
        truth: file of the label that it should have.
        prediction: file of the label that a network gave it.
        picture: whether it is a 2D picture.
        class_names: label value -> name.
        channel_names: what the scan's channels are; empty for one.
        modality: in DICOM's words; None if unknown.
        report: the page of the evaluation that it is of.
        quality: what is known of the prediction's quality, in a sentence.
    """

    name: str
    scan: tuple[str, ...]
    truth: str | None = None
    prediction: str | None = None
    picture: bool = False
    class_names: Mapping[int, str] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    modality: str | None = None
    report: Path | None = None
    quality: str | None = None

    @property
    def layer_names(self) -> list[str]:
        """What there is to see of it."""
        labels = [name for name in ("truth", "prediction") if getattr(self, name) is not None]
        channels = [f"scan{k}" for k in range(max(1, len(self.channel_names)))]
        return [*channels, *labels, *(["difference"] if len(labels) == 2 else [])]


def find_viewed(
    paths: Sequence[str | os.PathLike],
    truth: str | os.PathLike | None = None,
    prediction: str | os.PathLike | None = None,
    bundle: str | os.PathLike | None = None,
) -> list[ViewedCase]:
    """The cases of scans, of folders with scans, of evaluations and of what ``segment`` wrote.

    Args:
        paths: volumes, pictures, DICOM series, folders of them, or a run's folder, in which its scans, truths and
            predictions are noted.
        truth: label of the one scan.
        prediction: the same, of a network.
        bundle: names the classes, and the modality, whose windows are offered; a run's folder knows its own.

    Raises:
        FileNotFoundError: if something is not there.
        ValueError: if labels are given for anything but one scan, or a run kept nothing to see.
    """
    own = None if bundle is None else Bundle.find(bundle)
    found = [case for path in paths for case in _cases(Path(path).expanduser(), own)]
    if not found:
        raise ValueError("monai_ext: view: give a scan, a picture, a DICOM series, or the folder of a run.")
    if truth is None and prediction is None:
        return found
    if len(found) != 1:
        raise ValueError(
            f"monai_ext: view: --truth and --prediction are labels of one scan, but there are {len(found)}. Give one "
            "scan, or the folder of a run."
        )
    labels = {"truth": truth, "prediction": prediction}
    given = {name: os.path.expanduser(os.fspath(path)) for name, path in labels.items() if path is not None}
    for name, path in given.items():
        if not os.path.exists(path):
            raise FileNotFoundError(f"monai_ext: --{name} {path}: no such file.")
    return [ViewedCase(**{**vars(found[0]), **given})]


def _cases(path: Path, bundle: Bundle | None) -> list[ViewedCase]:
    if (path / CASES_FILE).is_file():
        return _evaluated(path, bundle)
    if (path / SEGMENTED).is_file():
        return _segmented(path, bundle)
    if (path / EVALUATED).is_file():
        raise ValueError(
            f"monai_ext: {path}: an evaluation without {CASES_FILE}, so it did not end, or an earlier version made it. "
            "Evaluate again, or give a scan with --truth and --prediction."
        )
    channels = bundle.channel_names if bundle else ()
    pictures = bundle.pictures if bundle else is_picture(path) or (path.is_dir() and not _holds_volumes(path))
    if path.is_file() and pictures and not is_picture(path):
        raise ValueError(
            f"monai_ext: {path}: is no picture by its name, which bundle {bundle} is for. Leave --bundle out."
        )
    cases = find_pictures(path) if pictures else find_images(path, channels)
    return [_case(str(case["case_id"]), case["image"], bundle) for case in cases]


def _holds_volumes(path: Path) -> bool:
    try:
        return bool(find_images(path))
    except FileNotFoundError:
        try:
            return not find_pictures(path)
        except FileNotFoundError:
            return True  # whose error tells of volumes


def _case(name: str, image: Any, bundle: Bundle | None, **more: Any) -> ViewedCase:
    files = tuple(map(str, ensure_tuple(image)))
    known: dict[str, Any] = {}
    if bundle is not None:
        named = {value: text for value, text in bundle.channel_def.items() if value > 0}
        known = {"class_names": named, "modality": bundle.modality, "channel_names": bundle.channel_names}
    known["picture"] = is_picture(files[0]) and not is_volume(files[0])
    if known["picture"]:
        known["channel_names"] = ()
    return ViewedCase(name, files, **{**known, **more})


def _evaluated(folder: Path, bundle: Bundle | None) -> list[ViewedCase]:
    kept = read_kept(folder)
    bundle = bundle or _bundle_of(folder / EVALUATED)
    report = folder / "report.html"
    names = dict(enumerate(kept.class_names, start=1))
    return [
        _case(
            case.name,
            case.scan,
            bundle,
            truth=str(case.truth),
            prediction=str(case.prediction),
            class_names=names,
            report=report if report.is_file() else None,
        )
        for case in kept.cases
    ]


def _segmented(folder: Path, bundle: Bundle | None) -> list[ViewedCase]:
    record = read_record(folder / SEGMENTED)
    bundle = bundle or _bundle_of(folder / SEGMENTED)
    try:
        images = {str(case["case_id"]): case["image"] for case in record["config"]["dataset"]["data"]}
        noted = {str(case["case"]): case for case in record["cases"]}
    except (KeyError, TypeError, AttributeError):
        raise ValueError(
            f"monai_ext: {folder / SEGMENTED}: does not note its scans. Give one with --prediction."
        ) from None
    labels: dict[str, list[str]] = {}
    for label, note in noted_labels(folder).items():
        labels.setdefault(note.image, []).append(label)
    found = []
    for name, image in images.items():
        # copies of one scan have one hash, and labels of their own
        of_it = labels.get(str(noted.get(name, {}).get("image")), [])
        own = [label for label in of_it if label.startswith((f"{name}_seg.", f"{name}."))]
        files = ensure_tuple(image)
        if of_it and not os.path.isabs(files[0]) and not os.path.exists(files[0]):
            raise FileNotFoundError(
                f"monai_ext: {files[0]}: no such file, but {folder / SEGMENTED} tells of this scan. Start view in the "
                "folder in which segment was started."
            )
        if of_it:
            label = str(folder / Path((own or of_it)[0]).name)
            found.append(_case(name, image, bundle, prediction=label, quality=_quality(noted[name].get("quality"))))
    if not found:
        raise ValueError(f"monai_ext: {folder}: no label that {SEGMENTED} tells of is there as it was written.")
    return found


def _quality(told: Any) -> str | None:
    """What a run noted of a label's quality, in a line."""
    if not isinstance(told, dict) or "flag" not in told:
        return None
    said = [f"Quality: {told['flag']}"]
    ends = told.get("interval")
    if isinstance(told.get("expected_dice"), float):
        said.append(f"expected Dice {told['expected_dice']:.2f}")
        if isinstance(ends, list) and len(ends) == 2 and all(isinstance(end, float) for end in ends):
            said[-1] += f" ({ends[0]:.2f} to {ends[1]:.2f})"
    return "; ".join(said) + "."


def _bundle_of(record: Path) -> Bundle | None:
    """The bundle of a run; none where it cannot be found any more."""
    try:
        return bundle_of_record(record, read_record(record)["bundle"])
    except (OSError, ValueError):
        return None
