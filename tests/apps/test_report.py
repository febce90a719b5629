# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import json
import logging
import os
import re
from html.parser import HTMLParser

import nibabel as nib
import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.inferers import SimpleInferer
from monai.transforms import AsDiscreted, Compose
from monai.utils import SpaceKeys

from monai_ext.apps import SegmentationReport
from monai_ext.apps.report import handler as handler_module
from monai_ext.apps.report.panels import choose_slices, draw_picture
from monai_ext.metrics import label_metrics

PHANTOM = "phantom data, no clinical meaning"
ORGANS = ["liver", "spleen"]
AFFINE = np.diag([0.8, 0.8, 3.0, 1.0])  # RAS


def box(shape, *slices, value=1):
    mask = np.zeros(shape, dtype=np.uint8)
    mask[slices] = value
    return mask


def item(name, label, pred, image=None, affine=AFFINE, **extra):
    """One decollated case as an evaluator gives it."""
    image = np.random.default_rng(0).random((1, *label.shape), dtype=np.float32) if image is None else image
    meta = {"filename_or_obj": f"/data/{name}"}
    maps = {"image": image, "label": label[None], "pred": pred[None]}
    return extra | {
        k: MetaTensor(torch.from_numpy(v.copy()), affine=torch.tensor(affine), meta=dict(meta)) for k, v in maps.items()
    }


def run(report, *batches):
    engine = Engine(lambda engine, batch: batch)
    report.attach(engine)
    engine.run(batches)


def two_organs(shift=1, shape=(24, 20, 10)):
    label = box(shape, slice(3, 9), slice(3, 9), slice(2, 7)) + box(
        shape, slice(13, 20), slice(8, 16), slice(3, 9), value=2
    )
    return label, np.roll(label, shift, axis=0)


def read_csv(path):
    with open(path, newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


class References(HTMLParser):
    """All that a browser would load or run."""

    def __init__(self, page):
        super().__init__()
        self.found, self.tags, self.text = [], set(), []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "action", "data") or name.startswith("on"):
                self.found.append(value)

    def handle_data(self, data):
        self.text.append(data)


class ToLogits(torch.nn.Module):
    """What the label map says, as logits of three classes."""

    def forward(self, x):
        return torch.cat([(x == i).float() for i in range(3)], dim=1)


def test_numbers_are_those_of_label_metrics(tmp_path):
    rows = []
    for i, shift in enumerate((0, 1, 3)):
        label, pred = two_organs(shift)
        case = item(f"img{i:04d}.nii.gz", label, pred)
        rows.append({"image": case["pred"].float(), "label": case["label"]})  # the network hands its input on
    report = SegmentationReport(tmp_path, ORGANS, convention=["monai", "transunet"], window=(0, 2))
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(rows), batch_size=2),
        network=ToLogits(),
        inferer=SimpleInferer(),
        postprocessing=Compose([AsDiscreted(keys="pred", argmax=True)]),
        val_handlers=[report],
    )
    evaluator.run()

    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["number_of_cases"] == 3
    for convention, name in (("monai", "metrics.csv"), ("transunet", "metrics_transunet.csv")):
        table = read_csv(tmp_path / name)
        assert list(table) == ["img0000", "img0001", "img0002"]
        expected = [
            label_metrics(*reversed(two_organs(shift)), num_classes=3, spacing=(0.8, 0.8, 3.0), convention=convention)
            for shift in (0, 1, 3)
        ]
        for metric in ("dice", "hd95"):
            values = np.array([e[metric] for e in expected])
            printed = [[float(row[f"{organ}_{metric}"]) for organ in ORGANS] for row in table.values()]
            np.testing.assert_array_equal(printed, values)
            np.testing.assert_allclose([float(r[f"mean_{metric}"]) for r in table.values()], values.mean(1), rtol=1e-15)
            part = summary["conventions"][convention]
            for i, organ in enumerate(ORGANS):
                stats = part["classes"][organ][metric]
                np.testing.assert_allclose(stats["mean"], values[:, i].mean(), rtol=1e-15)
                np.testing.assert_allclose(stats["std"], values[:, i].std(ddof=1), rtol=1e-12)
                np.testing.assert_allclose(stats["median"], np.median(values[:, i]), rtol=1e-15)
            np.testing.assert_allclose(part["overall"][metric]["mean"], values.mean(), rtol=1e-15)
    assert summary["conventions"]["monai"]["hd95_unit"] == "mm"
    assert summary["conventions"]["transunet"]["hd95_unit"] == "voxels"


