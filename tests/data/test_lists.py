# SPDX-License-Identifier: Apache-2.0
"""Lists of cases as the tools write them: which cases, which files, which names, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from monai_ext.data import listed_class_names, load_datalist, read_list
from monai_ext.data.lists import case_name, check_class_names
from monai_ext.utils import MODALITIES, VOLUME_MODALITIES, modality_of
from tests.data.volumes import save, volume


def write(folder: Path, content: object, name: str = "dataset.json", **options) -> Path:
    file = folder / name
    file.write_text(json.dumps(content), **options)
    return file


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(listed, folder: Path) -> dict[str, list[tuple]]:
    """Part -> (id, image, label) with paths relative to the folder."""

    def short(path):
        return [short(p) for p in path] if isinstance(path, list) else Path(path).relative_to(folder).as_posix()

    return {
        part: [(c["case_id"], short(c["image"]), short(c["label"])) for c in cases]
        for part, cases in listed.parts.items()
    }


def test_a_decathlon_task(tmp_path):
    """As the Medical Segmentation Decathlon has it: ./ before paths, tests as plain names."""
    file = write(
        tmp_path,
        {
            "name": "Spleen",
            "tensorImageSize": "3D",
            "modality": {"0": "CT"},
            "labels": {"0": "background", "1": "spleen"},
            "numTraining": 2,
            "numTest": 2,
            "training": [
                {"image": f"./imagesTr/spleen_{i}.nii.gz", "label": f"./labelsTr/spleen_{i}.nii.gz"} for i in (19, 2)
            ],
            "test": ["./imagesTs/spleen_1.nii.gz", "./imagesTs/spleen_15.nii.gz"],
        },
    )
    listed = read_list(file)
    assert found(listed, tmp_path) == {
        "training": [
            ("spleen_19", "imagesTr/spleen_19.nii.gz", "labelsTr/spleen_19.nii.gz"),
            ("spleen_2", "imagesTr/spleen_2.nii.gz", "labelsTr/spleen_2.nii.gz"),
        ],
        "validation": [],
        "test": [],
    }
    assert (listed.class_names, listed.modality) == ({1: "spleen"}, "CT")
    assert listed.notes == (
        "dataset.json: 2 test cases have no label and cannot be evaluated on, left out: spleen_1, spleen_15.",
    )


def test_btcv_with_validation(tmp_path):
    """dataset_0.json of MONAI's research contributions; here with a mark at its start, as Windows writes it."""
    names = {str(i): name for i, name in enumerate(["background", "spleen", "rkid", "lkid"])}
    pair = {i: {"image": f"imagesTr/img{i:04d}.nii.gz", "label": f"labelsTr/label{i:04d}.nii.gz"} for i in (1, 2, 35)}
    content = {"labels": names, "modality": {"0": "CT"}, "numTest": 1, "test": ["imagesTs/img0061.nii.gz"]}
    content |= {"training": [pair[1], pair[2]], "validation": [pair[35]]}
    for encoding in ("utf-8-sig", "utf-16"):
        listed = read_list(write(tmp_path, content, encoding=encoding))
        ids = {part: [case["case_id"] for case in cases] for part, cases in listed.parts.items()}
        assert ids == {"training": ["img0001", "img0002"], "validation": ["img0035"], "test": []}
        assert listed.class_names == {1: "spleen", 2: "rkid", 3: "lkid"}


def test_nnunet_1_lists_cases_and_not_channels(tmp_path):
    touch(tmp_path, "imagesTr/a_01_0000.nii.gz", "imagesTs/a_02_0000.nii.gz", "labelsTs/a_02.nii.gz")
    file = write(
        tmp_path,
        {
            "modality": {"0": "MRI"},
            "labels": {"0": "background", "1": "x"},
            "training": [{"image": "./imagesTr/a_01.nii.gz", "label": "./labelsTr/a_01.nii.gz"}],
            "test": ["./imagesTs/a_02.nii.gz"],
        },
    )
    listed = read_list(file)
    assert found(listed, tmp_path)["training"] == [("a_01", "imagesTr/a_01_0000.nii.gz", "labelsTr/a_01.nii.gz")]
    assert found(listed, tmp_path)["test"] == [("a_02", "imagesTs/a_02_0000.nii.gz", "labelsTs/a_02.nii.gz")]
    assert listed.modality == "MR"
    touch(tmp_path, "imagesTr/a_01_0001.nii.gz")
    with pytest.raises(ValueError, match=r"names one channel \(MRI\), but case a_01 has 2 files"):
        read_list(file)
    touch(tmp_path, "imagesTs/a_02_0001.nii.gz")
    about = json.loads(file.read_text()) | {"modality": {"0": "T1", "1": "T2"}}
    listed = read_list(write(tmp_path, about))
    both = [f"imagesTr/a_01_{k:04d}.nii.gz" for k in range(2)]
    assert found(listed, tmp_path)["training"] == [("a_01", both, "labelsTr/a_01.nii.gz")]
    assert listed.channel_names == ("T1", "T2")


