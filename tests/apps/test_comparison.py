# SPDX-License-Identifier: Apache-2.0
"""``report A B``: from two evaluations to what can be said of their difference, and what cannot be compared."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html import escape

import numpy as np
import pytest
from scipy import stats

from monai_ext.__main__ import main
from monai_ext.apps import SegmentationReport
from monai_ext.apps.report.comparison import Compared, sentences
from monai_ext.metrics.statistics import compare_means
from tests.apps.test_report import ORGANS, PHANTOM, References, item, read_csv, run, two_organs


def evaluate(folder, shifts, names=None, labels=two_organs, organs=ORGANS, patients=None, **options):
    """Cases whose prediction is moved by each of ``shifts``; None misses the spleen."""
    names = names or [f"img{k:02d}" for k in range(len(shifts))]
    cases = []
    for k, (name, shift) in enumerate(zip(names, shifts)):
        label, pred = labels(shift or 0)
        pred = np.where(pred == 2, 0, pred).astype(np.uint8) if shift is None else pred
        extra = {} if patients is None else {"patient": patients[k]}
        cases.append(item(f"{name}.nii.gz", label, pred, **extra))
    run(SegmentationReport(folder, organs, **{"tolerances": 1.0} | options), *[[case] for case in cases])
    return folder


@pytest.fixture
def report(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["monai_ext", "report", *map(str, arguments)])
        try:
            main()
        except SystemExit as e:
            if e.code:
                return str(e.code)
        return capsys.readouterr().out

    return call


GOOD, WORSE = [0, 0, 1, 0, 1, 0, 2, 0, 1, 0, 1, 0], [1, 2, 1, 1, 3, 1, 2, 1, 2, 1, 3, 1]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return evaluate(folder / "good", GOOD, phantom=True), evaluate(folder / "worse", WORSE, phantom=True)


def test_numbers_are_those_of_the_tables(report, runs, tmp_path):
    said = report(*runs, "--output_dir", tmp_path)
    dice, hd95 = (
        [np.array([float(row[f"mean_{m}"]) for row in read_csv(run / "metrics.csv").values()]) for run in runs]
        for m in ("dice", "hd95")
    )
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert list(content["metrics"]) == ["dice", "hd95", "nsd", "assd"]
    for metric, (one, other) in (("dice", dice), ("hd95", hd95)):
        result = content["metrics"][metric]["result"]
        (found,) = result["differences"]
        assert result["patients"] == 12 and result["ranking"] == [0, 1]
        np.testing.assert_allclose(content["metrics"][metric]["values"], [one, other], rtol=1e-12)
        np.testing.assert_allclose(found["mean"], (one - other).mean(), rtol=1e-12)
        expected = stats.permutation_test(
            (one, other), lambda a, b, axis: np.mean(a - b, axis=axis), permutation_type="samples", vectorized=True
        )
        assert found["p_value"] == pytest.approx(expected.pvalue, abs=1e-12)
        assert found["separable"] is (found["p_corrected"] < 0.05) is True
    difference = 100 * (dice[0] - dice[1]).mean()
    assert f"Dice: {runs[0]} less {runs[1]}: {difference:.2f} points (" in said
    assert f"Dice: {runs[0]} is better than {runs[1]} by more than chance." in said
    assert "scipy.stats.permutation_test" in said and "9999 draws" in said
    liver = content["metrics"]["dice"]["classes"]["liver"]["differences"][0]
    tables = [read_csv(run / "metrics.csv").values() for run in runs]
    one, other = (np.array([float(row["liver_dice"]) for row in table]) for table in tables)
    np.testing.assert_allclose(liver["mean"], (one - other).mean(), rtol=1e-12)
    assert liver["p_corrected"] == pytest.approx(2 * liver["p_value"])  # two classes, one pair


def test_phantom_is_said_everywhere(report, runs, tmp_path):
    said = report(*runs, "--output_dir", tmp_path)
    assert said.lower().count(PHANTOM) == 3
    for name in ("comparison.html", "comparison.json"):
        assert PHANTOM in (tmp_path / name).read_text().lower()
    assert PHANTOM in report(runs[0]).lower()


def test_page_loads_nothing_and_escapes(report, tmp_path, runs):
    bad = "a<script>b"
    shutil.copytree(runs[0], tmp_path / bad)
    report(tmp_path / bad, runs[1], "--output_dir", tmp_path / "out")
    references = References((tmp_path / "out" / "comparison.html").read_text())
    assert len(references.found) == 4  # a plot for each metric
    assert all(value.startswith("data:image/svg+xml") for value in references.found)
    assert not {"script", "link", "iframe", "object", "a"} & references.tags
    assert bad in "".join(references.text)


def test_a_tiny_gain_is_called_inseparable(report, tmp_path):
    one, other = [1, 2, 0, 3, 1, 2, 1, 0, 2, 1, 3, 1], [2, 1, 1, 2, 0, 3, 1, 1, 2, 2, 2, 0]
    said = report(evaluate(tmp_path / "a", one), evaluate(tmp_path / "b", other))
    found = re.search(r"Dice: .* cannot be told apart: with 12 cases a difference under about ([\d.]+) points", said)
    content = [float(v) for v in re.findall(r"Dice: .* less .*: (-?[\d.]+) points", said)]
    assert found and abs(content[0]) < float(found[1])


def test_more_pairs_than_cases_can_tell_apart_are_called_so():
    """12 cases have no p-value under 2 / 2^12: of 15 runs with 105 pairs Holm's correction leaves none."""

    def said(count):
        values = np.arange(count)[:, None] + np.linspace(0, 0.1, 12) ** np.arange(1, count + 1)[:, None]
        names = [f"run{k}" for k in range(count)]
        found = Compared("dice", values, tuple(map(str, range(12))), compare_means(values, draws=4999), 0, {})
        return list(sentences(found, names, "mm"))

    few, many = said(14), said(15)
    assert "Dice: run13 is better than run0 by more than chance." in few
    assert not any("however far they are" in text for text in few)
    assert not any("more than chance" in text or "a difference under" in text for text in many)
    assert many[-1] == (
        "Dice: with 12 cases none of 105 pairs can be told apart, however far they are: no p-value can be under "
        "0.00049, after Holm's correction 0.051. Compare fewer at once, or on more cases."
    )


