# SPDX-License-Identifier: Apache-2.0
"""Every published picture dataset on its phantom, which is written in the publisher's own tree."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from monai.transforms import EnsureChannelFirstd, LoadImaged
from PIL import Image

from monai_ext.data import DATASETS, load_datalist, write_phantom
from monai_ext.data.files.picture_reader import MaskReader, PictureReader
from monai_ext.phantoms.beside import STRAY
from monai_ext.phantoms.glands import gland_case
from monai_ext.phantoms.nuclei import nuclei_case
from monai_ext.phantoms.picture_cohort import seed_and_size
from monai_ext.phantoms.polyp import polyp_case
from monai_ext.phantoms.skin import skin_lesion_case
from monai_ext.phantoms.ultrasound import breast_nodule_case
from monai_ext.phantoms.vessels import vessel_case

ISIC16, ISIC17 = "ISBI2016_ISIC_Part1", "ISIC-2017"
GLAS_DIR = "Warwick QU Dataset (Released 2016_07_08)"
MD5, SHA, TCGA = "[0-9a-f]{32}", "[0-9a-f]{64}", r"TCGA-\d\d-\d{4}-01Z-00-DX1"


class Published(NamedTuple):
    """What is known of a dataset: its files, how many test cases of how many, and how a phantom case is drawn."""

    cases: int
    test: int
    files: tuple[str, ...]
    draw: object
    validation: int | None = None
    lossless: bool = True
    generator: str | None = None


def stain(seed: int) -> str:
    return "hematoxylin" if seed % 5 == 0 else "fluorescence"


def breast(case: str, seed: int, size: tuple[int, int]):
    return breast_nodule_case(seed, size, case.startswith("malignant"), 2 if seed % 8 == 0 else 1)


PUBLISHED = {
    "isic2016": Published(
        7,
        2,
        (
            rf"{ISIC16}_(Training|Test)_Data/ISIC_\d{{7}}\.jpg",
            rf"{ISIC16}_(Training|Test)_GroundTruth/ISIC_\d{{7}}_Segmentation\.png",
        ),
        lambda case, seed, size: skin_lesion_case(seed, size),
        lossless=False,
    ),
    "isic2017": Published(
        8,
        2,
        (
            rf"{ISIC17}_(Training|Validation|Test_v2)_Data/ISIC_\d{{7}}\.jpg",
            rf"{ISIC17}_(Training|Validation|Test_v2)_Part1_GroundTruth/ISIC_\d{{7}}_segmentation\.png",
        ),
        lambda case, seed, size: skin_lesion_case(seed, size),
        validation=1,
        lossless=False,
    ),
    "kvasir": Published(
        10,
        2,
        (r"Kvasir-SEG/images/cju\w{22}\.jpg", r"Kvasir-SEG/masks/cju\w{22}\.jpg"),
        lambda case, seed, size: polyp_case(seed, size),
        lossless=False,
    ),
    "clinicdb": Published(
        8, 2, (r"Original/\d+\.tif", r"Ground Truth/\d+\.tif"), lambda case, seed, size: polyp_case(seed, size)
    ),
    "colondb": Published(
        5,
        1,
        (r"CVC-ColonDB/images/\d+\.png", r"CVC-ColonDB/masks/\d+\.png"),
        lambda case, seed, size: polyp_case(seed, size),
    ),
    "bkai": Published(
        10,
        2,
        (rf"train/train/{MD5}\.jpeg", rf"train_gt/train_gt/{MD5}\.jpeg"),
        lambda case, seed, size: polyp_case(seed, size, two_kinds=True),
        lossless=False,
    ),
    "bkai_types": Published(
        10,
        2,
        (rf"train/train/{MD5}\.jpeg", rf"train_gt/train_gt/{MD5}\.jpeg"),
        lambda case, seed, size: polyp_case(seed, size, two_kinds=True),
        lossless=False,
        generator="bkai",
    ),
    "busi": Published(
        18,
        5,  # 3 of 12 benign and 2 of 6 malignant ones
        (
            r"Dataset_BUSI_with_GT/(benign|malignant)/(benign|malignant) \(\d+\)\.png",
            r"Dataset_BUSI_with_GT/(benign|malignant)/(benign|malignant) \(\d+\)_mask(_\d)?\.png",
        ),
        breast,
    ),
    "glas": Published(
        8,
        4,
        (
            rf"{re.escape(GLAS_DIR)}/(train|testA|testB)_\d+\.bmp",
            rf"{re.escape(GLAS_DIR)}/(train|testA|testB)_\d+_anno\.bmp",
        ),
        lambda case, seed, size: gland_case(seed, size),
    ),
    "monuseg": Published(
        7,
        2,
        (
            rf"(MoNuSeg 2018 Training Data/Tissue Images|MoNuSegTestData)/{TCGA}\.tif",
            rf"(MoNuSeg 2018 Training Data/Annotations|MoNuSegTestData)/{TCGA}\.xml",
        ),
        lambda case, seed, size: nuclei_case(seed, size),
    ),
    "dsb2018": Published(
        5,
        1,
        (rf"stage1_train/{SHA}/images/{SHA}\.png", rf"stage1_train/{SHA}/masks/{SHA}\.png"),
        lambda case, seed, size: nuclei_case(seed, size, stain(seed)),
    ),
    "fives": Published(
        8,
        2,
        (r"(train|test)/Original/\d+_[ADGN]\.png", r"(train|test)/Ground truth/\d+_[ADGN]\.png"),
        lambda case, seed, size: vessel_case(seed, size),
    ),
}
FOLDED = [name for name in PUBLISHED if DATASETS[name].sorted_folds]
every_dataset = pytest.mark.parametrize("name", PUBLISHED)


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantoms")
    for name, published in PUBLISHED.items():
        write_phantom(name, root / name, published.cases)
    return root


@pytest.fixture
def copy(phantoms, tmp_path):
    """Call with a dataset's name: a copy of its phantom that may be damaged."""

    def make(name: str) -> Path:
        return Path(shutil.copytree(phantoms / name, tmp_path / name))

    return make


