# SPDX-License-Identifier: Apache-2.0
"""An image archive behind DICOMweb (PACS, Orthanc): ask for series, fetch one, store objects. On ``dicomweb-client``.

It knows nothing of what is fetched or stored, and needs the extra ``deploy`` or ``label``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from pydicom import Dataset, dcmread, dcmwrite
from pydicom.errors import InvalidDicomError

from monai_ext.data.files.dicom.headers import is_uid, text
from monai_ext.utils import scratch_folder

__all__ = ["Archive", "ArchiveError", "ArchivedSeries", "is_address"]

#: what an archive is to send: an object as it is stored, so that one which cannot unpack it still sends it
AS_STORED = (("application/dicom", "*"),)
TIMEOUT = (10.0, 300.0)  # seconds to connect, and between two bytes
ASKED = (
    *("StudyInstanceUID", "SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription"),
    *("NumberOfSeriesRelatedInstances", "PatientID", "StudyDate", "StudyDescription"),
)
SAID = {
    400: "did not understand the request (400)",
    401: "asks for a name and a password (401). Give them in ~/.netrc, or as https://NAME:PASSWORD@HOST",
    403: "refuses access (403). Ask its keepers for the right",
    404: "has no such study or series, or no DICOMweb at this address (404)",
    405: "does not do that at this address (405). That of Orthanc's DICOMweb ends in /dicom-web",
    413: "takes no object as large as that (413)",
    507: "has no space left (507)",
}


class ArchiveError(OSError):
    """An archive does not do what it was asked for; says in one line what it does.

    ``status`` is that of its answer, None where there was none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status

    @property
    def may_pass(self) -> bool:
        """Whether the same may succeed a while later."""
        return self.status is None or self.status >= 500 or self.status in (408, 429)


@dataclass(frozen=True)
class ArchivedSeries:
    """A series as an archive lists it; ``images`` is 0 where the archive does not count them."""

    study: str
    uid: str
    modality: str
    images: int
    number: str
    description: str
    patient_id: str
    study_date: str
    study_description: str

    def is_called(self, name: str) -> bool:
        """Whether ``name`` is its UID, number or description."""
        return name in (self.uid, self.number, self.description)

    def __str__(self) -> str:
        name = f"{self.modality or '?'} series {self.number or '?'}"
        described = f" '{self.description}'" if self.description else ""
        date = self.study_date or "unknown date"
        return (
            f"{name}{described} ({self.images or '?'} images), patient {self.patient_id!r}, study of {date}, "
            f"UID {self.uid}"
        )


def is_address(text: str) -> bool:
    """Whether a text is an address of DICOMweb rather than a folder.

    Examples::

        >>> is_address("http://localhost:8042/dicom-web"), is_address("/data/study")
        (True, False)
    """
    return text.lower().startswith(("http://", "https://"))