def test_missed_and_absent_classes_count_as_is_told(report, tmp_path):
    def no_spleen(shift):
        return tuple(np.where(m == 2, 0, m).astype(np.uint8) for m in two_organs(shift))

    def spurious(shift):
        return no_spleen(shift)[0], two_organs(shift)[1]

    shifts = [1, 2, 1]
    for name, last in (("a", no_spleen), ("b", spurious)):
        kinds = iter([two_organs, two_organs, two_organs, last])
        missed = None if name == "b" else 1
        evaluate(tmp_path / name, [*shifts[:2], missed, 1], labels=lambda s, kinds=kinds: next(kinds)(s))
    said = report(tmp_path / "a", tmp_path / "b", "--output_dir", tmp_path / "out")
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())["metrics"]
    tables = [read_csv(tmp_path / name / "metrics.csv") for name in "ab"]
    liver = [float(t["img03"]["liver_dice"]) for t in tables]
    assert tables[0]["img03"]["spleen_dice"] == "" and tables[1]["img03"]["spleen_dice"] == "0.0"
    # the truth of the last case lacks the spleen: right not to predict it, wrong to
    np.testing.assert_allclose([row[3] for row in content["dice"]["values"]], [(liver[0] + 1) / 2, liver[1] / 2])
    missed = [float(t["img02"]["liver_dice"]) for t in tables], [float(t["img02"]["spleen_dice"] or 0) for t in tables]
    np.testing.assert_allclose([row[2] for row in content["dice"]["values"]], np.mean(missed, axis=0))
    assert missed[1][1] == 0
    # no finite distance of the spleen in two cases: the liver's alone
    assert content["hd95"]["left_out"] == 2
    distances = [[float(t[case]["liver_hd95"]) for case in ("img02", "img03")] for t in tables]
    np.testing.assert_allclose([row[2:] for row in content["hd95"]["values"]], distances)
    assert "HD95: left out for all runs: 2 classes" in said
    assert "with fewer than 10 patients an interval means little" in said
    assert "with 4 cases no p-value can be under 0.12" in said