def all_files(root: Path) -> list[str]:
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def ids(cases: list[dict]) -> list[str]:
    return [case["case_id"] for case in cases]


def together(cases: dict) -> list[dict]:
    return cases["training"] + cases["validation"] + cases["test"]


def as_jpeg(pixels: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "jpeg", quality=92)
    return np.asarray(Image.open(buffer))


def load(case: dict, name: str) -> tuple[np.ndarray, np.ndarray]:
    reader = MaskReader(DATASETS[name].label_coding, len(DATASETS[name].class_names) + 1)
    case = LoadImaged("image", PictureReader)(case)
    case = LoadImaged("label", reader)(case)
    return case["image"].numpy(), case["label"].numpy()


@every_dataset
def test_the_phantom_has_the_publishers_tree(phantoms, name):
    published = PUBLISHED[name]
    files = all_files(phantoms / name)
    files.remove("PHANTOM.json")
    # as it unpacks: parts without masks, notes, and what file managers leave beside an image and beside a mask
    assert set(DATASETS[name].beside) <= set(files)
    stray = {f for f in files if f.split("/")[-1] in STRAY or f.split("/")[-1].startswith("._")}
    assert len([f for f in stray if "/._" in f]) == 4
    assert len([f for f in stray if f.startswith("__MACOSX/")]) == 2
    assert set(STRAY) <= stray
    files = [f for f in files if f not in {*stray, *DATASETS[name].beside}]
    images, masks = (re.compile(pattern) for pattern in published.files)
    found_images = [f for f in files if images.fullmatch(f)]
    found_masks = [f for f in files if masks.fullmatch(f)]
    assert sorted(found_images + found_masks) == files
    assert len(found_images) == published.cases <= len(found_masks)
    marker = json.loads((phantoms / name / "PHANTOM.json").read_text())
    assert marker["phantom"] is True and "no clinical meaning" in marker["note"]
    assert len(marker["cases"]) == published.cases


