# SPDX-License-Identifier: Apache-2.0
"""ACDC cardiac MR (MICCAI 2017): short-axis cine of 100 patients, heart labelled at end-diastole and end-systole.

Known layouts: the publisher's folders of patients, and two kinds of preprocessed arrays that circulate.

The papers train on 70 patients, validate on 10 and test on 20, without saying which. Here: the publisher's ids come in
five diagnostic groups of 20 (1-20, 21-40, ...); in each group the first 14 train, the next 2 validate, the last 4 test.
Patients 101-150, the publisher's own testing folder, are in no part. Where arrays lie in folders ``train``, ``valid``
and ``test``, these are the split.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from monai_ext.data.datasets.dataset_info import Cohort, DatasetInfo, Structure
from monai_ext.data.datasets.folders import folders, not_found, only
from monai_ext.phantoms import write_mr_phantom

__all__ = ["ACDC", "acdc_part", "acdc_patient", "find_acdc"]

CLASS_NAMES = ("right ventricle", "myocardium", "left ventricle")
PATIENTS, GROUP = 100, 20
PART_FOLDERS = {"train": "training", "valid": "validation", "test": "test"}
PHASES = ("ED", "ES")

EXPECTED = (
    "the publisher's folders of patients (patient001/Info.cfg with patient001_frame01.nii.gz and "
    "patient001_frame01_gt.nii.gz), or preprocessed files (train/case_001_sliceED_0.npz and "
    "test/case_002_volume_ED.npz, or ACDC_training_volumes/patient001_frame01.h5)"
)


def acdc_patient(case: str) -> str:
    """Whose a case is: ``patient001`` of ``patient001_frame01``, ``case_001`` of ``case_001_ED``."""
    return case.rpartition("_")[0]


def acdc_part(number: int) -> str:
    """``training``, ``validation`` or ``test``: where patient ``number``, 1 to 100, belongs."""
    place = (number - 1) % GROUP
    return "training" if place < 14 else "validation" if place < 16 else "test"


def find_acdc(folder: Path) -> Cohort:
    """Find the ACDC cohort in ``folder`` or up to four levels below it; a case is one labelled frame.

    Raises:
        FileNotFoundError: if no layout is there, or a patient lacks ``Info.cfg``, a frame or its ground truth.
        ValueError: if ``Info.cfg`` does not say which frames are labelled, no patient is one of the 100, or one is
            there twice or in two parts.

    Examples::

        >>> find_acdc(Path("/data/ACDC")).layout
        "publisher's folders of 100 patients, 200 frames (patients beyond 100 left out: 50)"
    """
    cohort = _find_patients(folder) or _find_parts(folder) or _find_h5(folder)
    if cohort is None:
        raise not_found(folder, "ACDC", EXPECTED)
    return cohort


def _find_patients(folder: Path) -> Cohort | None:
    found: dict[str, Path] = {}
    for path in folders(folder):
        if re.fullmatch(r"patient\d{3}", path.name) and any([*path.glob("Info.cfg"), *path.glob("*.nii*")]):
            if path.name in found:
                raise ValueError(
                    f"monai_ext: {path}: the same patient as in {found[path.name]}. Give the folder of one copy."
                )
            found[path.name] = path
    if not found:
        return None
    known, left_out = _known(folder, found)
    cases = {case: files for patient in known for case, files in _frames(found[patient])}
    layout = f"publisher's folders of {len(known)} patients, {len(cases)} frames{left_out}"
    return Cohort(layout, cases, parts=_parts(cases))


def _frames(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The frames that ``Info.cfg`` names, in the order of their numbers."""
    info = folder / "Info.cfg"
    if not info.is_file():
        raise FileNotFoundError(
            f"monai_ext: {info}: no such file. It says which frames are end-diastole (ED) and end-systole (ES); get it "
            "from the publisher again."
        )
    numbers = dict(re.findall(r"^\s*(ED|ES)\s*:\s*(\d+)\s*$", info.read_text(errors="replace"), re.MULTILINE))
    if set(numbers) != set(PHASES):
        raise ValueError(f"monai_ext: {info}: expected lines such as 'ED: 1' and 'ES: 12' that name the frames.")
    for phase in sorted(PHASES, key=lambda phase: int(numbers[phase])):
        case = f"{folder.name}_frame{int(numbers[phase]):02d}"
        yield (
            case,
            {
                "image": _nifti(folder, case, f"but Info.cfg names it as {phase}"),
                "label": _nifti(folder, f"{case}_gt", f"the ground truth of {phase}"),
            },
        )


def _nifti(folder: Path, stem: str, role: str) -> str:
    for suffix in (".nii.gz", ".nii"):
        if (path := folder / f"{stem}{suffix}").is_file():
            return str(path)
    present = ", ".join(sorted(p.name for p in folder.glob("*_frame*"))) or "no frame"
    raise FileNotFoundError(f"monai_ext: {folder / stem}.nii.gz: no such file, {role}; found {present}.")


