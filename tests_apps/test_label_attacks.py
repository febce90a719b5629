# SPDX-License-Identifier: Apache-2.0
"""Requests that no viewer sends: no text of theirs runs, no file outside is touched, nothing is overwritten."""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import pytest

from monai_ext.apps.label.compat import prepare_imports
from monai_ext.apps.label.entrance import Rules, checked_origins, own_hosts
from monai_ext.apps.label.folder import app_folder, prepare_app
from monai_ext.bundle import Bundle
from tests_apps.bundles import write_bundle
from tests_apps.studies import ct, save

BUNDLE = "dcaunet_synapse"
HOST = "http://127.0.0.1:8000"


class Place:
    """The application in this process, with one bundle and one study, and all files around it."""

    def __init__(self, folder: Path) -> None:
        prepare_imports()
        from fastapi.testclient import TestClient
        from monailabel.config import settings

        from monai_ext.apps.label.server import application

        self.folder = folder
        self.bundle = write_bundle(folder / "bundles", BUNDLE, size=32)
        self.studies = folder / "studies"
        image, _, affine = ct(5, size=32, slices=6)
        save(self.studies / "ct5.nii.gz", image, affine)
        (folder / "secret.nii.gz").write_bytes((self.studies / "ct5.nii.gz").read_bytes())
        self.app = app_folder(self.studies, None)
        prepare_app(self.app, {BUNDLE: Bundle(self.bundle)})
        settings.MONAI_LABEL_APP_DIR, settings.MONAI_LABEL_STUDIES = str(self.app), str(self.studies)
        settings.MONAI_LABEL_SESSION_PATH = str(self.app / "sessions")
        self.make = lambda rules: TestClient(application(rules), base_url=HOST, raise_server_exceptions=False)
        self.client = self.make(Rules())

    def state(self) -> dict[str, str]:
        """Every file that a request must leave as it is."""
        kept = (self.bundle, self.app / "main.py", self.app / "model", self.folder / "secret.nii.gz", self.studies)
        files = [p for place in kept for p in ([place] if place.is_file() else sorted(place.rglob("*")))]
        bookkeeping = ("datastore_v2.json", ".lock")
        return {
            str(p): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in files
            if p.is_file() and p.name not in bookkeeping
        }

    def everything(self) -> set[str]:
        return {str(p) for p in self.folder.rglob("*")}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("attacked")
    before = Path.cwd()
    os.chdir(folder)  # where code that ran would leave its mark
    try:
        yield Place(folder)
    finally:
        os.chdir(before)


def texts(place: Place) -> list[object]:
    mark = f"__import__('pathlib').Path({str(place.folder / 'ran')!r}).touch()"
    return [
        f"${mark}",
        f"@{mark}",
        "%../secret.json",
        {"_target_": "os.system", "command": f"touch {place.folder / 'ran'}"},
        [{"_target_": "os.system", "command": f"touch {place.folder / 'ran'}"}],
        "../../secret",
        str(place.folder / "secret.nii.gz"),
        -1,
        0,
        True,
        1e400,
        float("nan"),
        "x" * 100_000,
        None,
    ]


def unharmed(place: Place, before: dict[str, str]) -> None:
    assert not (place.folder / "ran").exists()
    assert place.state() == before


def in_words(answer, *statuses: int) -> str:
    assert answer.status_code in statuses, (answer.status_code, answer.text[:300])
    detail = answer.json()["detail"]
    text = detail if isinstance(detail, str) else json.dumps(detail)
    assert "Traceback" not in text and "object has no attribute" not in text
    return text


KNOBS = {
    "infer": (
        "slices_per_batch",
        "test_time_mirroring",
        "device",
        "model_filename",
        "result_extension",
        "result_compress",
    ),
    "train": (
        "learning_rate",
        "batch_size",
        "val_interval",
        "max_epochs",
        "val_split",
        "pretrained",
        "multi_gpu",
        "device",
    ),
}


