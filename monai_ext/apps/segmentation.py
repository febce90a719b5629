# SPDX-License-Identifier: Apache-2.0
"""A bundle on a user's own images: every check before the first image is read, then the bundle's own inference.

Each label gets its name when it is whole, and is noted with what it was made from and how. A run that was stopped, for
whatever reason, is gone on with by starting it again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from ignite.engine import Engine, Events
from monai.bundle import ConfigWorkflow
from monai.utils import ensure_tuple

import monai_ext
from monai_ext.bundle import Bundle, literal
from monai_ext.data import CaseLoader, find_images, find_pictures
from monai_ext.data.case_loader import raise_failed
from monai_ext.data.files.case_finder import LABEL, walk
from monai_ext.data.files.fingerprint import hash_file
from monai_ext.data.files.label_notes import LabelNote, note_label, noted_labels
from monai_ext.data.files.picture_reader import is_picture
from monai_ext.data.files.volume_reader import is_volume
from monai_ext.networks import is_export
from monai_ext.utils import config_errors, ends_all, locked, read_json, scratch_folder, write_json

__all__ = ["Segmented", "segment"]

logger = logging.getLogger(__name__)
NIFTI, ITK = (".nii.gz", ".nii"), (".nrrd", ".mha")
LOCK = ".monai_ext-segment.lock"
LONGEST = 254  # bytes of a name, with the dot that it has while it is written
SAME_LABELS = {"num_workers", "device", "batch_size"}  # knobs that change speed and memory


class Segmented(list[Path]):
    """The label files of a run in the order of the images, and what else became of these.

    Attributes:
        written: the labels that this run made.
        kept: those that an earlier run with the same images, weights and knobs had finished.
        failed: image and reason of each case without a label.
        skipped: files below the input that were passed over: this library's labels, images of the other kind.
    """

    def __init__(
        self,
        labels: Iterable[Path] = (),
        written: Sequence[Path] = (),
        failed: Sequence[tuple[str, str]] = (),
        skipped: Sequence[Path] = (),
    ) -> None:
        super().__init__(labels)
        self.written = list(written)
        self.kept = [label for label in self if label not in written]
        self.failed = list(failed)
        self.skipped = list(skipped)

    def check(self) -> None:
        """Raise if a case has no label.

        Raises:
            UnreadableCasesError: tells in one line which, and why.
        """
        raise_failed(self.failed, len(self) + len(self.failed))


class _Case(NamedTuple):
    image: str | tuple[str, ...]  # of several channels a file each
    name: str
    target: Path
    hash: str | None  # of the image; None if it cannot be read

    @property
    def file(self) -> str:
        """The image, or its first channel: what a case is called in the log."""
        return ensure_tuple(self.image)[0]


def segment(
    bundle: str | os.PathLike,
    input: str | os.PathLike,
    output: str | os.PathLike,
    checkpoints: Sequence[str | os.PathLike] = (),
    tta: bool = False,
    overwrite: bool = False,
    force: bool = False,
    **knobs: Any,
) -> Segmented:
    """Segment one image, or every image and DICOM series below a folder, and return the label files.

    A label is named ``<name>_seg`` after its image, with the folders between before it: ``patient1_ct_seg.nii.gz`` for
    ``patient1/ct.nii.gz``. Each appears when it is whole, and ``run_inference_labels.jsonl`` notes it; started again,
    the same run does what is missing. What concerns one case ends that case. ``run_inference.json`` says what the run
    was, see :class:`~monai_ext.handlers.RunRecord`.

    Args:
        bundle: a bundle's name or folder.
        input: a file or a folder. Of several channels a folder in nnU-Net's naming (``case_0000.nii.gz``, ...), one of
            a case's files, its files with commas between, or one file with all of them.
        output: a folder, or for one image the file to write.
        checkpoints: weights instead of the bundle's own; the probabilities of several are averaged.
        tta: average the probabilities of mirrored views too.
        overwrite: replace files that are there already, finished ones too.
        force: go on when intensities are not those of the bundle's modality.
        knobs: values for the bundle's ``inference.json``.

    Returns:
        the label files, a list; its ``failed`` are the cases that have none, and ``check()`` raises if there are any.

    Raises:
        BlockingIOError: if another run writes into that folder.
        FileNotFoundError: for a bundle, an input or weights that are not there.
        FileExistsError: if an output is there already, and is not that of the same run.
        ValueError: if the input does not suit the bundle, or a name or knob is wrong; if the disk is full or went away.

    Examples::

        >>> labels = segment("dcaunet_synapse", "scan.nii.gz", "labels")
        >>> labels.check()
        >>> labels
        [PosixPath('labels/scan_seg.nii.gz')]
    """
    found = Bundle.find(bundle)
    names = ["inference"]
    weights = [Path(path) for path in checkpoints or [knobs.pop("ckpt_path", None) or found.require_weights()]]
    for path in weights:
        if not path.is_file():
            raise FileNotFoundError(
                f"monai_ext: {path}: no model yet. Train one (python -m monai.bundle run --config_file "
                f"{found.config_file('train')}), put one there, or give --checkpoint FILE."
            )
    if tta or len(weights) > 1:
        _check_ensemble(weights, knobs)
        names.append("ensemble_inference")
        knobs |= {"ckpt_paths": [str(path) for path in weights], "tta": tta}
    else:
        knobs["ckpt_path"] = str(weights[0])
    images, skipped = _images(Path(input), found)
    suffix, parent, targets = _targets(Path(output), [case["case_id"] for case in images], found.pictures)
    cases = [
        _Case(case["image"], case["case_id"], target, _hash_or_none(case["image"]))
        for case, target in zip(images, targets, strict=True)
    ]
    config = found.config("inference")
    if suffix in ITK:
        knobs["writer"] = "monai_ext.data.AtomicItkWriter"
    if suffix != config.get("output_ext", suffix):
        knobs["output_ext"] = suffix
    run = _run_hash([found.config_file(name) for name in names], weights, {**knobs, "output_ext": suffix})
    if "strict" in config:
        knobs["strict"] = not force
    # an error is told once, in one line, at its end; what else these loggers say is of no use to the user
    for name in ("ignite.engine.engine", "monai.bundle.workflows"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(parent, LOCK, "Wait until it has ended, or give another output."))
            folder = stack.enter_context(scratch_folder(parent, "segment-"))
        except BlockingIOError:
            raise
        except OSError as e:
            raise OSError(f"monai_ext: {parent}: cannot be written to ({e.strerror or e}).") from e
        todo, failed = _planned(cases, {} if overwrite else noted_labels(parent), run, overwrite)
        keeper = _Keeper(folder, parent, suffix, cases, run)
        if todo:
            with config_errors(found.config_file(names[-1]), "segment"):
                workflow = found.workflow(
                    "inference",
                    names,
                    output_dir=str(folder),
                    **{
                        **knobs,
                        # a tuple, in which MONAI looks for no expressions: a file may be called $... or @...
                        "dataset#data": tuple({"image": case.image, "case_id": case.name} for case in todo),
                    },
                )
                failed += keeper.run(workflow)
    missing = {case.file for case in todo} - {image for image, _ in failed} - keeper.images
    if missing:
        raise ValueError(
            f"monai_ext: {found.config_file(names[-1])}: as a config it wrote no label for {len(missing)} of "
            f"{len(todo)} images ({sorted(missing)[0]})."
        )
    lost = {image for image, _ in failed}
    labels = [case.target for case in cases if case.file not in lost]
    return Segmented(labels, keeper.written, failed, skipped)


def _check_ensemble(weights: Sequence[Path], knobs: dict[str, Any]) -> None:
    """What averages loads weights in turns into one network of PyTorch's."""
    if exported := [path for path in weights if is_export(path)]:
        raise ValueError(
            f"monai_ext: {exported[0]}: is an exported network; averages, of several models or with --tta, take "
            "weights such as model.pt."
        )
    for knob in ("backend", "precision"):
        if knobs.get(knob, "auto") not in ("auto", "torch", "float32"):
            raise ValueError(
                f"monai_ext: --{knob} {knobs[knob]}: averages, of several models or with --tta, compute with torch in "
                f"float32. Leave --{knob} out."
            )


