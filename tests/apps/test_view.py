# SPDX-License-Identifier: Apache-2.0
"""What `view` serves, to whom, and what a real browser makes of it: the liver is on the left of the picture."""

from __future__ import annotations

import hashlib
import json
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, inv_ornt_aff, ornt_transform
from PIL import Image

from monai_ext.apps.anatomy import colour_of
from monai_ext.apps.report import SegmentationReport
from monai_ext.apps.segmentation import segment
from monai_ext.apps.view import ViewServer, check_grids, find_viewed, loopback
from monai_ext.apps.view.layers import read_layers
from monai_ext.networks.nets import DCAUNet
from tests.apps.test_commands import cli  # noqa: F401
from tests.apps.test_report import item, run
from tests.browser import Browser, needs_browser
from tests.bundles.runs import write_weights
from tests.data.volumes import rotation, save
from tests.dicom import write_ct_series

BUNDLE = "dcaunet_synapse"
LIVER, SPLEEN, LEFT_KIDNEY = 5, 7, 3
# RAS, mm: the right of the patient has the larger x
BOXES = {LIVER: ((8, 50), (-20, 25), (-20, 30)), SPLEEN: ((-52, -22), (-25, 5), (-10, 25))}
CENTRED = np.array([[1, 0, 0, -64], [0, 1, 0, -52], [0, 0, 1, -50], [0, 0, 0, 1]], dtype=float)


