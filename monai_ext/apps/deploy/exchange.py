# SPDX-License-Identifier: Apache-2.0
"""Images from an archive, and results to one: by DICOMweb, or by C-STORE."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from pydicom import Dataset, dcmread
from pydicom.uid import UID

from monai_ext.apps.archive import Archive, ArchivedSeries, ArchiveError, is_address
from monai_ext.utils import scratch_folder

__all__ = ["FEWEST", "Destination", "StorageNode", "choose_series", "destination", "fetched", "send_results"]

FEWEST = 3  # images of a series; a study's others are overviews
LISTED = 20
WAITS = (2.0, 8.0, 30.0)
STORED = (0x0000, 0x0111)  # success; the archive has it already
CALLING = "MONAI_EXT"


class Destination(Protocol):
    """Where results are stored."""

    def store(self, files: Sequence[Path]) -> list[str]: ...


class StorageNode:
    """An archive that takes objects by C-STORE.

    Args:
        host: name or address of its machine.
        port: of its storage service.
        called: its application entity title; ours is ``MONAI_EXT``.

    Examples::

        >>> StorageNode("localhost", 4242, "ORTHANC").store([Path("results/seg.dcm")])
        ['1.2.3.9']
    """

    def __init__(self, host: str, port: int, called: str) -> None:
        self.host, self.port, self.called = host, port, called

    def __str__(self) -> str:
        return f"{self.called} at {self.host}:{self.port}"

    def store(self, files: Sequence[Path]) -> list[str]:
        """Store DICOM files, each confirmed; the SOP Instance UIDs. What the archive has already, it says itself.

        Raises:
            ArchiveError: if it cannot be reached, refuses this program, or does not confirm an object.
        """
        from pynetdicom import AE

        objects = [dcmread(file) for file in files]
        entity = AE(ae_title=CALLING)
        entity.connection_timeout = entity.acse_timeout = 10
        entity.dimse_timeout = entity.network_timeout = 300
        for kind, syntax in {(o.SOPClassUID, o.file_meta.TransferSyntaxUID) for o in objects}:
            entity.add_requested_context(kind, syntax)
        association = entity.associate(self.host, self.port, ae_title=self.called)
        try:
            if association.is_rejected:
                raise ArchiveError(
                    f"monai_ext: {self}: the archive refuses this program. Its keepers must allow {CALLING}, and "
                    f"{self.called} must be its own name.",
                    403,
                )
            if not association.is_established:
                raise ArchiveError(
                    f"monai_ext: {self}: the archive cannot be reached. See whether it runs, and host and port."
                )
            for number, found in enumerate(objects):
                self._store_one(association, found, f"{number} of {len(objects)} objects are stored")
        finally:
            if association.is_established:
                association.release()
        return [str(found.SOPInstanceUID) for found in objects]

    def _store_one(self, association: Any, found: Dataset, so_far: str) -> None:
        kind, asked = UID(found.SOPClassUID).name, (found.SOPClassUID, found.file_meta.TransferSyntaxUID)
        if not any((c.abstract_syntax, *c.transfer_syntax[:1]) == asked for c in association.accepted_contexts):
            raise ArchiveError(f"monai_ext: {self}: the archive takes no {kind}; {so_far}.", 415)
        try:
            status = association.send_c_store(found).get("Status")
        except RuntimeError:  # no association any more
            status = None
        if status is None:
            raise ArchiveError(f"monai_ext: {self}: the archive went away in the middle; {so_far}.")
        if status not in STORED and status >> 12 != 0xB:  # 0xB...: stored, with a warning
            raise ArchiveError(
                f"monai_ext: {self}: the archive refuses a {kind} (status 0x{status:04X}); {so_far}.", 409
            )


def destination(send: str, called: str | None = None) -> Destination:
    """What ``--send`` and ``--aet`` name.

    Raises:
        ValueError: if that is neither an address of DICOMweb nor a host with a port and a title.
    """
    if is_address(send):
        if called is not None:
            raise ValueError(
                f"monai_ext: --aet {called} names an archive of C-STORE, but --send is an address of DICOMweb. Give "
                "--send HOST:PORT, or leave --aet out."
            )
        return Archive(send)
    host, colon, port = send.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(
            f"monai_ext: --send {send} is no address, expected one as http://localhost:8042/dicom-web, or HOST:PORT "
            "with --aet."
        )
    if called is None or not 0 < len(called.strip()) <= 16 or not called.isascii() or "\\" in called:
        raise ValueError(
            f"monai_ext: --send {send} is an archive of C-STORE. Give its application entity title with --aet, 1 to 16 "
            "characters."
        )
    return StorageNode(host.strip("[]"), int(port), called.strip())


@contextmanager
def fetched(
    address: str, study: str | None, series: str | None, modality: str | None, output: Path
) -> Iterator[tuple[Path, str]]:
    """A folder with the images of one series of an archive, removed at the end, and the series' UID.

    Args:
        address: of the archive's DICOMweb.
        study: Study Instance UID; may be None where only one study has images of the modality.
        series: Series Instance UID, number or description, where several could be segmented.
        modality: of the bundle.
        output: in which the folder is made: images of patients lie nowhere else.

    Raises:
        ArchiveError: if the archive does not give them.
        ValueError: if there are several to choose from, or none.
    """
    archive = Archive(address)
    chosen = choose_series(archive, study, series, modality)
    try:
        with scratch_folder(output, "images-") as scratch:
            yield archive.fetch(chosen.study, chosen.uid, scratch / "series", chosen.images), chosen.uid
    finally:
        with suppress(OSError):
            output.rmdir()  # nothing was written


def choose_series(
    archive: Archive, study: str | None, series: str | None = None, modality: str | None = None
) -> ArchivedSeries:
    """The one series that could be segmented, as far as an archive's list tells.

    Raises:
        ValueError: if there are several, with what tells them apart, or none.
    """
    if study is None:
        found = archive.series(modality=modality)
        if len(studies := {one.study: one for one in found}) > 1:
            listed = "; ".join(map(_study_told_apart, [*studies.values()][:LISTED]))
            more = f"; and {len(studies) - LISTED} more" if len(studies) > LISTED else ""
            raise ValueError(
                f"monai_ext: {archive}: {len(studies)} studies have {modality} series; choose one with --study. "
                f"{listed}{more}."
            )
    else:
        found = archive.series(study)
    where = f"{archive}: study {study}" if study else str(archive)
    if not found:
        raise ValueError(f"monai_ext: {where}: the archive has no such study, or no {modality} series in it.")
    listed = "; ".join(map(str, found))
    asked = [one for one in found if series is None or one.is_called(series)]
    if not asked:
        raise ValueError(f"monai_ext: {where}: no series {series!r}; there are: {listed}.")
    suitable = [one for one in asked if modality in (None, one.modality)]
    if not suitable:
        raise ValueError(f"monai_ext: {where}: no {modality} series to segment; there are: {listed}.")
    if len(suitable) > 1 and (volumes := [one for one in suitable if not _is_overview(archive, one)]):
        suitable = volumes
    if len(suitable) > 1:
        listed = "; ".join(map(str, suitable))
        if len({one.uid for one in suitable}) == 1:
            raise ValueError(
                f"monai_ext: {where}: the archive lists one series UID several times, as of several patients: "
                f"{listed}. Have it put right there."
            )
        raise ValueError(
            f"monai_ext: {where}: {len(suitable)} series could be segmented; choose one with --series. {listed}."
        )
    return suitable[0]


def send_results(files: Sequence[Path], to: Destination, waits: Sequence[float] | None = None) -> list[str]:
    """Store results, again after a while where the archive is away; the SOP Instance UIDs of what was stored now.

    ``waits`` are the seconds before the second try, the third and so on.

    Raises:
        ArchiveError: if one of them is not confirmed in the end. Nothing is removed from the disk.
    """
    waits = WAITS if waits is None else waits
    try:
        return to.store(files)
    except ArchiveError as e:
        if not waits or not e.may_pass:
            kept = f"The results are kept in {files[0].parent}; the same command sends them."
            raise ArchiveError(f"{e} {kept}", e.status) from e
    time.sleep(waits[0])
    return send_results(files, to, waits[1:])


def _is_overview(archive: Archive, one: ArchivedSeries) -> bool:
    """Whether a series has too few images for a volume; a multi-frame object has all of them in one."""
    if not 0 < one.images < FEWEST:
        return False
    return not any("Enhanced" in UID(kind).name for kind in archive.instances(one.study, one.uid).values())


def _study_told_apart(one: ArchivedSeries) -> str:
    described = f" '{one.study_description}'" if one.study_description else ""
    return f"study{described} of {one.study_date or 'unknown date'}, patient {one.patient_id!r}, UID {one.study}"