class _Keeper:
    """Takes each label from where the bundle writes it to its place, as soon as it is whole."""

    def __init__(self, folder: Path, parent: Path, suffix: str, cases: Sequence[_Case], run: str) -> None:
        self.folder, self.parent, self.suffix, self.cases, self.run_hash = folder, parent, suffix, cases, run
        self.by_image = {case.file: case for case in cases}
        self.written: list[Path] = []
        self.images: set[str] = set()

    def run(self, workflow: ConfigWorkflow) -> list[tuple[str, str]]:
        """Run to the end; returns the cases that failed."""
        workflow.parser["run"] = ["$@evaluator.run()"]  # the config's own raises what failed, which is returned here
        workflow.initialize()
        self.loader: CaseLoader = workflow.parser.get_parsed_content("dataloader")
        evaluator = workflow.parser.get_parsed_content("evaluator")
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self.keep)
        workflow.run()
        hidden = str(self.folder) + os.sep
        return [(name, reason.replace(hidden, str(self.parent) + os.sep)) for name, reason in self.loader.failed]

    def keep(self, engine: Engine) -> None:
        made = [file for file in self.folder.glob(f"*{self.suffix}") if not file.name.startswith(".")]
        if engine.state.output and len(made) == len(self.loader.current) == 1:
            case = self.by_image[self.loader.current[0]]
            try:
                if not self.written:
                    self.keep_record()
                note_label(self.parent, case.target.name, LabelNote(hash_file(made[0]), case.hash or "", self.run_hash))
                os.replace(made[0], case.target)
            except OSError as e:
                if ends_all(e):
                    raise
                self.loader.fail_current(e)
            else:
                self.written.append(case.target)
                self.images.add(case.file)
        for file in made:
            file.unlink(missing_ok=True)

    def keep_record(self) -> None:
        """What the run noted of itself, beside its labels; cases that an earlier start has done are its as well."""
        record = self.folder / "run_inference.json"
        if not record.is_file():
            return
        content = read_json(record, "record")
        content["cases"] = [
            {"part": "inference", "case": case.name} | ({"image": case.hash} if case.hash else {})
            for case in self.cases
        ]
        if isinstance(content["config"], dict):
            content["config"]["output_dir"] = literal(str(self.parent))
            content["config"]["dataset"]["data"] = [{"image": c.image, "case_id": c.name} for c in self.cases]
        write_json(self.parent / record.name, content)