def test_what_was_missed_is_counted_and_not_averaged_away(tmp_path):
    label, pred = two_organs()
    cases = [
        item("found.nii.gz", label, pred),
        item("missed.nii.gz", label, np.where(pred == 2, 0, pred)),
        item("spurious.nii.gz", np.where(label == 2, 0, label), pred),
        item("absent.nii.gz", np.where(label == 2, 0, label), np.where(pred == 2, 0, pred)),
    ]
    run(SegmentationReport(tmp_path, ORGANS), cases)

    table = read_csv(tmp_path / "metrics.csv")
    assert table["missed"]["spleen_dice"] == "0.0"
    assert table["missed"]["spleen_hd95"] == table["spurious"]["spleen_hd95"] == "inf"
    assert table["absent"]["spleen_dice"] == table["absent"]["spleen_hd95"] == ""
    assert [table[c][c] for c in ("missed", "spurious", "absent")] == ["1", "1", "1"]
    spleen = json.loads((tmp_path / "summary.json").read_text())["conventions"]["monai"]["classes"]["spleen"]
    assert {k: spleen[k] for k in ("found", "missed", "spurious", "absent")} == dict.fromkeys(
        ("found", "missed", "spurious", "absent"), 1
    )
    assert {k: spleen["hd95"][k] for k in ("finite", "infinite", "undefined")} == {
        "finite": 1,
        "infinite": 2,
        "undefined": 1,
    }
    assert spleen["hd95"]["mean"] == float(table["found"]["spleen_hd95"])
    assert spleen["hd95"]["std"] is None
    assert spleen["dice"]["mean"] == pytest.approx(float(table["found"]["spleen_dice"]) / 3)


def test_nothing_finite_is_written_as_nothing(tmp_path):
    label, _ = two_organs()
    run(SegmentationReport(tmp_path, ORGANS), [item("a.nii.gz", np.zeros_like(label), np.zeros_like(label))])
    overall = json.loads((tmp_path / "summary.json").read_text())["conventions"]["monai"]["overall"]
    assert overall["dice"]["mean"] is overall["hd95"]["mean"] is None
    assert overall["absent"] == 2


@pytest.mark.parametrize("phantom", [True, False])
def test_phantom_is_said_everywhere_or_nowhere(tmp_path, caplog, phantom):
    with caplog.at_level(logging.INFO, logger="monai_ext"):
        run(SegmentationReport(tmp_path, ORGANS, phantom=phantom), [item("a.nii.gz", *two_organs())])
    (line,) = [r.getMessage() for r in caplog.records if r.name.startswith("monai_ext")]
    texts = {name: (tmp_path / name).read_text() for name in ("metrics.csv", "summary.json", "report.html")}
    for text in (line, *texts.values()):
        assert (PHANTOM in text.lower()) == phantom
    assert json.loads(texts["summary.json"])["phantom"] is phantom
    assert read_csv(tmp_path / "metrics.csv")["a"].get("data") == (PHANTOM if phantom else None)
    dice = json.loads(texts["summary.json"])["conventions"]["monai"]["overall"]["dice"]["mean"]
    assert f"mean Dice {100 * dice:.2f} %" in line
    assert "0 missed in 1 cases" in line
    assert str(tmp_path / "report.html") in line


def test_page_escapes_and_loads_nothing(tmp_path):
    bad = '"><script src="http://x.example/a.js">1 & 2</script>'
    published = [{"method": f"m{bad}", "mean_dice": 77.5, "dice": {f"o{bad}": 61.25}, "source": f"s{bad}"}]
    report = SegmentationReport(
        tmp_path, [f"o{bad}", "spleen"], title=f"t{bad}", notes=[f"n{bad}"], published=published, checkpoint=f"c{bad}"
    )
    label, pred = two_organs()
    run(report, [item("ignored.nii.gz", label, pred, case_id=f"i{bad}")])
    page = (tmp_path / "report.html").read_text()
    references = References(page)
    assert references.found
    # the button leads to a place in the page itself
    own = [value for value in references.found if re.fullmatch(r"\?view=[\w%.~-]+#view", value)]
    assert len(own) == 1
    assert all(value in own or value.startswith("data:image/") for value in references.found)
    assert not {"script", "link", "iframe", "object", "base"} & references.tags
    assert "url(" not in page
    assert "@import" not in page
    text = "".join(references.text)
    for letter in "toncimsi":
        assert letter + bad in text


