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
import signal
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.bundle import ConfigWorkflow
from monai.engines.utils import IterationEvents
from monai.utils import ensure_tuple

import monai_ext
from monai_ext.apps.quality import Assessor, judged
from monai_ext.bundle import Bundle, join_processes, largest_component, literal
from monai_ext.data import CaseLoader, find_images, find_pictures
from monai_ext.data.case_loader import gathered, raise_failed
from monai_ext.data.files.case_finder import LABEL, walk
from monai_ext.data.files.fingerprint import hash_file, hash_files
from monai_ext.data.files.label_notes import LabelNote, note_label, noted_labels
from monai_ext.data.files.picture_reader import is_picture
from monai_ext.data.files.volume_finder import is_volume
from monai_ext.data.lists import CHANNEL
from monai_ext.inferers.ensemble import check_averages
from monai_ext.networks import is_export
from monai_ext.networks.utils import weights_follow
from monai_ext.utils import config_errors, ends_all, locked, read_json, scratch_folder, write_json

__all__ = ["Segmented", "segment"]

T = TypeVar("T")
logger = logging.getLogger(__name__)
NIFTI, ITK = (".nii.gz", ".nii"), (".nrrd", ".mha")
LOCK = ".monai_ext-segment.lock"
RECORD = "run_inference.json"
LONGEST = 254  # bytes of a name, with the dot that it has while it is written
NAMINGS = ("seg", "nnunet")
SAME_LABELS = {"num_workers", "device", "batch_size"}  # knobs that change speed and memory


