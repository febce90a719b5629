# SPDX-License-Identifier: Apache-2.0
"""What the pages print works, and the site builds.

Every box of the README and of ``docs`` is run, in its page's order, in a folder with a copy of ``bundles``:

* ``python`` boxes as they are, each in a namespace of its own;
* ``bash`` boxes line by line. ``python -m`` runs in this process, ``torchrun`` starts one (``tests/bundles`` has two).
  Behind the printed options come those of ``SMALL`` that the bundle's config has, so that hours become seconds;
  ``phantom`` writes five cases. Of ``make TARGET`` it is only asked whether it is there: what ``demo`` does is printed,
  and run, on the page of the first run;
* ``/data/NAME`` is a cohort of that layout, see ``write_data``;
* ``console`` boxes are not run, and their page says so; ``text`` boxes hold no commands.
"""

from __future__ import annotations

import ast
import importlib
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from monai_ext.apps.commands import COMMANDS
from monai_ext.data import write_phantom
from monai_ext.networks.nets import DCAUNet, FPNEncoder, PVTv2, QTSeg, UNetDCA
from tests.bundles.runs import BUNDLES, ROOT
from tests.data.parity import golden
from tests.data.volumes import save, write_acdc, write_preprocessed_synapse, write_raw_synapse
from tests.test_architecture import MAY_IMPORT

