# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
import logging
import pickle
import platform
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar, cast

import ignite.distributed as idist
import monai
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor, decollate_batch
from monai.data.utils import affine_to_spacing, orientation_ras_lps
from monai.utils import CommonKeys, ImageMetaKey, SpaceKeys, convert_to_tensor, ensure_tuple

import monai_ext
from monai_ext.handlers.endings import at_end
from monai_ext.metrics import label_metrics, lesion_metrics, region_masks, without_ignored
from monai_ext.metrics.lesions import MATCHES
from monai_ext.phantoms import PHANTOM_NOTE
from monai_ext.transforms import IGNORE, NOTICE
from monai_ext.utils import replacing, scratch_folder

from .kept_labels import CASES_FILE, LABELS_FOLDER, KeptCase, label_files, write_kept, write_label
from .page import render_page
from .panels import Picture, choose_slices
from .scores import CONVENTIONS, METRICS, CaseScores, csv_table, merge, statistics_of, summarise

__all__ = ["SegmentationReport"]

T = TypeVar("T")
_SUFFIXES = re.compile(r"(\.(nii|gz|npy|npz|h5|nrrd|nhdr|mha|mhd|png|jpe?g|bmp|tiff?|dcm))+$", re.IGNORECASE)
_DEFINITIONS = {
    "Overall": (
        "Mean: of the classes' means. Standard deviation and median: of the cases' means. A case's mean HD95 is over "
        "its classes with a finite distance."
    ),
    "Missed, spurious, absent": (
        "Counted from the label maps, whatever the convention: a class in the truth without one predicted voxel is "
        "missed, a predicted class that the truth lacks is spurious, a class in neither is absent."
    ),
    "Spread": "Standard deviations are those of a sample (n - 1).",
}