def patient(affine: np.ndarray, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """HU and classes of one patient on any grid."""
    x, y, z = np.tensordot(affine[:3, :3], np.indices(shape), 1) + affine[:3, 3, None, None, None]
    body = ((x / 60) ** 2 + (y / 45) ** 2 < 1) & (abs(z) < 45)
    label = np.zeros(shape, dtype=np.uint8)
    for value, ((x0, x1), (y0, y1), (z0, z1)) in BOXES.items():
        label[(x > x0) & (x < x1) & (y > y0) & (y < y1) & (z > z0) & (z < z1)] = value
    return np.where(body, np.where(label > 0, 90, 20), -1000).astype(np.int16), label


def grids() -> dict[str, tuple[np.ndarray, tuple[int, int, int]]]:
    straight = CENTRED @ np.diag([4.0, 4.0, 5.0, 1.0])
    shape = (32, 26, 20)
    turn = ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt("ILP"))
    shear = np.eye(4)
    shear[1, 2] = np.tan(np.deg2rad(20))
    about_z = rotation(12)[[2, 0, 1, 3]][:, [2, 0, 1, 3]]
    return {
        "straight": (straight, shape),
        "flipped": (straight @ inv_ornt_aff(turn, shape), tuple(shape[i] for i in np.argsort(turn[:, 0]))),
        "oblique": (rotation(18) @ about_z @ straight, shape),
        "sheared": (shear @ straight, shape),
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    for name, (affine, shape) in grids().items():
        scan, label = patient(affine, shape)
        save(folder / f"{name}.nii.gz", scan, affine)
        save(folder / f"{name}_truth.nii.gz", label, affine)
        save(folder / f"{name}_net.nii.gz", np.roll(label, 1, axis=2), affine)
    affine, shape = grids()["straight"]
    lps = affine @ inv_ornt_aff(nibabel.orientations.axcodes2ornt("LPS"), shape)
    write_ct_series(folder / "series", patient(lps, shape)[0], lps)
    return folder


@contextmanager
def served(cases):
    with ViewServer(cases) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def case_of(files: Path, name: str, **labels):
    given = {"truth": files / f"{name}_truth.nii.gz", "prediction": files / f"{name}_net.nii.gz"} | labels
    return find_viewed([files / f"{name}.nii.gz"], bundle=BUNDLE, **given)[0]


def get(address: str, **headers: str) -> tuple[int, dict, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=60) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as e:
        return e.code, dict(e.headers), e.read()


def volume_at(address: str) -> tuple[np.ndarray, np.ndarray]:
    status, _, content = get(address)
    assert status == 200, content
    image = nibabel.Nifti1Image.from_bytes(content)
    return np.asarray(image.dataobj), image.affine


def test_layers_are_the_files_voxel_by_voxel(files):
    """A label whose axes run another way lies where it belongs, and a DICOM series is a volume."""
    affine, shape = grids()["straight"]
    scan, label = patient(affine, shape)
    other = files / "flipped_truth.nii.gz"  # the same patient on the same grid, stored another way
    cases = [case_of(files, name) for name in ("straight", "sheared")]
    cases += [case_of(files, "straight", truth=other), find_viewed([files / "series"])[0]]
    with served(cases) as server:
        got, placed = volume_at(f"{server.url}case/0/scan0.nii")
        np.testing.assert_array_equal(got, scan)
        np.testing.assert_allclose(placed, affine)
        prediction = np.roll(label, 1, axis=2)
        for number in (0, 2):
            np.testing.assert_array_equal(volume_at(f"{server.url}case/{number}/truth.nii")[0], label)
            difference, placed = volume_at(f"{server.url}case/{number}/difference.nii")
            np.testing.assert_allclose(placed, affine)
            np.testing.assert_array_equal(difference == 1, (label > 0) & (prediction == 0))
            np.testing.assert_array_equal(difference == 2, (label == 0) & (prediction > 0))
            assert not (difference == 3).any()
        np.testing.assert_allclose(volume_at(f"{server.url}case/1/scan0.nii")[1], grids()["sheared"][0], atol=1e-5)
        series, placed = volume_at(f"{server.url}case/3/scan0.nii")
        turn = ornt_transform(nibabel.io_orientation(placed), nibabel.io_orientation(affine))
        np.testing.assert_array_equal(apply_orientation(series, turn), scan)
        np.testing.assert_allclose(placed @ inv_ornt_aff(turn, series.shape), affine, atol=1e-6)
        told = [json.loads(get(f"{server.url}case/{number}.json")[2]) for number in range(4)]
    assert [one["straight"] for one in told] == [False, True, False, False]
    assert [layer["name"] for layer in told[0]["layers"]] == ["prediction", "truth", "difference"]
    assert told[3]["layers"] == []
    liver = told[0]["layers"][1]["labels"][0]
    assert (liver["name"], liver["colour"]) == ("liver", list(colour_of("liver")))
    assert liver["ml"] == pytest.approx((label == LIVER).sum() * 0.08, abs=0.005)
    assert told[0]["scans"][0]["windows"][0] == {"name": "abdomen", "low": -160, "high": 240}
    x, y, z = told[0]["focus"]
    assert 8 < x < 50 and -20 < y < 25 and -20 < z < 35  # in the largest part of the prediction


def test_codes_of_others_get_no_names(files, tmp_path):
    """A truth with a publisher's codes is no truth of the model's classes by its numbers."""
    affine, shape = grids()["straight"]
    codes = save(tmp_path / "codes.nii.gz", patient(affine, shape)[1] + np.uint8(4), affine)
    told = read_layers(case_of(files, "straight", truth=codes)).description()
    named = {layer["name"]: [label["name"] for label in layer["labels"]] for layer in told["layers"]}
    assert named["prediction"] == ["liver", "spleen"]
    assert named["truth"] == ["label 4", "label 9", "label 11"]
    assert "the truth are not all classes of the model" in told["notes"][0]


def test_only_this_machines_page_is_answered(files):
    with served([case_of(files, "straight")]) as server:
        port = server.server_port
        status, headers, page = get(server.url)
        assert status == 200 and b"view.js" in page
        assert "default-src 'none'" in headers["Content-Security-Policy"] and "unsafe-eval" not in str(headers)
        assert get(server.url, Host=f"localhost:{port}")[0] == 200
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port}.evil.example"):
            assert get(server.url, Host=host)[0] == 403, host
        for origin in ("http://evil.example", "null", f"https://127.0.0.1:{port}"):
            assert get(f"{server.url}case/0/scan0.nii", Origin=origin)[0] == 403, origin
        assert get(f"{server.url}case/0.json", Origin=f"http://127.0.0.1:{port}")[0] == 200
        root = f"http://127.0.0.1:{port}"
        for path in ("/", "/case/0.json", f"/{'x' * 22}/", f"/{server.token}/../{server.token}/x", "/etc/passwd"):
            assert get(root + path)[0] == 404, path
        for path in ("../../setup.cfg", "%2e%2e/loopback.py", "case/1.json", "case/0/..%2f", "LICENSE.niivue/"):
            connection = HTTPConnection("127.0.0.1", port, timeout=60)  # sends the path as it is
            connection.request("GET", f"/{server.token}/{path}")
            assert connection.getresponse().status == 404, path
            connection.close()
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", f"/{server.token}/case/0.json")
        assert connection.getresponse().status == 501
        connection.close()
        assert server.server_address[0] == "127.0.0.1"