DOCS = ROOT / "docs"
BOX = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN, NOT_RUN = {"bash", "python"}, {"console", "text", "{toctree}", "{include}"}
PAGES = [ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md"))]
SMALL = {"epochs": 1, "val_interval": 1, "batch_size": 8, "num_workers": 0, "image_size": 32, "patches_per_volume": 1}
OWN = ("segment", "explain", "crossval")  # commands that run a bundle
# what /data/NAME on a page stands for
PICTURES = {
    "ISIC2016": "isic2016",
    "ISIC2017": "isic2017",
    "Kvasir-SEG": "kvasir",
    "CVC-ClinicDB": "clinicdb",
    "CVC-ColonDB": "colondb",
    "BKAI": "bkai",
    "BUSI": "busi",
    "GlaS": "glas",
    "MoNuSeg": "monuseg",
    "DSB2018": "dsb2018",
    "FIVES": "fives",
}


def boxes(page: Path) -> list[tuple[str, str]]:
    return [(match[1], match[2]) for match in BOX.finditer(page.read_text(encoding="utf-8"))]


def lines(content: str) -> list[str]:
    return [line for line in content.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def write_data(folder: Path, name: str) -> None:
    """Write what ``/data/name`` stands for: small volumes of noise, phantoms of pictures, a file of weights."""
    if name in PICTURES:
        write_phantom(PICTURES[name], folder / name, 16 if name == "BUSI" else 8)
    elif name == "Synapse":
        write_raw_synapse(folder / name, [5, 6, 7, 9, 1, 2])
    elif name == "TransUNet":
        write_preprocessed_synapse(folder / name, [5, 6, 7, 9], [1, 2])
    elif name == "ACDC":
        write_acdc(folder / name, [1, 2, 15, 17, 18, 19])
    elif name == "scans":
        shutil.move(write_raw_synapse(folder / "raw", [1]) / "RawData/Training/img", folder / name)
    elif name == "images":
        write_phantom("isic2016", folder / "isic", 3)
        shutil.move(folder / "isic" / "ISBI2016_ISIC_Part1_Test_Data", folder / name)
    elif name == "mine":
        raw = write_raw_synapse(folder / "own", range(6)) / "RawData/Training"
        for path in sorted(raw.glob("label/*")):
            label = nibabel.load(path)
            save(folder / name / "labels" / path.name, np.asarray(label.dataobj) % 3, label.affine)
        shutil.move(raw / "img", folder / name / "images")
    elif name == "official":
        (folder / name).mkdir()
        torch.save(golden.build_state_dict(golden.load_case("qtseg_256_c2")), folder / name / "qtseg.pth")
    elif name != "labels":  # where a command writes to
        raise ValueError(f"no test data stands for /data/{name}")


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder such as a clone, in which a page's boxes run."""
    shutil.copytree(ROOT / "bundles", tmp_path / "bundles", ignore=shutil.ignore_patterns("models", "eval"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    yield tmp_path


def small_options(words: list[str]) -> list[str]:
    """Those of ``SMALL`` that the configs of a ``monai.bundle run`` have.

    ``segment`` and ``explain`` run a bundle's inference, ``crossval`` its training, of two folds.
    """
    if "--config_file" in words:
        files = words[words.index("--config_file") + 1]
    else:
        name = "train" if "crossval" in words else "inference"
        files = f"bundles/{words[words.index('--bundle') + 1]}/configs/{name}.json"
    config = ConfigParser.load_config_files(ast.literal_eval(files) if files.startswith("[") else files)
    options = {key: value for key, value in SMALL.items() if key in config}
    if "--resume" in words:
        options["epochs"] += 1
    if "crossval" in words:
        options["folds"] = 2
    return [part for key, value in options.items() for part in (f"--{key}", str(value))]


def run_line(line: str, monkeypatch) -> None:
    words = shlex.split(re.sub(r"\s#\s.*", "", line))
    if words[0] == "make":
        subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return
    if words[1:4] == ["-m", "monai_ext", "phantom"]:
        words += ["--cases", "5"]
    module = words.index("-m") + 1
    if words[module : module + 2] in (["monai.bundle", "run"], *(["monai_ext", command] for command in OWN)):
        words += small_options(words)
    if words[0] == "torchrun":
        words = [re.sub(r"^--nproc_per_node=.*", "--nproc_per_node=1", word) for word in words]
        command = [sys.executable, "-m", "torch.distributed.run", *words[1:]]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return
    assert words[:2] == ["python", "-m"], f"a bash box may start python -m, torchrun and make, not {words[0]}"
    monkeypatch.setattr(sys, "argv", words[2:])
    try:
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    except SystemExit as e:
        assert not e.code, e.code


@pytest.mark.parametrize("page", [page for page in PAGES if RUN & {kind for kind, _ in boxes(page)}], ids=name_of)
def test_boxes_run(page, workplace, data, monkeypatch):
    for kind, content in boxes(page):
        if kind not in RUN:
            continue
        for name in set(re.findall(r"/data/([\w-]+)", content)):
            if not (data / name).exists():
                write_data(data, name)
        content = re.sub(r"/data/(?=\w)", f"{data}/", content)
        if kind == "python":
            torch.manual_seed(0)
            exec(compile(content, str(page), "exec"), {"__name__": "__main__"})
        else:
            for line in lines(content):
                run_line(line, monkeypatch)


def kinds_of_commands(content: str) -> set[tuple[str, ...]]:
    """The ``monai.bundle`` commands of a box, without the names of bundles and folders, and without knobs."""
    starts = re.compile(r"(\w+).* -m monai\.bundle (\w+)")
    found = [(starts.match(line), re.findall(r"\w+\.(?:json|pt|onnx)\b|--resume", line)) for line in lines(content)]
    return {(*start.groups(), *rest) for start, rest in found if start}


@pytest.mark.parametrize("bundle", BUNDLES)
def test_readmes_of_bundles_print_what_these_pages_print(bundle):
    printed = set().union(*(kinds_of_commands(box) for page in PAGES for _, box in boxes(page)))
    commands = set().union(*(kinds_of_commands(box) for _, box in boxes(ROOT / f"bundles/{bundle}/docs/README.md")))
    assert len(commands) > 5
    assert not commands - printed


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_boxes_say_what_they_are(page):
    kinds = {kind for kind, _ in boxes(page)}
    assert kinds <= RUN | NOT_RUN
    if "console" in kinds:
        assert "not run here" in " ".join(page.read_text(encoding="utf-8").lower().split())


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(DOCS), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_site_is_complete_and_loads_nothing(site):
    for page in DOCS.rglob("*.md"):
        assert (site / page.relative_to(DOCS).with_suffix(".html")).is_file()
    loads = re.compile(r"""(?:\bsrc=|<link[^>]*\bhref=|url\(|@import )["']?\s*(?:https?:)?//""")
    for file in [*site.rglob("*.html"), *site.rglob("*.css")]:
        assert not loads.search(file.read_text(encoding="utf-8")), file
    formulas = (site / "methods" / "dcaunet.html").read_text(encoding="utf-8")
    assert formulas.count("<math") > 5
    assert "monai_ext.networks.blocks.DualCrossAttention" in (site / "reference" / "blocks.html").read_text("utf-8")


def test_every_package_is_in_the_reference():
    """But for applications, which have pages of their own, and packages that only choose among others."""
    pages = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.rst"))
    for file in (ROOT / "monai_ext").rglob("__init__.py"):
        package = ".".join(file.parent.relative_to(ROOT).parts)
        if not package.startswith("monai_ext.apps.") and package not in ("monai_ext", "monai_ext.networks"):
            assert f"automodule:: {package}\n" in pages, package


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_every_bundle_is_listed(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert set(re.findall(r"\[`(\w+)`\]\(", text)) == set(BUNDLES)
    assert {file.stem for file in (DOCS / "bundles").glob("*.md")} == set(BUNDLES)


def test_every_command_is_listed():
    page = (DOCS / "how-to" / "command_line.md").read_text(encoding="utf-8")
    first_table = page.partition("\n| command |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)", first_table, re.MULTILINE)) == set(COMMANDS)


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith("http")]
    assert local
    for link in local:
        assert (ROOT / link).exists(), link


@pytest.fixture
def drawing(monkeypatch):
    """Import a drawing's script from ``docs/figures``."""
    monkeypatch.syspath_prepend(str(DOCS / "figures"))
    return importlib.import_module


def words_and_shapes(svg: Path) -> tuple[list[str], list[str]]:
    """What a drawing says (matplotlib leaves each text as a comment before its outlines), and its elements in order."""
    content = svg.read_text(encoding="utf-8")
    return re.findall(r"<!-- (.*?) -->", content, re.DOTALL), re.findall(r"<(\w+) ", content)


@pytest.mark.parametrize("name", ["architecture", "dual_cross_attention", "dcaunet", "qtseg", "emcad", "xattnres"])
def test_drawings_are_what_their_scripts_draw(name, drawing, tmp_path):
    drawing(name).draw().save(tmp_path / "drawing.svg")
    words, shapes = words_and_shapes(tmp_path / "drawing.svg")
    assert len(words) > 10
    assert (words, shapes) == words_and_shapes(DOCS / "images" / f"{name}.svg")


def test_the_drawn_rooms_are_those_that_the_rule_knows(drawing):
    said = " ".join(words_and_shapes(DOCS / "images" / "architecture.svg")[0])
    assert {name for name in MAY_IMPORT if not name.startswith("_") and name not in said} == set()


def test_drawings_have_the_networks_numbers(drawing):
    assert UNetDCA().dca.in_channels == list(drawing("dual_cross_attention").WIDTHS)
    encoder = DCAUNet().encoder.eval()
    maps = encoder(torch.rand(1, 1, 224, 224))
    assert [y.shape[1] for y in maps] == list(drawing("dcaunet").CHANNELS)
    assert [y.shape[2] for y in maps] == list(drawing("dcaunet").SIZES)
    assert [len(stage.blocks) for stage in encoder.stages] == list(drawing("dcaunet").DEPTHS)
    emcad, pvt = drawing("emcad"), PVTv2(variant="pvt_v2_b2")
    assert pvt.widths == emcad.WIDTHS
    assert [len(blocks) for blocks in pvt.blocks] == list(emcad.DEPTHS)
    levels = drawing("qtseg").LEVELS
    assert FPNEncoder().widths == tuple(width for width, _, _ in levels)
    assert [len(stage.layers) for stage in QTSeg().stages] == [depth for _, _, depth in reversed(levels)]