NAMES = ["=HYPERLINK(1)", "$x_{$", "-liver", "@sum", "+1", "<i>%d</i>", "a $b$ \\\\frac"]


def test_names_are_texts_in_every_file(tmp_path):
    """No formula in a spreadsheet, no mathematics in a plot, no markup in the page; and no number changes."""
    shape = (24, 20, 10)
    label = sum(box(shape, slice(3 * k, 3 * k + 3), slice(3, 9), slice(2, 7), value=k + 1) for k in range(7))
    report = SegmentationReport(tmp_path, NAMES)
    run(report, *([item(name, label, np.roll(label, 1, axis=0))] for name in ("=1+1.nii.gz", "-2.nii.gz", "a.nii.gz")))
    with open(tmp_path / "metrics.csv", newline="") as file:
        head, *rows = list(csv.reader(file))
    texts = [*head, *(row[0] for row in rows)]
    assert not [text for text in texts if text[:1] in ("=", "+", "-", "@", "\t", "\r")]
    assert head[1:4] == ["'=HYPERLINK(1)_dice", "$x_{$_dice", "'-liver_dice"]
    assert [row[0] for row in rows] == ["'-2", "'=1+1", "a"]
    expected = label_metrics(
        *(torch.from_numpy(a) for a in (np.roll(label, 1, axis=0), label)), num_classes=8, spacing=[0.8, 0.8, 3.0]
    )
    np.testing.assert_array_equal([float(v) for v in rows[0][1:8]], np.asarray(expected["dice"], float))
    page = (tmp_path / "report.html").read_text()
    assert "<i>%d" not in page and "&lt;i&gt;%d&lt;/i&gt;" in page
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["class_names"] == NAMES


def test_names_that_cannot_be_printed(tmp_path):
    for name in ("a\x00b", "a\nb", "\x1b[31mred", 3):
        with pytest.raises(ValueError, match="^monai_ext: class_names: .*expected text that can be printed"):
            SegmentationReport(tmp_path, [name])


def test_an_evaluation_without_cases_is_refused(tmp_path):
    """MONAI's engines pass over an empty loader with a warning: no report, and status 0."""
    with pytest.raises(ValueError, match="^monai_ext: evaluation: there is no test case"):
        SupervisedEvaluator(
            torch.device("cpu"),
            DataLoader(Dataset([])),
            ToLogits(),
            inferer=SimpleInferer(),
            val_handlers=[SegmentationReport(tmp_path, ORGANS)],
        )
    assert not list(tmp_path.iterdir())


def test_published_rows_stand_beside_ours(tmp_path):
    published = [
        {"method": "DCAU-Net", "mean_dice": 83.29, "mean_hd95": 15.14, "dice": {"liver": 94.98}, "source": "Table I"}
    ]
    run(SegmentationReport(tmp_path, ORGANS, published=published), [item("a.nii.gz", *two_organs())])
    page = (tmp_path / "report.html").read_text()
    ours, theirs = re.findall(r"<tr[^>]*>(<td>(?:this evaluation|DCAU-Net).*?)</tr>", page)
    assert re.findall(r">([^<]*)</td>", theirs) == ["DCAU-Net", "83.29", "15.14", "94.98", "\N{EN DASH}", "Table I"]
    dice = json.loads((tmp_path / "summary.json").read_text())["conventions"]["monai"]["overall"]["dice"]["mean"]
    assert f"<td>{100 * dice:.2f}</td>" in ours


@pytest.mark.parametrize("transpose", [False, True])
def test_photograph(tmp_path, transpose):
    label = box((40, 60), slice(5, 15), slice(30, 50))
    image = np.stack([np.full(label.shape, v, dtype=np.float32) for v in (1.0, 0.5, 0.0)])
    pred = np.roll(label, 2, axis=1)
    affine = np.eye(4)
    if transpose:
        label, pred, image = label.T, pred.T, image.swapaxes(1, 2)
    report = SegmentationReport(tmp_path, ["lesion"], transpose=transpose)
    run(report, [item("ISIC_01.jpg", label, pred, image, affine)])
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["conventions"]["monai"]["hd95_unit"] == "pixels"
    row = read_csv(tmp_path / "metrics.csv")["ISIC_01"]
    assert float(row["lesion_dice"]) == 0.9
    assert float(row["lesion_hd95"]) == 2.0
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 2  # the image, and both outlines
    assert 'viewBox="0 0 60 40.00"' in page
    assert bounds(page, "truth") == (30, 50, 5, 15)
    assert bounds(page, "prediction") == (32, 52, 5, 15)
    assert "<text" not in page  # a photograph has no left and right of the patient


