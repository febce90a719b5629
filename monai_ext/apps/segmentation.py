# SPDX-License-Identifier: Apache-2.0
"""A bundle on a user's own images: every check before the first image is read, then the bundle's own inference."""

from __future__ import annotations

import logging
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow
from monai.data import create_file_basename

from monai_ext.apps.config_errors import config_errors
from monai_ext.bundle import find_bundle
from monai_ext.data import (
    AtomicItkWriter,
    AtomicNibabelWriter,
    CaseLoader,
    UnreadableCasesError,
    find_images,
    find_pictures,
)
from monai_ext.data.files.picture_reader import is_picture
from monai_ext.data.files.volume_reader import is_volume
from monai_ext.utils import read_json, write_json

__all__ = ["segment"]

NIFTI, ITK = (".nii.gz", ".nii"), (".nrrd", ".mha")


def segment(
    bundle: str | os.PathLike,
    input: str | os.PathLike,
    output: str | os.PathLike,
    checkpoints: Sequence[str | os.PathLike] = (),
    tta: bool = False,
    overwrite: bool = False,
    force: bool = False,
    **knobs: Any,
) -> list[Path]:
    """Segment one image, every image of a folder, or DICOM series, and return the label files.

    ``run_inference.json`` beside them says what the run was, see :class:`~monai_ext.handlers.RunRecord`.

    Args:
        bundle: a bundle's name or folder.
        input: a file or a folder.
        output: a folder, or for one image the file to write.
        checkpoints: weights instead of the bundle's own; the probabilities of several are averaged.
        tta: average the probabilities of mirrored views too.
        overwrite: replace files that are there already.
        force: go on when intensities are not those of the bundle's modality.
        knobs: values for the bundle's ``inference.json``.

    Raises:
        FileNotFoundError: for a bundle, an input or weights that are not there.
        FileExistsError: if an output is there already.
        ValueError: if the input does not suit the bundle, or a name or knob is wrong.
        UnreadableCasesError: if some images could not be read; the labels of the others are there.

    Examples::

        >>> segment("dcaunet_synapse", "scan.nii.gz", "labels")
        [PosixPath('labels/scan_seg.nii.gz')]
    """
    folder = find_bundle(bundle)
    config = read_json(folder / "configs" / "inference.json", "config")
    if not isinstance(config, dict) or not {"preprocessing", "postprocessing", "dataset"} <= config.keys():
        raise ValueError(f"monai_ext: {folder / 'configs' / 'inference.json'}: no inference config of a bundle.")
    if unknown := sorted(knobs.keys() - config.keys()):
        raise ValueError(
            f"monai_ext: {folder.name} has no knob {unknown[0]!r}; its inference.json has "
            f"{', '.join(key for key in config if key not in ('imports', 'initialize', 'run'))}."
        )
    pictures = "PictureReader" in str(config["preprocessing"])
    images = _images(Path(input), pictures, folder.name)
    weights = [Path(path) for path in checkpoints] or [Path(knobs.get("ckpt_path", folder / "models" / "model.pt"))]
    for path in weights:
        if not path.is_file():
            raise FileNotFoundError(
                f"monai_ext: {path}: no model yet. Train one (python -m monai.bundle run --config_file "
                f"{folder}/configs/train.json), put one there, or give --checkpoint FILE."
            )
    suffix, targets = _targets(Path(output), images, pictures)
    if there := [path for path in targets if path.exists() and not overwrite]:
        raise FileExistsError(f"monai_ext: {there[0]}: is there already. Give another output, or --overwrite true.")
    files = [str(folder / "configs" / "inference.json")]
    if tta or len(weights) > 1:
        files.append(str(folder / "configs" / "ensemble_inference.json"))
        knobs |= {"ckpt_paths": [str(path) for path in weights], "tta": tta}
    else:
        knobs["ckpt_path"] = str(weights[0])
    # beside the targets, so that a finished file is renamed into its place and no other is ever seen there
    parent = targets[0].parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=".segment-", dir=parent)
    except OSError as e:
        raise OSError(f"monai_ext: {parent}: cannot be written to ({e.strerror}).") from e
    with scratch as temporary:
        with config_errors(files[-1]):
            loader = _run(files, config, images, temporary, suffix, force, {**knobs, "bundle_root": str(folder)})
        done = []
        for image, target in zip(images, targets):
            made = Path(temporary) / f"{_name(image)}{suffix}"
            if made.is_file():
                os.replace(made, target)
                done.append(target)
        if done:
            _keep_record(Path(temporary) / "run_inference.json", parent)
    try:
        loader.raise_failed()
    except UnreadableCasesError as e:
        e.done = done
        raise
    if len(done) < len(images):
        raise ValueError(f"monai_ext: {files[-1]}: as a config it wrote {len(done)} labels for {len(images)} images.")
    return done


