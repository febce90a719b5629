# SPDX-License-Identifier: Apache-2.0
"""A hundred unusual series by three ways: the commands segment and deploy, and the label server's conversion.

What comes out is the table in ``docs/results/unusual_series.md``;
``python -m tests.apps.test_unusual_series`` writes it.
"""

from __future__ import annotations

import logging
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import pydicom
import pytest
import torch

from monai_ext.apps.deploy.sources import quoted_sources
from monai_ext.apps.label.dicom_studies import SeriesFolders
from monai_ext.apps.segmentation import segment
from monai_ext.data.files.dicom import find_series, read_volume, select_series
from monai_ext.networks.nets import DCAUNet
from tests.apps.series import tilt
from tests.bundles.runs import ROOT
from tests.data.files.test_dicom import AXIAL, REFUSED, SERIES, ct, lacking, one, rounded, upright, with_value
from tests.data.files.test_unusual_series import UNSUITABLE, UNUSUAL
from tests.dicom import write_ct_series

PAGE = ROOT / "docs" / "results" / "unusual_series.md"
BEGIN, END = "<!-- table -->\n", "<!-- end -->\n"
#: deploy alone refuses these: its results could refer to nothing
UNREFERRED: dict[str, Callable[[Path], None]] = {
    "no Study Instance UID": lacking("StudyInstanceUID"),
    "empty Study Instance UID": with_value(StudyInstanceUID=""),
    "a Study Instance UID that is none": with_value(StudyInstanceUID="1.2/../3"),
    "a Series Instance UID that is none": with_value(SeriesInstanceUID="a.b"),
    "no SOP Instance UID": lacking("SOPInstanceUID"),
    "no Frame of Reference UID": lacking("FrameOfReferenceUID"),
    "empty Frame of Reference UID": with_value(FrameOfReferenceUID=""),
    "two studies": one("slice003.dcm", StudyInstanceUID="1.2.3"),
}
USABLE = {
    **{name: (affine, maker, off) for name, (affine, maker, off) in SERIES.items()},
    **{name: (AXIAL, maker, 0.0) for name, maker in UNUSUAL.items()},
    "tilted": (None, lambda folder: tilt(folder, 20), 0.0),
    "rounded": (None, rounded, 0.0),
    **{name: (AXIAL, maker, 0.0) for name, maker in UNREFERRED.items()},
}
CASES = {**{name: maker for name, (_, maker, _) in USABLE.items()}}
CASES |= {name: maker for name, (maker, _) in {**REFUSED, **UNSUITABLE}.items()}
# of these a header alone does not tell the modality, which deploy asks for first
SAME = re.compile(r"no (?:CT series to segment|DICOM series that is a volume)")


class Ways(NamedTuple):
    """What each command says of a series; None where it reads it."""

    segment: str | None
    label: str | None
    deploy: str | None


class Outcome(NamedTuple):
    said: dict[str, Ways]
    volumes: dict[str, list[tuple[np.ndarray, np.ndarray]]]  # voxels and affine, by label and deploy
    labels: dict[str, nibabel.Nifti1Image]  # by segment
    sources: dict[str, list[pydicom.Dataset]]  # as deploy's results quote them


@contextmanager
def told() -> Iterator[list[str]]:
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("monai_ext").addHandler(handler)
    try:
        yield messages
    finally:
        logging.getLogger("monai_ext").removeHandler(handler)


def try_all(home: Path) -> Outcome:
    torch.manual_seed(0)
    network = DCAUNet(2, 1, 9)
    torch.save(network.state_dict(), home / "model.pt")
    studies = home / "studies"
    folders = {name: studies / f"s{k:03d}" for k, name in enumerate(CASES)}
    for name, folder in folders.items():
        affine = USABLE[name][0] if name in USABLE else AXIAL
        write_ct_series(folder, ct(), AXIAL if affine is None else affine)
        with pydicom.config.disable_value_validation():
            CASES[name](folder)
    deployed, volumes, sources = {}, {}, {}
    for name, folder in folders.items():
        try:
            volume = read_volume(select_series(find_series(folder), "CT"))
            volumes[name] = [(volume.array, volume.affine)]
            sources[name] = quoted_sources(volume)
        except (ValueError, OSError) as e:
            deployed[name] = str(e)
    labels = segment(
        ROOT / "bundles" / "dcaunet_synapse",
        studies,
        home / "labels",
        [home / "model.pt"],
        force=True,  # the values are smooth, and of no patient
        image_size=[32, 32],
        num_workers=0,
    )
    failed = dict(labels.failed)
    with told() as messages:
        SeriesFolders(studies).convert(settled=0)
    said, images = {}, {}
    for name, folder in folders.items():
        begin = re.compile(re.escape(f"monai_ext: {folder}") + r"\b")
        words = [message for message in messages if message.endswith(" Left out.") and begin.match(message)]
        left = words[0].removesuffix(" Left out.") if words else None
        if (file := studies / f"{folder.name}.nii.gz").is_file():
            image = nibabel.load(file)
            volumes.setdefault(name, []).append((np.asarray(image.dataobj), image.affine))
            images[name] = nibabel.load(home / "labels" / f"{folder.name}_seg.nii.gz")
        ways = Ways(failed.get(str(folder)), left, deployed.get(name))
        said[name] = Ways(*(words and words.replace(str(folder), "SERIES") for words in ways))
    return Outcome(said, volumes, images, sources)