def test_the_formats_of_the_publishers(phantoms):
    modes = {}
    for name in PUBLISHED:
        for case in together(load_datalist(name, phantoms / name))[:1]:
            label = case["label"] if isinstance(case["label"], str) else case["label"][0]
            with Image.open(case["image"]) as image:
                modes[name] = [(image.format, image.mode)]
            if ".xml::" not in label:
                with Image.open(label) as mask:
                    modes[name].append((mask.format, mask.mode))
    assert modes == {
        "isic2016": [("JPEG", "RGB"), ("PNG", "L")],
        "isic2017": [("JPEG", "RGB"), ("PNG", "L")],
        "kvasir": [("JPEG", "RGB"), ("JPEG", "L")],
        "clinicdb": [("TIFF", "RGB"), ("TIFF", "L")],
        "colondb": [("PNG", "RGB"), ("PNG", "L")],
        "bkai": [("JPEG", "RGB"), ("JPEG", "RGB")],
        "bkai_types": [("JPEG", "RGB"), ("JPEG", "RGB")],
        "busi": [("PNG", "RGB"), ("PNG", "L")],
        "glas": [("BMP", "RGB"), ("BMP", "L")],
        "monuseg": [("TIFF", "RGB")],
        "dsb2018": [("PNG", "RGBA"), ("PNG", "L")],
        "fives": [("PNG", "RGB"), ("PNG", "L")],
    }


@every_dataset
def test_the_split(phantoms, name, tmp_path):
    published = PUBLISHED[name]
    cases = load_datalist(name, phantoms / name, split_file=tmp_path / "split.json")
    assert cases["phantom"]
    assert cases["label_mapping"] is None
    assert cases["label_coding"] == DATASETS[name].label_coding
    assert len(cases["test"]) == published.test
    if published.validation is not None:
        assert len(cases["validation"]) == published.validation
    found = ids(together(cases))
    assert len(found) == len(set(found)) == published.cases
    # a split that is not published is kept; all are the same the next time
    again = load_datalist(name, phantoms / name, split_file=tmp_path / "split.json")
    assert again == cases
    seeded = DATASETS[name].find(phantoms / name).parts is None and not DATASETS[name].sorted_folds
    assert (tmp_path / "split.json").exists() == seeded


@every_dataset
def test_five_folds_partition_the_cases(phantoms, name):
    folds = [load_datalist(name, phantoms / name, fold=k) for k in range(5)]
    tested = [case for cases in folds for case in ids(cases["test"])]
    assert len(tested) == len(set(tested)) == PUBLISHED[name].cases
    for cases in folds:
        assert sorted(ids(together(cases))) == sorted(tested)


@pytest.mark.parametrize("name", FOLDED)
def test_the_papers_folds_are_runs_of_the_sorted_names_of_each_kind(phantoms, name):
    kind = DATASETS[name].stratum
    folds = [ids(load_datalist(name, phantoms / name, fold=k)["test"]) for k in range(5)]
    assert folds[0] == ids(load_datalist(name, phantoms / name)["test"])
    for k in {kind(case) for fold in folds for case in fold}:
        names = [case for fold in folds for case in sorted(fold) if kind(case) == k]
        assert names == sorted(names)


def test_published_parts_are_those_of_the_folders(phantoms):
    for name, of_test in {
        "isic2016": "Test_Data",
        "isic2017": "Test_v2_Data",
        "glas": "/test",
        "monuseg": "MoNuSegTestData",
        "fives": "/test/Original",
    }.items():
        cases = load_datalist(name, phantoms / name)
        for part in ("training", "validation", "test"):
            paths = [Path(case["image"]).relative_to(phantoms).as_posix() for case in cases[part]]
            assert paths and all((of_test in path) == (part == "test") for path in paths), name
    validation = load_datalist("isic2017", phantoms / "isic2017")["validation"]
    assert all("Validation_Data" in case["image"] for case in validation)
    assert {case[:5] for case in ids(load_datalist("glas", phantoms / "glas")["test"])} == {"testA", "testB"}


