# SPDX-License-Identifier: Apache-2.0
"""Studies in a folder: MONAI Label's own datastore, where its requests come at once and its studies come later."""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from monailabel.datastore.local import LocalDatastore
from watchdog.events import FileSystemEvent, FileSystemEventHandler

from monai_ext.apps.label.dicom_studies import SETTLED, SeriesFolders
from monai_ext.data import PictureReader, VolumeReader
from monai_ext.data.files.picture_reader import is_picture

__all__ = ["FILES", "StudyFolder"]

logger = logging.getLogger(__name__)
FILES = ("*.nii.gz", "*.nii", "*.nrrd", "*.mha", "*.png", "*.jpg", "*.jpeg", "*.tif", "*.tiff", "*.bmp")
LOOK_AGAIN = 60.0  # seconds, for what lies behind links, where nobody tells of changes
# upstream was written for one request at a time: between two of its steps a list is empty
ONE_AT_A_TIME = (
    *("_reconcile_datastore", "add_image", "remove_image", "save_label", "remove_label", "update_image_info"),
    *("update_label_info", "list_images", "get_labeled_images", "get_unlabeled_images", "get_image_uri"),
    *("get_image_info", "get_label_uri", "get_label_info", "datalist", "status", "json"),
)


class StudyFolder(LocalDatastore):
    """MONAI Label's ``LocalDatastore`` for several requests at once; DICOM folders that arrive are listed, too.

    Args:
        folder: of the studies; labels go below its ``labels``.
        channels: names of the channels that the server's models ask for, those of one channel none.
    """

    def __init__(self, folder: str, channels: Collection[Sequence[str]] = ((),)) -> None:
        self.readers = [VolumeReader(names) for names in channels]
        self.guard = threading.RLock()
        self.series = SeriesFolders(Path(folder))
        self._arrived = threading.Event()
        super().__init__(folder, extensions=FILES, auto_reload=True)
        self._handler.on_moved = self._on_any_event  # a file that was written under another name first

    def watch_series(self) -> None:
        """Turn DICOM folders into studies from now on, those that are there and those that come."""
        arrived = _Arrived(self._arrived)
        self._observer.schedule(arrived, recursive=True, path=self._datastore_path)
        threading.Thread(target=self._take_in, daemon=True, name="series").start()

    def has(self, study: str) -> bool:
        """Whether there is a study of this name."""
        return study in self.list_images()

    def delivered(self, study: str) -> str:
        """The file of a study, once it is sure that it can be read."""
        path = self.get_image_uri(study)
        errors = []
        for reader in [PictureReader()] if is_picture(path) else self.readers:
            try:
                reader.get_data((path,))
                return path
            except Exception as e:  # another model may read it
                errors.append(e)
        raise errors[0]

    def dicom_source(self, study: str) -> Path | None:
        """The folder of the series that a study stands for; None where it is a file of its own."""
        path = self.get_image_uri(study)
        return self.series.source_of(Path(path)) if path else None

    def _take_in(self) -> None:
        while True:
            self._arrived.clear()
            later = False
            try:
                written, later = self.series.convert()
                if written:
                    self.refresh()
            except Exception:  # a folder that goes away meanwhile; the next look may succeed
                logger.exception("monai_ext: %s: not looked through for DICOM series", self._datastore_path)
            if later:
                time.sleep(SETTLED / 2)
            else:
                self._arrived.wait(LOOK_AGAIN)

    def _list_files(self, path: str, patterns: Any) -> dict[str, str]:
        """Upstream's, without links that lead nowhere: it would add and remove them in turns."""
        found = super()._list_files(path, patterns)
        return {name: file for name, file in found.items() if os.path.isfile(os.path.join(path, file))}


class _Arrived(FileSystemEventHandler):
    def __init__(self, arrived: threading.Event) -> None:
        self.arrived = arrived

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type not in ("opened", "closed_no_write"):
            self.arrived.set()


def _one_at_a_time(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: StudyFolder, *args: Any, **kwargs: Any) -> Any:
        with self.guard:
            return method(self, *args, **kwargs)

    return call


for _name in ONE_AT_A_TIME:
    setattr(StudyFolder, _name, _one_at_a_time(getattr(StudyFolder, _name)))