def bounds(svg, kind):
    """x from, x to, y from, y to of the outlines in a drawing."""
    paths = re.findall(rf'class="{kind}"[^>]* d="([^"]*)"', svg)
    points = np.array([[float(v) for v in xy.split(",")] for path in paths for xy in re.split(r"[MZ ]+", path) if xy])
    (left, top), (right, bottom) = points.min(0), points.max(0)
    return left, right, top, bottom


@pytest.mark.parametrize("space", [SpaceKeys.RAS, SpaceKeys.LPS])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "ASL", "PIR", "SRP", "IPL"])
def test_right_of_the_patient_is_left_in_the_picture(tmp_path, codes, space):
    """A marker right, in front and above, in a volume stored in any orientation, tilted a little."""
    right_to_left = {"R": 30, "L": 30, "A": 20, "P": 20, "S": 8, "I": 8}
    shape = tuple(right_to_left[c] for c in codes)
    size = {"R": 0.5, "L": 0.5, "A": 1.0, "P": 1.0, "S": 4.0, "I": 4.0}
    affine = np.diag([*(size[c] for c in codes), 1.0])
    ornt = nib.orientations.axcodes2ornt(codes)
    direction = np.zeros((4, 4))
    for axis, (world, flip) in enumerate(ornt):
        direction[int(world), axis] = flip
    direction[3, 3] = 1
    angle = 0.2
    tilt = np.eye(4)
    tilt[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = tilt @ direction @ affine
    towards = {
        "R": slice(-6, -2),
        "L": slice(2, 6),
        "A": slice(-7, -2),
        "P": slice(2, 7),
        "S": slice(-2, -1),
        "I": slice(1, 2),
    }
    label = box(shape, *(towards[c] for c in codes))
    case = item("a.nii.gz", label, label, affine=affine)
    if space == SpaceKeys.LPS:
        for key in ("image", "label", "pred"):
            case[key].affine = torch.tensor(np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)
            case[key].meta["space"] = space
    run(SegmentationReport(tmp_path, ["marker"]), [case])
    page = (tmp_path / "report.html").read_text()
    assert 'viewBox="0 0 30 40.00"' in page  # 15 mm across, 20 mm down
    assert bounds(page, "truth") == (2, 6, 2, 7)
    (x_right, side_right), (x_left, side_left) = re.findall(r'<text x="([\d.]+)"[^>]*>([RL])<', page)[:2]
    assert (side_right, side_left) == ("R", "L")
    assert float(x_right) < 15 < float(x_left)
    axis = codes.index("S") if "S" in codes else codes.index("I")
    index = 6 if "S" in codes else 1
    assert f"index {index} of axis {axis}" in page


def test_no_sides_without_an_affine(tmp_path):
    label, pred = two_organs()
    case = {"label": torch.from_numpy(label)[None], "pred": torch.from_numpy(pred)[None]}
    run(SegmentationReport(tmp_path, ORGANS, image_key=None), [case])
    assert "<text" not in (tmp_path / "report.html").read_text()
    assert list(read_csv(tmp_path / "metrics.csv")) == ["case 1"]


def test_slices_are_those_of_largest_error_and_area_and_small():
    truth = torch.zeros(1100, 700, 9, dtype=torch.uint8)
    truth[100:900, 100:600, 3] = 1
    truth[100:500, 100:500, 6] = 2
    prediction = truth.clone()
    prediction[..., 6] = 0
    image = torch.linspace(0, 1, 9).expand(1, 1100, 700, 9)
    error, area = choose_slices(image, truth, prediction, None, (1.0, 1.0, 1.0), (0.0, 1.0), False)
    assert "error: axial slice, index 6" in error.caption
    assert "area: axial slice, index 3" in area.caption
    for picture in (error, area):
        assert picture.image.shape == picture.truth.shape == picture.prediction.shape == (234, 367)
        assert picture.image.dtype == picture.truth.dtype == np.uint8
    assert (area.image == round(255 * 3 / 8)).all()
    assert error.truth.max() == 2
    assert error.prediction.max() == 0
    assert len(choose_slices(image, truth, truth, None, (1.0,) * 3, (0.0, 1.0), False)) == 1


def test_a_sagittal_stack_is_shown_in_its_own_plane():
    """Stored with feet first, back first, left first: shown with the front on the left and the head on top."""
    affine = np.array([[0, 0, 4.0, 0], [0, 0.6, 0, 0], [0.6, 0, 0, 0], [0, 0, 0, 1]])
    truth = torch.zeros(20, 30, 5, dtype=torch.uint8)
    truth[15:, 24:28, 3] = 1  # at the head, near the front
    (picture,) = choose_slices(None, truth, truth, affine, (0.6, 0.6, 4.0), (0, 1), False)
    assert picture.caption == "largest organ area: sagittal slice, index 3 of axis 2"
    assert picture.sides == ("A", "P") and picture.aspect == 1
    expected = np.zeros((20, 30), dtype=np.uint8)
    expected[:5, 2:6] = 1
    np.testing.assert_array_equal(picture.truth, expected)


def test_outline_follows_pixel_edges():
    truth = torch.zeros(8, 10, dtype=torch.uint8)
    truth[2:5, 3:7] = 1
    truth[3, 4] = 0  # a hole
    (picture,) = choose_slices(None, truth, truth, None, (2.0, 1.0), (0, 1), False)
    drawing = draw_picture(picture, ["lesion"], "case")
    assert bounds(drawing, "truth") == (3, 7, 2, 5)
    for kind in ("truth", "prediction"):
        (path,) = re.findall(rf'class="{kind}"[^>]* d="([^"]*)"', drawing)
        assert path.count("Z") == 2  # ring and hole
    assert 'viewBox="0 0 10 16.00"' in drawing  # pixels twice as high as wide


def test_best_median_and_worst(tmp_path):
    shifts = {"a": 2, "b": 0, "c": 4, "d": 1, "e": 3}
    run(SegmentationReport(tmp_path, ORGANS), *[[item(f"{n}.nii.gz", *two_organs(s))] for n, s in shifts.items()])
    page = (tmp_path / "report.html").read_text()
    assert re.findall(r"<h3>(\w+) case: (\w)", page) == [("Best", "b"), ("Median", "a"), ("Worst", "c")]


def test_failing_pictures_leave_tables_and_no_half_file(tmp_path, monkeypatch):
    (tmp_path / "report.html").write_text("earlier")

    def fail(*args):
        raise RuntimeError("no fonts")

    monkeypatch.setattr(handler_module, "render_page", fail)
    with pytest.raises(RuntimeError, match="no fonts"):
        run(SegmentationReport(tmp_path, ORGANS), [item("a.nii.gz", *two_organs())])
    assert sorted(os.listdir(tmp_path)) == ["cases.json", "labels", "metrics.csv", "report.html", "summary.json"]
    assert (tmp_path / "report.html").read_text() == "earlier"
    assert json.loads((tmp_path / "summary.json").read_text())["number_of_cases"] == 1


def test_failing_write_leaves_the_earlier_file(tmp_path, monkeypatch):
    (tmp_path / "metrics.csv").write_text("earlier")
    monkeypatch.setattr(handler_module, "csv_table", lambda *args: "\ud800")  # cannot be encoded
    with pytest.raises(UnicodeEncodeError):
        run(SegmentationReport(tmp_path, ORGANS), [item("a.nii.gz", *two_organs())])
    assert os.listdir(tmp_path) == ["metrics.csv"]
    assert (tmp_path / "metrics.csv").read_text() == "earlier"


def test_a_second_run_starts_anew(tmp_path):
    engine = Engine(lambda engine, batch: batch)
    SegmentationReport(tmp_path, ORGANS).attach(engine)
    for _ in range(2):
        engine.run([[item("a.nii.gz", *two_organs())]])
        assert list(read_csv(tmp_path / "metrics.csv")) == ["a"]


def test_names_of_cases(tmp_path):
    names = ["p1/img.nii.gz", "p2/img.nii.gz", "case0008.npy.h5::image", "v1.2.nrrd", "series"]
    run(SegmentationReport(tmp_path, ORGANS), [item(name, *two_organs()) for name in names])
    assert list(read_csv(tmp_path / "metrics.csv")) == ["case0008", "p1/img", "p2/img", "series", "v1.2"]


def test_batched_output_is_taken_apart(tmp_path):
    label, pred = two_organs()
    first, second = item("x.nii.gz", label, pred, case_id=3), item("x.nii.gz", label, label, case_id=7)
    (batch,) = DataLoader(Dataset([first, second]), batch_size=2)
    run(SegmentationReport(tmp_path, ORGANS), batch)
    table = read_csv(tmp_path / "metrics.csv")
    assert table["7"]["mean_dice"] == "1.0"
    assert float(table["3"]["mean_dice"]) < 1


def test_comes_from_a_config(tmp_path):
    config = {
        "output_dir": str(tmp_path),
        "report": {
            "_target_": "monai_ext.apps.SegmentationReport",
            "output_dir": "@output_dir",
            "class_names": ORGANS,
            "convention": ["transunet"],
            "published": [{"method": "x", "mean_dice": 80.0}],
            "window": [-160, 240],
        },
    }
    run(ConfigParser(config).get_parsed_content("report"), [item("a.nii.gz", *two_organs())])
    assert list(json.loads((tmp_path / "summary.json").read_text())["conventions"]) == ["transunet"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_names": []}, "class_names"),
        ({"class_names": ["a", "a"]}, "class_names"),
        ({"convention": "medpy"}, "medpy.*monai, transunet"),
        ({"window": (1, 0)}, "window"),
        ({"published": [{"mean_dice": 80}]}, "method"),
        ({"published": [{"method": "x", "dice": {"Liver": 90}}]}, "x.*Liver.*liver"),
        ({"published": [{"method": "x", "mean_dice": 0.83}]}, "percent"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        SegmentationReport(**{"output_dir": tmp_path, "class_names": ORGANS} | arguments)


def test_wrong_cases_are_named(tmp_path):
    label, pred = two_organs()
    good = item("img7.nii.gz", label, pred)
    other_grid = item("img7.nii.gz", label, pred[1:])
    wrong = [
        ({"label": good["label"], "pred": good["pred"]}, "img7: no 'image'"),
        ({"label": good["label"], "image": good["image"]}, "img7: no 'pred'"),
        (good | {"pred": good["pred"].repeat(3, 1, 1, 1)}, "img7: pred.*argmax"),
        (good | {"pred": good["pred"] * 0.3}, "img7: pred has values from 0 to 0.6"),
        (good | {"pred": good["pred"] * 2}, "img7: pred has values from 0 to 4.* 0 to 2"),
        (good | {"pred": other_grid["pred"]}, r"img7: pred \(23, 20, 10\), label \(24, 20, 10\)"),
        (good | {"image": other_grid["pred"]}, r"img7: image \(23, 20, 10\)"),
    ]
    for case, message in wrong:
        with pytest.raises(ValueError, match=message):
            run(SegmentationReport(tmp_path, ORGANS), [case])
    with pytest.raises(ValueError, match="img7.nii.gz: came twice"):
        run(SegmentationReport(tmp_path, ORGANS), [good, good])
    assert os.listdir(tmp_path) == []


def on_one_rank(rank, folder):
    """Three cases on two ranks: the sampler hands the first one out twice. Pictures come from both ranks."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    shifts = {"a": 1, "b": 3, "c": 0}
    mine = (["a", "c"], ["b", "a"])[rank]
    report = SegmentationReport(f"{folder}/out", ORGANS)
    run(report, *[[item(f"{name}.nii.gz", *two_organs(shifts[name]))] for name in mine])
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_ranks_are_put_together(tmp_path):
    mp.spawn(on_one_rank, args=(str(tmp_path),), nprocs=2)
    assert sorted(os.listdir(tmp_path / "out")) == [
        "cases.json",
        "labels",
        "metrics.csv",
        "report.html",
        "summary.json",
    ]
    assert list(read_csv(tmp_path / "out" / "metrics.csv")) == ["a", "b", "c"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert re.findall(r"<h3>(\w+) case: (\w)", page) == [("Best", "c"), ("Median", "a"), ("Worst", "b")]