def nnunet_2(folder: Path, **more) -> Path:
    for i in (1, 2, 3):
        touch(folder, f"imagesTr/c.{i}_0000.nii.gz", f"labelsTr/c.{i}.nii.gz")
    touch(folder, "imagesTs/t1_0000.nii.gz", "imagesTs/t2_0000.nii.gz", "labelsTs/t2.nii.gz")
    touch(folder, "imagesTr/.DS_Store", "imagesTr/._c.1_0000.nii.gz", "labelsTr/._c.1.nii.gz", "labelsTr/notes.txt")
    content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1, "b": 2}, "numTraining": 3}
    return write(folder, {**content, "file_ending": ".nii.gz", **more})


@pytest.mark.parametrize("more", [{}, {"training": [], "test": []}])
def test_nnunet_2_lists_no_cases(tmp_path, more):
    listed = read_list(nnunet_2(tmp_path, **more))
    assert found(listed, tmp_path) == {
        "training": [(f"c.{i}", f"imagesTr/c.{i}_0000.nii.gz", f"labelsTr/c.{i}.nii.gz") for i in (1, 2, 3)],
        "validation": [],
        "test": [("t2", "imagesTs/t2_0000.nii.gz", "labelsTs/t2.nii.gz")],
    }
    assert listed.class_names == {1: "a", 2: "b"}
    assert listed.modality == "CT"
    assert listed.notes == ("dataset.json: 1 test case has no label and cannot be evaluated on, left out: t1.",)


def test_nnunet_2_with_files_elsewhere(tmp_path):
    cases = {name: {"images": [f"raw/{name}.mha"], "label": f"truth/{name}.mha"} for name in ("p7", "p8")}
    listed = read_list(nnunet_2(tmp_path, dataset=cases, numTraining=2))
    assert found(listed, tmp_path)["training"] == [(n, f"raw/{n}.mha", f"truth/{n}.mha") for n in ("p7", "p8")]
    assert not listed.notes
    cases["p7"]["images"] *= 2
    with pytest.raises(ValueError, match=r"names one channel \(CT\), but case p7 has 2 files"):
        read_list(nnunet_2(tmp_path, dataset=cases))
    cases["p8"]["images"] = ["x_0000.mha", "x_0002.mha"]
    with pytest.raises(ValueError, match=r"case p8: x_0000|case p8: .*0001 \(b\) missing and 0002 too many"):
        read_list(nnunet_2(tmp_path, dataset=cases, channel_names={"0": "a", "1": "b"}))


def test_colour_pictures_have_three_channels_in_one_file(tmp_path):
    touch(tmp_path, *(f"imagesTr/e{i}_0000.png" for i in (1, 2)), *(f"labelsTr/e{i}.png" for i in (1, 2)))
    names = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": {"background": 0, "disc": 1}}
    listed = read_list(write(tmp_path, {**names, "numTraining": 2, "file_ending": ".png"}))
    assert [case["case_id"] for case in listed.parts["training"]] == ["e1", "e2"]


def test_names_and_numbers_as_ids(tmp_path):
    cases = [
        {"image": "scan.v1.2.nii.gz", "label": ["l/scan.nii.gz"]},
        {"image": "scan.v1.3.nii.gz", "label": "l/b.nii.gz"},
        {"image": "/elsewhere/x.nrrd", "label": "/elsewhere/y.nrrd", "case_id": 12},
        {"image": ["p/1/ct.nii.gz"], "label": "p/1/organs.nii.gz"},
        {"image": "p/2/ct.nii.gz", "label": "p/2/organs.nii.gz"},
    ]
    listed = read_list(write(tmp_path, {"training": cases}), "/data")
    assert [(c["case_id"], c["image"], c["label"]) for c in listed.parts["training"]] == [
        ("scan.v1.2", "/data/scan.v1.2.nii.gz", "/data/l/scan.nii.gz"),
        ("scan.v1.3", "/data/scan.v1.3.nii.gz", "/data/l/b.nii.gz"),
        ("12", "/elsewhere/x.nrrd", "/elsewhere/y.nrrd"),
        ("p/1/ct", "/data/p/1/ct.nii.gz", "/data/p/1/organs.nii.gz"),
        ("p/2/ct", "/data/p/2/ct.nii.gz", "/data/p/2/organs.nii.gz"),
    ]
    assert [case_name(p) for p in ("a/b.1.NII.GZ", "x.y", "s.npz::image", "1.2.840")] == ["b.1", "x.y", "s", "1.2.840"]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({"0": "Background", "1": "a", "3": "b"}, {1: "a", 3: "b"}),
        ({"background": "0", "a": "1"}, {1: "a"}),
        ({"background": 0, "a": [1]}, {1: "a"}),
        (["background", "a", "b"], {1: "a", 2: "b"}),
        ({}, {}),
    ],
)
def test_labels_either_way_round(tmp_path, labels, names):
    pairs = [{"image": "a.nii", "label": "b.nii"}]
    assert read_list(write(tmp_path, {"labels": labels, "training": pairs})).class_names == names


