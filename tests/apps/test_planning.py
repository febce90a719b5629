# SPDX-License-Identifier: Apache-2.0
"""The rules of a plan, on data of which the right plan is known."""

from __future__ import annotations

import numpy as np
import pytest

from monai_ext.apps.new_bundle import new_bundle
from monai_ext.apps.new_bundle.planning import (
    check_spacings,
    intensity_window,
    mirror_axes,
    picture_plan,
    slice_plan,
    tissue_contrast,
)
from monai_ext.apps.new_bundle.survey import Survey, Tissue, survey
from monai_ext.apps.reproduce import reproduce
from tests.bundles import test_contract as contract
from tests.bundles.runs import run, same_weights
from tests.data.volumes import save


def found(tissue, modality="CT", **kwargs):
    return Survey(pictures=False, modality=modality, tissue=tissue, **kwargs)


def test_gas_in_a_stomach_does_not_stretch_the_window():
    liver, stomach = Tissue(-20, 45, 80, 15), Tissue(-980, 35, 75, 30)
    window, reason = intensity_window(found({1: [liver] * 3, 2: [stomach] * 3}))
    assert window == [-175, 275]
    assert "with and without contrast medium" in reason
    # lungs and bone are no soft tissue, and keep their own range
    assert intensity_window(found({1: [Tissue(-980, -850, -700, 60)] * 3}))[0] == [-1050, -630]
    low, high = intensity_window(found({1: [liver], 2: [Tissue(150, 600, 1700, 250)]}))[0]
    assert low < -20
    assert high > 1600
    # much contrast medium: wider than without
    assert intensity_window(found({1: [liver], 2: [Tissue(200, 350, 450, 40)]}))[0][1] > 500


def test_contrast_that_is_imagined_goes_where_there_is_none():
    assert tissue_contrast(found({1: [Tissue(0, 45, 80, 15)]}))[0] == [-0.2, 0.8]
    assert tissue_contrast(found({1: [Tissue(0, 171, 250, 15)], 2: [Tissue(0, 40, 80, 9)]}))[0] == [-0.5, 0.4]
    assert tissue_contrast(found({1: [Tissue(0, 171, 250, 15)]}, modality="MR"))[0] == [-0.3, 0.3]


def centres(count, *classes, spread=0.03, seed=0):
    rng = np.random.default_rng(seed)
    return {
        str(i): {value: tuple(rng.normal(place, spread)) for value, place in enumerate(classes, start=1)}
        for i in range(count)
    }


def test_mirroring_only_where_no_class_has_a_side():
    liver_and_spleen = centres(8, (0.3, 0.5), (0.7, 0.5))
    axes, reason = mirror_axes(liver_and_spleen, names={1: "liver", 2: "spleen"})
    assert axes == [1]
    assert "liver and spleen lie apart" in reason
    # a class in the middle, in each case a little elsewhere
    assert mirror_axes(centres(12, (0.5, 0.5), spread=0.01))[0] == [0, 1]
    # lesions anywhere
    assert mirror_axes(centres(40, (0.5, 0.5), spread=0.2))[0] == [0, 1]
    # one class alone has a side: what is mirrored would look like its counterpart, which is background
    assert mirror_axes(centres(8, (0.3, 0.5)))[0] == [1]
    # one scan is enough to see that
    assert mirror_axes(centres(1, (0.3, 0.5), (0.7, 0.2)))[0] == []


def test_sides_are_the_patients_however_a_file_stores_them(tmp_path):
    """Two classes side by side, in files whose axes run to the left and to the right."""
    cases, medians = {}, []
    for number, direction in enumerate((1, -1, 1, -1)):
        image = np.random.default_rng(number).normal(40, 20, (20, 16, 8)).astype(np.int16)
        label = np.zeros(image.shape, np.uint8)
        label[3:7, 6:10], label[13:17, 6:10] = 1, 2
        medians.append(np.median(image[label == 1]))
        affine = np.diag([2.0 * direction, 2, 3, 1])
        image, label = (v[::direction] for v in (image, label))
        cases[str(number)] = {
            key: str(save(tmp_path / f"{key}{number}.nii.gz", value, affine))
            for key, value in (("image", image), ("label", label))
        }
    seen = survey(cases, progress=False)
    # the first axis runs to the left: the class at low x, on the patient's left, comes last
    for case in seen.centres.values():
        assert case[1][0] == pytest.approx(0.75)
        assert case[2][0] == pytest.approx(0.25)
        assert case[1][1] == pytest.approx(0.5)
    assert mirror_axes(seen.centres)[0] == [1]
    # 4 of 4x4 pixels have 16 sides: 2 * 16 / 16 pixels of 2 mm
    assert seen.widths == {1: [4.0] * 4, 2: [4.0] * 4}
    for tissue, median in zip(seen.tissue[1], medians, strict=True):
        assert tissue.median == pytest.approx(median, abs=2)  # of a sample
        assert 13 < tissue.spread < 27  # 20 of all voxels