class Segmented(list[Path]):
    """The label files of a run in the order of the images, and what else became of these.

    Attributes:
        written: the labels that this run made.
        kept: those that an earlier run with the same images, weights and knobs had finished.
        failed: image and reason of each case without a label.
        skipped: files below the input that were passed over: this library's labels, images of the other kind.
        quality: label -> what can be said of it, where that was asked for; as ``run_inference.json`` has it.
    """

    def __init__(
        self,
        labels: Iterable[Path] = (),
        written: Sequence[Path] = (),
        failed: Sequence[tuple[str, str]] = (),
        skipped: Sequence[Path] = (),
        quality: Mapping[Path, dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(labels)
        self.written = list(written)
        self.kept = [label for label in self if label not in written]
        self.failed = list(failed)
        self.skipped = list(skipped)
        self.quality = dict(quality or {})

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


class _Plan(NamedTuple):
    cases: list[_Case]
    skipped: list[Path]
    suffix: str
    parent: Path
    run: str
    todo: list[_Case]
    failed: list[tuple[str, str]]
    quality: dict[str, dict[str, Any]]  # of labels that are finished, by the case's name


def segment(
    bundle: str | os.PathLike,
    input: str | os.PathLike | Sequence[Mapping[str, Any]],
    output: str | os.PathLike,
    checkpoints: Sequence[str | os.PathLike] = (),
    tta: bool = False,
    overwrite: bool = False,
    force: bool = False,
    ensemble: bool = True,
    naming: str = "seg",
    overlay: str | os.PathLike | None = None,
    quality: bool = False,
    **knobs: Any,
) -> Segmented:
    """Segment one image, or every image and DICOM series below a folder, and return the label files.

    A label is named ``<name>_seg`` after its image, with the folders between before it: ``patient1_ct_seg.nii.gz`` for
    ``patient1/ct.nii.gz``. Each appears when it is whole, and ``run_inference_labels.jsonl`` notes it; started again,
    the same run does what is missing. What concerns one case ends that case. ``run_inference.json`` says what the run
    was, see :class:`~monai_ext.handlers.RunRecord`.

    Started by ``torchrun``, the processes share the cases out, on one machine or on several that see one folder. Each
    returns what all have done.

    Args:
        bundle: a bundle's name or folder.
        input: a file or a folder. Of several channels a folder in nnU-Net's naming (``case_0000.nii.gz``, ...), one of
            a case's files, its files with commas between, or one file with all of them. Or cases, each
            ``{"image": ..., "case_id": ...}``.
        output: a folder, or for one image the file to write.
        checkpoints: weights instead of the bundle's own; the probabilities of several are averaged.
        tta: average the probabilities of mirrored views too.
        overwrite: replace files that are there already, finished ones too.
        force: go on when intensities are not those of the bundle's modality.
        ensemble: use the folds of a cross-validation, and what it decided on, where the bundle has them; false for its
            ``model.pt``.
        naming: of labels: ``"seg"``, or ``"nnunet"`` for ``case.nii.gz`` of ``case_0000.nii.gz`` or ``case.nii.gz``.
        overlay: a config file that lies over the bundle's ``inference.json``, with another network for instance.
        quality: say of each label what Dice is expected, and whether its image is unlike the training cases; the labels
            are the same. The weights must have been calibrated (``calibrate``, or by ``crossval``).
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
    if naming not in NAMINGS:
        raise ValueError(f"monai_ext: --naming {naming!r:.100}: expected {' or '.join(NAMINGS)}.")
    found = Bundle.find(bundle)
    names = ["inference"]
    given = checkpoints or [path for path in [knobs.pop("ckpt_path", None)] if path]
    weights = [Path(path) for path in given] or found.checkpoints(ensemble)
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
    names += [os.path.abspath(overlay)] if overlay else []
    config = found.config("inference")
    if quality and overlay:
        raise ValueError(f"monai_ext: --quality knows the bundle's own network, not that of {overlay}. Leave one out.")
    assess = _assessor(found, weights, {k: v for k, v in knobs.items() if k in config}) if quality else None
    files = [found.config_file(name) for name in names]

    def plan(held: ExitStack) -> _Plan:
        images, skipped = (
            _images(Path(input), found)
            if isinstance(input, (str, os.PathLike))
            else ([_as_listed(case) for case in input], [])
        )
        ids = [case["case_id"] for case in images]
        suffix, parent, targets = _targets(Path(output), ids, found.pictures, naming)
        cases = [
            _Case(case["image"], case["case_id"], target, _hash_or_none(case["image"]))
            for case, target in zip(images, targets, strict=True)
        ]
        _keep_images(cases)
        run = _run_hash(files, weights, {**knobs, "output_ext": suffix})
        with _writable(parent):
            held.enter_context(locked(parent, LOCK, "Wait until it has ended, or give another output."))
        known = {} if assess is None or overwrite else _known_quality(parent, cases)
        unknown = {case.target.name for case in cases if assess is not None and case.name not in known}
        todo, failed = _planned(cases, {} if overwrite else noted_labels(parent), run, overwrite, unknown)
        return _Plan(cases, skipped, suffix, parent, run, todo, failed, known)

    # an error is told once, in one line, at its end; what else these loggers say is of no use to the user
    for name in ("ignite.engine.engine", "monai.bundle.workflows"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        if not dist.is_initialized():
            stack.callback(_leave_group)
        process, _ = join_processes()
        planned = _of_first_process(lambda: plan(stack))
        with _writable(planned.parent):
            folder = stack.enter_context(scratch_folder(planned.parent, "segment-"))
        suffix = planned.suffix
        if suffix in ITK:
            knobs["writer"] = "monai_ext.data.AtomicItkWriter"
        if suffix != config.get("output_ext", suffix):
            knobs["output_ext"] = suffix
        if "strict" in config:
            knobs["strict"] = not force
        keeper = _Keeper(folder, planned, process, assess)
        failed = []
        if planned.todo:
            with config_errors(files[-1], "segment"):
                workflow = found.workflow(
                    "inference",
                    names,
                    output_dir=str(folder),
                    **{
                        **knobs,
                        # a tuple, in which MONAI looks for no expressions: a file may be called $... or @...
                        "dataset#data": tuple({"image": case.image, "case_id": case.name} for case in planned.todo),
                    },
                )
                failed = keeper.run(workflow)
        shares = gathered((keeper.written, keeper.images, failed, keeper.quality))
        written = [label for share in shares for label in share[0]]
        keeper.quality = {name: told for share in shares for name, told in share[3].items()}
        if process == 0 and written:
            keeper.keep_record()
    made = {image for share in shares for image in share[1]}
    lost = [*planned.failed, *(case for share in shares for case in share[2])]
    missing = {case.file for case in planned.todo} - {image for image, _ in lost} - made
    if missing:
        raise ValueError(
            f"monai_ext: {files[-1]}: as a config it wrote no label for {len(missing)} of {len(planned.todo)} images "
            f"({sorted(missing)[0]})."
        )
    without = {image for image, _ in lost}
    labels = [case.target for case in planned.cases if case.file not in without]
    told = {case.target: keeper.quality[case.name] for case in planned.cases if case.name in keeper.quality}
    return Segmented(labels, written, lost, planned.skipped, told)


def _of_first_process(work: Callable[[], T]) -> T:
    """What ``work`` gives, done by the first process of a run; its error is everybody's."""
    if not dist.is_initialized():
        return work()
    result: list[Any] = [None]
    if dist.get_rank() == 0:
        try:
            result = [work()]
        except Exception as e:
            result = [e]
    dist.broadcast_object_list(result)
    if isinstance(result[0], Exception):
        raise result[0]
    return result[0]


def _as_listed(case: Mapping[str, Any]) -> dict[str, Any]:
    """A case as finding has it: of several files a tuple."""
    files = ensure_tuple(case["image"])
    return {**case, "image": files if len(files) > 1 else files[0]}


def _leave_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def _writable(parent: Path) -> Iterator[None]:
    """Tell of a folder that cannot be written to."""
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as e:
        raise OSError(f"monai_ext: {parent}: cannot be written to ({e.strerror or e}).") from e


def _keep_images(cases: Sequence[_Case]) -> None:
    """Refuse a label in the place of an image, which names without ``_seg`` make possible."""
    images = {os.path.realpath(file) for case in cases for file in ensure_tuple(case.image)}
    for case in cases:
        if os.path.realpath(case.target) in images:
            raise ValueError(f"monai_ext: {case.target}: this label would replace an image. Give another output.")


def _check_ensemble(weights: Sequence[Path], knobs: dict[str, Any]) -> None:
    """What averages takes weights, and computes in one way."""
    if exported := [path for path in weights if is_export(path)]:
        raise ValueError(
            f"monai_ext: {exported[0]}: is an exported network; averages, of several models or with --tta, take "
            "weights such as model.pt."
        )
    check_averages(knobs.get("backend", "auto"), knobs.get("precision", "auto"))


def _assessor(found: Bundle, weights: Sequence[Path], knobs: Mapping[str, Any]) -> Assessor:
    """For the quality of labels; told before the work begins where these weights have none."""
    own = {key: value for key, value in knobs.items() if key not in ("ckpt_path", "backend", "precision")}
    return Assessor(found, weights, **own)


def _known_quality(parent: Path, cases: Sequence[_Case]) -> dict[str, dict[str, Any]]:
    """By name of the case, what the run before that was stopped said of labels of the same images."""
    file = parent / RECORD
    try:
        noted = read_json(file, "record")["cases"] if file.is_file() else []
        told = {
            (case["case"], case["image"]): case["quality"] for case in noted if "quality" in case and "image" in case
        }
    except (ValueError, KeyError, TypeError, AttributeError):  # of something else
        return {}
    return {case.name: told[case.name, case.hash] for case in cases if (case.name, case.hash) in told}


class _Keeper:
    """Takes each label from where the bundle writes it to its place, as soon as it is whole."""

    def __init__(self, folder: Path, plan: _Plan, process: int, assess: Assessor | None = None) -> None:
        self.folder, self.parent, self.suffix, self.process = folder, plan.parent, plan.suffix, process
        self.cases, self.run_hash = plan.cases, plan.run
        self.by_image = {case.file: case for case in plan.cases}
        self.written: list[Path] = []
        self.images: set[str] = set()
        self.assess, self.quality = assess, dict(plan.quality)

    def run(self, workflow: ConfigWorkflow) -> list[tuple[str, str]]:
        """Run to the end; returns the cases that failed."""
        workflow.parser["run"] = ["$@evaluator.run()"]  # the config's own raises what failed, which is returned here
        with weights_follow():
            workflow.initialize()
        self.loader: CaseLoader = workflow.parser.get_parsed_content("dataloader")
        evaluator = workflow.parser.get_parsed_content("evaluator")
        if self.assess is not None:
            evaluator.add_event_handler(IterationEvents.FORWARD_COMPLETED, self.judge, self.assess)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self.keep)
        with _finishing() as stop_if_asked:
            evaluator.add_event_handler(Events.ITERATION_COMPLETED, stop_if_asked)
            workflow.run()
        hidden = str(self.folder) + os.sep
        return [(name, reason.replace(hidden, str(self.parent) + os.sep)) for name, reason in self.loader.failed]

    def judge(self, engine: Engine, assess: Assessor) -> None:
        """Say what the label that was just made is worth."""
        case = self.by_image[self.loader.current[0]]
        made: Any = engine.state.output
        self.quality[case.name] = judged(assess, made["image"], made["pred"], case.file).content

    def keep(self, engine: Engine) -> None:
        made = [file for file in self.folder.glob(f"*{self.suffix}") if not file.name.startswith(".")]
        if engine.state.output and len(made) == len(self.loader.current) == 1:
            case = self.by_image[self.loader.current[0]]
            try:
                if not self.written and self.process == 0:
                    self.keep_record()
                note = LabelNote(hash_file(made[0]), case.hash or "", self.run_hash)
                note_label(self.parent, case.target.name, note, self.process)
                os.replace(made[0], case.target)
            except OSError as e:
                if ends_all(e):
                    raise
                self.loader.fail_current(e)
            else:
                self.written.append(case.target)
                self.images.add(case.file)
                if self.assess is not None and self.process == 0:  # a stop must not cost what is known
                    self.keep_record()
        for file in made:
            file.unlink(missing_ok=True)

    def keep_record(self) -> None:
        """What the run noted of itself, beside its labels; cases that an earlier start has done are its as well."""
        record = self.folder / RECORD
        if not record.is_file():
            return
        content = read_json(record, "record")
        content["cases"] = [
            {"part": "inference", "case": case.name}
            | ({"image": case.hash} if case.hash else {})
            | ({"quality": self.quality[case.name]} if case.name in self.quality else {})
            for case in self.cases
        ]
        if isinstance(content["config"], dict):
            content["config"]["output_dir"] = literal(str(self.parent))
            content["config"]["dataset"]["data"] = [{"image": c.image, "case_id": c.name} for c in self.cases]
        write_json(self.parent / record.name, content)


@contextmanager
def _finishing() -> Iterator[Callable[[], None]]:
    """Let a process of several finish its case when SIGTERM comes: so ``torchrun`` ends them when one has died.

    Gives what ends the process then, to be called after each case.
    """
    asked: list[int] = []
    if not dist.is_initialized() or threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before: Any = signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))

    def stop_if_asked() -> None:
        if asked:
            raise SystemExit(128 + asked[0])

    try:
        yield stop_if_asked
        stop_if_asked()
    finally:
        signal.signal(signal.SIGTERM, before)