@every_dataset
def test_pictures_and_masks_are_those_that_were_drawn(phantoms, name):
    published = PUBLISHED[name]
    classes = len(DATASETS[name].class_names)
    seen = set()
    for case in together(load_datalist(name, phantoms / name)):
        image, label = load(case, name)
        made = published.draw(case["case_id"], *seed_and_size(published.generator or name, case["case_id"]))
        assert image.shape == made.image.shape == (*label.shape, 3)
        if published.lossless:
            np.testing.assert_array_equal(image, made.image)
        else:
            np.testing.assert_array_equal(image, as_jpeg(made.image))
        expected = np.minimum(np.array([0, *made.kinds])[made.objects], classes)
        if name in ("kvasir", "bkai", "bkai_types"):  # JPEG: exact but for single pixels of the outline
            overlap = ((label == expected) & (expected > 0)).sum()
            assert 2 * overlap / ((label > 0).sum() + (expected > 0).sum()) > 0.99
        else:
            np.testing.assert_array_equal(label, expected)
        seen.update(np.unique(label).astype(int).tolist())
    assert seen == set(range(classes + 1))


def test_channels_come_first(phantoms):
    case = load_datalist("busi", phantoms / "busi")["test"][0]
    case = LoadImaged("image", PictureReader)(case)
    case = LoadImaged("label", MaskReader("classes", 2))(case)
    case = EnsureChannelFirstd(("image", "label"))(case)
    assert case["image"].shape == (3, *case["label"].shape[1:])
    assert case["label"].shape[0] == 1
    np.testing.assert_array_equal(case["image"].affine, np.eye(3))


def test_own_lists_of_pictures(phantoms, tmp_path):
    entries = []
    for case in together(load_datalist("busi", phantoms / "busi")):
        paths = [Path(p).relative_to(phantoms).as_posix() for p in [case["image"], *case["label"]]]
        entries.append({"image": paths[0], "label": paths[1:] if len(paths) > 2 else paths[1]})
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"training": entries[:12], "test": entries[12:]}))
    cases = load_datalist(datalist=file, dataset_dir=phantoms)
    assert (len(cases["training"]), len(cases["validation"]), len(cases["test"])) == (10, 2, 6)
    assert cases["label_coding"] == "classes"
    for case in together(cases):
        image, label = load(case, "busi")
        assert image.shape[:2] == label.shape and label.any()


def test_phantoms_differ_in_size_and_between_datasets(phantoms):
    for name in PUBLISHED:
        sizes = {Image.open(case["image"]).size for case in together(load_datalist(name, phantoms / name))}
        assert len(sizes) > 2
    polyps = [load(load_datalist(name, phantoms / name)["test"][0], name)[0] for name in ("clinicdb", "colondb")]
    assert polyps[0].shape != polyps[1].shape or (polyps[0] != polyps[1]).any()


def test_several_masks_of_one_picture(phantoms):
    busi = {c["case_id"]: c["label"] for c in together(load_datalist("busi", phantoms / "busi"))}
    several = {case: labels for case, labels in busi.items() if len(labels) > 1}
    assert several
    for case, labels in several.items():
        assert [Path(p).name for p in labels] == [f"{case}_mask.png", f"{case}_mask_1.png"]
    dsb = together(load_datalist("dsb2018", phantoms / "dsb2018"))
    assert min(len(case["label"]) for case in dsb) > 3


def test_a_phantom_gets_back_what_it_lost_and_a_whole_one_stays(copy, tmp_path):
    root = copy("colondb")
    before = {f: (root / f).read_bytes() for f in all_files(root)}
    times = {f: (root / f).stat().st_mtime_ns for f in all_files(root)}
    write_phantom("colondb", root, 5)
    assert {f: (root / f).stat().st_mtime_ns for f in all_files(root)} == times
    for name in ("images/4.png", "images/5.png", "masks/5.png"):
        (root / "CVC-ColonDB" / name).unlink()
    write_phantom("colondb", root, 5)
    assert {f: (root / f).read_bytes() for f in all_files(root)} == before


def test_a_phantom_is_never_written_among_other_data(copy, tmp_path):
    root = copy("colondb")
    with pytest.raises(ValueError, match=r"holds another phantom cohort \(monai_ext colondb phantom 1, seed 0, 5 case"):
        write_phantom("colondb", root, 6)
    with pytest.raises(ValueError, match="holds another phantom cohort"):
        write_phantom("kvasir", root, 5)
    (root / "PHANTOM.json").unlink()
    with pytest.raises(ValueError, match="holds files that are of no phantom cohort. Give another folder"):
        write_phantom("colondb", root, 5)
    with pytest.raises(ValueError, match="2 phantom cases are too few, at least 3 are needed"):
        write_phantom("isic2016", tmp_path / "few", 2)
    with pytest.raises(ValueError, match="3 phantom cases are too few, at least 4 are needed"):
        write_phantom("glas", tmp_path / "few", 3)
    assert not (tmp_path / "few").exists()