@pytest.mark.parametrize("knob", KNOBS["infer"])
def test_knobs_of_inference_take_their_own_kind_only(place, knob):
    before = place.state()
    for value in texts(place):
        params = json.dumps({knob: value})
        answer = place.client.post(f"/infer/{BUNDLE}", params={"image": "ct5"}, data={"params": params})
        harmless = value is None or (value is True and knob in ("test_time_mirroring", "result_compress"))
        if harmless:
            assert answer.status_code == 200, answer.text
        else:
            assert f"monai_ext: {knob}" in in_words(answer, 400)
        unharmed(place, before)


@pytest.mark.parametrize("knob", KNOBS["train"])
def test_knobs_of_training_take_their_own_kind_only(place, knob):
    """Those that pass start no training: there is no label, which is said."""
    before = place.state()
    for value in texts(place):
        if isinstance(value, float):  # JSON has neither
            continue
        answer = place.client.post(f"/train/{BUNDLE}", params={"run_sync": True}, json={knob: value})
        right = (
            value is None
            or (value is True and knob in ("pretrained", "multi_gpu"))
            or (value == 0 and knob in ("learning_rate", "val_split") and value is not False)
        )
        text = in_words(answer, 500) if right else in_words(answer, 400)
        assert ("no study has a final label" in text) if right else (f"monai_ext: {knob}" in text)
        unharmed(place, before)


def test_what_a_request_adds_is_left_out(place):
    """Keys that upstream would take over: the image, the model, anything of the config."""
    before = place.state()
    code = f"$__import__('pathlib').Path({str(place.folder / 'ran')!r}).touch()"
    added = {
        "image": str(place.folder / "secret.nii.gz"),
        "model": "x",
        "bundle_root": code,
        "network_def": code,
        "label": "/etc/passwd",
    }
    answer = place.client.post(
        f"/infer/{BUNDLE}", params={"image": "ct5", "output": "json"}, data={"params": json.dumps(added)}
    )
    assert answer.status_code == 200, answer.text
    assert "liver" in answer.json()["label_names"]
    unharmed(place, before)


NAMES = ("../secret", "..", ".", ".monailabel/main", "/etc/passwd", "a/b", "a\\b", "a\nb", "a\0b", "x" * 300, ".hidden")


@pytest.mark.parametrize("name", NAMES)
def test_names_are_names(place, name):
    before, there = place.state(), place.everything()
    content = io.BytesIO((place.studies / "ct5.nii.gz").read_bytes())
    file = {"file": ("a.nii.gz", content)}
    label = {"label": ("a.nii.gz", content)}
    ask = place.client
    answers = [
        ask.put("/datastore/image", params={"image": name}, files=file),
        ask.put("/datastore/", params={"image": name}, files=file),
        ask.get("/datastore/image", params={"image": name}),
        ask.delete("/datastore/image", params={"id": name}),
        ask.get("/datastore/label", params={"label": name, "tag": "final"}),
        ask.get("/datastore/label", params={"label": "ct5", "tag": name}),
        ask.put("/datastore/label", params={"image": name, "tag": "final"}, files=label),
        ask.put("/datastore/label", params={"image": "ct5", "tag": name}, files=label),
        ask.delete("/datastore/label", params={"id": "ct5", "tag": name}),
        ask.put("/datastore/label/info", params={"label": "ct5", "tag": name}, data={"info": "{}"}),
        ask.post(f"/infer/{BUNDLE}", params={"image": name}),
        ask.post(f"/infer/{BUNDLE}", params={"session_id": name}),
    ]
    for answer in answers:
        in_words(answer, 400)
    unharmed(place, before)
    assert place.everything() - there <= {str(place.studies / ".lock")}


def test_names_of_uploaded_files_are_no_paths(place):
    before, there = place.state(), place.everything()
    content = (place.studies / "ct5.nii.gz").read_bytes()
    for name in ("../../x.py", "main.py", "x.json", "x", "..", "a.sh;b"):
        in_words(place.client.put("/datastore/image", params={"image": "new"}, files={"file": (name, content)}), 400)
        in_words(place.client.put("/datastore/label", params={"image": "ct5"}, files={"label": (name, content)}), 400)
    in_words(place.client.put("/session/", params={"uncompress": True}, files={"files": ("a.zip", content)}), 400)
    unharmed(place, before)
    assert place.everything() == there