def test_one_case(report, tmp_path):
    said = report(evaluate(tmp_path / "a", [1]), evaluate(tmp_path / "b", [2]))
    assert "Dice: 1 case of fewer than two patients: there is no test, and no interval." in said
    assert " less " not in said


def test_patients_are_taken_together(report, tmp_path):
    owners = [f"p{k // 3}" for k in range(12)]
    folders = [evaluate(tmp_path / n, s, patients=owners) for n, s in (("a", GOOD), ("b", WORSE))]
    report(*folders, "--output_dir", tmp_path)
    result = json.loads((tmp_path / "comparison.json").read_text())["metrics"]["dice"]["result"]
    assert result["patients"] == 4
    dice = [np.array([float(r["mean_dice"]) for r in read_csv(f / "metrics.csv").values()]) for f in folders]
    apart = (dice[0] - dice[1]).reshape(4, 3).mean(axis=1)
    np.testing.assert_allclose(result["differences"][0]["mean"], apart.mean(), rtol=1e-12)
    assert "4 patients (12 cases, each patient's together)" in report(folders[0])


def test_many_runs_are_corrected(report, tmp_path):
    folders = [evaluate(tmp_path / n, s) for n, s in (("a", GOOD), ("b", WORSE), ("c", [s + 1 for s in GOOD]))]
    said = report(*folders, "--output_dir", tmp_path)
    found = json.loads((tmp_path / "comparison.json").read_text())["metrics"]["dice"]["result"]["differences"]
    p_values = sorted(d["p_value"] for d in found)
    assert [d["p_corrected"] for d in sorted(found, key=lambda d: d["p_value"])] == pytest.approx(
        np.maximum.accumulate([3 * p_values[0], 2 * p_values[1], p_values[2]]).tolist()
    )
    assert "after Holm's correction" in said and "the ranking holds in" in said


def test_what_cannot_be_compared_is_refused(report, runs, tmp_path):
    good = runs[0]

    def swapped(shift):
        label, pred = two_organs(shift)
        label[0, 0, 0] = 1
        return label, pred

    def table(name, change):
        folder = tmp_path / name
        shutil.copytree(good, folder)
        lines = (folder / "metrics.csv").read_text().splitlines()
        (folder / "metrics.csv").write_text("\n".join(change(lines)) + "\n")
        return folder

    wrong = {
        "different cases: only .*good has img11; only .*other has img99": evaluate(
            tmp_path / "other", GOOD, [*(f"img{k:02d}" for k in range(11)), "img99"], phantom=True
        ),
        "the true labels differ in img00, img01": evaluate(tmp_path / "labels", GOOD, labels=swapped),
        "classes are liver, spleen, and liver, stomach": evaluate(
            tmp_path / "classes", GOOD, organs=["liver", "stomach"]
        ),
        "no convention 'monai'; evaluated were transunet": evaluate(
            tmp_path / "convention", GOOD, convention="transunet"
        ),
        r"tolerances are \[1.0, 1.0\] and \[2.0, 2.0\]": evaluate(tmp_path / "tolerance", GOOD, tolerances=2.0),
        "different patients are in img01": evaluate(tmp_path / "patients", GOOD, patients=["img00"] * 12),
        "metrics.csv: case img00 was scored twice": table("twice", lambda lines: [*lines, lines[1]]),
        "metrics.csv: no table of cases": table("damaged", lambda lines: [lines[0], lines[1].replace(".", "x")]),
        "metrics.csv: no table of": table("cut", lambda lines: [lines[0], lines[1][:20]]),
        "given twice": good,
    }
    for message, folder in wrong.items():
        said = report(good, folder)
        assert re.match(f"monai_ext: .*{message}", said) and "\n" not in said, (message, said)
    (tmp_path / "tables").mkdir()
    shutil.copy(good / "summary.json", tmp_path / "tables")
    assert "Not compared" in report(good, tmp_path / "tables")
    assert "no table of its cases" in report(good, tmp_path / "tables", "--output_dir", tmp_path / "x")
    assert report(good, "--output_dir", tmp_path).startswith("monai_ext: --output_dir is for comparisons")