def _keep_record(record: Path, folder: Path) -> None:
    """Move what the run noted of itself beside its labels."""
    if record.is_file():
        content = read_json(record, "record")
        content["config"]["output_dir"] = str(folder)
        write_json(folder / record.name, content)


def _images(path: Path, pictures: bool, bundle: str) -> list[str]:
    """What there is to segment; a file of the wrong kind is told from a damaged one by its name."""
    wanted, other = (is_picture, is_volume) if pictures else (is_volume, is_picture)
    kind = "2D pictures" if pictures else "volumes"
    if path.is_file() and not wanted(str(path)):
        if other(str(path)):
            hint = ""
        else:
            hint = " For a DICOM series give its folder." if not pictures else ""
        raise ValueError(f"monai_ext: {path}: {bundle} segments {kind}, this is none by its name.{hint}")
    if path.is_dir() and not any(wanted(str(p)) for p in path.iterdir()):
        strange = [p.name for p in sorted(path.iterdir()) if p.is_file() and other(str(p))]
        if strange:
            raise ValueError(f"monai_ext: {path}: {bundle} segments {kind}, but the folder holds {strange[0]}.")
    images = [case["image"] for case in (find_pictures if pictures else find_images)(path)]
    names = Counter(map(_name, images))
    if twice := [name for name, count in names.items() if count > 1]:
        same = [Path(image).name for image in images if _name(image) == twice[0]]
        raise ValueError(f"monai_ext: {path}: {' and '.join(same)} would have one label file. Give them one by one.")
    return images


def _name(image: str) -> str:
    """What ``SaveImaged`` calls the label of an image, without suffix."""
    return Path(create_file_basename("seg", image, "", separate_folder=False, makedirs=False)).name


def _targets(output: Path, images: Sequence[str], pictures: bool) -> tuple[str, list[Path]]:
    """The format, by its suffix, and the files to write."""
    known = (".png",) if pictures else NIFTI + ITK
    suffix = next((s for s in (*NIFTI, *ITK, ".png") if output.name.lower().endswith(s)), None)
    if suffix is None or output.is_dir():
        if output.is_file():
            raise ValueError(
                f"monai_ext: {output}: is a file, expected a folder or a name ending in {', '.join(known)}."
            )
        return known[0], [output / f"{_name(image)}{known[0]}" for image in images]
    if suffix not in known:
        raise ValueError(f"monai_ext: {output}: labels of this bundle are written as {', '.join(known)}.")
    if len(images) > 1:
        raise ValueError(f"monai_ext: {output}: one file for {len(images)} images. Give a folder as output.")
    return suffix, [output]


def _run(
    files: list[str],
    config: dict[str, Any],
    images: Sequence[str],
    folder: str,
    suffix: str,
    force: bool,
    knobs: dict[str, Any],
) -> CaseLoader:
    # a tuple, in which MONAI looks for no expressions: a file may be called $... or @...
    override = {**knobs, "output_dir": folder, "dataset#data": tuple({"image": image} for image in images)}
    override["run"] = ["$@evaluator.run()"]
    if "strict" in config:
        override["strict"] = not force
    if suffix != ".png":
        writer = AtomicItkWriter if suffix in ITK else AtomicNibabelWriter
        override |= {"output_ext": suffix, "writer": f"monai_ext.data.{writer.__name__}"}
    # an error is told once, in one line, at its end; what else these loggers say is of no use to the user
    for name in ("ignite.engine.engine", "monai.bundle.workflows"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    workflow = ConfigWorkflow(files, workflow_type="inference", logging_file=False, **override)
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return workflow.parser.get_parsed_content("dataloader")