def test_studies_and_weights_are_not_replaced(place):
    before = place.state()
    content = (place.studies / "ct5.nii.gz").read_bytes()
    answer = place.client.put("/datastore/image", params={"image": "ct5"}, files={"file": ("a.nii.gz", content[:50])})
    assert "ct5" in in_words(answer, 409)
    assert place.client.put(f"/model/{BUNDLE}", files={"file": ("a.pt", b"x")}).status_code == 405
    assert place.client.delete(f"/model/{BUNDLE}").status_code == 405
    assert place.client.post("/reload").status_code == 404
    assert place.client.post("/train/").status_code == 405
    unharmed(place, before)


def test_what_is_not_there_is_404(place):
    ask = place.client
    for answer in (
        ask.post(f"/infer/{BUNDLE}", params={"image": "nobody"}),
        ask.post("/infer/unet", params={"image": "ct5"}),
        ask.post("/train/unet"),
        ask.post("/batch/infer/unet"),
        ask.post("/activelearning/best", json={}),
        *(ask.post("/activelearning/uncertainty", json={"model": model}) for model in ("unet", 5, {"a": 1}, [["x"]])),
        ask.post("/scoring/dice", json={}),
        ask.delete("/datastore/image", params={"id": "nobody"}),
        ask.get("/datastore/dataset"),
        ask.post(f"/infer/{BUNDLE}", params={"session_id": "nobody"}),
    ):
        in_words(answer, 404)


@pytest.mark.parametrize("body", ["", "{", "[]", "[1]", "null", "1", '"x"', "{'a': 1}", "\xff", "[" * 100_000])
def test_malformed_bodies(place, body):
    before = place.state()
    fine = body in ("", "null")
    answer = place.client.post(f"/infer/{BUNDLE}", params={"image": "ct5", "output": "json"}, data={"params": body})
    if body == "":
        assert answer.status_code == 200
    else:
        in_words(answer, 400)
    for path in (f"/train/{BUNDLE}", "/activelearning/first"):
        answer = place.client.post(
            path,
            content=body.encode("latin-1"),
            headers={"content-type": "application/json"},
            params={"run_sync": True},
        )
        if not (fine and path.startswith("/activelearning")):
            in_words(answer, 400, 422, 500)
    unharmed(place, before)


def test_bodies_have_a_limit(place):
    client = place.make(Rules(most_bytes=1000))
    assert "at most 1000" in in_words(
        client.post(f"/infer/{BUNDLE}", params={"image": "ct5"}, data={"params": "x" * 2000}), 413
    )

    def parts() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    answer = client.post(f"/train/{BUNDLE}", content=parts(), headers={"content-type": "application/json"})
    assert answer.status_code >= 400
    place.make(Rules())


OUTSIDERS = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:8001"},
    {"origin": "https://127.0.0.1:8000"},
    {"origin": "http://127.0.0.1.evil.example:8000"},
    {"host": "evil.example"},
    {"host": "evil.example:8000", "origin": "http://evil.example:8000"},
    {"host": "127.0.0.1.evil.example"},
    {"host": "127.0.0.1@evil.example"},
    {"host": ""},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
]


@pytest.mark.parametrize("headers", OUTSIDERS)
def test_pages_of_others_may_not_ask(place, headers):
    before = place.state()
    for method, path in (
        ("GET", "/info/"),
        ("POST", f"/infer/{BUNDLE}?image=ct5"),
        ("PUT", "/datastore/image"),
        ("OPTIONS", "/info/"),
        ("GET", "/"),
    ):
        answer = place.client.request(method, path, headers=headers)
        in_words(answer, 403, 421)
        assert "access-control-allow-origin" not in answer.headers
    unharmed(place, before)


