# SPDX-License-Identifier: Apache-2.0
"""Feed generated bad files to everything that reads files, in a process that may die, and count how each ended.

``python -m tests.reliability.hostile [COUNT]`` prints the table. Input number ``i`` of a kind is always the same file:
``python -m tests.reliability.hostile --show KIND I`` reads it in this process and shows the error.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from tests.reliability import mutations

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 10.0
MEMORY = 2 << 30
GOOD = ("clear error", "right result")


@dataclass(frozen=True)
class Kind:
    """Make a bad file in a folder, and read it; what is read is returned to be judged, an error raised."""

    make: Callable[[np.random.Generator, Path], Path]
    read: Callable[[Path], Any]
    share: int = 1
    named: tuple[str, ...] = ()  # what an error may name instead of the file


@dataclass
class Outcome:
    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    memory: int = 0


def read_volume(path: Path) -> None:
    """As training and inference load it; what is accepted must be a volume with a usable geometry."""
    from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Orientationd

    from monai_ext.data import VolumeReader, read_geometry
    from monai_ext.transforms import CheckVolumed

    name = f"{path}::image" if path.suffix in (".npz", ".h5") else str(path)
    shape, affine = read_geometry(name)
    load = Compose(
        [
            LoadImaged("image", reader=VolumeReader),
            EnsureChannelFirstd("image"),
            CheckVolumed("image", "CT"),
            Orientationd("image", axcodes="LPS", labels=None),
        ]
    )
    array, meta = VolumeReader().get_data((name,))
    image = load({"image": name})["image"]
    right(array.shape == shape, "header and voxels differ in shape")
    right(np.allclose(meta["affine"], affine), "header and voxels differ in geometry")
    right(sorted(array.shape) == sorted(image.shape[1:]), "loaded in another shape")
    right(bool(np.isfinite(affine).all()) and 1e-9 < abs(np.linalg.det(affine[:3, :3])) < 1e9, "geometry of no scan")
    right(array.dtype.kind in "iuf", f"values of type {array.dtype}")
    if path.name.endswith(".nii.gz") and array.shape == (24, 20, 6) and path.parent.name.startswith("packed"):
        right(np.array_equal(array, mutations.volume()[0]), "other voxels than were compressed")


def read_picture(path: Path) -> None:
    """As an image and as a mask; every refusal has to be clear, and what is accepted as an image is that file's."""
    from PIL import Image

    from monai_ext.data import MaskReader, PictureReader, check_pair

    errors: list[Exception] = []
    for read in (
        lambda: PictureReader().get_data((str(path),))[0],
        lambda: MaskReader("instances").get_data((str(path),))[0],
        lambda: check_pair({"image": str(path), "label": [str(path)], "case_id": "1"}),
    ):
        try:
            pixels = read()
        except (ValueError, OSError) as e:
            errors.append(e)
            if path.name not in str(e) or not str(e).startswith("monai_ext: "):
                raise
        else:
            if pixels is not None and pixels.ndim == 3:
                with Image.open(path) as image:
                    right(pixels.shape == (image.height, image.width, 3), "a picture of another size")
                if path.suffix == ".png" and pixels.shape == (24, 20, 3):
                    good = np.random.default_rng(3).integers(0, 255, (24, 20, 3), dtype=np.uint8)
                    right(np.array_equal(pixels, good), "other pixels than were saved")
    if len(errors) == 3 or (errors and not path.is_file()):
        raise errors[0]


def read_outlines(path: Path) -> None:
    from monai_ext.data import MaskReader

    mask, _ = MaskReader().get_data((f"{path}::{path.with_name('scan.png')}",))
    right(mask.shape == (20, 24) or mask.shape == (24, 20), "a mask of another size")


def read_special(path: Path) -> None:
    return (read_picture if path.suffix in (".png", ".jpg") else read_volume)(path)


def read_checkpoint(path: Path) -> None:
    import torch

    from monai_ext.networks import load_weights

    torch.manual_seed(0)
    expected, network = (torch.nn.Linear(7, 3) for _ in range(2))
    torch.manual_seed(0)
    expected = torch.nn.Linear(7, 3)
    load_weights(network, path)
    if zlib.crc32(path.read_bytes()) and path.read_bytes()[:2] == b"PK":  # archives hold a checksum of each part
        right(torch.equal(network.weight, expected.weight), "other weights than were saved")


def read_list(path: Path) -> None:
    from monai_ext.data import load_datalist

    cases = load_datalist("synapse", datalist=str(path))
    ids = [case["case_id"] for part in ("training", "validation") for case in cases[part]]
    right(len(ids) == len(set(ids)) == 2, f"cases {ids}, of 2 listed")