def test_bad_input_is_one_line(files, tmp_path, cli):  # noqa: F811
    affine, shape = grids()["straight"]
    label = patient(affine, shape)[1]
    moved = affine.copy()
    moved[0, 3] += 7
    scan = files / "straight.nii.gz"
    wrong = {
        "small.nii.gz": (label[1:], affine, "31x26x20 voxels, expected 32x26x20"),
        "moved.nii.gz": (label, moved, "voxels up to 7 mm away"),
    }
    for name, (array, placed, told) in wrong.items():
        path = save(tmp_path / name, array, placed)
        status, _ = cli("view", scan, "--truth", path, "--browser", "false")
        start = f"monai_ext: {path}: lies on another grid than its scan straight.nii.gz: {told}"
        assert str(status).startswith(start) and "\n" not in str(status)
    with served([case_of(files, "straight", truth=tmp_path / "moved.nii.gz")]) as server:
        status, _, text = get(f"{server.url}case/0.json")  # in a folder of many cases the others are shown
        assert status == 500 and b"voxels up to 7 mm away" in text
        status, _ = cli("view", scan, "--port", server.server_port, "--browser", "false")
        assert str(status).startswith(f"monai_ext: port {server.server_port} of 127.0.0.1 cannot be had")
    for arguments, told in {
        (tmp_path / "none.nii.gz",): "no such file",
        (scan, "--port", "70000"): "port must be 0 to 65535",
        (scan, "--truth", tmp_path / "none.nii.gz"): "--truth .*none.nii.gz: no such file",
        (files, "--truth", scan): "labels of one scan, but there are",
        (): "give a scan",
    }.items():
        status, _ = cli("view", *arguments, "--browser", "false")
        with pytest.raises(AssertionError, match=f"^monai_ext: .*{told}"):
            raise AssertionError(str(status))
    with pytest.raises(ValueError, match=r"scan.nii.gz: values from -1000 to 90, expected a label map"):
        read_layers(case_of(files, "straight", truth=save(tmp_path / "scan.nii.gz", *_scan())))


def _scan():
    affine, shape = grids()["straight"]
    return patient(affine, shape)[0], affine


def picture(folder: Path) -> Path:
    """Red on top left, and a lesion at the bottom on the right."""
    pixels = np.full((60, 100, 3), 40, dtype=np.uint8)
    pixels[5:20, 5:30] = (250, 10, 10)
    mask = np.zeros((60, 100), dtype=np.uint8)
    mask[40:55, 70:90] = 255
    for name, array in {"skin.png": pixels, "mask.png": mask}.items():
        Image.fromarray(array).save(folder / name)
    return folder / "skin.png"


def test_pictures(tmp_path):
    case = find_viewed([picture(tmp_path)], truth=tmp_path / "mask.png", bundle="qtseg_isic2016")[0]
    check_grids(case)
    layers = read_layers(case)
    shown = nibabel.Nifti1Image.from_bytes(layers.nifti("scan0"))
    colours = np.asarray(shown.dataobj)
    assert shown.shape == (100, 60, 1) and tuple(colours[10, 7, 0].tolist()) == (250, 10, 10)
    assert nibabel.aff2axcodes(shown.affine) == ("L", "P", "S")  # as an axial slice: to the right, and down
    mask = np.asarray(nibabel.Nifti1Image.from_bytes(layers.nifti("truth")).dataobj)
    assert np.argwhere(mask).min(axis=0).tolist() == [70, 40, 0] and set(np.unique(mask)) == {0, 1}
    assert layers.description()["layers"][0]["labels"][0]["name"] == "lesion"
    Image.fromarray(np.zeros((60, 99), dtype=np.uint8)).save(tmp_path / "other.png")
    with pytest.raises(ValueError, match=r"other.png: lies on another grid .* 99x60 pixels, expected 100x60"):
        check_grids(find_viewed([tmp_path / "skin.png"], truth=tmp_path / "other.png")[0])
    Image.fromarray(np.zeros((10, 5000, 3), dtype=np.uint8)).save(tmp_path / "wide.png")
    wide = read_layers(find_viewed([tmp_path / "wide.png"])[0])
    assert wide.scan.shape[1] == 1667 and "One of 3 pixels" in wide.notes[0]