class Archive:
    """An archive at the address of its DICOMweb services.

    Args:
        address: such as ``http://localhost:8042/dicom-web``, or ``https://NAME:PASSWORD@HOST/PATH``. A name and a
            password are better kept in ``~/.netrc``, where other users of the machine do not see them.
        token: sent as a bearer token.
        timeout: seconds to connect, and to wait for the next bytes of an answer.

    Raises:
        ArchiveError: of every method, in one line: not reachable, access refused, not there, gone in the middle, or an
            answer that is no DICOM.
        ValueError: if the address or a UID is none.

    Examples::

        >>> archive = Archive("http://localhost:8042/dicom-web")
        >>> [series] = archive.series("1.2.3", "CT")
        >>> archive.fetch(series.study, series.uid, Path("study"))
        >>> archive.store([Path("results/seg.dcm")])
        ['1.2.3.9']
    """

    def __init__(self, address: str, token: str | None = None, timeout: tuple[float, float] = TIMEOUT) -> None:
        import requests
        from dicomweb_client.web import DICOMwebClient

        parts = urlsplit(address)
        try:
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if not is_address(address) or not host or parts.query or parts.fragment:
            raise ValueError(
                f"monai_ext: {_without_password(address)!r} is no address of DICOMweb, expected one as "
                "http://localhost:8042/dicom-web."
            )
        #: without a password
        self.address = _without_password(address).rstrip("/")
        session = requests.Session()
        if parts.username is not None:
            session.auth = (unquote(parts.username), unquote(parts.password or ""))
        session.headers["Accept"] = "application/dicom+json"  # of what is stored; who asks says it once more
        if token:
            session.auth = _Bearer(token)  # a header of the session would be replaced by a name in ~/.netrc
        self._client = DICOMwebClient(self.address, session=session, permissive_uid=True, timeout=timeout)
        self._client.set_http_retry_params(retry=False)

    def __str__(self) -> str:
        return self.address

    def series(
        self, study: str | None = None, modality: str | None = None, limit: int = 1000, uid: str | None = None
    ) -> list[ArchivedSeries]:
        """The series of a study, or of the whole archive; only those of a modality where one is given.

        Args:
            study: Study Instance UID.
            modality: as DICOM writes it, such as ``"CT"``.
            limit: at most so many.
            uid: Series Instance UID, for the one series that has it.
        """
        found = []
        filters = {"Modality": modality} if modality else {}
        if uid is not None:
            filters["SeriesInstanceUID"] = _uid(uid)
        with self._in_words():
            answer = self._client.search_for_series(
                _uid(study) if study else None, fields=ASKED, search_filters=filters, limit=limit
            )
            for entry in map(Dataset.from_json, _objects(answer)):
                images = text(entry, "NumberOfSeriesRelatedInstances")
                one = ArchivedSeries(
                    study=text(entry, "StudyInstanceUID") or study or "",
                    uid=text(entry, "SeriesInstanceUID"),
                    modality=text(entry, "Modality").upper(),
                    images=int(images) if images.isdecimal() else 0,
                    number=text(entry, "SeriesNumber"),
                    description=text(entry, "SeriesDescription"),
                    patient_id=text(entry, "PatientID"),
                    study_date=text(entry, "StudyDate"),
                    study_description=text(entry, "StudyDescription"),
                )
                # some archives ignore a filter
                if one.uid and modality in (None, one.modality) and uid in (None, one.uid):
                    found.append(one)
        return found

    def instances(self, study: str, series: str) -> dict[str, str]:
        """SOP Instance UID -> SOP Class UID of what a series holds; empty where the archive has no such series."""
        try:
            with self._in_words():
                answer = self._client.search_for_instances(_uid(study), _uid(series), get_remaining=False)
                entries = [Dataset.from_json(entry) for entry in _objects(answer)]
        except ArchiveError as e:
            if e.status == 404:
                return {}
            raise
        return {text(entry, "SOPInstanceUID"): text(entry, "SOPClassUID") for entry in entries}

    def fetch(self, study: str, series: str, folder: Path, images: int = 0) -> Path:
        """Fetch a series into ``folder``, one file an object, in the transfer syntax in which it is stored.

        The folder appears in one step, with all objects in it.

        Args:
            study: Study Instance UID.
            series: Series Instance UID.
            folder: made by this call; one that is there must be empty.
            images: objects that the archive lists for the series; fewer that come are an error. 0 where that is not
                known.

        Raises:
            ArchiveError: if it has none, or sends fewer; nothing is left in the folder then.
        """
        folder = Path(folder)
        with scratch_folder(folder.parent, "fetch-") as scratch:
            new = scratch / "new"
            new.mkdir()
            received: set[str] = set()
            with self._in_words():
                objects = self._client.iter_series(_uid(study), _uid(series), media_types=AS_STORED)
                for number, found in enumerate(objects):
                    dcmwrite(new / f"{number:05d}.dcm", found)
                    received.add(text(found, "SOPInstanceUID"))
                    if text(found, "SeriesInstanceUID") != series:
                        raise ArchiveError(f"monai_ext: {self}: it was asked for series {series} and sends others.")
            if len(received) < max(images, 1):
                raise ArchiveError(
                    f"monai_ext: {self}: {len(received)} of {images or 'the'} images of series {series} came. Try "
                    "again when the archive has them all."
                )
            new.rename(folder)
        return folder

    def store(self, files: Sequence[str | os.PathLike]) -> list[str]:
        """Store DICOM files, and return the SOP Instance UIDs of those that the archive did not have before.

        The archive is asked for each first, so that none is stored twice, and has confirmed each in the end.

        Raises:
            ArchiveError: if one is not confirmed; those that are there stay there, and a later call sends the rest.
        """
        objects = [dcmread(file) for file in files]
        missing = self._missing(objects)
        if not missing:
            return []
        reasons: dict[str, str] = {}
        with self._in_words():
            try:
                answer = self._client.store_instances(missing)
            except Exception as e:
                answer = _refusal(e)
            for item in answer.get("FailedSOPSequence") or []:
                uid = text(item, "ReferencedSOPInstanceUID")
                reasons[uid] = f"reason 0x{int(item.get('FailureReason') or 0):04X}"
            confirmed = {text(i, "ReferencedSOPInstanceUID") for i in answer.get("ReferencedSOPSequence") or []}
        rest = [found for found in missing if text(found, "SOPInstanceUID") not in confirmed - reasons.keys()]
        if rest and (rest := self._missing(rest)):  # some archives store without a word
            uid = text(rest[0], "SOPInstanceUID")
            raise ArchiveError(
                f"monai_ext: {self}: {len(rest)} of {len(objects)} objects are not stored, the first of them {uid} "
                f"({reasons.get(uid, 'the archive confirms nothing')}).",
                409 if uid in reasons else None,
            )
        return [str(found.SOPInstanceUID) for found in missing]

    def _missing(self, objects: Sequence[Dataset]) -> list[Dataset]:
        """Those that the archive does not list."""
        there: dict[tuple[str, str], Mapping[str, str]] = {}
        for found in objects:
            place = str(found.StudyInstanceUID), str(found.SeriesInstanceUID)
            if place not in there:
                there[place] = self.instances(*place)
        return [o for o in objects if str(o.SOPInstanceUID) not in there[o.StudyInstanceUID, o.SeriesInstanceUID]]

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        """Say in one line what is wrong with the archive or its answer."""
        from requests import exceptions as http

        try:
            yield
        except ArchiveError:
            raise
        except http.HTTPError as e:
            status = 0 if e.response is None else e.response.status_code
            said = SAID.get(status, f"answered with an error ({status}). See its log")
            raise ArchiveError(f"monai_ext: {self}: the archive {said}.", status) from e
        except http.SSLError as e:
            said = "its certificate is not accepted. Set REQUESTS_CA_BUNDLE to the file of its issuer"
            raise ArchiveError(f"monai_ext: {self}: {said}.") from e
        except (http.ChunkedEncodingError, http.ContentDecodingError, http.ReadTimeout) as e:
            raise ArchiveError(f"monai_ext: {self}: the archive went away in the middle of its answer.") from e
        except http.JSONDecodeError as e:
            raise self._no_dicom() from e
        except http.ConnectionError as e:
            if "Connection aborted" in str(e) or "Read timed out" in str(e):
                raise ArchiveError(f"monai_ext: {self}: the archive went away before it answered.") from e
            raise ArchiveError(
                f"monai_ext: {self}: the archive cannot be reached. See whether it runs, and the address."
            ) from e
        except http.RequestException as e:
            raise ArchiveError(f"monai_ext: {self}: the archive cannot be asked ({type(e).__name__}).") from e
        except (InvalidDicomError, EOFError, KeyError, TypeError, AttributeError, NotImplementedError) as e:
            raise self._no_dicom() from e
        except ValueError as e:
            if str(e).startswith("monai_ext: "):
                raise
            raise self._no_dicom() from e

    def _no_dicom(self) -> ArchiveError:
        return ArchiveError(
            f"monai_ext: {self}: the answer is no DICOM. See whether the address is that of DICOMweb; that of Orthanc "
            "ends in /dicom-web."
        )


class _Bearer:
    """Adds a token to a request."""

    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


def _uid(text: str) -> str:
    if not is_uid(text):
        raise ValueError(f"monai_ext: {text!r:.80} is no UID, expected numbers with dots between.")
    return text


def _objects(answer: Any) -> list[dict[str, Any]]:
    if not isinstance(answer, list) or not all(isinstance(entry, dict) for entry in answer):
        raise ValueError("no list of objects")
    return answer


def _refusal(error: Exception) -> Dataset:
    """What an archive says of each object in an answer of 409: that none of them was stored."""
    response = getattr(error, "response", None)
    if response is None or response.status_code != 409:
        raise error
    try:
        return Dataset.from_json(response.json())
    except Exception:  # an answer without words, or in XML
        return Dataset()


def _without_password(address: str) -> str:
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