@every_dataset
def test_the_tree_is_found_some_levels_down_and_in_other_spelling(phantoms, tmp_path, name):
    def spelt(part: str) -> str:
        stem, dot, suffix = part.rpartition(".")
        return f"{stem}{dot}{suffix.upper()}" if dot else part.upper().replace(" ", "_")

    expected = load_datalist(name, phantoms / name)
    target = tmp_path / "my data" / "unpacked"
    for file in all_files(phantoms / name):
        if file != "PHANTOM.json":
            *folders, last = file.split("/")
            if folders[0:1] == ["stage1_train"]:  # a picture's folder has its id, which is no spelling
                folders[1:] = [folders[1], folders[2].upper()]
            kept = name == "dsb2018" or folders[0:1] == ["__MACOSX"]
            path = target.joinpath(*(f if kept else spelt(f) for f in folders), spelt(last))
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(phantoms / name / file, path)
    (target / "README.txt").write_text("as downloaded")
    found = load_datalist(name, tmp_path)
    assert not found["phantom"]
    for part in ("training", "validation", "test"):
        assert ids(found[part]) == ids(expected[part])
    image, label = load(found["test"][0], name)
    before = load(expected["test"][0], name)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(label, before[1])


@every_dataset
def test_an_image_without_mask_and_the_reverse_are_named(copy, name):
    root = copy(name)
    case = load_datalist(name, root)["training"][0]
    labels = [case["label"]] if isinstance(case["label"], str) else case["label"]
    files = [Path(label.split("::")[0]) for label in labels]
    contents = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{re.escape(case['image'])}: no mask of this image in .+"):
        load_datalist(name, root)
    for file, content in zip(files, contents):
        file.write_bytes(content)
    Path(case["image"]).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{re.escape(str(files[0]))}: no image .* to this mask"):
        load_datalist(name, root)


@every_dataset
def test_a_pair_of_two_sizes_is_named(copy, name):
    root = copy(name)
    case = load_datalist(name, root)["training"][0]
    Image.new("RGB", (31, 33)).save(case["image"])
    if name == "monuseg":  # outlines have no size of their own
        assert load(load_datalist(name, root)["training"][0], name)[1].shape == (33, 31)
        return
    with pytest.raises(
        ValueError, match=rf"\d+x\d+ pixels, but {re.escape(Path(case['image']).name)} has 31x33\..*--ex"
    ):
        load_datalist(name, root)


@every_dataset
def test_what_was_expected_and_what_is_there(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=r"data found\. Expected .+; found an empty folder"):
        load_datalist(name, tmp_path)
    (tmp_path / "holiday").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "holiday" / "beach.jpg")
    (tmp_path / "data.zip").touch()
    with pytest.raises(FileNotFoundError, match=r"data found\. Expected .+; found data\.zip, holiday"):
        load_datalist(name, tmp_path)


def test_no_dataset_is_taken_for_another(phantoms):
    same_tree = {"bkai": "bkai_types", "bkai_types": "bkai", "kvasir": "colondb", "colondb": "kvasir"}
    for name in PUBLISHED:
        for other in PUBLISHED:
            if other not in (name, same_tree.get(name)):
                with pytest.raises((FileNotFoundError, ValueError), match="data found|may be in any"):
                    pytest.fail(f"{name} found in {other}: {DATASETS[name].find(phantoms / other).layout}")


def test_a_part_that_is_missing(copy):
    for name, folder, expected in (
        ("isic2016", f"{ISIC16}_Test_GroundTruth", "Expected ISBI2016_ISIC_Part1_Test_Data/ISIC_0000000.jpg and "),
        ("isic2017", f"{ISIC17}_Validation_Data", "Expected ISIC-2017_Validation_Data/ISIC_0000000.jpg and "),
        ("monuseg", "MoNuSegTestData", r"\(5 training, 0 test images are there\)"),
        ("fives", "test", "Expected train/Original/1_A.png"),
        ("busi", "Dataset_BUSI_with_GT/malignant", "and malignant/ likewise"),
    ):
        root = copy(name)
        shutil.rmtree(root / folder)
        with pytest.raises(FileNotFoundError, match=expected):
            load_datalist(name, root)


