# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from holoscan.conditions import CountCondition
from monai.deploy.core import Application, Operator

from monai_ext.apps.anatomy import structure_of
from monai_ext.apps.deploy.dicom_results import USUAL, chosen_results
from monai_ext.apps.deploy.operators import BundleOperator, ResultsOperator, SeriesOperator
from monai_ext.apps.deploy.origin import NOTE
from monai_ext.bundle import Bundle
from monai_ext.data.files.fingerprint import hash_files
from monai_ext.handlers.run_record import cases_file
from monai_ext.phantoms import PHANTOM_NOTE
from monai_ext.utils import read_json

__all__ = ["SegmentationApp"]


class SegmentationApp(Application):
    """Select a series, segment it with a bundle, write the results: a MONAI Deploy application.

    An error of an operator is raised by ``run`` as it is, with its reason, and leaves no output.

    The App SDK's own loader drops images that lie at one place and goes on; here a series is a regular volume or is
    refused with a reason. Inference is the SDK's bundle operator.

    Args:
        model: a bundle with weights, or its name or folder; or an exported ``model.ts``.
        input: folder with DICOM files.
        output: folder for the results, which lie in ``STUDY/SERIES`` below it (by UID) and appear in one step.
        series: Series Instance UID, number or description, where several could be segmented.
        stl: write surfaces, too.
        overwrite: replace the folder of this series, as a whole, where there is one; else that is refused.
        checkpoint: weights, or an export of the bundle's network, instead of the bundle's own.
        results: which, of ``seg``, ``rtstruct``, ``sr`` and ``stl``, with commas between.

    Raises:
        ValueError: if a result is unknown, or a class of the bundle has no coded term.

    Examples::

        >>> app = SegmentationApp(Path("bundles/dcaunet_synapse"), Path("study"), Path("results"))
        >>> app.run()
        >>> app.written
        [PosixPath('results/1.2.3/1.2.3.4/dcaunet_synapse_seg.dcm'),
         PosixPath('results/1.2.3/1.2.3.4/dcaunet_synapse_sr.dcm'),
         PosixPath('results/1.2.3/1.2.3.4/dcaunet_synapse_rtstruct.dcm'),
         PosixPath('results/1.2.3/1.2.3.4/dcaunet_synapse_volumes.json')]
    """

    def __init__(
        self,
        model: Bundle | Path,
        input: Path,
        output: Path,
        series: str | None = None,
        stl: bool = False,
        overwrite: bool = False,
        checkpoint: Path | None = None,
        results: str | Collection[str] = USUAL,
    ) -> None:
        self.checkpoint = checkpoint
        self.bundle = model if isinstance(model, Bundle) else Bundle.find(model)
        self.input_folder, self.output_folder = input, output
        self.series, self.overwrite = series, overwrite
        self.kinds = chosen_results(results, stl)
        for name in self.bundle.class_names if self.kinds - {"stl"} else ():  # before the work
            structure_of(name)
        self._held = ExitStack()
        self._operators: list[Operator] = []
        self.written: list[Path] = []
        super().__init__(argv=["monai_ext"])  # what follows on the command line is not Holoscan's

    @property
    def weights(self) -> str:
        """One hash of the files that make the labels: weights, those of all folds, or an exported model."""
        return hash_files([self.checkpoint] if self.checkpoint else self.bundle.checkpoints())

    def run(self) -> None:
        try:
            with self._held:
                super().run()
        finally:  # Holoscan keeps an application that has run as long as the process lives: not its network and volumes
            for operator in self._operators:
                vars(operator).clear()

    def compose(self) -> None:
        name, metadata = self.bundle.name, self.bundle.metadata
        once = CountCondition(self, 1)  # a source without one is asked again and again
        reader = SeriesOperator(
            self,
            once,
            self.input_folder,
            self.bundle.modality or "",
            self.series,
            self.output_folder,
            self.overwrite,
            self._held,
            name="series",
        )
        quality: dict[str, Any] = {}
        model = BundleOperator(self, self.bundle, self.checkpoint, quality, name="bundle")
        note = _note(self.checkpoint or self.bundle.weights)
        results = ResultsOperator(
            self, name, metadata, self.written, self.kinds, note, self.weights, quality, name="results"
        )
        self._operators = [reader, model, results]
        self.add_flow(reader, model, {("image", "image")})
        self.add_flow(model, results, {("pred", "label")})
        self.add_flow(reader, results, {("volume", "volume"), ("folder", "folder")})


def _note(weights: Path) -> str:
    """What results of these weights tell of themselves."""
    file = cases_file(weights)
    noted = read_json(file, "note of cases") if file.is_file() else {}
    return f"{NOTE} Trained on {PHANTOM_NOTE}." if isinstance(noted, dict) and noted.get("phantom") else NOTE
