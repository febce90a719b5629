# SPDX-License-Identifier: Apache-2.0
"""What is known of every dataset, in one place: codes, colours, modality, and the tree as it unpacks."""

from __future__ import annotations

import pytest
from pydicom.sr.codedict import codes

from monai_ext.apps.anatomy import STRUCTURES
from monai_ext.apps.deploy.series import MODALITIES as SERIES_OF
from monai_ext.data import DATASETS, DatasetInfo, load_datalist, write_phantom
from monai_ext.phantoms.beside import APPLE_DOUBLE, STRAY
from monai_ext.utils import MODALITIES, VOLUME_MODALITIES
from tests.data.volumes import save, volume, write_acdc, write_raw_synapse

every_dataset = pytest.mark.parametrize("name", DATASETS)


@every_dataset
def test_every_class_has_a_code_and_a_colour_of_its_own(name):
    dataset = DATASETS[name]
    assert dataset.modality in MODALITIES
    assert (dataset.modality in VOLUME_MODALITIES) == (dataset.label_coding is None)
    assert len(dataset.structures) == len(dataset.class_names)
    assert len({structure.colour for structure in dataset.structures}) == len(dataset.class_names)
    for class_name, structure in zip(dataset.class_names, dataset.structures):
        assert structure.code.isdecimal()
        assert all(0 <= part <= 255 for part in structure.colour)
        assert structure.side in (None, "Left", "Right")
        assert (structure.side or "").lower() == class_name.split()[0] or structure.side is None
        assert STRUCTURES[class_name].code == structure.code


def test_codes_are_those_of_dicom():
    known = {"aorta": "Aorta", "gallbladder": "Gallbladder", "left kidney": "Kidney", "right kidney": "Kidney"}
    known |= {"liver": "Liver", "pancreas": "Pancreas", "spleen": "Spleen", "stomach": "Stomach"}
    known |= {"lesion": "Lesion", "nodule": "Nodule", "nucleus": "Nucleus", "vessel": "BloodVessel", "gland": "Tissue"}
    for class_name, keyword in known.items():
        assert STRUCTURES[class_name].code == getattr(codes.SCT, keyword).value, class_name


def test_a_dataset_that_lacks_facts_is_none():
    facts = {"title": "x", "class_names": ("a",), "find": print, "write_phantom": print, "phantom_cases": 1}
    with pytest.raises(ValueError, match="0 structures for 1 classes"):
        DatasetInfo(**facts, modality="CT")
    with pytest.raises(ValueError, match="modality 'MRT', expected one of CT, MR"):
        DatasetInfo(**facts, modality="MRT")


def test_one_table_of_modalities_for_dicom():
    assert {code: MODALITIES[code].sop_classes for code in VOLUME_MODALITIES} == SERIES_OF


def unpacked_synapse(folder):
    root = write_raw_synapse(folder, [5, 6, 7, 1], shape=(4, 4, 3))
    for case in (61, 62):
        save(root / f"RawData/Testing/img/img{case:04d}.nii.gz", volume(case, (4, 4, 3))[0])
    training = root / "RawData/Training"
    for place in (training / "img/._img0005.nii.gz", training / "label/._label0005.nii.gz"):
        place.write_bytes(APPLE_DOUBLE)
    (root / "__MACOSX/RawData/Training/img").mkdir(parents=True)
    (root / "__MACOSX/RawData/Training/img/._img0005.nii.gz").write_bytes(APPLE_DOUBLE)
    for name, content in STRAY.items():
        (training / "img" / name).write_bytes(content)
    return root


def test_synapse_as_it_unpacks(tmp_path):
    cohort = DATASETS["synapse"].find(unpacked_synapse(tmp_path))
    assert list(cohort.cases) == ["0001", "0005", "0006", "0007"]
    assert cohort.cases["0005"]["image"] == str(tmp_path / "RawData/Training/img/img0005.nii.gz")
    assert cohort.layout.endswith("4 cases (scans without labels left out: 2)")
    cases = load_datalist("synapse", tmp_path)
    assert [case["case_id"] for case in cases["test"]] == ["0001"]


def test_synapse_without_labels_or_twice(tmp_path):
    save(tmp_path / "RawData/Testing/img/img0061.nii.gz", volume()[0])
    with pytest.raises(FileNotFoundError, match=r"scans without labels only \(0061\)\. Expected the publisher's tree"):
        load_datalist("synapse", tmp_path)
    for place in ("a", "b"):
        write_raw_synapse(tmp_path / place, [5, 6], shape=(4, 4, 3))
    with pytest.raises(ValueError, match=r"Synapse may be in any of .*a/RawData/Training, .*b/RawData/Training"):
        load_datalist("synapse", tmp_path)
    # a label that is missing is named, whatever lies beside
    (tmp_path / "b/RawData/Training/label/label0006.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"img0006\.nii\.gz: no label of case 0006"):
        load_datalist("synapse", tmp_path / "b")


def test_acdc_arrays_twice(tmp_path):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "patient001_frame01.h5").touch()
    with pytest.raises(ValueError, match=r"b/patient001_frame01\.h5: the same frame as .*a/patient001_frame01\.h5"):
        DATASETS["acdc"].find(tmp_path)
    assert list(DATASETS["acdc"].find(tmp_path / "b").cases) == ["patient001_frame01"]
    for place in ("c", "d"):
        (tmp_path / "npz" / place / "train").mkdir(parents=True)
        (tmp_path / "npz" / place / "train" / "case_001_sliceED_0.npz").touch()
    with pytest.raises(ValueError, match=r"ACDC may be in any of .*/c, .*/d\. Give that folder"):
        DATASETS["acdc"].find(tmp_path / "npz")


def test_the_phantoms_of_volumes_are_whole_trees(tmp_path, monkeypatch):
    """The generators are tested on their own; here small volumes stand for theirs."""
    writers = {
        "synapse": lambda folder, cases: write_raw_synapse(folder, [5, 6, 7, 1], shape=(4, 4, 3)),
        "acdc": lambda folder, cases: write_acdc(folder, list(range(1, 18))),
    }
    for name, writer in writers.items():
        dataset = DATASETS[name]
        before = tmp_path / name / "before"
        writer(before, 0)
        expected = DATASETS[name].find(before).cases
        monkeypatch.setitem(DATASETS, name, DatasetInfo(**{**vars(dataset), "write_phantom": writer}))
        write_phantom(name, tmp_path / name / "made")
        found = DATASETS[name].find(tmp_path / name / "made")
        assert list(found.cases) == list(expected)
        files = {p.relative_to(tmp_path / name / "made").as_posix() for p in (tmp_path / name).rglob("made/**/*")}
        assert {*dataset.beside, *STRAY} <= files
        assert len([file for file in files if "/._" in file]) == 4 and "left out" in found.layout
        load_datalist(name, tmp_path / name / "made")