def read_split(path: Path) -> None:
    from monai_ext.data.splits import random_parts

    parts = random_parts(["a", "b", "c"], 0.3, str, path, "cases")
    right(sorted(case for part in parts.values() for case in part) == ["a", "b", "c"], "a split of other cases")


def read_record(path: Path) -> None:
    from monai_ext.apps.reproduce import reproduce

    with contextlib.redirect_stdout(io.StringIO()):
        folder = reproduce(path)
    right(folder == path.parent / "reproduced", "another folder")


def read_metadata(path: Path) -> None:
    from monai_ext.apps.commands import COMMANDS

    before = Path.cwd()
    os.chdir(path.parents[3])
    try:
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            COMMANDS["bundles"]()
    finally:
        os.chdir(before)
    right("mine" in shown.getvalue(), "a bundle that is not listed")


def read_config(bundle: Path) -> None:
    """A whole ``segment``, into a folder elsewhere; where it ends well, the label is one of the image."""
    import nibabel

    from monai_ext.apps.segmentation import segment

    with tempfile.TemporaryDirectory(prefix="labels") as folder:
        try:
            done = segment(bundle, bundle / "scan.nii.gz", folder)
            done.check()
        except Exception:
            right(not [file for file in Path(folder).rglob("*") if file.is_file()], "a file of a run that failed")
            raise
        image, label = (nibabel.load(file) for file in (bundle / "scan.nii.gz", done[0]))
        right(image.shape == label.shape and np.allclose(image.affine, label.affine), "a label on another grid")


def read_summary(path: Path) -> None:
    from monai_ext.apps.commands import COMMANDS

    with contextlib.redirect_stdout(io.StringIO()):
        COMMANDS["report"](str(path.parent))


KINDS: dict[str, Kind] = {
    "NIfTI, bytes": Kind(mutations.plain_nifti, read_volume, 4),
    "NIfTI, header fields": Kind(mutations.nifti_field, read_volume, 4),
    "NIfTI, compressed stream": Kind(mutations.packed_nifti, read_volume, 4),
    "NIfTI, bytes, compressed again": Kind(mutations.repacked_nifti, read_volume, 2),
    "NIfTI, zip bombs": Kind(mutations.bomb, read_volume),
    "NRRD and MetaImage": Kind(mutations.itk_file, read_volume, 5),
    "NRRD and MetaImage, voxels elsewhere": Kind(mutations.detached, read_volume),
    "DICOM series": Kind(mutations.dicom_series, read_volume, 4),
    "DICOM series, compressed": Kind(mutations.compressed_series, read_volume, 3),
    "npz and h5": Kind(mutations.arrays, read_volume, 3),
    "PNG, JPEG, TIFF, BMP": Kind(mutations.picture, read_picture, 4),
    "pictures of absurd size, other formats": Kind(mutations.picture_bomb, read_picture),
    "outlines in XML": Kind(mutations.outlines, read_outlines),
    "checkpoints and pickles": Kind(mutations.checkpoint, read_checkpoint, 4),
    "JSON lists of cases": Kind(mutations.json_list, read_list, 3),
    "JSON splits": Kind(mutations.split_file, read_split),
    "JSON summaries": Kind(mutations.summary, read_summary),
    "JSON records of runs": Kind(mutations.run_record, read_record, 2, ("no bundle",)),
    "JSON metadata": Kind(mutations.metadata, read_metadata),
    "configs": Kind(
        mutations.inference_config, read_config, 2, ("SliceBatchInferer", "RunRecord", "--", "expected true or false")
    ),
    "pipes, devices, links": Kind(mutations.special_file, read_special),
}


class Wrong(Exception):
    """What was read is neither refused nor right."""