def test_folder_of_segment(files, tmp_path):
    """Each label stands with its scan, whatever the files are called."""
    model = write_weights(tmp_path / "model.pt", DCAUNet(2, 1, 9))
    output = tmp_path / "out" / "anything.nii.gz"
    knobs = {"image_size": [32, 32], "num_workers": 0}
    written = segment(BUNDLE, files / "straight.nii.gz", output, [model], **knobs)
    assert [path.name for path in written] == ["anything.nii.gz"]
    (case,) = find_viewed([tmp_path / "out"])
    assert (case.name, case.scan, case.truth) == ("straight", (str(files / "straight.nii.gz"),), None)
    layers = read_layers(case)
    np.testing.assert_array_equal(layers.labels["prediction"], np.asarray(nibabel.load(written[0]).dataobj))
    assert layers.labels["prediction"].any() and layers.case.class_names[LIVER] == "liver" and case.modality == "CT"
    assert case.quality is None
    record = json.loads((tmp_path / "out" / "run_inference.json").read_text())
    record["cases"][0]["quality"] = {"flag": "doubtful", "expected_dice": 0.61, "interval": [0.5, 0.724]}
    (tmp_path / "out" / "run_inference.json").write_text(json.dumps(record))
    assert find_viewed([tmp_path / "out"])[0].quality == "Quality: doubtful; expected Dice 0.61 (0.50 to 0.72)."
    written[0].unlink()
    with pytest.raises(ValueError, match="no label that run_inference.json tells of"):
        find_viewed([tmp_path / "out"])


def test_folder_of_an_evaluation(tmp_path, monkeypatch):
    """The labels as they were scored, and names that are no file's and no markup."""
    affine, shape = grids()["straight"]
    scan, label = patient(affine, shape)
    label = (label > 0).astype(np.uint8) + (label == SPLEEN).astype(np.uint8)
    prediction = np.roll(label, 1, axis=0)
    names = ["../up/<b>x</b>", "plain"]
    out = tmp_path / "eval"
    cases = []
    for k, name in enumerate(names):
        save(tmp_path / f"scan{k}.nii.gz", scan, affine)
        cases.append([item("", label, prediction, scan[None].astype(np.float32), affine, case_id=name)])
        for tensor in cases[-1][0].values():
            if not isinstance(tensor, str):
                tensor.meta["filename_or_obj"] = str(tmp_path / f"scan{k}.nii.gz")
    run(SegmentationReport(out, ["liver", "spleen"]), *cases)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["eval", "scan0.nii.gz", "scan1.nii.gz"]
    found = find_viewed([out])
    assert [case.name for case in found] == names
    assert found[1].truth == str(out / "labels" / "plain_truth.nii.gz") and found[1].class_names[2] == "spleen"
    for case in found:
        layers = read_layers(case)
        np.testing.assert_array_equal(layers.labels["truth"], label)
        np.testing.assert_array_equal(layers.labels["prediction"], prediction)
        np.testing.assert_array_equal(layers.scan[0], scan)
    with served(found) as server:
        status, headers, page = get(f"{server.url}report/0")
        assert status == 200 and "script-src" not in headers["Content-Security-Policy"]
        assert b'href="?view=..%2Fup%2F%3Cb%3Ex%3C%2Fb%3E#view"' in page
        connection = HTTPConnection("127.0.0.1", server.server_port, timeout=60)
        connection.request("GET", f"/{server.token}/report/0?view=..%2Fup%2F%3Cb%3Ex%3C%2Fb%3E")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Location"]) == (303, f"/{server.token}/#0")
        connection.close()
    monkeypatch.chdir(tmp_path)  # scans by a path from here are found from elsewhere
    for case in cases:
        for tensor in ("image", "label", "pred"):
            case[0][tensor].meta["filename_or_obj"] = Path(case[0][tensor].meta["filename_or_obj"]).name
    run(SegmentationReport("eval", ["liver", "spleen"]), *cases)
    monkeypatch.chdir(out)
    assert "tmp" not in (out / "cases.json").read_text()
    np.testing.assert_array_equal(read_layers(find_viewed(["."])[1]).scan[0], scan)
    run(SegmentationReport(out, ["liver", "spleen"], keep_labels=False), *cases)
    assert not (out / "cases.json").exists()
    table = {"class_names": ["a"], "cases": [{"case": "a", "scan": ["s"], "truth": "../../t", "prediction": "/p"}]}
    (out / "cases.json").write_text(json.dumps(table))
    assert find_viewed([out])[0].truth == str(out / "labels" / "t")  # nothing outside the folder
    (out / "cases.json").write_text('{"cases": 3}')
    with pytest.raises(ValueError, match=r"cases.json: no table of an evaluation's cases"):
        find_viewed([out])


