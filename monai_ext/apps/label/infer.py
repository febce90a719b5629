# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.inferers import Inferer
from monai.utils import MetaKeys
from monailabel.tasks.infer.bundle import BundleInferTask
from monailabel.utils.others.generic import name_to_device

from monai_ext.apps.anatomy import colour_of
from monai_ext.apps.label.answers import sheared_nrrd, write_label
from monai_ext.apps.label.request_knobs import RequestError, checked_knobs
from monai_ext.apps.quality import Judge, Judged, is_calibrated
from monai_ext.bundle import Bundle, literal, mixed_precision
from monai_ext.bundle.ensembles import fold_ensemble
from monai_ext.data.files.fingerprint import hash_file
from monai_ext.inferers import with_weights
from monai_ext.transforms import NOTICE

__all__ = ["BundleInference"]

ENSEMBLE = "ensemble"  # of the folds of a cross-validation, among the weights to choose from


class BundleInference(BundleInferTask):
    """A bundle's ``inference.json`` as MONAI Label's server runs it; the label is the one that the bundle writes.

    Beyond Label's own task: weights are loaded strictly and anew when the file changes, the label lies on the grid of
    the study and is written by the bundle's own writer, pictures are pictures (row 0 at the top, a palette), mixed
    precision is the bundle's, and requests that arrive together wait for each other: they share one configuration.

    Args:
        path: the bundle's folder, with ``models/model.pt``.
        conf: options of the server.
    """

    def __init__(self, path: str, conf: dict[str, str]) -> None:
        # the bundle inverts its own preprocessing, so nothing is left for Label to restore
        super().__init__(path, conf, load_strict=True, add_post_restore=False)
        bundle = Bundle(path)
        self.volumes, self.modality = not bundle.pictures, bundle.modality
        self.notice: str | None = None
        self.judge = Judge()
        self.judged: Judged | None = None  # of the label that is being made
        self.dimension = 3 if self.volumes else 2  # of what it segments; the networks work on slices
        self.colours = {name: colour_of(name) for name in self.labels}
        self.busy = threading.RLock()
        self._ready: tuple[tuple[Any, ...], torch.nn.Module] | None = None

    def info(self) -> dict[str, Any]:
        return {**super().info(), "label_colors": self.colours}

    def config(self) -> dict[str, Any]:
        models = Path(self.bundle_path, "models")
        weights = sorted((path.name for path in models.glob("*.pt")), key=_model_first)
        if folds := fold_ensemble(models):
            # what annotators have taught since comes first
            as_then = folds.model == hash_file(models / "model.pt")
            weights = [ENSEMBLE, *weights] if as_then else [*weights[:1], ENSEMBLE, *weights[1:]]
        told = {"quality": True} if any(map(is_calibrated, models.glob("*.pt"))) else {}
        return {**self._config, **told, "model_filename": weights}

    def checked(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What of a request reaches the bundle's config, each a value of its knob's kind.

        Raises:
            RequestError: names the knob, what was found and what was expected.
        """
        suffixes = (".nii.gz", ".nii", ".nrrd", ".seg.nrrd") if self.volumes else (".png", ".nrrd")
        knobs = {**self.config(), "result_extension": suffixes, "result_compress": False}
        if request.get("device") == "cuda" and "cuda" not in knobs["device"]:  # what clients send who were told nothing
            request = {**request, "device": None}
        return checked_knobs(request, knobs)

    def __call__(self, request: dict[str, Any], callbacks: Any = None) -> tuple[str | None, dict[str, Any]]:
        asked = {"image": request["image"], "description": self.description, **self.checked(request)}
        with self.busy:
            self._take_weights(asked)
            self.notice, self.judged = None, None
            file, answer = super().__call__(asked, callbacks)
            if self.judged:
                answer["quality"] = self.judged.content
            warnings: list[str | None] = [self.notice]
            if self.judged:  # who sees missing slices, too, and says more of them
                warnings = [None if "missing" in self.judged.content else self.notice, self.judged.warning]
            if told := "; ".join(text for text in warnings if text):
                answer["warning"] = told
        answer["label_colors"] = self.colours
        return file, answer

    def run_pre_transforms(self, data: dict[str, Any], transforms: Any) -> dict[str, Any]:
        data = super().run_pre_transforms(data, transforms)
        meta = getattr(data[self.input_key], "meta", {})
        self.notice = meta.get(NOTICE)
        affine = meta.get(MetaKeys.ORIGINAL_AFFINE) if self.volumes else None
        if affine is not None and (reason := sheared_nrrd(data.get("result_extension"), affine)):
            raise RequestError(422, f"monai_ext: {Path(data['image_path']).name}: {reason}")
        return data

    def run_inferer(self, data: dict[str, Any], convert_to_batch: bool = True, device: str = "cuda") -> dict[str, Any]:
        mixed = mixed_precision(self.bundle_config.get_parsed_content("amp"), device)
        with torch.autocast("cuda", enabled=mixed):
            data = super().run_inferer(data, convert_to_batch, device)
        if data.get("quality"):
            image, label = data[self.input_key], data[self.output_label_key]
            if convert_to_batch:
                image, label = image[None], label[None]
            name = Path(data["image_path"]).name
            self.judged = self.judge(Bundle(self.bundle_path), self._weights(data), device, image, label, name)
        return data

    def writer(self, data: dict[str, Any], extension: str | None = None, dtype: Any = None) -> tuple[str, dict]:
        name = extension or data.get("result_extension") or (".nii.gz" if self.volumes else ".png")
        handle, file = tempfile.mkstemp(suffix=str(name))
        os.close(handle)
        write_label(file, data[self.output_label_key], self.labels, self.colours, bool(data.get("result_compress")))
        return file, {}

    def predict_with(self, image: str, predict: Callable[[torch.Tensor, torch.nn.Module, Inferer], Any]) -> Any:
        """Call ``predict`` with the preprocessed image as a batch of one, the network and the bundle's inferer."""
        with self.busy, torch.no_grad():
            request = {**self.checked({}), "image": image, "image_path": image, "logging": "WARNING"}
            request["device"] = name_to_device(request["device"])
            self._take_weights(request)
            data = self.run_pre_transforms(request, self.pre_transforms(request))
            x = data[self.input_key][None].to(request["device"])
            return predict(x, self._get_network(request["device"], request), self.inferer(request))

    def _load_bundle_config(self, path: str, config: str) -> ConfigParser:
        """Label's hook; the folder's name is a text, whatever it holds."""
        parser = super()._load_bundle_config(path, config)
        parser.config["bundle_root"] = literal(path)
        return parser

    def _take_weights(self, request: dict[str, Any]) -> None:
        """Sizes that preprocessing depends on are those of the chosen weights."""
        paths = [str(path) for path in self._weights(request)]
        self.bundle_config["ckpt_path"] = literal(paths if len(paths) > 1 else paths[0])

    def _weights(self, request: dict[str, Any] | None) -> list[Path]:
        chosen = (request or {}).get("model_filename") or self.config()["model_filename"]
        name = Path(str(chosen if isinstance(chosen, str) else chosen[0])).name
        models = Path(self.bundle_path, "models")
        folds = fold_ensemble(models) if name == ENSEMBLE else None
        return [models / name] if folds is None else list(folds.checkpoints)

    def _get_network(self, device: str, data: dict[str, Any] | None) -> torch.nn.Module:
        paths = self._weights(data)
        for path in paths:
            if not path.is_file():
                raise FileNotFoundError(f"monai_ext: {path}: no such weights.")
        stats = [path.stat() for path in paths]
        key = (device, *((p, s.st_mtime_ns, s.st_size, s.st_ino) for p, s in zip(paths, stats)))
        if self._ready is None or self._ready[0] != key:
            knobs = {
                knob: self.bundle_config.get_parsed_content(knob, default="auto") for knob in ("backend", "precision")
            }
            knobs["regions"] = self.bundle_config.get_parsed_content("region_order", default=None)
            self._ready = (key, with_weights(copy.deepcopy(self.network), paths, device, **knobs))
        return self._ready[1]


def _model_first(name: str) -> tuple[bool, str]:
    return name != "model.pt", name
