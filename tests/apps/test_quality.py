# SPDX-License-Identifier: Apache-2.0
"""What is told of a label without a truth: numbers with a known answer, and labels that stay what they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf
from sklearn.isotonic import IsotonicRegression

from monai_ext.apps import segmentation
from monai_ext.apps.quality import Assessor, Judge, calibrate, quality_file
from monai_ext.apps.quality.changes import DAMAGES, damaged, other_field
from monai_ext.apps.quality.estimates import ExpectedDice
from monai_ext.apps.quality.measuring import VIEWS, Looker, agreement, feature_layers, some_slices, view
from monai_ext.apps.quality.quality_file import QualityNotes
from monai_ext.apps.quality.training_likeness import Gaussian
from monai_ext.apps.segmentation import segment
from monai_ext.bundle import Bundle
from monai_ext.data.files.fingerprint import hash_file
from monai_ext.inferers import SliceBatchInferer, WholeImageInferer
from monai_ext.networks.nets import DCAUNet, DoubleUNetDCA, QTSeg, UNetDCA, XAttnResUNet
from tests.data.volumes import save

KNOBS = {"image_size": [32, 32], "num_workers": 0}


def test_distance_is_that_of_the_shrunk_covariance():
    rng = np.random.default_rng(0)
    for rows, features in ((40, 12), (30, 100)):  # fewer rows than features, too
        x = rng.normal(size=(rows, features)) @ rng.normal(size=(features, features)) + 5
        y = rng.normal(size=(4, features)) * 10
        ours = Gaussian.of(x)
        scaled = [(part - x.mean(axis=0)) / ours.scale for part in (x, y)]
        theirs = LedoitWolf(assume_centered=True).fit(scaled[0])
        for part, expected in zip((x, y), scaled):
            wanted = np.sqrt(theirs.mahalanobis(expected) / features)
            np.testing.assert_allclose(ours.distance(part), wanted, rtol=1e-6)


def test_a_feature_that_never_changed_tells_by_changing():
    x = np.random.default_rng(0).normal(size=(30, 4))
    x[:, 3] = 2
    near = Gaussian.of(x)
    assert near.distance(x).max() < 3
    assert near.distance(np.array([[0, 0, 0, 3.0]]))[0] > 10


def test_expected_dice_rises_with_trust_and_covers_what_it_has_not_seen():
    rng = np.random.default_rng(0)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        truth = rng.uniform(0.2, 0.95, n)
        noise = rng.normal(0, 0.04, (n, 2))
        return np.stack([truth + noise[:, 0], -rng.uniform(size=n)], axis=1), truth + noise[:, 1]

    seen, dice = draw(60)
    told = ExpectedDice(seen, dice, np.arange(60) // 2, np.ones(60, bool))
    fresh, truth = draw(400)
    found = np.array([told(row) for row in fresh])
    assert np.corrcoef(found[:, 0], truth)[0, 1] > 0.9
    inside = (found[:, 1] <= truth) & (truth <= found[:, 2])
    assert 0.8 < inside.mean() <= 1
    line = [told(np.array([x, -0.5]))[0] for x in np.linspace(0, 1, 30)]
    assert (np.diff(line) >= 0).all()
    # a signal that speaks against Dice is not turned round
    against = ExpectedDice(-seen, dice, np.arange(60), np.ones(60, bool))
    assert against(-seen[0])[0] == pytest.approx(dice.mean(), abs=0.1)


def test_steps_are_those_of_isotonic_regression():
    rng = np.random.default_rng(1)
    x = rng.uniform(size=40)
    dice = np.clip(x + rng.normal(0, 0.1, 40), 0, 1)
    told = ExpectedDice(x[:, None], dice, np.arange(40), np.ones(40, bool))
    line = np.clip(np.polyval(np.polyfit(x, dice, 1), x), None, None)
    steps = IsotonicRegression().fit(line, dice).predict(line)
    found = [told(np.array([value]))[0] for value in x]
    np.testing.assert_allclose(found, np.clip((line + steps) / 2, 0, 1), atol=1e-6)


def test_too_few_cases_are_no_calibration():
    with pytest.raises(ValueError, match="monai_ext: 4 held-out cases, expected at least 5"):
        ExpectedDice(np.zeros((8, 1)), np.zeros(8), np.arange(8) // 2, np.ones(8, bool))


def test_agreement_is_dice():
    a, b = torch.tensor([[1, 1, 0, 2, 5]]), torch.tensor([[1, 0, 0, 2, 5]])
    np.testing.assert_allclose(agreement(a, b, (1, 2, 3)), [2 / 3, 1, np.nan])
    np.testing.assert_allclose(agreement(a, b, (5,)), [1])


@pytest.mark.parametrize(
    "network, first, last",
    [
        (DCAUNet(2, 1, 3), "encoder.stages.0", 256),
        (UNetDCA(2, 1, 3, img_size=(64, 64)), "encoder_norm.1", 512),
        (XAttnResUNet(2, 1, 3), "encoder.1", 1024),
        (DoubleUNetDCA(spatial_dims=2, in_channels=1, out_channels=3, img_size=(64, 64)), None, None),
        (QTSeg(spatial_dims=2, in_channels=1, out_channels=3), None, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, torch.nn.Module) else "",
)
def test_layers_are_the_encoders(network, first, last):
    network.eval()
    names = feature_layers(network, torch.rand(1, 1, 64, 64))
    modules = dict(network.named_modules())
    assert len(names) >= 3
    assert set(names) <= set(modules)
    if first is not None:
        assert any(name.startswith(first) for name in names), names
        label, rows = Looker(network, SliceBatchInferer((64, 64))).look(torch.rand(1, 1, 64, 64, 3))
        assert label.shape == (1, 1, 64, 64, 3)
        assert rows.shape[0] == 3
        assert rows.shape[1] > last
        assert np.isfinite(rows).all()


def test_looking_changes_no_label_and_leaves_no_hook():
    network = UNetDCA(2, 3, 2, img_size=(32, 32)).eval()
    x = torch.rand(1, 3, 32, 32)
    before = network(x).detach()
    looker = Looker(network, WholeImageInferer())
    label, rows = looker.look(x)
    assert torch.equal(label, before.argmax(dim=1, keepdim=True).to(label.dtype))
    assert torch.equal(looker.labels(x), label)
    assert rows.shape[0] == 1
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert torch.equal(network(x), before)


def test_some_slices_are_from_first_to_last_along_the_right_axis():
    x = torch.arange(50.0).reshape(1, 1, 1, 50, 1).expand(1, 1, 3, 50, 4)
    assert some_slices(x, SliceBatchInferer(spatial_dim=1), 5)[0, 0, 0, :, 0].tolist() == [0, 12, 24, 37, 49]
    assert some_slices(x, SliceBatchInferer(spatial_dim=2), 5).shape == x.shape
    assert some_slices(x[..., 0], WholeImageInferer(), 5).shape == x[..., 0].shape


@pytest.mark.parametrize("shape", [(1, 1, 40, 36, 9), (1, 3, 40, 36)])
def test_changes_keep_the_grid_and_the_range(shape):
    x = torch.rand(shape)
    kept = x.clone()
    for kind in VIEWS:
        assert view(x, kind).shape == x.shape
        assert torch.equal(view(x, kind), view(x, kind))
        assert 0 < (view(x, kind) - x).abs().mean() < 0.4
    for k, kind in enumerate(DAMAGES):
        made = damaged(x, kind, k)
        assert made.shape == x.shape
        assert x.min() <= made.min() < made.max() <= x.max()
        assert torch.equal(made, damaged(x, kind, k))
    assert other_field(x, 1).shape[:4] == x.shape[:4]
    assert torch.equal(x, kept)


def scan(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright ball (class 1) in a body of noise, somewhere else each time."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(side) for side in (32, 32, 6)), indexing="ij"))
    centre = np.array([16, 16, 2.5]) + rng.uniform(-4, 4, 3) * [1, 1, 0.2]
    inside = (((grid - centre.reshape(3, 1, 1, 1)) / np.array([6, 6, 3]).reshape(3, 1, 1, 1)) ** 2).sum(axis=0) < 1
    body = ((grid[:2] - 15.5) ** 2).sum(axis=0) < 200
    image = np.where(body, rng.normal(40, 20, body.shape), -1000)
    return np.where(inside, rng.normal(160, 20, body.shape), image).astype(np.int16), inside.astype(np.uint8)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory) -> Path:
    """Weights of a network that takes what is bright for class 1, its data and its quality file: their folder."""
    folder = tmp_path_factory.mktemp("quality")
    parts: dict[str, list] = {"training": [], "validation": [], "test": []}
    for k in range(10):
        image, label = scan(k)
        save(folder / f"images/{k}.nii.gz", image)
        save(folder / f"labels/{k}.nii.gz", label)
        part = "training" if k < 4 else "validation" if k < 9 else "test"
        parts[part].append({"image": f"images/{k}.nii.gz", "label": f"labels/{k}.nii.gz"})
    (folder / "list.json").write_text(json.dumps(parts))
    torch.manual_seed(0)
    network = DCAUNet(2, 1, 9)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    x, y = (
        torch.from_numpy(np.concatenate([np.moveaxis(scan(k)[i], -1, 0) for k in range(4)])).float() for i in (0, 1)
    )
    x = ((x + 125) / 400).clamp(0, 1)[:, None]
    for _ in range(20):
        out = network.train()(x)
        loss = torch.nn.functional.cross_entropy(out[0] if isinstance(out, (list, tuple)) else out, y.long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(network.state_dict(), folder / "model.pt")
    made = calibrate("dcaunet_synapse", folder / "model.pt", datalist=str(folder / "list.json"), **KNOBS)
    assert made == folder / "model.quality.npz" == quality_file(folder / "model.pt")
    return folder


def run(folder: Path, output: Path, source: str = "images/9.nii.gz", weights: Path | None = None, **more):
    return segment("dcaunet_synapse", folder / source, output, [(weights or folder) / "model.pt"], **{**KNOBS, **more})


def told(output: Path) -> list[dict]:
    return [case["quality"] for case in json.loads((output / "run_inference.json").read_text())["cases"]]


def test_the_file_holds_what_was_measured(calibrated):
    notes = QualityNotes.load(calibrated / "model.pt")
    assert notes.weights == hash_file(calibrated / "model.pt")
    assert sorted(set(notes.cases.tolist())) == [0, 1, 2, 3, 4]
    assert notes.trained == 4
    assert not notes.phantom
    assert notes.values == tuple(range(1, 9))
    sound = notes.dice[notes.sound.astype(bool)]
    assert len(sound) == 5
    # the Dice of a held-out case is that of its label, which a processor may compute in another precision
    for k, dice in [(1, sound[1])]:
        (label,) = run(calibrated, calibrated / f"own{k}", f"images/{k + 4}.nii.gz", precision="float32")
        pair = [np.asarray(nibabel.load(p).dataobj) for p in (label, calibrated / f"labels/{k + 4}.nii.gz")]
        classes = [c for c in range(1, 9) if any((part == c).any() for part in pair)]
        mean = np.mean(
            [2 * ((pair[0] == c) & (pair[1] == c)).sum() / sum((p == c).sum() for p in pair) for c in classes]
        )
        assert dice == pytest.approx(mean, abs=1e-6)


def test_labels_are_the_same_with_and_without(calibrated, tmp_path, caplog):
    (plain,) = run(calibrated, tmp_path / "plain")
    found = run(calibrated, tmp_path / "told", quality=True)
    assert plain.read_bytes() == found[0].read_bytes()
    (quality,) = told(tmp_path / "told")
    assert found.quality == {found[0]: quality}
    assert quality["flag"] == "sound"
    low, high = quality["interval"]
    assert 0 <= low <= quality["expected_dice"] <= high <= 1
    assert 0 < quality["distance"] <= 1
    assert next(iter(quality["agreement"])) == "aorta"
    assert "unlike" not in caplog.text
    assert "quality" not in json.loads((tmp_path / "plain" / "run_inference.json").read_text())["cases"][0]


def test_unlike_images_are_told_and_still_labelled(calibrated, tmp_path, caplog):
    image = scan(9)[0].astype(int)
    noise = np.random.default_rng(0).integers(-1000, 1000, image.shape)
    missing = image.copy()
    missing[:, :, [2, 3]] = -1000
    kinds = {"noise": noise, "inverted": -image, "shifted": image + 1024, "times10": image * 10, "missing": missing}
    for name, voxels in kinds.items():
        save(tmp_path / "scans" / f"{name}.nii.gz", np.clip(voxels, -32000, 32000).astype(np.int16))
    labels = segment(
        "dcaunet_synapse", tmp_path / "scans", tmp_path / "out", [calibrated / "model.pt"], force=True, quality=True,
        **KNOBS,
    )  # fmt: skip
    assert len(labels) == 5
    assert [one["flag"] for one in told(tmp_path / "out")] == ["unlike training"] * 5
    gap = f"2 of {image.shape[2]} slices (2, 3) hold one value only between others: are some missing?"
    assert [one.get("missing") for one in told(tmp_path / "out")] == [
        gap if "missing" in name else None for name in sorted(kinds)
    ]
    assert f"missing.nii.gz: {gap}; do not trust the label (expected Dice" in caplog.text
    for name in kinds.keys() - {"missing"}:
        assert f"{name}.nii.gz: this image is unlike those that the model was trained on" in caplog.text


def test_what_is_known_outlives_a_stop_and_is_added_to_labels_that_are_there(calibrated, tmp_path, monkeypatch):
    source = tmp_path / "scans"
    for k in (6, 7, 8):
        save(source / f"{k}.nii.gz", scan(k)[0])
    output = tmp_path / "out"
    run(source, output, ".", calibrated)
    asked: list[str] = []
    real = segmentation.judged

    def judged(assess, image, label, name):
        if len(asked) == 1:
            raise KeyboardInterrupt
        asked.append(name)
        return real(assess, image, label, name)

    monkeypatch.setattr(segmentation, "judged", judged)
    with pytest.raises(KeyboardInterrupt):
        run(source, output, ".", calibrated, quality=True)
    monkeypatch.setattr(segmentation, "judged", real)
    found = run(source, output, ".", calibrated, quality=True)
    assert [label.name for label in found.kept] == ["6_seg.nii.gz"]
    assert [one["flag"] for one in found.quality.values()] == [one["flag"] for one in told(output)]
    assert len(told(output)) == 3
    assert len(run(source, output, ".", calibrated, quality=True).kept) == 3


def test_members_count_as_views_and_each_needs_its_own_file(calibrated, tmp_path):
    shutil.copy(calibrated / "model.pt", tmp_path / "a.pt")
    shutil.copy(quality_file(calibrated / "model.pt"), quality_file(tmp_path / "a.pt"))
    shutil.copy(calibrated / "model.pt", tmp_path / "b.pt")
    both = [tmp_path / "a.pt", tmp_path / "b.pt"]
    with pytest.raises(FileNotFoundError, match=r"b\.quality\.npz: not there; .*calibrate --bundle BUNDLE"):
        segment("dcaunet_synapse", calibrated / "images/9.nii.gz", tmp_path / "out", both, quality=True, **KNOBS)
    assert not (tmp_path / "out").exists()
    shutil.copy(quality_file(tmp_path / "a.pt"), quality_file(tmp_path / "b.pt"))
    segment("dcaunet_synapse", calibrated / "images/9.nii.gz", tmp_path / "out", both, quality=True, **KNOBS)
    run(calibrated, tmp_path / "one", quality=True)
    (twice,), (once,) = told(tmp_path / "out"), told(tmp_path / "one")
    assert twice["distance"] == pytest.approx(once["distance"], rel=1e-3)


def test_files_that_do_not_fit_are_refused_in_one_line(calibrated, tmp_path):
    weights = tmp_path / "model.pt"
    state = torch.load(calibrated / "model.pt", weights_only=True)
    torch.save({key: value * 1.01 if value.is_floating_point() else value for key, value in state.items()}, weights)
    source = quality_file(calibrated / "model.pt")
    shutil.copy(source, quality_file(weights))
    with pytest.raises(ValueError, match=r"model\.quality\.npz: is of other weights than .*model\.pt\. Make it again"):
        QualityNotes.load(weights)
    for content in (b"", b"PK\x03\x04nothing", source.read_bytes()[:2000]):
        quality_file(weights).write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.quality\.npz: no quality file of this library, or damaged"):
            QualityNotes.load(weights)
    np.savez(quality_file(weights), version=1, weights=np.array([{"a": 1}], dtype=object))  # a pickle is never read
    with pytest.raises(ValueError, match="no quality file of this library"):
        QualityNotes.load(weights)
    # a server says so beside the label, which it gives all the same
    judged = Judge()(
        Bundle.find("dcaunet_synapse"), [weights], "cpu", torch.rand(1, 1, 8, 8, 2), torch.zeros(1), "scan"
    )
    assert judged.content["flag"] == "unknown"
    assert "no quality file" in judged.content["reason"]
    assert Judge()(Bundle.find("dcaunet_synapse"), [tmp_path / "other.pt"], "cpu", None, None, "scan") is None


def test_calibration_needs_cases_that_were_not_trained_on(calibrated, tmp_path):
    cases = json.loads((calibrated / "list.json").read_text())
    few = {**cases, "validation": cases["validation"][:4]}
    (calibrated / "few.json").write_text(json.dumps(few))
    with pytest.raises(ValueError, match="monai_ext: 4 validation cases, expected at least 5 .*crossval"):
        calibrate("dcaunet_synapse", calibrated / "model.pt", datalist=str(calibrated / "few.json"), **KNOBS)
    seen = calibrated / "seen.pt"
    shutil.copy(calibrated / "model.pt", seen)
    noted = [{"part": "training", "case": "04", "image": hash_file(calibrated / "images/4.nii.gz")}]
    seen.with_suffix(".cases.json").write_text(json.dumps({"phantom": False, "cases": noted}))
    with pytest.raises(ValueError, match=r"seen\.pt: was trained on case 04, which is 4 of the cases to calibrate on"):
        calibrate("dcaunet_synapse", seen, datalist=str(calibrated / "list.json"), **KNOBS)
    assert not quality_file(seen).exists()
    with pytest.raises(FileNotFoundError, match=r"none\.pt: no such model"):
        calibrate("dcaunet_synapse", tmp_path / "none.pt")


def test_an_assessor_leaves_label_and_image_alone(calibrated):
    assess = Assessor(Bundle.find("dcaunet_synapse"), [calibrated / "model.pt"], "cpu", image_size=[32, 32])
    image, label = torch.rand(1, 1, 32, 32, 6), torch.zeros(1, 1, 32, 32, 6, dtype=torch.uint8)
    kept = image.clone(), label.clone()
    quality = assess(image, label)
    assert torch.equal(image, kept[0])
    assert torch.equal(label, kept[1])
    assert quality.unlike_training
    assert quality.warning.startswith("this image is unlike")