def _planned(
    cases: Sequence[_Case], noted: dict[str, LabelNote], run: str, overwrite: bool
) -> tuple[list[_Case], list[tuple[str, str]]]:
    """The cases to do, and those whose label cannot be written; what is finished is in neither."""
    todo, failed = [], []
    for case in cases:
        note = noted.get(case.target.name)
        if note is not None and (note.image, note.run) == (case.hash, run):
            continue
        length = len(os.fsencode(case.target.name))
        if length > LONGEST:
            reason = f"the label's name would have {length} bytes, {LONGEST} is the most. Rename the image."
            failed.append((case.file, f"monai_ext: {case.target}: {reason}"))
        elif case.target.is_dir():
            failed.append((case.file, f"monai_ext: {case.target}: is a folder, expected the place of a label file."))
        elif case.target.exists() and not overwrite:
            raise FileExistsError(
                f"monai_ext: {case.target}: is there already. Give another output, or --overwrite true."
            )
        else:
            todo.append(case)
    return todo, failed


def _run_hash(configs: Sequence[Path], weights: Sequence[Path], knobs: dict[str, Any]) -> str:
    """What a label depends on beside its image."""
    chosen = {key: value for key, value in knobs.items() if key not in SAME_LABELS | {"ckpt_path", "ckpt_paths"}}
    parts = [monai_ext.__version__, *(hash_file(path) for path in (*configs, *weights)), str(sorted(chosen.items()))]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _hash_or_none(image: str | tuple[str, ...]) -> str | None:
    try:
        hashes = [hash_file(file) for file in ensure_tuple(image)]
    except (OSError, ValueError):  # whoever reads it tells of it
        return None
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _images(path: Path, bundle: Bundle) -> tuple[list[dict[str, Any]], list[Path]]:
    """What there is to segment, and what is passed over; a file of the wrong kind is told by its name."""
    path = path.expanduser()
    wanted, other = (is_picture, is_volume) if bundle.pictures else (is_volume, is_picture)
    kind = "2D pictures" if bundle.pictures else "volumes"
    if path.is_file() and not wanted(path) and (other(path) or bundle.pictures):
        raise ValueError(f"monai_ext: {path}: {bundle.name} segments {kind}, this is none by its name.")
    files = [file for _, files in walk(path) for file in files] if path.is_dir() else []
    strange = [file for file in files if other(file)]
    try:
        cases = find_pictures(path) if bundle.pictures else find_images(path, bundle.channel_names)
    except FileNotFoundError as e:
        if strange:
            name = strange[0].relative_to(path)
            raise ValueError(f"monai_ext: {path}: {bundle.name} segments {kind}, but the folder holds {name}.") from e
        raise
    if strange:
        logger.warning("monai_ext: %s: passed over %d files that are no %s: %s", path, len(strange), kind, strange[0])
    images = {file for case in cases for file in ensure_tuple(case["image"])}
    return cases, [file for file in files if other(file) or (wanted(file) and str(file) not in images)]


def _targets(output: Path, names: list[str], pictures: bool) -> tuple[str, Path, list[Path]]:
    """The format, by its suffix, the folder to write into, and the files to write."""
    known = (".png",) if pictures else NIFTI + ITK
    suffix = next((s for s in (*NIFTI, *ITK, ".png") if output.name.lower().endswith(s)), None)
    if suffix is None or output.is_dir():
        if output.is_file():
            raise ValueError(
                f"monai_ext: {output}: is a file, expected a folder or a name ending in {', '.join(known)}."
            )
        return known[0], output, [output / f"{name}{LABEL}{known[0]}" for name in names]
    if suffix not in known:
        raise ValueError(f"monai_ext: {output}: labels of this bundle are written as {', '.join(known)}.")
    if len(names) > 1:
        raise ValueError(f"monai_ext: {output}: one file for {len(names)} images. Give a folder as output.")
    return suffix, output.parent, [output]