def test_niivue_is_as_it_was_published():
    file = Path(loopback.__file__).parent / "page" / "niivue.umd.js"
    published = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"  # of 0.69.0 on npm
    assert hashlib.sha256(file.read_bytes()).hexdigest() == published


READY = "return ['ready', 'error'].includes(document.body.dataset.state) && document.body.dataset.state"


class Page:
    """The page in a browser, and what is to be seen of it."""

    def __init__(self, browser: Browser, folder: Path) -> None:
        self.browser, self.file = browser, folder / "shot.png"

    def open(self, address: str, number: int = 0) -> None:
        self.browser.open(f"{address}?{number}#{number}")  # another query: a page of its own
        self.browser.wait(READY)
        assert self.browser.run(READY) == "ready", self.browser.text()
        self.browser.run("viewer.setOpacity(viewer.volumes.length - 1, 1)")

    def shot(self) -> np.ndarray:
        self.browser.run("viewer.drawScene()")
        self.browser.picture(self.file)
        left, top, width, height = self.browser.run(
            "const b = viewer.canvas.getBoundingClientRect(); return [b.x, b.y, b.width, b.height].map(Math.round)"
        )
        return np.asarray(Image.open(self.file).convert("RGB"))[top : top + height, left : left + width].astype(int)

    def where(self, shot: np.ndarray, colour, within: float = 12) -> np.ndarray:
        """Middle ``(x, y)`` of what has a colour, on the canvas; NaN where nothing has."""
        found = np.argwhere(abs(shot - np.array(colour)).max(axis=2) < within)
        return found.mean(axis=0)[::-1] if len(found) > 20 else np.full(2, np.nan)

    def patient_at(self, place) -> list[float]:
        """RAS in mm of a point of the canvas."""
        script = "return [...viewer.frac2mm(viewer.canvasPos2frac(arguments[0]), 0, true)].slice(0, 3)"
        return self.browser.run(script, [float(v) for v in place])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    with Browser(folder, size=(900, 600)) as browser:
        yield Page(browser, folder)


@needs_browser
def test_liver_is_on_the_patients_right(page, files):
    """Whatever way a file is stored: on the left of the picture, where its voxels are, with an R beside it."""
    names = [*grids()]
    cases = [case_of(files, name) for name in names]
    with served(cases) as server:
        for number, name in enumerate(names):
            page.open(server.url, number)
            page.browser.run("view('axial')")
            shot = page.shot()
            places = {
                value: page.where(shot, colour_of(organ)) for value, organ in ((LIVER, "liver"), (SPLEEN, "spleen"))
            }
            assert places[LIVER][0] < shot.shape[1] / 2 < places[SPLEEN][0], name
            for value, place in places.items():
                mm = page.patient_at(place)
                for v, (low, high) in zip(mm, BOXES[value]):
                    assert low - 6 < v < high + 6, (name, value, mm)
            assert is_r(shot), name
        loaded = page.browser.run("return performance.getEntriesByType('resource').map(e => e.name)")
        assert loaded and all(address.startswith((server.url, "data:", "blob:")) for address in loaded)
        assert page.browser.messages() == []