def test_own_pages_and_those_that_are_named_may(place):
    assert place.client.get("/datastore/", headers={"origin": HOST}).status_code == 200
    assert place.client.get("/datastore/", headers={"host": "localhost:8000"}).status_code == 200
    viewer = "http://viewer:3000"
    client = place.make(Rules(origins=checked_origins(viewer)))
    answer = client.get("/datastore/", headers={"origin": viewer})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == viewer
    assert "access-control-allow-credentials" not in answer.headers
    asked = {"origin": viewer, "access-control-request-method": "PUT"}
    assert client.options("/datastore/image", headers=asked).status_code == 204
    in_words(client.get("/datastore/", headers={"origin": "http://viewer:3001"}), 403)
    for wrong in ("viewer", "http://viewer/page", "*", "file:///x", "http://viewer:3000,*"):
        with pytest.raises(ValueError, match="--origins"):
            checked_origins(wrong)


def test_token(place):
    client = place.make(Rules(token="a" * 32))
    for headers in (
        {},
        {"authorization": "Bearer b"},
        {"authorization": "a" * 32},
        {"authorization": "Basic " + "a" * 32},
    ):
        answer = client.get("/info/", headers=headers)
        in_words(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
    assert client.get("/datastore/", headers={"authorization": "Bearer " + "a" * 32}).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/ohif/../app.py", "/static/../app.py", "//etc/passwd", "/ohif/..%2f..%2fapp.py", "/static/..%5c..", "/ohif/%00"],
)
def test_paths_stay_inside(place, path):
    answer = place.client.get(HOST + path)
    assert "import" not in answer.text
    assert answer.status_code in (400, 404) or "text/html" in answer.headers["content-type"]


def test_other_machines_need_a_token(tmp_path):
    from monai_ext.apps.label import label

    (tmp_path / "studies").mkdir()
    with pytest.raises(ValueError, match=r"--host 0.0.0.0 lets other machines .* Give --token TOKEN"):
        label(str(tmp_path / "studies"), host="0.0.0.0")
    with pytest.raises(ValueError, match=r"--token: 5 characters, expected at least 16"):
        label(str(tmp_path / "studies"), host="0.0.0.0", token="short")
    with pytest.raises(ValueError, match="lies inside the studies"):
        label(str(tmp_path / "studies"), app=str(tmp_path / "studies" / "x"))
    assert own_hosts("127.0.0.1") == (frozenset({"localhost", "127.0.0.1", "[::1]"}), False)
    assert own_hosts("0.0.0.0")[1]


def test_labels_are_as_before_for_those_who_may(place, tmp_path):
    answer = place.client.post(f"/infer/{BUNDLE}", params={"image": "ct5", "output": "image"})
    assert answer.status_code == 200
    (tmp_path / "label.nii.gz").write_bytes(answer.content)
    found = nibabel.load(tmp_path / "label.nii.gz")
    image = nibabel.load(place.studies / "ct5.nii.gz")
    assert found.shape == image.shape
    np.testing.assert_allclose(found.affine, image.affine, atol=1e-5)


def test_requests_do_not_wait_for_one_another(place, monkeypatch):
    from monai_ext.apps.label.infer import BundleInference

    started, go_on = threading.Event(), threading.Event()

    def slow(self, request, callbacks=None):
        started.set()
        assert go_on.wait(120)
        raise ValueError("monai_ext: done.")

    monkeypatch.setattr(BundleInference, "__call__", slow)
    with place.make(Rules()) as client, ThreadPoolExecutor(1) as pool:  # one event loop for both, as in the server
        inference = pool.submit(client.post, f"/infer/{BUNDLE}", params={"image": "ct5"})
        assert started.wait(120)
        for path in ("/info/", "/datastore/", "/datastore/image/info?image=ct5"):
            assert client.get(path).status_code == 200
        assert not inference.done()
        go_on.set()
        assert inference.result().json()["detail"] == "monai_ext: done."
