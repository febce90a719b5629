# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from holoscan.conditions import CountCondition
from monai.deploy.core import Application
from monai.deploy.operators.monai_bundle_inference_operator import get_bundle_config

from monai_ext.apps.deploy.operators import BundleOperator, ResultsOperator, SeriesOperator

__all__ = ["SegmentationApp"]


class SegmentationApp(Application):
    """Select a series, segment it with a bundle, write the results: a MONAI Deploy application.

    An error of an operator is raised by ``run`` as it is, with its reason, and leaves no output.

    The App SDK's own loader drops images that lie at one place and goes on; here a series is a regular volume or is
    refused with a reason. Inference is the SDK's bundle operator.

    Args:
        model: a bundle's folder with ``models/model.pt``, or an exported ``model.ts``.
        input: folder with DICOM files.
        output: folder for the results.
        series: Series Instance UID, number or description, where several could be segmented.
        stl: write surfaces, too.

    Examples::

        >>> app = SegmentationApp(Path("bundles/dcaunet_synapse"), Path("study"), Path("results"))
        >>> app.run()
        >>> app.written
        [PosixPath('results/dcaunet_synapse_seg.dcm'), PosixPath('results/dcaunet_synapse_volumes.json')]
    """

    def __init__(self, model: Path, input: Path, output: Path, series: str | None = None, stl: bool = False) -> None:
        self.model, self.input_folder, self.output_folder = model, input, output
        self.series, self.stl = series, stl
        self.written: list[Path] = []
        super().__init__(argv=["monai_ext"])  # what follows on the command line is not Holoscan's

    def compose(self) -> None:
        metadata = self._metadata()
        name = self.model.stem if self.model.is_file() else self.model.name
        modality = metadata["network_data_format"]["inputs"]["image"]["modality"]
        once = CountCondition(self, 1)  # a source without one is asked again and again
        reader = SeriesOperator(self, once, self.input_folder, modality, self.series, name="series")
        model = BundleOperator(self, self.model, name="bundle")
        results = ResultsOperator(self, self.output_folder, name, metadata, self.stl, self.written, name="results")
        self.add_flow(reader, model, {("image", "image")})
        self.add_flow(model, results, {("pred", "label")})
        self.add_flow(reader, results, {("volume", "volume")})

    def _metadata(self) -> dict[str, Any]:
        if self.model.is_file():
            return dict(get_bundle_config(str(self.model), "inference")["_meta_"])
        return json.loads((self.model / "configs" / "metadata.json").read_text(encoding="utf-8"))
