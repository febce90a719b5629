# SPDX-License-Identifier: Apache-2.0
"""A real archive: series asked for and fetched as they are stored, results stored once, and every fault in one line."""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless

from monai_ext.apps.archive import Archive, ArchiveError
from monai_ext.apps.deploy.exchange import StorageNode, choose_series, destination, send_results
from tests.apps.series import compress, edit
from tests.dicom import write_ct_series
from tests_apps.orthanc import Orthanc, needs_orthanc
from tests_apps.server import free_port
from tests_apps.studies import ct

pytestmark = needs_orthanc


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory) -> Iterator[Orthanc]:
    with Orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


def write_series(folder: Path, **values: object) -> pydicom.Dataset:
    """A series of 12 images, and the first of them."""
    image, _, affine = ct(5, size=40, slices=12)
    write_ct_series(folder, image, affine)
    edit(folder, lambda ds: [setattr(ds, name, value) for name, value in values.items()])
    return pydicom.dcmread(min(folder.glob("*.dcm")))


def stored_uids(orthanc: Orthanc, **query: str) -> list[str]:
    return sorted(
        str(pydicom.dcmread(BytesIO(file)).SOPInstanceUID)
        for series in orthanc.series(**query)
        for file in orthanc.files(series["ID"])
    )


@contextmanager
def answering(answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """The address of a server that answers every request in one way."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer(self)

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/dicom-web"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def reply(status: int, kind: str, body: bytes, length: int | None = None) -> Callable:
    """Answers; with a ``length`` it promises more than it sends."""

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body) if length is None else length))
        request.end_headers()
        request.wfile.write(body)
        request.close_connection = True

    return answer


def hang_up(request: http.server.BaseHTTPRequestHandler) -> None:
    request.connection.close()
    request.close_connection = True


PARTS = 'multipart/related; type="application/dicom"; boundary=x'
FAULTS = {
    "asks for a password": (reply(401, "text/plain", b""), r"asks for a name and a password .401.*netrc"),
    "refuses": (reply(403, "text/html", b"<html>no</html>"), r"refuses access .403"),
    "fails": (reply(500, "text/html", b"<html>Traceback</html>"), r"answered with an error .500"),
    "is no archive": (reply(200, "text/html", b"<html>welcome</html>"), "the answer is no DICOM"),
    "answers other JSON": (reply(200, "application/json", b'[1, "a"]'), "the answer is no DICOM"),
    "answers JSON that is no DICOM": (reply(200, "application/json", b'[{"a": {"b": 1}}]'), "the answer is no DICOM"),
    "goes away in the middle": (reply(200, PARTS, b'[{"0020000', 4000), "went away in the middle"),
    "hangs up": (hang_up, "went away before it answered"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("asked", ["series", "fetch", "store"])
def test_what_an_archive_does_instead_is_one_line(fault, asked, tmp_path):
    answer, reason = FAULTS[fault]
    first = write_series(tmp_path / "ct")
    calls = {
        "series": lambda archive: archive.series("1.2.3"),
        "fetch": lambda archive: archive.fetch("1.2.3", "1.2.4", tmp_path / "out" / "series"),
        "store": lambda archive: archive.store([first.filename]),
    }
    with answering(answer) as address, pytest.raises(ArchiveError, match=f"^monai_ext: http://127.*: .*{reason}") as e:
        calls[asked](Archive(address.replace("//", "//name:secret@")))  # not by digits: a port may have them
    assert "\n" not in str(e.value)
    assert "secret" not in str(e.value)
    assert not list(tmp_path.glob("out/*"))


def test_an_archive_that_is_not_there():
    address = f"http://127.0.0.1:{free_port()}/dicom-web"
    with pytest.raises(ArchiveError, match="the archive cannot be reached. See whether it runs"):
        Archive(address).series()


@pytest.mark.parametrize("address", ["http://", "http://host:99999/x", "http://host/x?y=1"])
def test_what_is_no_address(address):
    with pytest.raises(ValueError, match="is no address of DICOMweb"):
        Archive(address)


def test_a_series_cut_off_in_the_middle_leaves_no_folder(tmp_path):
    first = write_series(tmp_path / "ct")
    part = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + Path(first.filename).read_bytes()
    for body, length in ((part + b"\r\n" + part[:900], 100_000), (part + b"\r\n" + part[:900], None)):
        said = "went away in the middle|is no DICOM|1 of 12 images"
        with answering(reply(200, PARTS, body, length)) as address, pytest.raises(ArchiveError, match=said):
            Archive(address).fetch(first.StudyInstanceUID, first.SeriesInstanceUID, tmp_path / "out" / "series", 12)
        assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("form", ["plain", "jpeg2000"])
def test_a_series_comes_back_as_it_is_stored(orthanc, form, tmp_path):
    first = write_series(tmp_path / "ct", PatientID=form)
    if form == "jpeg2000":  # which this archive cannot unpack
        compress(tmp_path / "ct", JPEG2000Lossless)
    archive, files = Archive(orthanc.dicomweb), sorted((tmp_path / "ct").glob("*.dcm"))
    assert len(archive.store(files)) == 12
    assert archive.store(files) == []
    [series] = archive.series(first.StudyInstanceUID, "CT")
    assert (series.uid, series.images, series.patient_id) == (first.SeriesInstanceUID, 12, form)
    assert archive.series(first.StudyInstanceUID, "MR") == []
    back = archive.fetch(series.study, series.uid, tmp_path / "back", series.images)
    there = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, files)}
    fetched = [pydicom.dcmread(file) for file in back.iterdir()]
    assert {ds.SOPInstanceUID for ds in fetched} == there.keys() == archive.instances(series.study, series.uid).keys()
    for ds in fetched:
        assert ds.PixelData == there[ds.SOPInstanceUID].PixelData
        assert ds.file_meta.TransferSyntaxUID == there[ds.SOPInstanceUID].file_meta.TransferSyntaxUID
    with pytest.raises(ArchiveError, match="12 of 13 images of series"):
        archive.fetch(series.study, series.uid, tmp_path / "more", 13)
    assert not (tmp_path / "more").exists()


def test_series_to_choose_from_are_listed(orthanc, tmp_path):
    archive = Archive(orthanc.dicomweb)
    first = write_series(tmp_path / "a", SeriesDescription="thin", SeriesNumber=3, PatientID="two series")
    study = first.StudyInstanceUID
    second = write_series(
        tmp_path / "b", SeriesDescription="lung", SeriesNumber=4, PatientID="two series", StudyInstanceUID=study
    )
    archive.store([*(tmp_path / "a").iterdir(), *(tmp_path / "b").iterdir()])
    with pytest.raises(ValueError, match="2 series could be segmented; choose one with --series") as e:
        choose_series(archive, study, None, "CT")
    for series, told in ((first, "CT series 3 'thin' (12 images)"), (second, "CT series 4 'lung' (12 images)")):
        assert f"{told}, patient 'two series'" in str(e.value)
        assert series.SeriesInstanceUID in str(e.value)
    for name in ("lung", "4", second.SeriesInstanceUID):
        assert choose_series(archive, study, name, "CT").uid == second.SeriesInstanceUID
    with pytest.raises(ValueError, match="no MR series to segment; there are: CT series"):
        choose_series(archive, study, None, "MR")
    with pytest.raises(ValueError, match="no series 'bone'; there are: CT series"):
        choose_series(archive, study, "bone", "CT")
    with pytest.raises(ValueError, match="no such study"):
        choose_series(archive, "1.2.3.4", None, "CT")
    write_series(tmp_path / "c", PatientID="another")
    archive.store([*(tmp_path / "c").iterdir()])
    with pytest.raises(ValueError, match=r"studies have CT series; choose one with --study\. .*patient 'another', UID"):
        choose_series(archive, None, None, "CT")


def test_a_series_of_two_patients_is_refused(orthanc, tmp_path):
    first = write_series(tmp_path / "ct")
    edit(tmp_path / "ct", lambda ds: setattr(ds, "PatientID", "b" if ds.InstanceNumber > 5 else "a"))
    archive = Archive(orthanc.dicomweb)
    orthanc.upload(tmp_path / "ct")
    with pytest.raises(ValueError, match="lists one series UID several times, as of several patients"):
        choose_series(archive, first.StudyInstanceUID, None, "CT")


@pytest.mark.parametrize("way", ["STOW-RS", "C-STORE"])
def test_an_archive_killed_in_the_middle_loses_nothing(way, tmp_path, monkeypatch):
    """What it had confirmed is there once when it runs again, and the rest comes with the next call."""
    write_series(tmp_path / "results", PatientID="killed")
    files = sorted((tmp_path / "results").glob("*.dcm"))
    uids = sorted(str(pydicom.dcmread(file).SOPInstanceUID) for file in files)
    with Orthanc(tmp_path / "orthanc") as orthanc:
        to = Archive(orthanc.dicomweb) if way == "STOW-RS" else StorageNode("127.0.0.1", orthanc.dicom_port, "ORTHANC")
        to.store(files[:1])
        if way == "STOW-RS":
            done = to._client._session.send

            def send(request, **kwargs):
                if request.method == "POST":  # a part of the body has arrived when it dies
                    body = request.body

                    def parts():
                        yield body[: len(body) // 2]
                        orthanc.kill()
                        yield body[len(body) // 2 :]

                    request.body = parts()
                    request.headers.pop("Content-Length", None)
                    request.headers["Transfer-Encoding"] = "chunked"
                return done(request, **kwargs)

            monkeypatch.setattr(to._client._session, "send", send)
        else:
            from pynetdicom.association import Association

            sent, store = [], Association.send_c_store

            def send(self, found, *args, **kwargs):
                sent.append(found)
                if len(sent) == 6:
                    orthanc.kill()
                return store(self, found, *args, **kwargs)

            monkeypatch.setattr(Association, "send_c_store", send)
        with pytest.raises(ArchiveError, match=f"kept in {re.escape(str(tmp_path / 'results'))}; the same command"):
            send_results(files, to, waits=())
        monkeypatch.undo()
        assert sorted(tmp_path.glob("results/*")) == files
        orthanc.start()
        there = stored_uids(orthanc)
        assert len(there) < 12
        assert set(there) <= set(uids)
        send_results(files, to)
        assert stored_uids(orthanc) == uids


def test_results_are_sent_again_while_the_archive_is_away(tmp_path):
    write_series(tmp_path / "results")
    files = sorted((tmp_path / "results").glob("*.dcm"))
    with Orthanc(tmp_path / "orthanc") as orthanc:
        orthanc.stop()
        starting = threading.Timer(0.5, orthanc.start)
        starting.start()
        assert len(send_results(files, Archive(orthanc.dicomweb), waits=[0.2] * 100)) == 12
        starting.join()
        assert len(stored_uids(orthanc)) == 12


def test_an_archive_says_why_it_takes_no_object(orthanc, tmp_path):
    first = write_series(tmp_path / "results")
    wrong = StorageNode("127.0.0.1", free_port(), "ORTHANC")
    with pytest.raises(ArchiveError, match="ORTHANC at 127.0.0.1:.*cannot be reached. See .* host and port"):
        wrong.store([Path(first.filename)])
    said = "refuses this program. Its keepers must allow MONAI_EXT"
    checked = {"DicomCheckCalledAet": True}
    with Orthanc(tmp_path / "strict", options=checked) as strict, pytest.raises(ArchiveError, match=said):
        StorageNode("127.0.0.1", strict.dicom_port, "OTHER").store([Path(first.filename)])
    answer = json.dumps(
        {
            "00081198": {
                "vr": "SQ",
                "Value": [
                    {
                        "00081155": {"vr": "UI", "Value": [first.SOPInstanceUID]},
                        "00081197": {"vr": "US", "Value": [0xA900]},
                    }
                ],
            }
        }
    )

    def refuse(request: http.server.BaseHTTPRequestHandler) -> None:
        posted = request.command == "POST"
        reply(409 if posted else 200, "application/dicom+json", answer.encode() if posted else b"[]")(request)

    said = f"1 of 1 objects are not stored.*{first.SOPInstanceUID} .reason 0xA900"
    with answering(refuse) as address, pytest.raises(ArchiveError, match=said):
        Archive(address).store([first.filename])


@pytest.mark.parametrize(
    ("send", "aet", "reason"),
    [
        ("http://host/dicom-web", "PACS", "--aet PACS names an archive of C-STORE, but --send is an address"),
        ("host", "PACS", "--send host is no address, expected"),
        ("host:0", "PACS", "is no address"),
        ("host:104", None, "Give its application entity title with --aet"),
        ("host:104", "A NAME OF MORE THAN SIXTEEN", "1 to 16"),
    ],
)
def test_where_results_can_be_sent(send, aet, reason):
    with pytest.raises(ValueError, match=reason):
        destination(send, aet)
