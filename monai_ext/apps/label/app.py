# SPDX-License-Identifier: Apache-2.0
"""The application that MONAI Label's server runs: every bundle as a model, a trainer and a way to pick studies."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from fastapi import HTTPException
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask

import monai_ext
from monai_ext.apps.archive import Archive, ArchiveError, is_address
from monai_ext.apps.label.archived_studies import ArchivedStudies, status_of, with_password
from monai_ext.apps.label.command import SCRATCH
from monai_ext.apps.label.infer import BundleInference
from monai_ext.apps.label.request_knobs import RequestError, known
from monai_ext.apps.label.segmentations import label_classes, write_seg
from monai_ext.apps.label.strategy import AnyStudy, FirstStudy, MostUncertain, Without
from monai_ext.apps.label.study_folder import StudyFolder
from monai_ext.apps.label.train import BundleTraining
from monai_ext.apps.label.training_state import end_with_parent
from monai_ext.bundle import Bundle
from monai_ext.utils import VOLUME_MODALITIES

__all__ = ["BundleApp"]

logger = logging.getLogger(__name__)


class BundleApp(MONAILabelApp):
    """MONAI Label's ``monaibundle`` app, strict: what goes wrong is an error that the annotator reads.

    Args:
        app_dir: folder made by ``prepare_app``; its ``model/NAME`` are the bundles.
        studies: folder of images, or a DICOMweb server.
        conf: options of ``monailabel start_server --conf``; none is needed.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        if (scratch := Path(app_dir, SCRATCH)).is_dir():
            tempfile.tempdir = str(
                scratch.resolve()
            )  # of this process; those that it starts may need a short path for sockets
        served = sorted(Path(app_dir, "model").glob("*/configs/inference.json"))
        self.bundles = {bundle.name: bundle for bundle in (Bundle(path.parents[1]) for path in served)}
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf,
            name="monai_ext bundles",
            description="Bundles for clinical 2D/3D segmentation. Research only; not for diagnosis or treatment.",
            version=monai_ext.__version__,
        )

    def init_datastore(self) -> Datastore:
        if not is_address(self.studies):
            channels = {bundle.channel_names for bundle in self.bundles.values() if not bundle.pictures}
            return StudyFolder(self.studies, sorted(channels) or ((),))
        volumes = {n: b for n, b in self.bundles.items() if not b.pictures and b.modality in VOLUME_MODALITIES}
        return ArchivedStudies(
            Archive(with_password(self.studies)),
            Path(self.app_dir, "archive"),
            tuple(sorted({str(bundle.modality) for bundle in volumes.values()})),
            partial(label_classes, bundles=volumes),
            frozenset(name.lower() for bundle in volumes.values() for name in bundle.class_names),
        )

    def on_init_complete(self) -> None:
        super().on_init_complete()
        if isinstance(self._datastore, StudyFolder):
            self._datastore.watch_series()

    def init_infers(self) -> dict[str, InferTask]:
        return {name: BundleInference(str(b.folder), self.conf) for name, b in self.bundles.items()}

    def init_trainers(self) -> dict[str, TrainTask]:
        return {name: BundleTraining(str(b.folder), self.conf) for name, b in self.bundles.items()}

    def init_strategies(self) -> dict[str, Strategy]:
        return {"uncertainty": MostUncertain(self._infers), "random": AnyStudy(), "first": FirstStudy()}

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        return _answer(self._infer, request, datastore or self.datastore())

    def _infer(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Upstream takes a study's name for a path where there is one of that name, and an unknown one for the
        server's own folder."""
        task = known("model", request.get("model"), self._infers)
        study = str(request["image"])
        kept = not os.path.isabs(study)  # uploads and sessions lie where the server put them
        if kept and not datastore.has(study):
            raise RequestError(404, f"monai_ext: no study {study!r}.")
        path = datastore.get_image_uri(study) if kept else study
        file, answer = task({**request, "image": path, "description": task.description})
        label: str | None = file
        tag = str(request.get("label_tag") or DefaultLabelTag.ORIGINAL.value)
        if file and kept and request.get("save_label"):
            label = datastore.save_label(study, file, tag, {"model": request["model"], "params": answer})
        return {"label": label, "tag": tag, "file": file, "params": answer}

    def batch_infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Segment many studies; one that fails is reported as such, and the others are done."""
        if torch.cuda.device_count() < 2:
            request = {**request, "multi_gpu": False}  # Label counts the devices itself, and divides by none on a CPU
        return self._batch_infer(request, datastore or self.datastore(), self._infer_or_report)

    def train(self, request: dict[str, Any]) -> dict[str, Any]:
        known("model", request.get("model"), self._trainers)
        if not self._server_mode:  # MONAI Label trains in a process of its own
            end_with_parent()
        return _answer(super().train, request)

    def next_sample(self, request: dict[str, Any]) -> dict[str, Any]:
        return _answer(self._next_sample, request)

    def _next_sample(self, request: dict[str, Any]) -> dict[str, Any]:
        """The strategy's study; one that cannot be read or delivered is passed over, and the next is asked for."""
        strategy = known("strategy", request.get("strategy"), self._strategies)
        there: Any = self._datastore
        left_out: set[str] = set()
        while chosen := strategy(request, Without(there, left_out)):
            try:
                return {**chosen, "path": there.delivered(chosen["id"])}
            except Exception as e:  # a decoder, the archive, a file that went away
                logger.warning("monai_ext: study %s is passed over: %s", chosen["id"], e)
                left_out.add(chosen["id"])
        return {}

    def infer_as_seg(self, request: dict[str, Any]) -> str:
        """Segment a DICOM study; the label as the file of a DICOM SEG."""
        return _answer(self._infer_as_seg, request)

    def _infer_as_seg(self, request: dict[str, Any]) -> str:
        source = self._dicom_source(request["image"])
        answer = self._infer({**request, "result_extension": ".nii.gz"}, self._datastore)
        try:
            return self._seg(
                Path(answer["file"]), source, self._label_classes({"model": request["model"]}), request["model"]
            )
        finally:
            Path(answer["file"]).unlink(missing_ok=True)

    def label_as_seg(self, study: str, tag: str) -> str:
        """A saved label of a DICOM study as the file of a DICOM SEG."""
        return _answer(self._label_as_seg, study, tag)

    def _label_as_seg(self, study: str, tag: str) -> str:
        there: Any = self._datastore
        if isinstance(there, ArchivedStudies) and tag == DefaultLabelTag.FINAL.value:
            return shutil.copyfile(there.final_seg(study), _temporary_seg())
        info = there.get_label_info(study, tag)
        classes = self._label_classes(info)
        model = info.get("model") if tag != DefaultLabelTag.FINAL.value else None
        return self._seg(Path(there.get_label_uri(study, tag)), self._dicom_source(study), classes, model)

    def _label_classes(self, info: Mapping[str, Any]) -> dict[str, int]:
        return label_classes(info, {name: bundle for name, bundle in self.bundles.items() if not bundle.pictures})

    def _dicom_source(self, study: str) -> Path:
        there: Any = self._datastore
        if (source := there.dicom_source(study)) is None:
            raise RequestError(400, f"monai_ext: study {study!r} is no DICOM series, which a DICOM SEG could refer to.")
        return Path(source)

    def _seg(self, label: Path, source: Path, classes: Mapping[str, int], model: str | None) -> str:
        file = _temporary_seg()
        try:
            version = str(self.bundles[model].metadata["version"]) if model in self.bundles else ""
            write_seg(Path(file), label, classes, source, model, version)
        except BaseException:
            os.unlink(file)
            raise
        return file

    def _infer_or_report(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        try:
            return self.infer(request, datastore)
        except HTTPException as e:
            return {"error": e.detail}


def _temporary_seg() -> str:
    handle, file = tempfile.mkstemp(suffix=".dcm")
    os.close(handle)
    return file


def _answer(method: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``method``; an error of this library becomes an answer with its text instead of a bare status 500."""
    try:
        return method(*arguments)
    except RequestError as e:
        raise HTTPException(e.status, str(e)) from e
    except ArchiveError as e:
        raise HTTPException(status_of(e), str(e)) from e
    except (ValueError, OSError, RuntimeError) as e:
        cause: BaseException | None = e
        while cause is not None and not str(cause).startswith("monai_ext: "):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        logger.error("%s", cause)
        raise HTTPException(status_code=500, detail=str(cause)) from e
