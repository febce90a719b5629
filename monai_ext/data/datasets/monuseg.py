# SPDX-License-Identifier: Apache-2.0
"""MoNuSeg 2018: nuclei in H&E of several organs, 37 (at first 30) pictures to train on and 14 to test on.

The masks are outlines, kept in the XML files of Aperio's ImageScope.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from contourpy import contour_generator
from scipy.ndimage import find_objects

from monai_ext.data.datasets.dataset_info import Cohort, DatasetInfo, Structure
from monai_ext.data.datasets.folders import (
    folders,
    listed_parts,
    match_masks,
    not_found,
    pictures_by_stem,
    subfolder,
    visible,
)
from monai_ext.phantoms.drawing import PictureCase
from monai_ext.phantoms.nuclei import nuclei_case
from monai_ext.phantoms.picture_cohort import split_counts, write_picture_cohort
from monai_ext.utils import replacing

__all__ = ["MONUSEG", "find_monuseg"]


def find_monuseg(folder: Path) -> Cohort:
    """Find MoNuSeg in either of the two ways its parts are published.

    Images and outlines lie in ``Tissue Images`` and ``Annotations``, or side by side; what lies in a folder with
    "test" in its name, rather than "train", is the test part.
    """
    cases: dict[str, dict[str, Any]] = {}
    parts: dict[str, list[str]] = {"training": [], "test": []}
    for root in folders(folder):
        images, outlines = subfolder(root, "Tissue Images") or root, subfolder(root, "Annotations") or root
        files = {path.stem: path for path in visible(outlines) if path.suffix.lower() == ".xml"}
        pictures = pictures_by_stem(images)
        if not files or not pictures:
            continue
        pairs = match_masks(pictures, files, outlines)
        for pair in pairs.values():
            pair["label"] = f"{pair['label']}::{pair['image']}"
        if twice := sorted(cases.keys() & pairs.keys()):
            raise ValueError(
                f"monai_ext: {pairs[twice[0]]['image']}: the same image as {cases[twice[0]]['image']}. Give the folder "
                "of one copy."
            )
        path = str(root.relative_to(folder)).lower()
        part = "test" if path.rfind("test") > path.rfind("train") else "training"
        cases.update(pairs)
        parts[part].extend(pairs)
    if not parts["training"] or not parts["test"]:
        raise not_found(
            folder,
            "MoNuSeg",
            "'MoNuSeg 2018 Training Data/Tissue Images/*.tif' with 'Annotations/*.xml', and 'MoNuSegTestData/*.tif' "
            f"with *.xml beside them ({len(parts['training'])} training, {len(parts['test'])} test images are there)",
        )
    return Cohort(f"MoNuSeg 2018, {listed_parts(parts)} images", cases, parts=parts)


def _save_outlines(path: Path, made: PictureCase) -> None:
    root = ElementTree.Element("Annotations", MicronsPerPixel="0.252000")
    regions = ElementTree.SubElement(ElementTree.SubElement(root, "Annotation", Id="1"), "Regions")
    for number, box in enumerate(find_objects(made.objects), start=1):
        if box is None:
            continue
        z = np.pad(made.objects[box] == number, 1).astype(np.float32)
        corner = np.array([box[1].start, box[0].start]) - 0.5  # less the margin of 1; 0 is the first pixel's corner
        for line in contour_generator(z=z).lines(0.5):
            vertices = ElementTree.SubElement(ElementTree.SubElement(regions, "Region", Id=str(number)), "Vertices")
            for x, y in np.asarray(line) + corner:
                ElementTree.SubElement(vertices, "Vertex", X=f"{x:.6f}", Y=f"{y:.6f}", Z="0")
    with replacing(path) as temporary:
        ElementTree.ElementTree(root).write(temporary)


def _write_phantom(folder: Path, cases: int) -> None:
    training, _ = split_counts(cases, [14 / 51])
    root = Path("MoNuSeg 2018 Training Data")
    files = {}
    for i in range(cases):
        name = f"TCGA-00-{i:04d}-01Z-00-DX1"
        files[name] = (root / f"Tissue Images/{name}.tif", root / f"Annotations/{name}.xml")
        if i >= training:
            files[name] = (Path("MoNuSegTestData", f"{name}.tif"), Path("MoNuSegTestData", f"{name}.xml"))
    write_picture_cohort(folder, "monuseg", files, lambda case, seed, size: nuclei_case(seed, size), _save_outlines)


MONUSEG = DatasetInfo(
    title="MoNuSeg 2018 nuclei (51 H&E images)",
    class_names=("nucleus",),
    find=find_monuseg,
    write_phantom=_write_phantom,
    beside={"MoNuSegTestData/desktop.ini": "[.ShellClassInfo]\n"},
    modality="SM",
    structures=(Structure("84640000", "Nucleus", (97, 113, 158)),),
    label_coding="classes",
    match="iou",
)