def right(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Wrong(otherwise)


def judge(kind: str, index: int, folder: Path) -> str:
    """Make and read one input; returns how it ended."""
    from monai_ext.utils import plain_cause

    given = _given(kind, index, folder)
    before = _listing(folder.parent)
    try:
        KINDS[kind].read(given)
        result = "right result"
    except Wrong as e:
        result = f"wrong result: {e}"
    except BaseException as e:
        cause = plain_cause(e)
        named = (given.name, str(given.parent), "/etc/passwd", *KINDS[kind].named)  # a list of cases may point there
        clear = cause is not None and any(name in cause for name in named) and len(cause) < 2000
        result = "clear error" if clear else f"unclear error: {type(e).__name__}: {str(e)[:300]}"
    if _listing(folder.parent) != before:
        result = f"wrote a file: {sorted(set(_listing(folder.parent)) ^ set(before))[:3]}"
    return result


def run(count: int, only: str | None = None) -> tuple[dict[str, Outcome], list[str]]:
    """``count`` inputs, shared out over the kinds; returns how they ended, and every bad end."""
    kinds = {name: kind for name, kind in KINDS.items() if only is None or name == only}
    shares = sum(kind.share for kind in kinds.values())
    todo = [(name, i) for name, kind in kinds.items() for i in range(-(-count * kind.share // shares))]
    outcomes = {name: Outcome() for name in kinds}
    bad: list[str] = []
    with tempfile.TemporaryDirectory(prefix="hostile") as folder:
        while todo:
            finished = 0
            for (name, i), reply in zip(todo, _worker(todo, Path(folder))):
                finished += 1
                outcome = outcomes[name]
                outcome.counts[reply["end"].split(":")[0]] += 1
                outcome.seconds = max(outcome.seconds, reply["seconds"])
                outcome.memory = max(outcome.memory, reply["memory"])
                if reply["end"] not in GOOD:
                    bad.append(f"{name}, {i}: {reply['end']}")
            todo = todo[finished:]
    return outcomes, bad


def _worker(todo: list[tuple[str, int]], folder: Path) -> Iterator[dict[str, Any]]:
    """Replies of one process; the last one says so if it died or did not answer."""
    command = [sys.executable, "-m", "tests.reliability.hostile", "--worker", str(folder)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process, selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(600):
            raise RuntimeError("the process did not start")
        _line(process.stdout)
        for name, i in todo:
            process.stdin.write(json.dumps([name, i]).encode() + b"\n")
            start = time.monotonic()
            reply = _line(process.stdout) if selector.select(SECONDS) else None
            if reply:
                yield json.loads(reply)
                continue
            seconds = time.monotonic() - start
            process.kill()
            status = process.wait()
            end = f"hang: over {SECONDS:g} s" if reply is None else f"crash: exit status {status}"
            yield {"end": end, "seconds": seconds, "memory": 0}
            return
        process.stdin.close()


def _line(stream: Any) -> bytes:
    return stream.readline()


def _work(folder: Path) -> None:
    """Answer requests on standard input until it ends."""
    import torch

    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    torch.set_num_threads(1)
    shutil.rmtree(folder / "work", ignore_errors=True)
    (folder / "work" / "here").mkdir(parents=True)
    os.chdir(folder / "work" / "here")
    requests = os.fdopen(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # everything is imported and used once before memory is limited
    for name in KINDS:
        judge(name, 0, folder / "work" / "warm")
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (pages + MEMORY, pages + MEMORY))
    replies.write("ready\n")
    for line in requests:
        name, i = json.loads(line)
        case = folder / "work" / f"{'packed' if 'stream' in name else 'case'}_{i}"
        _reset_peak()
        before, start = _memory("VmRSS"), time.monotonic()
        end = judge(name, i, case)
        seconds = time.monotonic() - start
        memory = max(0, _memory("VmHWM") - before)
        shutil.rmtree(case, ignore_errors=True)
        replies.write(json.dumps({"end": end, "seconds": seconds, "memory": memory}) + "\n")


def _given(kind: str, index: int, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return KINDS[kind].make(np.random.default_rng([zlib.crc32(kind.encode()), index]), folder)


def _listing(folder: Path) -> list[tuple[str, int]]:
    found = []
    for base, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(base, name)
            found.append((path, os.lstat(path).st_size))
    return sorted(found)


def _reset_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _memory(name: str) -> int:
    return (
        next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if name in line) * 1024
    )


def table(outcomes: dict[str, Outcome]) -> str:
    ends = [*GOOD, *sorted({end for o in outcomes.values() for end in o.counts} - set(GOOD))]
    rows = [
        [name, sum(o.counts.values()), *(o.counts[end] for end in ends), f"{o.seconds:.1f}", f"{o.memory / 2**20:.0f}"]
        for name, o in outcomes.items()
    ]
    total = ["all", *(sum(row[k] for row in rows) for k in range(1, 2 + len(ends)))]
    longest = max(o.seconds for o in outcomes.values())
    most = max(o.memory for o in outcomes.values())
    rows.append([*total, f"{longest:.1f}", f"{most / 2**20:.0f}"])
    return tabulate(rows, ["input", "tried", *ends, "longest, s", "most memory, MB"], tablefmt="github")


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["--worker"]:
        _work(Path(arguments[1]))
    elif arguments[:1] == ["--show"]:
        with tempfile.TemporaryDirectory(prefix="hostile") as folder:
            KINDS[arguments[1]].read(_given(arguments[1], int(arguments[2]), Path(folder) / "case"))
    else:
        outcomes, bad = run(int(arguments[0]) if arguments else 5000, arguments[1] if len(arguments) > 1 else None)
        print(table(outcomes))
        for line in bad:
            print(line)
        sys.exit(bool(bad))


if __name__ == "__main__":
    main()