def test_slices_are_seen_whole_where_classes_stay_thick():
    ct = {"shapes": [(512, 512, 100)] * 3, "spacings": [(0.7, 0.7, 3), (0.8, 0.8, 5), (0.9, 0.9, 2.5)]}
    pixel, view, reason = slice_plan(found({}, widths={1: [20.0] * 3, 2: [10.0] * 3}, **ct), 224)
    assert pixel == pytest.approx(512 * 0.8 / 224, rel=0.01)
    assert view == [224, 224]
    assert "whole slices" in reason
    # a thin class: finer pixels, and part of a slice
    pixel, view, reason = slice_plan(found({}, widths={1: [20.0] * 3, 2: [3.0] * 3}, **ct), 224)
    assert pixel == 1.0
    assert view == [224, 224]
    assert "part of a slice" in reason
    # never finer than the scans
    assert slice_plan(found({}, widths={1: [0.5] * 3}, **ct), 224)[0] == 0.8
    # small and oblong: the aspect is kept
    small = {"shapes": [(122, 80, 100)] * 3, "spacings": [(3, 3, 3)] * 3}
    assert slice_plan(found({}, widths={1: [20.0]}, **small), 224)[:2] == (3.0, [128, 96])
    # thin, in scans of few pixels: organs need the whole slice, what lies anywhere is seen larger
    thin = found({}, widths={1: [20.0], 2: [6.0]}, **small)
    assert slice_plan(thin, 224)[:2] == (3.0, [128, 96])
    pixel, view, reason = slice_plan(thin, 224, anywhere=True)
    assert (pixel, view) == (2.0, [128, 96])
    assert "the scans' own 3" in reason
    assert "part of a slice" in reason
    thinner = found({}, widths={1: [1.0]}, **small)
    assert slice_plan(thinner, 150, anywhere=True)[0] == pytest.approx(366 / 150, rel=0.01)
    assert slice_plan(thinner, 512, anywhere=True)[0] == 2.0


def test_a_spacing_of_another_order_is_refused():
    usual = [(0.8, 0.8, 5.0), (0.7, 0.7, 0.9), (0.9, 0.9, 3.0)]
    images = {str(i): f"scan{i}.nii.gz" for i in range(4)}
    check_spacings(found({}, spacings=[*usual, (1.5, 1.5, 8.0)]), images)
    with pytest.raises(ValueError, match=r"scan3.nii.gz: voxels of 8x8x30 mm, the median of all scans is 0.85x0.85x4"):
        check_spacings(found({}, spacings=[*usual, (8.0, 8.0, 30.0)]), images)
    with pytest.raises(ValueError, match="scan3"):
        check_spacings(found({}, spacings=[*usual, (0.08, 0.08, 3.0)]), images)


def test_a_thin_vessel_is_not_lost_in_a_large_picture():
    def plan(side, width):
        return picture_plan(Survey(pictures=True, shapes=[(side, side // 2)] * 3, widths={1: [width], 2: [90.0]}), 512)

    assert plan(2048, 3.0)[0] == 1.0
    assert "windows of 512 pixels" in plan(2048, 3.0)[1]
    assert plan(2048, 6.0)[0] == 2.0
    assert plan(2048, 30.0)[0] is None
    assert plan(400, 2.0)[0] is None


def test_large_pictures_with_thin_lines(tmp_path, monkeypatch):
    """Views in training, windows in inference: a mask as large as its picture, by the bundle's documented commands."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(3):
        mask = np.zeros((620, 560), bool)
        for place in rng.integers(20, 500, 6):
            mask[:, place : place + 3] = True
        picture = np.clip(rng.normal(120, 10, (620, 560, 3)) + 60 * mask[..., None], 0, 255).astype(np.uint8)
        for folder, values in (("photos", picture), ("masks", mask.astype(np.uint8) * 255)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(values).save(tmp_path / folder / f"p{i}.png")
    monkeypatch.chdir(tmp_path)
    made, choices = new_bundle("lines", None, "photos", "masks", progress=False)
    assert any("windows of 512 pixels" in choice and "keep their pixels" in choice for choice in choices)
    assert any(choice.startswith("mirror_axes: along the first") for choice in choices)
    bundle = str(made.resolve())
    for check in contract.CHECKS_OF_A_MADE_BUNDLE:
        check(bundle)
    contract.test_metadata(bundle, tmp_path)
    contract.test_exports(bundle, tmp_path)
    small = {"image_size": 128, "batch_size": 2, "num_workers": 0}
    run(bundle, "train", **small, epochs=1, val_interval=1)
    again = reproduce(made / "eval" / "run_training.json", tmp_path / "again")
    assert same_weights(made / "models" / "model.pt", again / "model.pt")
    run(bundle, "inference", **small, dataset_dir=str(tmp_path / "photos"))
    for label in (made / "eval").glob("*_seg.png"):
        assert Image.open(label).size == (560, 620)
    assert len(list((made / "eval").glob("*_seg.png"))) == 3