def test_tables_of_earlier_versions(report, runs, tmp_path):
    """They name no patient and no labels."""
    for run_dir in runs:
        folder = tmp_path / run_dir.name
        shutil.copytree(run_dir, folder)
        summary = json.loads((folder / "summary.json").read_text())
        for key in ("metrics", "tolerances", "statistics"):
            del summary[key]
        (folder / "summary.json").write_text(json.dumps(summary))
        rows = read_csv(folder / "metrics.csv")
        columns = [f"{organ}_{metric}" for metric in ("dice", "hd95") for organ in ORGANS]
        lines = [",".join(["case", *columns, "missed"])]
        lines += [",".join([case, *(row[c] for c in columns), "0"]) for case, row in rows.items()]
        (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    new, old = report(*runs), report(*(tmp_path / run_dir.name for run_dir in runs))
    assert (
        re.findall(r"Dice: .* points.*", new)[0].partition(": ")[2].rpartition("worse: ")[2]
        == (re.findall(r"Dice: .* points.*", old)[0].partition(": ")[2].rpartition("worse: ")[2])
    )
    assert "95 % interval" not in report(tmp_path / runs[0].name)


FAR = np.diag([30.0, 30.0, 60.0, 1.0])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium here to lay the pages out")
def test_tables_fit_the_page(report, tmp_path):
    """Eight organs with published rows, sixteen organs, and comparisons, in windows of two widths: no scrolling."""
    names = {
        8: ["aorta", "gallbladder", "left kidney", "right kidney", "liver", "pancreas", "spleen", "stomach"],
        16: [f"vertebra T{k}" for k in range(16)],
    }
    pages = []
    for number, organs in names.items():
        label = np.zeros((40, 40, 4), dtype=np.uint8)
        for k in range(number):
            label[10 * (k % 4) : 10 * (k % 4) + 7, 10 * (k // 4) : 10 * (k // 4) + 7] = k + 1
        published = [
            {"method": "A network of others, ImageNet weights", "mean_dice": 83.29, "mean_hd95": 15.14,
             "dice": dict.fromkeys(organs, 87.91), "source": "arXiv:2603.09530v1, Table III, from scratch"}
        ]  # fmt: skip
        for name, shift in (("one", 1), ("two", 2))[: 1 if number == 8 else 2]:
            # distances of hundreds of mm, and intervals as wide
            moved = [np.roll(label, shift + 4 * k, axis=0) for k in range(3)]
            cases = [[item(f"img{k:04d}.nii.gz", label, m, affine=FAR)] for k, m in enumerate(moved)]
            options = {"published": published, "phantom": True, "tolerances": 1.0, "match": "touch"}
            convention = ["monai", "transunet"] if number == 8 else "monai"
            run(SegmentationReport(tmp_path / f"{name}{number}", organs, convention=convention, **options), *cases)
        pages.append(tmp_path / f"one{number}" / "report.html")
    report(tmp_path / "one16", tmp_path / "two16", "--output_dir", tmp_path / "both")
    pages.append(tmp_path / "both" / "comparison.html")
    frames = [
        f'<iframe title="{page.parent.name} {width}" width="{width}" height="900" srcdoc="{escape(page.read_text())}">'
        "</iframe>"
        for page in pages
        for width in (1300, 800)
    ]
    measure = (
        "<script>onload=()=>{document.body.dataset.beyond=[...document.querySelectorAll('iframe')].map(f=>f.title+':'+"
        "[f.contentDocument.documentElement,...f.contentDocument.querySelectorAll('.scroll')]"
        ".map(e=>e.scrollWidth-e.clientWidth)).join(';')}</script>"
    )
    (tmp_path / "all.html").write_text(f"<!DOCTYPE html><body>{''.join(frames)}{measure}</body>")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--window-size=1400,1200", "--dump-dom", (tmp_path / "all.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r'data-beyond="([^"]+)"', done.stdout)
    assert found, done.stderr
    beyond = dict(part.split(":") for part in found[1].split(";"))
    assert len(beyond) == 6
    assert all(len(widths.split(",")) > 3 and set(widths.split(",")) == {"0"} for widths in beyond.values()), beyond