def test_files_that_publishers_put_beside(copy):
    isic = copy("isic2017")
    for case in load_datalist("isic2017", isic)["training"]:
        Image.new("RGB", (8, 8)).save(case["image"].replace(".jpg", "_superpixels.png"))
    (isic / f"{ISIC17}_Training_Data" / f"{ISIC17}_Training_Data_metadata.csv").touch()
    assert len(together(load_datalist("isic2017", isic))) == 8
    for name in ("busi", "bkai", "dsb2018"):  # their phantoms have these files: normal pictures, tests without masks
        assert len(together(load_datalist(name, copy(name)))) == PUBLISHED[name].cases
    glas = copy("glas")
    (glas / GLAS_DIR / "Grade.csv").touch()
    (glas / GLAS_DIR / "._train_1.bmp").write_bytes(b"of a Mac")
    assert len(together(load_datalist("glas", glas))) == 8


def test_clinicdb_as_png_beside_tiff(phantoms, tmp_path):
    for kind in ("Original", "Ground Truth"):
        for file in (phantoms / "clinicdb" / kind).glob("[0-9]*.tif"):
            for tree, suffix in (("PNG", ".png"), ("TIF", ".tif")):
                path = tmp_path / "CVC-ClinicDB" / tree / kind / f"{file.stem}{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.open(file).save(path)
    cases = load_datalist("clinicdb", tmp_path)
    assert len(together(cases)) == 8
    assert all(case["image"].endswith(".png") and case["label"].endswith(".png") for case in together(cases))


@pytest.mark.parametrize("name", ["bkai", "busi", "glas", "dsb2018", "isic2016", "fives", "clinicdb", "monuseg"])
def test_two_copies_are_not_chosen_between(phantoms, tmp_path, name):
    for place in ("first", "second"):
        shutil.copytree(phantoms / name, tmp_path / place)
    with pytest.raises(
        ValueError, match=r"(may be in any of .*first.*second.*Give that|the same image as .*of one copy)"
    ):
        DATASETS[name].find(tmp_path)
    assert len(DATASETS[name].find(tmp_path / "second").cases) == PUBLISHED[name].cases


def test_a_folder_of_several_datasets(phantoms, tmp_path):
    for name in ("kvasir", "colondb"):
        shutil.copytree(phantoms / name, tmp_path, dirs_exist_ok=True)
    assert len(together(load_datalist("kvasir", tmp_path))) == 10
    assert len(together(load_datalist("colondb", tmp_path))) == 5
    shutil.move(tmp_path / "Kvasir-SEG", tmp_path / "CVC-300")
    with pytest.raises(ValueError, match=r"Kvasir-SEG may be in any of .*CVC-300, .*CVC-ColonDB\. Give that folder"):
        load_datalist("kvasir", tmp_path)
    assert len(together(load_datalist("kvasir", tmp_path / "CVC-300"))) == 10


def test_two_files_of_one_name(copy):
    root = copy("colondb")
    shutil.copyfile(root / "CVC-ColonDB/images/1.png", root / "CVC-ColonDB/images/1.bmp")
    with pytest.raises(ValueError, match=r"images/1\.png: 1\.bmp has the same name\. Keep one of the two"):
        load_datalist("colondb", root)


def test_an_empty_fold(tmp_path):
    write_phantom("busi", tmp_path, 9)
    with pytest.raises(ValueError, match="3 patients or images for 5 folds: a fold would be empty"):
        load_datalist("busi", tmp_path)
    assert len(load_datalist("busi", tmp_path, fold=0, num_folds=3)["test"]) == 3
    with pytest.raises(ValueError, match="fold must be 0 to 2, got 3"):
        load_datalist("busi", tmp_path, fold=3, num_folds=3)


def test_a_damaged_image_is_named_before_training(copy):
    root = copy("colondb")
    (root / "CVC-ColonDB/masks/3.png").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match=r"masks/3\.png: cannot be read .*damaged, cut off, or "):
        load_datalist("colondb", root)