def table(said: dict[str, Ways]) -> str:
    rows = ["| series | `segment`, MONAI Label | `deploy` | what is said |", "|---|---|---|---|"]
    for name, ways in said.items():
        words = (ways.deploy or "").removeprefix("monai_ext: ").replace("|", "\\|").replace("SERIES/", "")
        words = re.sub(r"\b\d\.\d\.[\d.]{9,}", "UID", words)
        verdicts = " | ".join("refused" if way else "read" for way in (ways.segment, ways.deploy))
        rows.append(f"| {name} | {verdicts} | {words.removeprefix('SERIES: ')} |")
    return "\n".join(rows) + "\n"


@pytest.fixture(scope="module")
def outcome(tmp_path_factory) -> Outcome:
    return try_all(tmp_path_factory.mktemp("unusual"))


def test_all_three_say_the_same(outcome):
    assert len(CASES) > 100
    for name, ways in outcome.said.items():
        for words in filter(None, ways):
            assert words.startswith("monai_ext: SERIES"), name
            assert words.isprintable(), name
            assert not re.search(r"attribute|Traceback|NoneType|object has|--resume|Error\b", words), (name, words)
        assert ways.segment == ways.label, name
        if name in USABLE:
            assert ways.segment is None, name
        else:
            assert ways.segment and ways.deploy, name
            assert SAME.sub("", ways.segment) == SAME.sub("", ways.deploy), name
            assert re.search({**REFUSED, **UNSUITABLE}[name][1], ways.segment), name
    by_deploy = {name for name, ways in outcome.said.items() if ways.deploy and not ways.segment}
    assert by_deploy == {*UNREFERRED, "empty UIDs", "no thickness"}  # the last has no study, either
    for name in by_deploy:
        assert "'segment', which writes NIfTI" in (outcome.said[name].deploy or "")


@pytest.mark.parametrize("name", USABLE)
def test_all_three_read_the_same_voxels(name, outcome):
    affine, _, off = USABLE[name]
    image = ct()[..., : {"one slice": 1, "two slices": 2}.get(name)]
    if affine is not None:
        affine, image = upright(affine, image)
    (deployed, there), (labelled, its) = outcome.volumes[name]
    np.testing.assert_array_equal(deployed, labelled)
    np.testing.assert_allclose(there, its, atol=1e-5)
    np.testing.assert_allclose(deployed, image, atol=off, rtol=0)
    if affine is not None:
        np.testing.assert_allclose(there, affine, atol=1e-5)
    assert outcome.labels[name].shape == deployed.shape
    np.testing.assert_allclose(outcome.labels[name].affine, there, atol=1e-5)
    for ds in outcome.sources.get(name, []):
        assert (ds.Modality, ds.SpecificCharacterSet) == ("CT", "ISO_IR 192")
        groups = ds.get("SharedFunctionalGroupsSequence")
        thickness = (groups[0].PixelMeasuresSequence[0] if groups else ds).SliceThickness
        assert name not in UNUSUAL or thickness == pytest.approx(2.5)


def test_the_page_has_this_table(outcome):
    page = PAGE.read_text(encoding="utf-8")
    printed = page.partition(BEGIN)[2].partition(END)[0]
    assert printed == table(outcome.said), "write it anew: python -m tests.apps.test_unusual_series"
    assert f"{len(CASES)} series" in page


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        text = table(try_all(Path(place)).said)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    before = re.sub(r"\d+ series", f"{len(CASES)} series", before, count=1)
    PAGE.write_text(before + BEGIN + text + END + rest.partition(END)[2], encoding="utf-8")
    sys.exit(0)