def _find_parts(folder: Path) -> Cohort | None:
    """TransUNet-style files: one npz a training slice, one npz a test volume, in a folder for each part."""
    cohorts: dict[Path, Cohort] = {}
    for root in folders(folder):
        if not (root / "train").is_dir():
            continue
        cases: dict[str, dict[str, str]] = {}
        parts: dict[str, list[str]] = {}
        owner: dict[str, str] = {}
        for name, part in PART_FOLDERS.items():
            found = {}
            for path in (root / name).glob("case_*.npz"):
                if match := re.fullmatch(r"(case_\d+)_(slice|volume_)(ED|ES)(_\d+)?\.npz", path.name):
                    pattern = f"{match[1]}_slice{match[3]}_*.npz" if match[2] == "slice" else path.name
                    found[f"{match[1]}_{match[3]}"] = path.with_name(pattern)
            for case in sorted(found):
                if owner.setdefault(acdc_patient(case), name) != name:
                    raise ValueError(
                        f"monai_ext: {root}: {acdc_patient(case)} is in {owner[acdc_patient(case)]} and in {name}. "
                        "Remove it from one of them."
                    )
                cases[case] = {"image": f"{found[case]}::img", "label": f"{found[case]}::label"}
            parts[part] = sorted(found)
        if cases:
            layout = f"preprocessed slices and volumes in {root}, {len(cases)} frames"
            cohorts[root] = Cohort(layout, cases, parts=parts)
    return only(cohorts, folder, "ACDC")


def _find_h5(folder: Path) -> Cohort | None:
    """One h5 a volume, or one h5 a slice; volumes are preferred where both are there."""
    volumes: dict[str, Path] = {}
    slices: dict[str, Path] = {}
    for root in folders(folder):
        for path in root.glob("patient*_frame*.h5"):
            if match := re.fullmatch(r"(patient\d{3}_frame\d+)(_slice_\d+)?\.h5", path.name):
                kind = slices if match[2] else volumes
                file = path.with_name(f"{match[1]}_slice_*.h5") if match[2] else path
                if kind.setdefault(match[1], file) != file:
                    raise ValueError(
                        f"monai_ext: {file}: the same frame as {kind[match[1]]}. Give the folder of one copy."
                    )
    found = slices | volumes
    if not found:
        return None
    known, left_out = _known(folder, {acdc_patient(case) for case in found})
    cases = {
        case: {"image": f"{found[case]}::image", "label": f"{found[case]}::label"}
        for case in sorted(found)
        if acdc_patient(case) in known
    }
    return Cohort(f"preprocessed h5 files, {len(cases)} frames{left_out}", cases, parts=_parts(cases))


def _known(folder: Path, patients: dict[str, Path] | set[str]) -> tuple[list[str], str]:
    """The publisher's 100 training patients among those found, and words for the others."""
    known = sorted(patient for patient in patients if 1 <= _number(patient) <= PATIENTS)
    if not known:
        raise ValueError(
            f"monai_ext: {folder}: {', '.join(sorted(patients)[:5])} are none of ACDC's patients 001 to {PATIENTS}. "
            "For other data, or for the publisher's testing folder, give a list with --datalist file.json."
        )
    others = len(patients) - len(known)
    return known, f" (patients beyond {PATIENTS} left out: {others})" if others else ""


def _parts(cases: dict[str, dict[str, str]]) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {part: [] for part in PART_FOLDERS.values()}
    for case in cases:
        parts[acdc_part(_number(acdc_patient(case)))].append(case)
    return parts


def _number(patient: str) -> int:
    return int(patient.removeprefix("patient"))


ACDC = DatasetInfo(
    title="ACDC cardiac cine MR (100 patients, ED and ES)",
    class_names=CLASS_NAMES,
    find=find_acdc,
    write_phantom=write_mr_phantom,
    phantom_cases=20,
    beside={
        "MANDATORY_CITATION.md": "See the publisher.\n",
        "training/patient001/patient001_4d.nii.gz": "image",
        "training/patient001/MANDATORY_CITATION.md": "See the publisher.\n",
        "testing/patient101/Info.cfg": "ED: 1\nES: 14\nGroup: DCM\nHeight: 180\nNbFrame: 30\nWeight: 70\n",
        **{f"testing/patient101/patient101_{name}.nii.gz": "image" for name in ("4d", "frame01", "frame14")},
        **{f"testing/patient101/patient101_frame{frame}_gt.nii.gz": "label" for frame in ("01", "14")},
    },
    modality="MR",
    structures=(
        Structure("53085002", "Right ventricle", (88, 140, 196)),
        Structure("49848007", "Left ventricle myocardium", (192, 104, 88)),
        Structure("87878005", "Left ventricle", (216, 60, 60)),
    ),
    patient=acdc_patient,
    # a voxel in the plane (1.4 to 1.9 mm), about what two readers differ by
    tolerances=(2.0, 2.0, 2.0),
)
