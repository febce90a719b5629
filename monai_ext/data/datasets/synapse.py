# SPDX-License-Identifier: Apache-2.0
"""Synapse multi-organ CT (MICCAI 2015 "Beyond the Cranial Vault"): 30 abdominal CTs, 13 labels, 8 of them evaluated.

Two layouts are known: the publisher's NIfTI tree, and the preprocessed slices and volumes that TransUNet distributed.
"""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

import numpy as np

from monai_ext.data.datasets.dataset_info import Cohort, DatasetInfo, Structure
from monai_ext.data.datasets.folders import folders, not_found, only, visible
from monai_ext.data.files.volume_reader import VolumeReader
from monai_ext.phantoms import write_ct_phantom

__all__ = ["SYNAPSE", "find_synapse"]

CLASS_NAMES = ("aorta", "gallbladder", "left kidney", "right kidney", "liver", "pancreas", "spleen", "stomach")
# the publisher's codes of these eight, in this order; its other labels (5, 9, 10, 12, 13) are background
RAW_CODES = (8, 4, 3, 2, 6, 11, 1, 7)
RAW_MAPPING = {**dict.fromkeys(range(14), 0), **{code: i for i, code in enumerate(RAW_CODES, start=1)}}
# the order of TransUNet's lists/lists_Synapse; by case id
TRAINING_IDS = (5, 6, 7, 9, 10, 21, 23, 24, 26, 27, 28, 30, 31, 33, 34, 37, 39, 40)
TEST_IDS = (1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38)
PARTS = {"training": [f"{i:04d}" for i in TRAINING_IDS], "test": [f"{i:04d}" for i in TEST_IDS]}

EXPECTED = (
    "the publisher's tree (.../RawData/Training/img/img0001.nii.gz with label/label0001.nii.gz, or imagesTr with "
    "labelsTr), or TransUNet's files (train_npz/case0005_slice000.npz and test_vol_h5/case0008.npy.h5)"
)


def find_synapse(folder: Path) -> Cohort:
    """Find the Synapse cohort in ``folder`` or up to four levels below it.

    Raises:
        FileNotFoundError: if neither layout is there, or an image has no label; says what was found.
        ValueError: if the case ids are none of the dataset's.

    Examples::

        >>> find_synapse(Path("/data/Synapse")).layout
        "publisher's NIfTI tree in /data/Synapse/RawData/Training, 30 cases"
    """
    cohort = _find_nifti(folder) or _find_preprocessed(folder)
    if cohort is None:
        raise not_found(folder, "Synapse", EXPECTED)
    if not cohort.cases.keys() & {*PARTS["training"], *PARTS["test"]}:
        raise ValueError(
            f"monai_ext: {folder}: case ids {', '.join(cohort.cases)} are none of Synapse's 30. For other data give a "
            "list with --datalist file.json."
        )
    return cohort


def _find_nifti(folder: Path) -> Cohort | None:
    found: dict[Path, tuple[Path, dict[str, Path], dict[str, Path]]] = {}
    unlabelled: list[str] = []
    for images in folders(folder):
        if images.name not in ("img", "imagesTr"):
            continue
        labels = images.with_name("label" if images.name == "img" else "labelsTr")
        found_images, found_labels = _by_id(images), _by_id(labels)
        if found_labels:
            found[images.parent] = images, found_images, found_labels
        else:
            unlabelled += found_images  # the publisher's Testing, whose labels never were published
    chosen = only(found, folder, "Synapse")
    if chosen is None:
        if unlabelled:
            few = ", ".join(unlabelled[:5])
            raise FileNotFoundError(
                f"monai_ext: {folder}: scans without labels only ({few}{', ...' if len(unlabelled) > 5 else ''}). "
                f"Expected {EXPECTED}."
            )
        return None
    images, found_images, found_labels = chosen
    labels = next(iter(found_labels.values())).parent
    for here, others, kind in ((found_images, found_labels, "label"), (found_labels, found_images, "image")):
        for case in sorted(here.keys() - others.keys()):
            where = labels if kind == "label" else images
            raise FileNotFoundError(f"monai_ext: {here[case]}: no {kind} of case {case} in {where}.")
    cases = {i: {"image": str(found_images[i]), "label": str(found_labels[i])} for i in sorted(found_images)}
    left_out = f" (scans without labels left out: {len(unlabelled)})" if unlabelled else ""
    layout = f"publisher's NIfTI tree in {images.parent}, {len(cases)} cases{left_out}"
    return Cohort(layout, cases, RAW_MAPPING, PARTS)


def _find_preprocessed(folder: Path) -> Cohort | None:
    found: dict[Path, dict[str, dict[str, str]]] = {}
    for slices in folders(folder):
        volumes = slices.with_name("test_vol_h5")
        if slices.name != "train_npz" or not volumes.is_dir():
            continue
        cases = {}
        for path in chain(slices.glob("case*_slice*.npz"), volumes.glob("case*.npy.h5")):
            if match := re.match(r"case(\d{4})(_slice\d+\.npz|\.npy\.h5)$", path.name):
                pattern = path if path.suffix == ".h5" else path.with_name(f"case{match[1]}_slice*.npz")
                cases[match[1]] = {"image": f"{pattern}::image", "label": f"{pattern}::label"}
        if cases:
            found[slices.parent] = dict(sorted(cases.items()))
    chosen = only(found, folder, "Synapse")
    if chosen is None:
        return None
    layout = f"TransUNet's preprocessed files in {next(iter(found))}, {len(chosen)} cases"
    return Cohort(layout, chosen, _preprocessed_mapping(chosen), PARTS)


def _preprocessed_mapping(cases: dict[str, dict[str, str]]) -> dict[int, int] | None:
    """These files circulate with TransUNet's 8 classes and with the publisher's 13; one volume tells which."""
    values = np.unique(VolumeReader().get_data((next(iter(cases.values()))["label"],))[0])
    return RAW_MAPPING if values.max() > len(CLASS_NAMES) else None


def _by_id(folder: Path) -> dict[str, Path]:
    """Case id -> file; the id is the four digits of ``img0001.nii.gz``, ``label0001.nii`` or ``x_0001_0000.nii.gz``."""
    files = visible(folder) if folder.is_dir() else []
    matches = ((re.search(r"(\d{4})(_0000)?\.nii(\.gz)?$", path.name), path) for path in files)
    return {match[1]: path for match, path in matches if match}


SYNAPSE = DatasetInfo(
    title="Synapse multi-organ CT (30 abdominal CTs)",
    class_names=CLASS_NAMES,
    find=find_synapse,
    write_phantom=write_ct_phantom,
    phantom_cases=len(TRAINING_IDS) + len(TEST_IDS),
    beside={f"RawData/Testing/img/img{case:04d}.nii.gz": "image" for case in (61, 62)},
    modality="CT",
    structures=(
        Structure("15825003", "Aorta", (224, 97, 76)),
        Structure("28231008", "Gallbladder", (139, 150, 98)),
        Structure("64033007", "Kidney", (66, 135, 201), side="Left"),
        Structure("64033007", "Kidney", (122, 193, 214), side="Right"),
        Structure("10200004", "Liver", (221, 130, 101)),
        Structure("15776009", "Pancreas", (250, 208, 96)),
        Structure("78961009", "Spleen", (157, 108, 162)),
        Structure("69695003", "Stomach", (118, 190, 128)),
    ),
    # as the FLARE 2022 challenge has them
    tolerances=(2.0, 2.0, 3.0, 3.0, 5.0, 5.0, 3.0, 5.0),
)
