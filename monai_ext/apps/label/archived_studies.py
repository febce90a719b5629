# SPDX-License-Identifier: Apache-2.0
"""Studies in an archive behind DICOMweb: MONAI Label's datastore on the archive itself, with no list of its own."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from monailabel.config import settings
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException

from monai_ext.apps.archive import Archive, ArchivedSeries, ArchiveError
from monai_ext.apps.label.dicom_studies import write_volume
from monai_ext.apps.label.request_knobs import RequestError
from monai_ext.apps.label.segmentations import Segments, read_label, read_segments, source_volume, write_seg
from monai_ext.data.files.dicom.headers import is_uid
from monai_ext.utils import locked, read_json, replacing, scratch_folder, write_json

__all__ = ["ArchivedStudies", "status_of", "with_password"]

logger = logging.getLogger(__name__)
FINAL = DefaultLabelTag.FINAL.value
MOST = 100_000  # series that are listed


def status_of(error: ArchiveError) -> int:
    """The status of an answer that could not be given because of the archive: away, or failing."""
    return 503 if error.status is None else 502


def with_password(address: str) -> str:
    """An archive's address with the name and password that MONAI Label's own settings have for it."""
    name, password = settings.MONAI_LABEL_DICOMWEB_USERNAME, settings.MONAI_LABEL_DICOMWEB_PASSWORD
    parts = urlsplit(address)
    if not name or not password or parts.username:
        return address
    return urlunsplit(parts._replace(netloc=f"{quote(name, safe='')}:{quote(password, safe='')}@{parts.netloc}"))


@dataclass(frozen=True)
class _Label:
    """A DICOM SEG in the archive that a person drew or corrected."""

    seg: ArchivedSeries
    file: Path
    segments: Segments


class ArchivedStudies(Datastore):
    """The series of an archive as MONAI Label's studies, named by their Series Instance UIDs.

    What there is, and what has a label, is asked of the archive each time. A final label is stored there as DICOM SEG;
    one that a person drew or corrected elsewhere counts as well, one that a program made does not. Copies of images and
    labels lie in ``FOLDER/PATIENT/SERIES``: to remove a patient's, remove ``FOLDER/PATIENT``. They are fetched again
    when they are needed.

    Args:
        archive: where the series are.
        folder: for the copies.
        modalities: of the series to list.
        classes_of: name -> value of a label's classes, from what was sent with it.
        names: classes of the models; a DICOM SEG without any of them is no label for them.
    """

    def __init__(
        self,
        archive: Archive,
        folder: Path,
        modalities: tuple[str, ...],
        classes_of: Callable[[Mapping[str, Any]], dict[str, int]],
        names: frozenset[str],
    ) -> None:
        self.archive, self.folder, self.modalities = archive, folder, modalities
        self.classes_of, self.names = classes_of, names
        self._known: dict[str, ArchivedSeries] = {}  # what was listed; that it still is there, this does not say
        self._segments: dict[str, Segments | None] = {}
        self._notes = threading.RLock()

    def name(self) -> str:
        return str(self.archive)

    def set_name(self, name: str) -> None:
        raise RequestError(405, "monai_ext: an archive keeps its name.")

    def description(self) -> str:
        return f"{', '.join(self.modalities)} series of an archive behind DICOMweb"

    def set_description(self, description: str) -> None:
        raise RequestError(405, "monai_ext: an archive keeps its description.")

    def list_images(self) -> list[str]:
        found = [one for code in self.modalities for one in self.archive.series(modality=code, limit=MOST)]
        listed = {one.uid: one for one in found if is_uid(one.uid)}
        self._known.update(listed)
        return list(listed)

    def has(self, study: str) -> bool:
        """Whether the archive has a series of this UID, of the modality of a model."""
        if not is_uid(study):
            return False
        found = [one for one in self.archive.series(uid=study) if one.modality in self.modalities]
        self._known.update({one.uid: one for one in found})
        return bool(found)

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        return list(self._labels(self.list_images()))

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        there = self.list_images()
        done = self._labels(there)
        return [uid for uid in there if uid not in done]

    def get_image_uri(self, image_id: str) -> str:
        """The series as a NIfTI file; fetched and read, with all checks, when it is asked for first."""
        series = self._series(image_id)
        source = self.dicom_source(image_id)
        file = self._place(series) / f"{series.uid}.nii.gz"
        if not file.is_file():
            volume = source_volume(source)
            write_volume(file, volume.array, volume.affine)
        return str(file)

    def delivered(self, study: str) -> str:
        """The file of a series, once it is sure that it can be read."""
        return self.get_image_uri(study)

    def dicom_source(self, study: str) -> Path:
        """The folder with the files of a series; fetched when it is asked for first."""
        return self._fetched(self._series(study))

    def get_image(self, image_id: str, params: Any = None) -> Any:
        return open(self.get_image_uri(image_id), "rb")

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        series = self._series(image_id)
        info = {
            "SeriesInstanceUID": series.uid,
            "StudyInstanceUID": series.study,
            "Modality": series.modality,
            "PatientID": series.patient_id,
            "StudyDate": series.study_date,
            "SeriesDescription": series.description,
        }
        file = self._place(series) / f"{series.uid}.nii.gz"
        path = {"path": str(file)} if file.is_file() else {}
        return {**self._noted(series).get("info", {}), **info, **path}

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        self._note(self._series(image_id), lambda notes: notes.setdefault("info", {}).update(info))

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        raise RequestError(405, "monai_ext: the studies are an archive's. Store the series there.")

    def remove_image(self, image_id: str) -> None:
        """Remove the copies of a series and its labels; what the archive has, it keeps."""
        series = self._series(image_id)
        for seg in self.archive.series(study=series.study, modality="SEG"):
            if (found := self._segments.get(seg.uid)) and found.series == series.uid:
                shutil.rmtree(self._place(seg), ignore_errors=True)
        shutil.rmtree(self._place(series), ignore_errors=True)
        with suppress(OSError):  # another series of the patient
            self._place(series).parent.rmdir()

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Keep a label; a final one is stored in the archive as DICOM SEG, and is kept only when it is there."""
        series, info = self._series(image_id), dict(label_info or {})
        if label_tag == FINAL:
            classes = self.classes_of(info)
            with scratch_folder(self._place(series), "save-") as scratch:
                file = scratch / "seg.dcm"
                write_seg(file, Path(label_filename), classes, self.dicom_source(image_id), model=None)
                self.archive.store([file])
            return image_id
        suffix = next((s for s in (".nii.gz", ".nii", ".seg.nrrd", ".nrrd") if label_filename.endswith(s)), ".nii.gz")
        target = self._place(series) / label_tag / f"{series.uid}{suffix}"
        with replacing(target) as temporary:
            shutil.copyfile(label_filename, temporary)
        info |= {"ts": int(time.time()), "name": target.name}
        self._note(series, lambda notes: notes.setdefault("labels", {}).update({label_tag: info}))
        return image_id

    def remove_label(self, label_id: str, label_tag: str) -> None:
        if label_tag == FINAL:
            raise RequestError(405, "monai_ext: final labels are the archive's. Remove the DICOM SEG there.")
        series = self._series(label_id)
        shutil.rmtree(self._place(series) / label_tag, ignore_errors=True)
        self._note(series, lambda notes: notes.get("labels", {}).pop(label_tag, None))

    def get_label(self, label_id: str, label_tag: str, params: Any = None) -> Any:
        return open(self.get_label_uri(label_id, label_tag), "rb")

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """A label as a file; the final one is that of the archive. ``""`` where there is none."""
        series = self._series(label_id)
        if label_tag != FINAL:
            name = self._noted(series).get("labels", {}).get(label_tag, {}).get("name")
            return str(self._place(series) / label_tag / name) if name else ""
        label = self._final(series)
        if label is None:
            return ""
        file = self._place(label.seg) / f"{series.uid}.nii.gz"
        if not file.is_file():
            volume = source_volume(self.dicom_source(label_id))
            write_volume(file, read_label(label.file, volume), volume.affine)
        return str(file)

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        series = self._series(label_id)
        if label_tag != FINAL:
            return dict(self._noted(series).get("labels", {}).get(label_tag, {}))
        label = self._final(series)
        if label is None:
            return {}
        names = label.segments.names
        segments = [{"name": names.get(number, ""), "idx": number} for number in range(1, max(names, default=0) + 1)]
        return {"label_info": segments, "SeriesInstanceUID": label.seg.uid, "made": label.segments.made}

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        if label_tag == FINAL:
            raise RequestError(405, "monai_ext: final labels are the archive's, with what they say of themselves.")
        series = self._series(label_id)
        if label_tag not in self._noted(series).get("labels", {}):
            raise LabelNotFoundException(f"Label: {label_id} Tag: {label_tag} not found")
        self._note(series, lambda notes: notes["labels"][label_tag].update(info))

    def final_seg(self, study: str) -> Path:
        """The final label as the archive has it: the file of the newest DICOM SEG that a person drew or corrected."""
        label = self._final(self._series(study))
        if label is None:
            raise LabelNotFoundException(f"no final label of study {study!r}")
        return label.file

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        series = self._series(image_id)
        tags = [*self._noted(series).get("labels", {}), *([FINAL] if self._final(series) else [])]
        return dict.fromkeys(tags, image_id)

    def get_label_by_image_id(self, image_id: str, tag: str) -> str:
        return self.get_labels_by_image_id(image_id).get(tag, "")

    def datalist(self) -> list[dict[str, Any]]:
        return [
            {"image": self.get_image_uri(uid), "label": self.get_label_uri(uid, FINAL)}
            for uid in self.get_labeled_images()
        ]

    def get_dataset_archive(self, limit_cases: int | None = None) -> str:
        handle, file = tempfile.mkstemp(suffix=".zip")
        with os.fdopen(handle, "wb") as content, zipfile.ZipFile(content, "w") as archive:
            for case in self.datalist()[: limit_cases or None]:
                for kind, path in case.items():
                    archive.write(path, f"{kind}/{Path(path).name}")
        return file

    def refresh(self) -> None:
        """Nothing to do: the archive is asked each time."""

    def status(self) -> dict[str, Any]:
        there = self.list_images()
        done = self._labels(there)
        return {"total": len(there), "completed": len(done), "label_tags": {FINAL: len(done)} if done else {}}

    def json(self) -> dict[str, Any]:
        there = self.list_images()
        done = self._labels(there)
        objects = {
            uid: {
                "image": {"ext": ".nii.gz", "info": self.get_image_info(uid)},
                "labels": {FINAL: {"ext": ".nii.gz", "info": {}}} if uid in done else {},
            }
            for uid in there
        }
        return {"name": self.name(), "description": self.description(), "objects": objects}

    def _series(self, uid: str) -> ArchivedSeries:
        if uid not in self._known and not self.has(uid):
            raise ImageNotFoundException(f"no study {uid!r:.80}")
        return self._known[uid]

    def _final(self, series: ArchivedSeries) -> _Label | None:
        return self._labels([series.uid], series.study).get(series.uid)

    def _labels(self, images: list[str], study: str | None = None) -> dict[str, _Label]:
        """Of those images that have a label by a person, the newest of each."""
        wanted, studies = {*images}, {self._known[uid].study for uid in images}
        newest: dict[str, _Label] = {}
        for seg in self.archive.series(study=study, modality="SEG", limit=MOST):
            if seg.study not in studies or not is_uid(seg.uid):
                continue
            place = self._place(seg)
            if seg.uid not in self._segments or (self._segments[seg.uid] and not (place / "dicom").is_dir()):
                try:
                    self._segments[seg.uid] = self._read(seg)
                except ArchiveError as e:  # another time, perhaps
                    logger.warning("%s Label %s is passed over.", e, seg.uid)
                    continue
            found = self._segments[seg.uid]
            if found is None or found.series not in wanted:
                continue
            (file,) = (place / "dicom").iterdir()
            if found.series not in newest or newest[found.series].segments.made < found.made:
                newest[found.series] = _Label(seg, file, found)
        return newest

    def _read(self, seg: ArchivedSeries) -> Segments | None:
        """What a DICOM SEG holds; None of one that is no label for the models here."""
        try:
            files = list(self._fetched(seg).iterdir())
            found = read_segments(files[0]) if len(files) == 1 else None
        except ValueError as e:
            logger.warning("%s Passed over.", e)
            return None
        if found is None or not found.by_hand or not self.names & {name.lower() for name in found.names.values()}:
            return None
        return found

    def _fetched(self, series: ArchivedSeries) -> Path:
        """The folder with the files of a series; fetched anew where the archive has got more of them meanwhile."""
        place = self._made(series)
        folder = place / "dicom"
        with locked(place, ".monai_ext-fetch.lock", wait=True):
            if folder.is_dir() and series.images > len(list(folder.iterdir())):
                shutil.rmtree(folder)
                (place / f"{series.uid}.nii.gz").unlink(missing_ok=True)
            if not folder.is_dir():
                self.archive.fetch(series.study, series.uid, folder, series.images)
        return folder

    def _made(self, series: ArchivedSeries) -> Path:
        place = self._place(series)
        place.mkdir(parents=True, exist_ok=True)
        return place

    def _place(self, series: ArchivedSeries) -> Path:
        """Where the copies of a series lie; the patient's ID is made a name of a folder, whatever it holds."""
        patient = quote(series.patient_id, safe=" ").replace(".", "%2E") or "without ID"
        if len(patient) > 150:
            patient = hashlib.sha256(patient.encode()).hexdigest()
        return self.folder / patient / series.uid

    def _noted(self, series: ArchivedSeries) -> dict[str, Any]:
        file = self._place(series) / "notes.json"
        return read_json(file, "notes of a series") if file.is_file() else {}

    def _note(self, series: ArchivedSeries, change: Callable[[dict[str, Any]], Any]) -> None:
        with self._notes:
            notes = self._noted(series)
            change(notes)
            write_json(self._made(series) / "notes.json", notes)
