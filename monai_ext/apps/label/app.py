# SPDX-License-Identifier: Apache-2.0
"""The application that MONAI Label's server runs: every bundle as a model, a trainer and a way to pick studies."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from fastapi import HTTPException
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random

import monai_ext
from monai_ext.apps.label.infer import BundleInference
from monai_ext.apps.label.request_knobs import RequestError, known
from monai_ext.apps.label.strategy import MostUncertain
from monai_ext.apps.label.train import BundleTraining
from monai_ext.apps.label.training_state import end_with_parent
from monai_ext.bundle import Bundle

__all__ = ["BundleApp"]

logger = logging.getLogger(__name__)
FILES = ["*.nii.gz", "*.nii", "*.nrrd", "*.mha", "*.png", "*.jpg", "*.jpeg", "*.tif", "*.tiff", "*.bmp"]


class BundleApp(MONAILabelApp):
    """MONAI Label's ``monaibundle`` app, strict: what goes wrong is an error that the annotator reads.

    Args:
        app_dir: folder made by ``prepare_app``; its ``model/NAME`` are the bundles.
        studies: folder of images, or a DICOMweb server.
        conf: options of ``monailabel start_server --conf``; none is needed.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
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
        if self.studies.startswith(("http://", "https://")):
            return super().init_datastore()
        return LocalDatastore(self.studies, extensions=FILES, auto_reload=True)

    def init_infers(self) -> dict[str, InferTask]:
        return {name: BundleInference(str(b.folder), self.conf) for name, b in self.bundles.items()}

    def init_trainers(self) -> dict[str, TrainTask]:
        return {name: BundleTraining(str(b.folder), self.conf) for name, b in self.bundles.items()}

    def init_strategies(self) -> dict[str, Strategy]:
        return {"uncertainty": MostUncertain(self._infers), "random": Random(), "first": First()}

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        return _answer(self._infer, request, datastore or self.datastore())

    def _infer(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Upstream takes a study's name for a path where there is one of that name, and an unknown one for the
        server's own folder."""
        task = known("model", request.get("model"), self._infers)
        study = str(request["image"])
        kept = study in datastore.list_images()
        path = datastore.get_image_uri(study) if kept else study
        if not kept and not os.path.isabs(path):  # uploads and sessions lie where the server put them
            raise RequestError(404, f"monai_ext: no study {study!r}.")
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
        known("strategy", request.get("strategy"), self._strategies)
        return _answer(super().next_sample, request)

    def _infer_or_report(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        try:
            return self.infer(request, datastore)
        except HTTPException as e:
            return {"error": e.detail}


def _answer(method: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Call ``method``; an error of this library becomes an answer with its text instead of a bare status 500."""
    try:
        return method(*arguments)
    except RequestError as e:
        raise HTTPException(e.status, str(e)) from e
    except (ValueError, FileNotFoundError, RuntimeError) as e:
        cause: BaseException | None = e
        while cause is not None and not str(cause).startswith("monai_ext: "):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        logger.error("%s", cause)
        raise HTTPException(status_code=500, detail=str(cause)) from e
