# SPDX-License-Identifier: Apache-2.0
"""The three steps of the application: a series becomes an image, a label, and results."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.deploy.core import Image, IOType, Operator, OperatorSpec
from monai.deploy.operators.monai_bundle_inference_operator import IOMapping, MonaiBundleInferenceOperator
from monai.utils import ImageMetaKey, MetaKeys, SpaceKeys

from monai_ext.apps.deploy.dicom_results import USUAL, chosen_results, fill_results
from monai_ext.apps.deploy.origin import NOTE
from monai_ext.apps.deploy.results_folder import ResultsFolder
from monai_ext.apps.deploy.sources import quoted_sources
from monai_ext.apps.quality import Judge
from monai_ext.bundle import Bundle, literal, trained_with
from monai_ext.data.files.dicom import Volume, find_series, read_volume, select_series
from monai_ext.data.files.dicom.headers import text

__all__ = ["BundleOperator", "ResultsOperator", "SeriesOperator"]


class SeriesOperator(Operator):
    """Find, check and read the series to segment, and hold the folder for its results.

    Named outputs: ``image``, for the bundle; ``volume``, with the DICOM objects, and ``folder``, for the results.

    Args:
        app: the application.
        condition: when to run.
        folder: with DICOM files.
        modality: of the bundle.
        chosen: Series Instance UID, number or description, or None.
        output: folder below which the results will lie.
        overwrite: whether results of this series that are there may be replaced.
        held: what is held until the application has ended.
    """

    def __init__(
        self,
        app: Any,
        condition: Any,
        folder: Path,
        modality: str,
        chosen: str | None,
        output: Path,
        overwrite: bool,
        held: ExitStack,
        **kwargs: Any,
    ) -> None:
        self.folder, self.modality, self.chosen = folder, modality, chosen
        self.output, self.overwrite, self.held = output, overwrite, held
        super().__init__(app, condition, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.output("image")
        spec.output("volume")
        spec.output("folder")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        series = select_series(find_series(self.folder), self.modality, self.chosen)
        volume = read_volume(series)
        # what the results cannot refer to, or would replace, is refused before the work
        first = quoted_sources(volume)[0]
        study, uid = text(first, "StudyInstanceUID"), text(first, "SeriesInstanceUID")
        results = self.held.enter_context(ResultsFolder(self.output, study, uid, self.overwrite))
        meta = {
            MetaKeys.AFFINE: volume.affine,
            MetaKeys.ORIGINAL_AFFINE: volume.affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.asarray(volume.array.shape),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.ORIGINAL_CHANNEL_DIM: "no_channel",
            ImageMetaKey.FILENAME_OR_OBJ: str(series),
        }
        op_output.emit(Image(volume.array, meta), "image")
        op_output.emit(volume, "volume")
        op_output.emit(results, "folder")


class BundleOperator(MonaiBundleInferenceOperator):
    """The App SDK's bundle operator, with this library's strict loading and its errors.

    Named input: ``image``. Named output: ``pred``, the label map.

    Args:
        app: the application.
        bundle: whose ``models/model.pt``, or exported ``model.ts``, is used.
        checkpoint: weights, or an export of its network, instead.
        quality: what can be said of the label is added to it, where these weights are calibrated.
    """

    def __init__(
        self,
        app: Any,
        bundle: Bundle,
        checkpoint: Path | None = None,
        quality: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.bundle, self.checkpoint, self.quality = bundle, checkpoint, quality
        super().__init__(
            app,
            app_context=SimpleNamespace(models=None),
            bundle_path=bundle.exported or bundle.folder,
            input_mapping=[IOMapping("image", Image, IOType.IN_MEMORY)],
            output_mapping=[IOMapping("pred", Image, IOType.IN_MEMORY)],
            **kwargs,
        )

    @property
    def parser(self) -> ConfigParser | None:
        """The SDK's parser of ``inference.json``, told where its bundle is and what the weights were trained with."""
        found = self._parser
        if found is not None and not isinstance(found.get("as_trained"), dict):
            found["bundle_root"] = literal(str(self.bundle.folder))
            given = self.checkpoint
            found["as_trained"] = self.bundle.trained_with if given is None else trained_with(given)
            found["largest_component"] = self.bundle.largest_component if given is None else []
        return found

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        if not self.bundle.exported:
            if self.checkpoint is None and self.bundle.folds:
                network: Any = self.bundle.parser().get_parsed_content("network").eval()  # with their weights
            else:
                network = self.bundle.network(self.checkpoint, device=None, backend=None, precision=None)
            network.path = str(self.bundle.folder)  # where the SDK looks for the configs
            self.app_context = SimpleNamespace(models={"": network})
        super().compute(op_input, op_output, context)

    def predict(self, data: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        self._model_network.to(data.device)
        # as the bundle's own inference
        with torch.autocast("cuda", enabled=self.bundle.mixed_precision(data.device)):
            label = super().predict(data, *args, **kwargs)
        if self.quality is not None and not self.bundle.exported:
            weights = [self.checkpoint] if self.checkpoint is not None else self.bundle.checkpoints()
            if judged := Judge()(self.bundle, weights, data.device, data, label, "the series"):
                self.quality |= judged.content
        return label


class ResultsOperator(Operator):
    """Write the results of a label. Named inputs: ``label``, ``volume`` and ``folder``.

    Args:
        app: the application.
        title: what the files' names begin with.
        metadata: the bundle's ``metadata.json``.
        written: the files are added to it.
        results: which, see :func:`~monai_ext.apps.deploy.dicom_results.chosen_results`.
        note: what each result tells of itself.
        weights: the hash of those that make the label.
        quality: what can be said of the label, filled in until this runs.
    """

    def __init__(
        self,
        app: Any,
        title: str,
        metadata: dict[str, Any],
        written: list[Path],
        results: Collection[str] = USUAL,
        note: str = NOTE,
        weights: str | None = None,
        quality: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.title, self.about, self.note, self.weights, self.quality = title, metadata, note, weights, quality
        self.kinds, self.written = chosen_results(results), written
        super().__init__(app, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("label")
        spec.input("volume")
        spec.input("folder")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        label = op_input.receive("label").asnumpy()  # (slices, rows, columns)
        volume: Volume = op_input.receive("volume")
        folder: ResultsFolder = op_input.receive("folder")
        self.written += fill_results(
            folder, self.title, self.about, label, volume, self.kinds, self.note, self.weights, self.quality
        )
