# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_ext deploy``: a MONAI Deploy application for one bundle and one series."""

from __future__ import annotations

import importlib.util
import os
from contextlib import ExitStack
from pathlib import Path

from monai_ext.bundle import Bundle
from monai_ext.utils import flag, read_json

__all__ = ["deploy"]

STACK = 32 << 20  # bytes that Holoscan asks for


def deploy(
    bundle: str,
    input: str,
    output: str,
    series: str | None = None,
    stl: bool = False,
    overwrite: bool = False,
    checkpoint: str | None = None,
    results: str = "seg,rtstruct,sr",
    study: str | None = None,
    send: str | None = None,
    aet: str | None = None,
) -> None:
    """Segment a DICOM series with MONAI Deploy: DICOM SEG, RT Structure Set, a report with each organ's volume in mL.

    Args:
        bundle: a bundle's name or folder with weights (models/model.pt), or an exported model.ts.
        input: folder with the DICOM files of a study, or an archive's address of DICOMweb, such as
            http://localhost:8042/dicom-web.
        output: folder for BUNDLE_seg.dcm, BUNDLE_rtstruct.dcm, BUNDLE_sr.dcm and BUNDLE_volumes.json, in folders of
            their study and series below it: OUTPUT/STUDY_UID/SERIES_UID; all of a series or none.
        series: Series Instance UID, number or description, where several could be segmented.
        stl: write a surface of each organ, too (BUNDLE_ORGAN.stl, in mm, patient coordinates).
        overwrite: replace the results of this series, all of them; else a folder that is there is refused.
        checkpoint: weights, or a file of the export command, instead of the bundle's models/model.pt.
        results: which of seg, rtstruct, sr (a report, which needs seg) and stl are written, with commas between.
        study: Study Instance UID, of an archive with several.
        send: store the results in an archive: an address of DICOMweb, or HOST:PORT of one with C-STORE. Results of this
            series and these weights that are there already are sent, and nothing is segmented.
        aet: application entity title of an archive with C-STORE.
    """
    if importlib.util.find_spec("holoscan") is None:
        raise ValueError(
            "monai_ext: MONAI Deploy is not installed here. 'make apps' makes an environment that has it; start this "
            "command with that environment's Python."
        )
    os.environ.setdefault("HOLOSCAN_LOG_LEVEL", "OFF")  # its lines would hide the reason of an error
    _allow_stack()
    from monai_ext.apps.archive import is_address
    from monai_ext.apps.deploy.application import SegmentationApp
    from monai_ext.apps.deploy.exchange import destination, fetched, send_results
    from monai_ext.apps.deploy.results_folder import OtherWeights, ResultsExist

    found = Bundle.find(str(bundle))
    given = None if checkpoint is None else Path(checkpoint).expanduser()
    if given is None:
        found.require_weights()
    elif not given.is_file():
        raise FileNotFoundError(f"monai_ext: {given}: no such model. Give another --checkpoint.")
    elif found.exported:
        raise ValueError(
            f"monai_ext: {found.exported}: is a model already. Give the bundle's folder, or no --checkpoint."
        )
    if found.channel_names:
        raise ValueError(
            f"monai_ext: {found.name} takes {len(found.channel_names)} channels ({', '.join(found.channel_names)}), "
            "and deploy reads one series. Use segment on the series as NIfTI files of one grid."
        )
    to = None if send is None else destination(send, aet)
    if aet is not None and send is None:
        raise ValueError("monai_ext: --aet names the archive to which results are sent. Give --send HOST:PORT, too.")
    place = Path(output).expanduser()
    with ExitStack() as held:
        if is_address(input):
            folder, series = held.enter_context(fetched(input, study, series, found.modality, place))
        elif study is not None:
            raise ValueError(
                f"monai_ext: --study {study} is for an archive, but --input is no address. In a folder, choose with "
                "--series."
            )
        else:
            folder = Path(input).expanduser()
        app = SegmentationApp(found, folder, place, series, flag(stl), flag(overwrite), given, results)
        try:
            app.run()
            files = app.written
        except ResultsExist as e:
            summary = e.path / f"{found.name}_volumes.json"
            if to is None or not summary.is_file():  # of another bundle
                raise
            noted = read_json(summary, "summary of results")
            if not isinstance(noted, dict) or noted.get("weights") != app.weights:
                raise OtherWeights(e.path) from e
            files = sorted(e.path.iterdir())
    for file in files:
        print(file)
    if to is not None:
        objects = [file for file in files if file.suffix == ".dcm"]
        print(f"{len(objects)} objects are in {to}, {len(send_results(objects, to))} of them were stored now")


def _allow_stack() -> None:
    """Holoscan's threads need more stack than shells allow at first; what is set here holds for threads to come."""
    try:
        import resource
    except ImportError:  # no such limit on Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if soft != resource.RLIM_INFINITY and soft < STACK and (hard == resource.RLIM_INFINITY or hard >= STACK):
        resource.setrlimit(resource.RLIMIT_STACK, (STACK, hard))