class SegmentationReport:
    """Score every case of an evaluation and write ``metrics.csv``, ``summary.json`` and ``report.html``.

    The label maps are kept as they were scored, in the folder ``labels``; ``cases.json`` says whose they are, so that
    ``python -m monai_ext view OUTPUT_DIR`` shows them.

    An ignite handler for the ``handlers`` of a ``SupervisedEvaluator``. It reads the label maps that postprocessing
    left in ``engine.state.output`` and keeps numbers and at most two slices of a case, never volumes. Under
    ``torch.distributed`` the ranks' cases are put together and the first rank writes; a case that a sampler repeated
    to fill up a rank counts once. Every file is complete or not there; the tables are written before the pictures are
    drawn.

    Args:
        output_dir: folder of the three files, made if needed.
        class_names: classes 1, 2, ... in their order, without background.
        convention: of the metrics: ``"monai"``, ``"deepmind"``, ``"transunet"``, or a list of them. The first is in
            ``metrics.csv``, any other in ``metrics_<convention>.csv``; summary and page hold all.
        title: heading of the page.
        published: results of others to print beside these:
            ``{"method": ..., "mean_dice": ..., "mean_hd95": ..., "dice": {class: value}, "source": ...}``,
            Dice in percent; all but ``method`` may be left out.
        phantom: whether the data is synthetic. Table, summary, page and log then say that it has no clinical meaning.
        notes: sentences to print among the limits.
        checkpoint: path of the weights, for the record.
        image_key: image in the output or the batch, on the label's grid; None draws on black.
        label_key: truth, ``(1, *spatial)`` integer classes.
        pred_key: prediction, the same.
        window: image values shown as black and as white.
        channel: of a volume's image, the one that is shown.
        regions: label values of each of ``class_names``, where these are regions that may overlap: each is scored as
            a whole. Values are drawn as the last region that has them.
        transpose: 2D images run ``(C, W, H)``, as MONAI's ``PILReader`` gives them by default, not ``(C, H, W)``.
        tolerances: mm within which two surfaces are the same, for the normalised surface distance (NSD): one number, or
            one for each class; None leaves it out. ``"transunet"`` has none.
        match: when a true and a predicted object are one, see :func:`~monai_ext.metrics.lesion_metrics`; None where
            objects are not counted.
        patient: case id, or else its name -> whose it is: a case may be one of several of a patient, who are drawn
            whole for the confidence intervals. By default each is a patient's only one; a ``"patient"`` in the item
            goes before.
        keep_labels: false for no ``labels`` and no ``cases.json``.

    Raises:
        ValueError: on a wrong argument, and during the run when a case's maps are not on one grid, are no label maps
            of the classes, or no case came.

    Shape:
        - label, prediction: ``(1, H, W)`` or ``(1, H, W, D)``, ``MetaTensor`` with file name and affine; where the
          truth is 255 nobody has looked: both are background there
        - image: ``(C, *spatial)``; three channels in 2D are colours

    Examples::

        {
            "_target_": "monai_ext.apps.SegmentationReport",
            "output_dir": "@output_dir",
            "class_names": ["spleen"],
            "convention": ["monai", "transunet"]
        }
    """

    def __init__(
        self,
        output_dir: str,
        class_names: Sequence[str],
        convention: str | Sequence[str] = "monai",
        title: str = "Segmentation report",
        published: Sequence[Mapping[str, Any]] | None = None,
        phantom: bool = False,
        notes: Sequence[str] = (),
        checkpoint: str | None = None,
        image_key: str | None = CommonKeys.IMAGE,
        label_key: str = CommonKeys.LABEL,
        pred_key: str = CommonKeys.PRED,
        window: Sequence[float] = (0.0, 1.0),
        transpose: bool = False,
        channel: int = 0,
        regions: Sequence[Sequence[int]] | None = None,
        tolerances: Sequence[float] | float | None = None,
        match: str | None = None,
        patient: Callable[[str], str] = str,
        keep_labels: bool = True,
    ) -> None:
        self.channel = channel
        self.regions = [list(values) for values in regions] if regions else None
        self.output_dir = Path(output_dir)
        self.class_names = tuple(class_names)
        self.conventions = ensure_tuple(convention)
        self.title = title
        self.published = tuple(published or ())
        self.phantom = phantom
        self.notes = tuple(notes)
        self.checkpoint = checkpoint
        self.image_key = image_key
        self.label_key = label_key
        self.pred_key = pred_key
        self.window = window
        self.transpose = transpose
        self.tolerances = None if tolerances is None else ensure_tuple(tolerances)
        self.match = match
        self.patient = patient
        self.keep_labels = keep_labels
        self._check_arguments()
        self.cases: list[CaseScores] = []
        self._kept: dict[str, KeptCase] = {}  # by the source of a case
        self._scratch = ExitStack()
        self._folder: Path | None = None
        self._logger = logging.getLogger(__name__)

    def _check_arguments(self) -> None:
        odd = [name for name in self.class_names if not isinstance(name, str) or not name.isprintable()]
        if odd:
            raise ValueError(f"monai_ext: class_names: {odd[0]!r:.100}, expected text that can be printed.")
        if not self.class_names or len(set(self.class_names)) < len(self.class_names) or len(self.class_names) > 255:
            raise ValueError(
                f"monai_ext: class_names: {self.class_names}, expected 1 to 255 different names, without background."
            )
        if self.regions is not None and len(self.regions) != len(self.class_names):
            raise ValueError(
                f"monai_ext: regions: {len(self.regions)}, expected one for each of {len(self.class_names)} classes."
            )
        unknown = [c for c in self.conventions if c not in CONVENTIONS]
        if unknown or not self.conventions or len(set(self.conventions)) < len(self.conventions):
            raise ValueError(
                f"monai_ext: convention: {self.conventions}, expected one or more of {', '.join(CONVENTIONS)}, "
                "each once."
            )
        if len(self.window) != 2 or self.window[0] >= self.window[1]:
            raise ValueError(f"monai_ext: window: {self.window}, expected two numbers, the lower first.")
        if self.tolerances is not None and len(self.tolerances) == 1:
            self.tolerances *= len(self.class_names)
        numbers = [t for t in self.tolerances or () if isinstance(t, (int, float)) and 0 < t < float("inf")]
        if self.tolerances is not None and len(numbers) != len(self.class_names):
            raise ValueError(
                f"monai_ext: tolerances: {self.tolerances}, expected one positive number in mm, or "
                f"{len(self.class_names)} of them, one for each of {', '.join(self.class_names):.200}."
            )
        if self.match is not None and self.match not in MATCHES:
            raise ValueError(f"monai_ext: match: {self.match!r}, expected null or one of {', '.join(MATCHES)}.")
        for row in self.published:
            if "method" not in row:
                raise ValueError(f"monai_ext: published: {dict(row)} has no 'method'.")
            organs = row.get("dice") or {}
            strange = set(organs) - set(self.class_names)
            if strange:
                raise ValueError(
                    f"monai_ext: published: {row['method']}: classes {sorted(strange)}, expected some of "
                    f"{list(self.class_names)}."
                )
            dice = [v for v in (row.get("mean_dice"), *organs.values()) if v is not None]
            if dice and max(dice) <= 1:
                raise ValueError(
                    f"monai_ext: published: {row['method']}: Dice {max(dice)}, expected percent (such as 83.29)."
                )

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator.

        Raises:
            ValueError: if it has no case at all: an engine passes over an empty loader in silence.
        """
        loader = getattr(engine, "data_loader", None)
        with suppress(TypeError):  # some do not know how many cases will come
            if loader is not None and len(loader) == 0:
                raise ValueError(
                    "monai_ext: evaluation: there is no test case. Test cases with labels are needed: give a list that "
                    'has some ("test"), or test on a part of all cases with --fold 0.'
                )
        engine.add_event_handler(Events.EPOCH_STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.write)

    def start(self, engine: Engine) -> None:
        """Forget the cases of an earlier run."""
        self._clear()
        at_end(engine, self._clear)

    def add(self, engine: Engine) -> None:
        """Score the cases of one iteration."""
        for item in _items(engine):
            self._add_case(item)

    def write(self, engine: Engine) -> None:
        """Put the ranks' cases together and write the files."""
        cases = merge(_gather(self.cases))
        if not cases:
            raise ValueError("monai_ext: SegmentationReport: no case came; is the evaluator's data loader empty?")
        ranked = self._ranked(cases)
        numbers = {case.source: number for number, case in enumerate(self.cases)}
        wanted = [cases[k].source for _, k in ranked]
        mine = {source: self._load(numbers[source]) for source in wanted if source in numbers}
        slices = {source: pictures for part in _gather(mine) for source, pictures in part.items()}
        kept = {source: case for part in _gather(self._kept) for source, case in part.items()}
        if idist.get_rank() == 0:
            summary = self._write_tables(cases)
        self._place_labels()
        self._clear()
        if idist.get_rank() == 0:
            shown = [(rank, k, slices[cases[k].source]) for rank, k in ranked]
            named = [kept[case.source]._replace(name=case.case) for case in cases if case.source in kept]
            self._write_page(summary, cases, shown, named)

    def _clear(self) -> None:
        self.cases = []
        self._kept = {}
        self._scratch.close()
        self._folder = None

    def _add_case(self, item: Mapping[str, Any]) -> None:
        source, name = self._identity(item)
        if any(case.source == source for case in self.cases):
            raise ValueError(f"monai_ext: {source}: came twice. Give items that share a file a 'case_id' of their own.")
        truth, prediction = (self._label_map(item, key, name) for key in (self.label_key, self.pred_key))
        if truth.shape != prediction.shape:
            raise ValueError(
                f"monai_ext: {name}: {self.pred_key} {tuple(prediction.shape)}, {self.label_key} {tuple(truth.shape)}, "
                "expected one grid. Invert both (Invertd) or neither."
            )
        prediction, truth = without_ignored(prediction, truth, IGNORE)
        image = self._image(item, truth, name)
        affine = _affine([item[self.label_key], item[self.pred_key]])
        spacing = [1.0] * truth.ndim if affine is None else affine_to_spacing(affine, r=truth.ndim).tolist()
        scores = {c: self._scores(prediction, truth, spacing, c) for c in self.conventions}
        volumes = next(iter(scores.values())).get("volume_ml")
        owner = item.get("patient")
        identity = hashlib.blake2b(truth.contiguous().numpy().tobytes(), digest_size=8)
        identity.update(repr(tuple(truth.shape)).encode())
        drawn = truth, prediction
        if self.regions:
            drawn = self._drawn(truth), self._drawn(prediction)
        self._save(choose_slices(image, *drawn, affine, spacing, self.window, self.transpose))
        scan = getattr(item.get(self.image_key or ""), "meta", {}).get(ImageMetaKey.FILENAME_OR_OBJ)
        if self.keep_labels and scan:
            self._keep_labels(name, tuple(map(str, ensure_tuple(scan))), source, drawn, affine)
        self.cases.append(
            CaseScores(
                case=name,
                source=source,
                spacing=tuple(spacing),
                labelled=self._present(truth),
                predicted=self._present(prediction),
                scores={
                    metric: {c: tuple(s[metric].tolist()) for c, s in scores.items() if metric in s}
                    for metric in METRICS
                    if any(metric in s for s in scores.values())
                },
                volumes=() if volumes is None else tuple(map(tuple, volumes[:2].tolist())),
                objects={key: tuple(values.tolist()) for key, values in self._objects(prediction, truth).items()},
                patient=str(owner) if owner is not None else self.patient(str(item.get("case_id", name))) or name,
                truth=identity.hexdigest(),
                notice=getattr(item.get(self.image_key or ""), "meta", {}).get(NOTICE),
            )
        )

    def _scores(
        self, prediction: torch.Tensor, truth: torch.Tensor, spacing: Sequence[float], convention: str
    ) -> dict[str, np.ndarray]:
        """Of each class, or of each region on its own."""
        tolerances = None if convention == "transunet" else self.tolerances
        if not self.regions:
            number = len(self.class_names) + 1
            return dict(label_metrics(prediction, truth, number, spacing, convention, tolerances=tolerances))
        each = tolerances or [None] * len(self.regions)
        found = [
            label_metrics(*pair, 2, spacing, convention, tolerances=one)
            for pair, one in zip(self._region_pairs(prediction, truth), each, strict=True)
        ]
        return {name: np.concatenate([scores[name] for scores in found], axis=-1) for name in found[0]}

    def _objects(self, prediction: torch.Tensor, truth: torch.Tensor) -> dict[str, np.ndarray]:
        if not self.match:
            return {}
        if not self.regions:
            return dict(lesion_metrics(prediction, truth, len(self.class_names) + 1, self.match))
        found = [lesion_metrics(*pair, 2, self.match) for pair in self._region_pairs(prediction, truth)]
        return {name: np.concatenate([scores[name] for scores in found], axis=-1) for name in found[0]}

    def _region_pairs(
        self, prediction: torch.Tensor, truth: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        ours, theirs = (region_masks(labels[None], self.regions or []) for labels in (prediction, truth))
        return zip(ours, theirs, strict=True)

    def _present(self, labels: torch.Tensor) -> tuple[bool, ...]:
        """Which classes or regions a label map has."""
        regions = self.regions or [[number] for number in range(1, len(self.class_names) + 1)]
        having = set(labels.unique().tolist())
        return tuple(not having.isdisjoint(values) for values in regions)

    def _drawn(self, labels: torch.Tensor) -> torch.Tensor:
        """Numbers of regions, from 1 on; a later one lies over those before it."""
        drawn = torch.zeros_like(labels)
        for number, mask in enumerate(region_masks(labels[None], self.regions or []), start=1):
            drawn[mask > 0] = number
        return drawn

    def _identity(self, item: Mapping[str, Any]) -> tuple[str, str]:
        """What tells the case from others, and its short name."""
        if "case_id" in item:
            return str(item["case_id"]), str(item["case_id"])
        for value in (item.get(key) for key in (self.image_key, self.label_key, self.pred_key) if key is not None):
            path = getattr(value, "meta", {}).get(ImageMetaKey.FILENAME_OR_OBJ)
            if path:
                source = str(ensure_tuple(path)[0])
                return source, _SUFFIXES.sub("", Path(source.split("::")[0]).name)
        number = f"rank{idist.get_rank()}-{len(self.cases) + 1}" if idist.get_world_size() > 1 else len(self.cases) + 1
        return f"case {number}", f"case {number}"

    def _label_map(self, item: Mapping[str, Any], key: str, case: str) -> torch.Tensor:
        values = _tensor(item, key, case)
        if values.ndim not in (3, 4) or len(values) != 1:
            raise ValueError(
                f"monai_ext: {case}: {key} of shape {tuple(values.shape)}, expected one label map (1, H, W) or "
                "(1, H, W, D). Make it one in the postprocessing: AsDiscreted(argmax=True), or threshold for one class."
            )
        classes = values[0].to(torch.uint8)
        most = max(map(max, self.regions)) if self.regions else len(self.class_names)
        allowed = classes <= most
        if key == self.label_key:
            allowed |= classes == IGNORE
        if (classes != values[0]).any() or not allowed.all():
            low, high = torch.aminmax(values)
            raise ValueError(
                f"monai_ext: {case}: {key} has values from {low.item():g} to {high.item():g}, expected the whole "
                f"numbers 0 to {most}."
            )
        return classes

    def _image(self, item: Mapping[str, Any], truth: torch.Tensor, case: str) -> torch.Tensor | None:
        if self.image_key is None:
            return None
        image = _tensor(item, self.image_key, case)
        if image.shape[1:] != truth.shape:
            raise ValueError(
                f"monai_ext: {case}: {self.image_key} {tuple(image.shape[1:])}, {self.label_key} {tuple(truth.shape)}, "
                "expected one grid. Invert the image too, or give image_key null."
            )
        if image.ndim == 4 and not 0 <= self.channel < len(image):
            raise ValueError(f"monai_ext: {case}: channel {self.channel} to show, expected 0 to {len(image) - 1}.")
        return image[self.channel : self.channel + 1] if image.ndim == 4 else image

    def _save(self, pictures: list[Picture]) -> None:
        self._picture_file(len(self.cases)).write_bytes(zlib.compress(pickle.dumps(pictures), level=1))

    def _load(self, number: int) -> list[Picture]:
        return pickle.loads(zlib.decompress(self._picture_file(number).read_bytes()))

    def _picture_file(self, number: int) -> Path:
        return self._scratch_folder() / str(number)

    def _scratch_folder(self) -> Path:
        if self._folder is None:
            self._folder = self._scratch.enter_context(scratch_folder(self.output_dir, "report-"))
        return self._folder

    def _keep_labels(
        self, name: str, scan: tuple[str, ...], source: str, drawn: Sequence[torch.Tensor], affine: np.ndarray | None
    ) -> None:
        files = [self._scratch_folder() / file for file in label_files(source, drawn[0].ndim == 2)]
        for file, labels in zip(files, drawn):
            write_label(file, (labels.T if self.transpose and labels.ndim == 2 else labels).numpy(), affine)
        self._kept[source] = KeptCase(name, scan, *files)

    def _place_labels(self) -> None:
        """When all cases are scored: until then the folder has those of the evaluation before."""
        folder = self.output_dir / LABELS_FOLDER
        for case in self._kept.values():
            folder.mkdir(parents=True, exist_ok=True)
            for file in (case.truth, case.prediction):
                file.replace(folder / file.name)

    def _ranked(self, cases: Sequence[CaseScores]) -> list[tuple[str, int]]:
        """Best, median and worst by mean Dice of the first convention, as far as there are as many cases."""
        dice = np.array([case.mean("dice", self.conventions[0]) for case in cases])
        order = [int(k) for k in np.argsort(-dice, kind="stable") if np.isfinite(dice[k])] or list(range(len(cases)))
        picks = {0: "best case", len(order) // 2: "median case", len(order) - 1: "worst case"}
        if len(order) < 3:
            picks = {0: "best case", 1: "worst case"} if len(order) == 2 else {0: "the only case"}
        return [(rank, order[place]) for place, rank in picks.items()]

    def _write_tables(self, cases: list[CaseScores]) -> dict[str, Any]:
        """Returns the summary."""
        summary = self._summary(cases)
        for i, convention in enumerate(self.conventions):
            name = "metrics.csv" if i == 0 else f"metrics_{convention}.csv"
            self._write_file(name, csv_table(cases, self.class_names, convention, self.phantom))
        self._write_file("summary.json", json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        return summary

    def _write_page(
        self,
        summary: dict[str, Any],
        cases: list[CaseScores],
        shown: list[tuple[str, int, list[Picture]]],
        kept: list[KeptCase],
    ) -> None:
        (self.output_dir / CASES_FILE).unlink(missing_ok=True)
        if kept:
            write_kept(self.output_dir, self.class_names, kept)
        page = render_page(summary, cases, self.published, shown, {case.name for case in kept})
        self._write_file("report.html", page)
        part = summary["conventions"][self.conventions[0]]
        dice, hd95 = part["overall"]["dice"]["mean"], part["overall"]["hd95"]["mean"]
        self._logger.info(
            "%smean Dice %s, mean HD95 %s, %d missed in %d cases (convention %s); report: %s",
            f"{PHANTOM_NOTE}: " if self.phantom else "",
            "none" if dice is None else f"{100 * dice:.2f} %",
            "none" if hd95 is None else f"{hd95:.2f} {part['hd95_unit']}",
            part["overall"]["missed"],
            len(cases),
            self.conventions[0],
            self.output_dir / "report.html",
        )

    def _summary(self, cases: Sequence[CaseScores]) -> dict[str, Any]:
        return {
            "title": self.title,
            "phantom": self.phantom,
            **({"data": PHANTOM_NOTE} if self.phantom else {}),
            "number_of_cases": len(cases),
            "class_names": list(self.class_names),
            "conventions": {c: summarise(cases, self.class_names, c) for c in self.conventions},
            "metrics": [metric for metric in METRICS if metric in cases[0].scores],
            **({"tolerances": list(self.tolerances)} if self.tolerances else {}),
            **({"match": self.match} if self.match else {}),
            "statistics": statistics_of(cases),
            "definitions": self._definitions(cases),
            "notes": [*self.notes, *(f"Case {case.case}: {case.notice}." for case in cases if case.notice)],
            "checkpoint": self.checkpoint,
            "created": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "versions": {
                "monai_ext": monai_ext.__version__,
                "monai": monai.__version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
        }

    def _definitions(self, cases: Sequence[CaseScores]) -> dict[str, str]:
        given = dict(_DEFINITIONS)
        if self.tolerances:
            within = ", ".join(f"{name} {mm:g}" for name, mm in zip(self.class_names, self.tolerances))
            given["NSD"] = (
                "Normalised surface distance: the share of both surfaces that lies within a tolerance of the other, "
                f"0 where only one of them has the class. Tolerances in the unit of HD95: {within}."
            )
        given["ASSD"] = "Average symmetric surface distance: mean over both surfaces of the distance to the other one."
        if cases[0].volumes:
            given["Volume"] = "Predicted less true volume in mL, and in percent of the true one where there is one."
        if self.match:
            given["Objects"] = (
                "What hangs together in a label map, over corners too, is an object. A true and a predicted one are "
                f"the same if {MATCHES[self.match]}. F1 is the harmonic mean of the shares of true objects found and "
                "of predicted objects that are not false, summed over all cases."
            )
        return given

    def _write_file(self, name: str, text: str) -> None:
        with replacing(self.output_dir / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _items(engine: Engine) -> Iterator[dict[str, Any]]:
    """Output over batch, case by case: postprocessing leaves keys of its own in either."""
    output, batch = (
        decollate_batch(part) if isinstance(part, Mapping) else list(ensure_tuple(part))
        for part in (engine.state.output, engine.state.batch)
    )
    if len(batch) != len(output) or not all(isinstance(part, Mapping) for part in batch):
        batch = [{}] * len(output)
    for given, made in zip(batch, output):
        yield {**given, **made}


def _gather(mine: T) -> list[T]:
    """Every rank's, in the order of ranks."""
    return cast("list[T]", idist.all_gather(mine))


def _tensor(item: Mapping[str, Any], key: str, case: str) -> torch.Tensor:
    if key not in item:
        raise ValueError(f"monai_ext: {case}: no '{key}' in output or batch, which hold {', '.join(map(str, item))}.")
    return convert_to_tensor(item[key], track_meta=False, device="cpu")


def _affine(tensors: Sequence[Any]) -> np.ndarray | None:
    """Voxel indices to RAS millimetres, from the first that knows."""
    for tensor in tensors:
        if isinstance(tensor, MetaTensor):
            affine = tensor.affine.cpu().double()
            if tensor.meta.get("space") == SpaceKeys.LPS:
                affine = orientation_ras_lps(affine)
            return affine.numpy()
    return None