def _planned(
    cases: Sequence[_Case], noted: dict[str, LabelNote], run: str, overwrite: bool, again: Collection[str] = ()
) -> tuple[list[_Case], list[tuple[str, str]]]:
    """The cases to do, and those whose label cannot be written; what is finished is in neither.

    Labels of the names ``again`` are made once more, the same ones, for what shall be known beside them.
    """
    todo, failed = [], []
    for case in cases:
        note = noted.get(case.target.name)
        finished = note is not None and (note.image, note.run) == (case.hash, run)
        if finished and case.target.name not in again:
            continue
        length = len(os.fsencode(case.target.name))
        if length > LONGEST:
            reason = f"the label's name would have {length} bytes, {LONGEST} is the most. Rename the image."
            failed.append((case.file, f"monai_ext: {case.target}: {reason}"))
        elif case.target.is_dir():
            failed.append((case.file, f"monai_ext: {case.target}: is a folder, expected the place of a label file."))
        elif case.target.exists() and not overwrite and not finished:
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
    parts += [f"largest component of {label}" for label in largest_component(weights)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _hash_or_none(image: str | tuple[str, ...]) -> str | None:
    try:
        return hash_files(ensure_tuple(image))
    except (OSError, ValueError):  # whoever reads it tells of it
        return None


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


def _targets(output: Path, names: list[str], pictures: bool, naming: str) -> tuple[str, Path, list[Path]]:
    """The format, by its suffix, the folder to write into, and the files to write."""
    known = (".png",) if pictures else NIFTI + ITK
    suffix = next((s for s in (*NIFTI, *ITK, ".png") if output.name.lower().endswith(s)), None)
    if suffix is None or output.is_dir():
        if output.is_file():
            raise ValueError(
                f"monai_ext: {output}: is a file, expected a folder or a name ending in {', '.join(known)}."
            )
        labels = [f"{name}{LABEL}" if naming == "seg" else _without_channel(name) for name in names]
        if twice := next((label for label, count in Counter(labels).items() if count > 1), None):
            raise ValueError(f"monai_ext: {output}: several images would have the label {twice}{known[0]}. Give one.")
        return known[0], output, [output / f"{label}{known[0]}" for label in labels]
    if suffix not in known:
        raise ValueError(f"monai_ext: {output}: labels of this bundle are written as {', '.join(known)}.")
    if len(names) > 1:
        raise ValueError(f"monai_ext: {output}: one file for {len(names)} images. Give a folder as output.")
    return suffix, output.parent, [output]


def _without_channel(name: str) -> str:
    """A case as nnU-Net calls it: ``liver_001`` of ``liver_001_0000``."""
    found = CHANNEL.fullmatch(name)
    return found["case"] if found else name