def is_r(shot: np.ndarray) -> bool:
    """Whether the letter at the left edge is an R: it has something on its upper right, unlike an L."""
    middle = shot.shape[0] // 2
    ink = np.argwhere(shot[middle - 30 : middle + 30, :45].min(axis=2) > 90)
    rows, columns = ink[:, 0] - ink[:, 0].min(), ink[:, 1] - ink[:, 1].min()
    upper = rows < rows.max() / 3
    return bool(len(ink) > 15 and (upper & (columns > 0.6 * columns.max())).any() and columns.max() < 30)


@needs_browser
def test_organs_windows_planes_and_layers(page, files):
    case = case_of(files, "straight")
    names = {**case.class_names, SPLEEN: "<img src=x onerror=alert(1)>"}
    case = type(case)(**{**vars(case), "class_names": names, "quality": "<b>good</b>", "name": "<i>one</i>"})
    with served([case]) as server:
        page.open(server.url)
        browser, liver = page.browser, colour_of("liver")
        assert not browser.run("return document.querySelector('aside img, aside b, aside i')")
        for text in ("<img src=x onerror=alert(1)>", "<b>good</b>", "<i>one</i>"):
            assert text in browser.text()
        whole = page.shot()  # three planes, and on the lower right the organs in 3D
        tiles = browser.run("return viewer.screenSlices.map(s => [s.axCorSag, ...s.leftTopWidthHeight])")
        assert sorted(int(tile[0]) for tile in tiles) == [0, 1, 2, 4]
        kind = {int(tile[0]): [round(v) for v in tile[1:]] for tile in tiles}
        for x, y, width, height in kind.values():
            red, _, blue = np.moveaxis(whole[y : y + height, x : x + width], -1, 0)
            assert (red - blue > 25).sum() > 100  # the liver
        browser.run("view('axial')")
        with_liver = page.shot()
        browser.click("#classes label", "liver")
        without = page.shot()
        assert np.isfinite(page.where(with_liver, liver)).all() and np.isnan(page.where(without, liver)).all()
        assert np.isfinite(page.where(without, colour_of(names[SPLEEN]))).all()
        browser.run(
            "const w = byId('window'); w.value = [...w.options].find(o => o.text === 'bone').value;"
            "w.onchange({target: w})"
        )
        assert browser.run("return [viewer.volumes[0].cal_min, viewer.volumes[0].cal_max]") == [-450, 1050]
        assert page.shot().mean() < without.mean()
        browser.click("#layers label", "difference")
        browser.wait("return state.layer.name === 'difference' && viewer.volumes.length === 2 && " + READY[7:])
        assert "in the truth only" in browser.text()
        browser.click("#layers label", "nothing")
        browser.wait("return viewer.volumes.length === 1")
        foreign = browser.run("return fetch('http://127.0.0.1:1/').then(() => 'sent', e => String(e))")
        assert "TypeError" in foreign
        assert any("Content Security Policy" in text for text in browser.messages())


@needs_browser
def test_picture_and_damaged_case(page, files, tmp_path):
    good = find_viewed([picture(tmp_path)], truth=tmp_path / "mask.png", bundle="qtseg_isic2016")[0]
    (tmp_path / "broken.nii.gz").write_bytes(b"no volume")
    with served([good, find_viewed([tmp_path / "broken.nii.gz"])[0]]) as server:
        page.open(server.url)
        shot = page.shot()
        red, lesion = page.where(shot, (250, 10, 10)), page.where(shot, colour_of("lesion"))
        assert red[0] < lesion[0] and red[1] < lesion[1]
        scale = (lesion - red) / (np.array([79.5, 47]) - np.array([17, 12]))
        assert scale[0] == pytest.approx(scale[1], rel=0.03)  # in its proportions
        page.browser.run("location.hash = '1'")
        page.browser.wait("return document.body.dataset.state === 'error'")
        assert "broken.nii.gz" in page.browser.text() and "monai_ext: " in page.browser.text()