PAIR = {"image": "a.nii", "label": "b.nii"}
REGIONS = {"labels": {"whole": [1, 2], "core": 2}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([PAIR], 'expected {"training"'),
        ({"training": "all"}, "training is 'all', expected a list of cases"),
        ({"training": [{"image": "a.nii"}]}, r"training\[0\] is .* expected .*\"label\""),
        ({"training": [PAIR], "validation": ["a.nii"]}, r"validation\[0\] is 'a.nii', expected"),
        ({"training": [{**PAIR, "label": ["b.nii", "c.nii"]}]}, "2 label files; several are united for pictures only"),
        ({"training": [{**PAIR, "image": ["a.png", "c.png"]}]}, r"has 2 pictures \(a\.png, c\.png\), expected one"),
        ({"training": [PAIR, PAIR]}, r"case a is listed as training\[0\] and as training\[1\]"),
        ({"training": [PAIR], "val": [PAIR]}, "'val' holds cases, expected them in training, validation, test"),
        ({"training": [PAIR], "test": [PAIR], "testing": [PAIR]}, '"test" and "testing"'),
        ({"training": [{**PAIR, "fold": 0.5}]}, "fold 0.5, expected a whole number from 0"),
        ({"training": [{**PAIR, "fold": -1}]}, "fold -1, expected"),
        ({"training": [{**PAIR, "case_id": True}]}, "case_id True, expected text"),
        ({"training": [PAIR], "labels": {"a": 1, "ignore": [2, 3]}}, "'ignore' is .*expected one number"),
        ({"training": [PAIR], "labels": {"a": 1, "ignore": 1}}, "1 is 'a' and 'ignore'"),
        (
            {"training": [PAIR], "labels": {"whole": [1, 2], "core": [2]}},
            r"'whole' and 'core' overlap \(label value 2\), in no",
        ),
        ({"training": [PAIR], **REGIONS, "regions_class_order": [1]}, "expected 2 different label values"),
        ({"training": [PAIR], **REGIONS, "regions_class_order": [1, 1]}, "expected 2 different label values"),
        (
            {"training": [PAIR], **REGIONS, "regions_class_order": [2, 1]},
            "'core' is written as 1, expected one of its own",
        ),
        (
            {"training": [PAIR], "labels": {"core": 2, "whole": [1, 2]}, "regions_class_order": [2, 1]},
            "'whole' is written after 'core', which it covers",
        ),
        (
            {"training": [PAIR], "labels": {"whole": [1, 3], "ignore": 3}, "regions_class_order": [1]},
            "label value 3.*not 'ignore'",
        ),
        ({"training": [PAIR], "labels": {"a": 1, "b": 1}}, "1 is 'a' and 'b'"),
        ({"training": [PAIR], "labels": {"a": 1.5}}, "expected a name and a number"),
        (
            {"training": [{**PAIR, "image": ["a.nii", "c.nii"]}], "modality": {"0": "T2", "1": "ADC", "2": "DWI"}},
            r"case a: .*2 channels, expected 3 \(T2, ADC, DWI\): 0002 \(DWI\) missing",
        ),
        (
            {"training": [PAIR], "channel_names": {"0": "T2", "1": "$x"}},
            r"channels: class name '\$x' has '\$'",
        ),
        ({"training": [PAIR], "label_mapping": {"1": 1.5}}, "label_mapping is .*expected"),
        ({"training": [PAIR], "label_mapping": {"1": True}}, "label_mapping is .*expected"),
        ({"labels": {"background": 0, "a": 1}, "file_ending": "nii"}, "\"file_ending\" is 'nii', expected"),
        ({"labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}, "imagesTr: no such folder"),
    ],
)
def test_what_cannot_be_kept_is_refused(tmp_path, content, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as told:
        read_list(write(tmp_path, content))
    assert str(told.value).startswith("monai_ext: datalist ")
    assert len(str(told.value).splitlines()) == 1


def test_a_pair_that_is_not_whole(tmp_path):
    file = nnunet_2(tmp_path)
    (tmp_path / "labelsTr/c.2.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"c\.2_0000\.nii\.gz: no label c\.2\.nii\.gz in "):
        read_list(file)
    (tmp_path / "imagesTr/c.2_0000.nii.gz").unlink()
    (tmp_path / "imagesTr/c.3_0000.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"c\.3\.nii\.gz: no image c\.3_0000\.nii\.gz in "):
        read_list(file)
    touch(tmp_path, "imagesTr/c.3_0000.nii.gz", "imagesTr/c.3_0001.nii.gz")
    with pytest.raises(ValueError, match=r"names one channel \(CT\), but case c\.3 has 2 files"):
        read_list(file)


def test_channels_regions_and_what_is_ignored(tmp_path):
    """As BraTS and KiTS have them; the order of files in the folder says nothing."""
    touch(
        tmp_path,
        *(f"imagesTr/{c}_{k:04d}.nii.gz" for k in (1, 0) for c in "ba"),
        "labelsTr/a.nii.gz",
        "labelsTr/b.nii.gz",
    )
    labels = {"background": 0, "kidney": [1, 2, 3], "masses": [2, 3], "tumor": 2, "ignore": 4}
    about = {"channel_names": {"0": "T1", "1": "T2"}, "labels": labels, "regions_class_order": [1, 3, 2]}
    listed = read_list(write(tmp_path, {**about, "file_ending": ".nii.gz"}))
    assert found(listed, tmp_path)["training"] == [
        (c, [f"imagesTr/{c}_{k:04d}.nii.gz" for k in range(2)], f"labelsTr/{c}.nii.gz") for c in "ab"
    ]
    assert listed.channel_names == ("T1", "T2")
    assert listed.regions == {"kidney": (1, 2, 3), "masses": (2, 3), "tumor": (2,)}
    assert (listed.region_order, listed.ignore) == ((1, 3, 2), 4)
    assert not listed.notes
    assert listed_class_names(tmp_path / "dataset.json") == ["kidney", "masses", "tumor"]
    split = load_datalist(datalist=tmp_path / "dataset.json", check=False, split="paper")
    assert split["label_mapping"] == {0: 0, 1: 1, 2: 2, 3: 3, 4: 255}
    assert split["regions"] == [[1, 2, 3], [2, 3], [2]]
    # regions that do not overlap need no order
    apart = {**about, "labels": {"left": [1, 3], "right": 2}, "file_ending": ".nii.gz"}
    del apart["regions_class_order"]
    assert read_list(write(tmp_path, apart)).region_order == (1, 2)
    plain = {**about, "labels": {"background": 0, "a": 1, "b": 2, "ignore": 3}, "file_ending": ".nii.gz"}
    del plain["regions_class_order"]
    split = load_datalist(datalist=write(tmp_path, plain), check=False, split="paper")
    assert split["label_mapping"] == {0: 0, 1: 1, 2: 2, 3: 255}
    assert (split["class_names"], split["regions"]) == (["a", "b"], [])


def test_what_is_not_used_is_told(tmp_path):
    content = {
        "training": [{**PAIR, "weight": 2}],
        "numTraining": 3,
        "sampling": "balanced\n",
        "labels": {"0": "liver"},
    }
    listed = read_list(write(tmp_path, {**content, "overwrite_image_reader_writer": "SimpleITKIO"}))
    assert listed.notes == (
        "label 0 is background, whatever the list calls it ('liver').",
        "dataset.json: numTraining is 3, but there is 1.",
        "dataset.json: not used: sampling, overwrite_image_reader_writer (SimpleITKIO: files are read by what they "
        "are), weight of cases.",
    )


def test_class_names_are_texts():
    check_class_names(["left kidney", "<b>", "=1+1", "Nierenbecken (links)", "小腸"], "x")
    for name in ("$1+1", "@network", "%train.json", "a\nb", " ", "x" * 65, "a\x00", "50 %"):
        with pytest.raises(ValueError, match=r"^monai_ext: x: class name "):
            check_class_names([name], "x")
    for names in (["a", "A"], ["Background"]):
        with pytest.raises(ValueError, match="twice, or is that of the background"):
            check_class_names(names, "x")


def test_names_of_a_bundles_own_list(tmp_path):
    file = write(tmp_path, {"labels": {"0": "background", "2": "$x", "1": "a"}})
    assert listed_class_names(file) == ["a", "$x"]  # data, whatever they are
    with pytest.raises(ValueError, match=r"names \[2\], expected each"):
        listed_class_names(write(tmp_path, {"labels": {"2": "a"}}))


def scans(folder: Path, count: int = 10, **more) -> list[dict]:
    for k in range(count):
        image, label = volume(k, shape=(6, 6, 3))
        save(folder / f"i/s{k}.nii.gz", image)
        save(folder / f"l/s{k}.nii.gz", label)
    return [
        {"image": f"i/s{k}.nii.gz", "label": f"l/s{k}.nii.gz", **{key: value(k) for key, value in more.items()}}
        for k in range(count)
    ]


def part(cases: dict, name: str) -> list[str]:
    return [case["case_id"] for case in cases[name]]


def test_folds_of_the_list(tmp_path):
    cases = scans(tmp_path, fold=lambda k: k % 5)
    file = write(tmp_path, {"training": cases})
    for fold in (0, "3"):
        split = load_datalist(datalist=file, fold=fold)
        assert part(split, "test") == [f"s{int(fold)}", f"s{int(fold) + 5}"]
        assert sorted(part(split, "training") + part(split, "validation")) == sorted(
            f"s{k}" for k in range(10) if k % 5 != int(fold)
        )
    assert any("--fold N" in note for note in load_datalist(datalist=file)["notes"])
    with pytest.raises(ValueError, match=r"fold 5: the cases of .* have the folds 0, 1, 2, 3, 4"):
        load_datalist(datalist=file, fold=5)
    with pytest.raises(ValueError, match="num_folds 4: the cases of"):
        load_datalist(datalist=file, fold=0, num_folds=4)
    # Auto3DSeg keeps tests apart; they are neither trained on nor in a fold
    file = write(
        tmp_path, {"training": cases[:8], "testing": [{k: c[k] for k in ("image", "label")} for c in cases[8:]]}
    )
    split = load_datalist(datalist=file, fold=1)
    assert part(split, "test") == ["s1", "s6"]
    assert not {"s8", "s9"} & {name for p in ("training", "validation", "test") for name in part(split, p)}
    assert split["notes"] == ["fold 1 is tested on; the list's 2 test case(s) without a fold are left out."]
    assert part(load_datalist(datalist=file), "test") == ["s8", "s9"]
    del cases[2]["fold"]
    with pytest.raises(ValueError, match='case s2 has no "fold", others have'):
        load_datalist(datalist=write(tmp_path, {"training": cases}), fold=0)


def test_names_of_the_list_are_those_of_the_model(tmp_path):
    pairs = scans(tmp_path, 3)
    file = write(tmp_path, {"labels": {"1": "Spleen", "2": "right_kidney"}, "training": pairs})
    assert load_datalist("synapse", datalist=file)["label_mapping"] == {0: 0, 1: 7, 2: 4}
    assert load_datalist(datalist=file)["label_mapping"] is None
    assert load_datalist(datalist=file)["class_names"] == ["Spleen", "right_kidney"]
    assert load_datalist("synapse", datalist=file)["class_names"][6] == "spleen"
    assert load_datalist(datalist=file, class_names=["right kidney", "spleen"])["label_mapping"] == {0: 0, 1: 2, 2: 1}
    file = write(tmp_path, {"labels": {"1": "aorta", "2": "cyst"}, "training": pairs})
    split = load_datalist("synapse", datalist=file)
    assert split["label_mapping"] is None
    assert split["notes"][0].startswith("the list's labels have 2 'cyst', the model's classes are aorta, gallbladder")
    file = write(tmp_path, {"labels": {"1": "spleen", "2": "cyst"}, "training": pairs})
    with pytest.raises(ValueError, match='number the classes otherwise .* cyst is none of them.*"label_mapping"'):
        load_datalist("synapse", datalist=file)
    file = write(tmp_path, {"labels": {"1": "spleen"}, "label_mapping": {"0": 0, "1": 7}, "training": pairs})
    assert load_datalist("synapse", datalist=file)["label_mapping"] == {0: 0, 1: 7}


def test_one_table_of_modalities():
    assert VOLUME_MODALITIES == ("CT", "MR")
    assert [modality_of(word) for word in ("CT", "MRI", "T2w", "cine_MRI", "PET", "noNorm", 1)] == [
        *("CT", "MR", "MR", "MR", "PT", None, None)
    ]
    words = [word for modality in MODALITIES.values() for word in modality.words]
    assert len(words) == len(set(words))
    assert all(word == word.lower() for word in words)
    assert np.unique([uid for m in MODALITIES.values() for uid in m.sop_classes]).size == 6
