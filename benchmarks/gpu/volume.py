# SPDX-License-Identifier: Apache-2.0
"""A phantom CT at a clinical size, from file to file."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import nibabel
import numpy as np
import torch
import torch.nn.functional as F
from monai.bundle import ConfigParser

from benchmarks.gpu.data import phantom, trained
from benchmarks.gpu.job import CLASSES, ROOT, Job, Row, Steps, precision
from benchmarks.gpu.processes import call
from benchmarks.gpu.timing import wait
from monai_ext.data import load_datalist
from monai_ext.inferers import SliceBatchInferer
from monai_ext.metrics import label_metrics
from monai_ext.transforms import MapLabelsd

BUNDLE = ROOT / "bundles" / "dcaunet_synapse"


def write_scan(job: Job, shape: tuple[int, ...], file: Path) -> torch.Tensor:
    """A phantom enlarged to ``shape`` in a file; returns its classes."""
    cases = load_datalist("synapse", phantom(job), split="paper")
    image, label = (nibabel.load(cases["test"][0][key]) for key in ("image", "label"))
    scan, classes = (
        F.interpolate(torch.from_numpy(np.asarray(of.dataobj, np.float32))[None, None], shape, mode=mode)[0, 0]
        for of, mode in ((image, "trilinear"), (label, "nearest"))
    )
    affine = image.affine @ np.diag([*(a / b for a, b in zip(image.shape, shape)), 1.0])
    nibabel.save(nibabel.Nifti1Image(scan.round().short().numpy(), affine), file)
    return MapLabelsd("y", CLASSES, cases["label_mapping"])({"y": classes.long()})["y"].to(torch.uint8)


def volume(job: Job) -> Steps:
    shape = (64, 64, 12) if job.tiny else (512, 512, 148)
    size, method, on_card = "x".join(map(str, shape)), job.methods[0], job.device.type == "cuda"
    folder = job.folder / "volume"
    folder.mkdir(exist_ok=True)
    file = folder / "ct.nii.gz"
    truth = write_scan(job, shape, file)
    network, weights = trained(job, method)
    base: list[tuple[np.ndarray, np.ndarray]] = []
    parser = ConfigParser(ConfigParser.load_config_file(str(BUNDLE / "configs" / "inference.json")))
    parser["output_dir"], parser["device"], parser["bundle_root"] = str(folder), str(job.device), str(BUNDLE)
    parser["image_size"] = [method.size, method.size]
    before, after, inferer = map(parser.get_parsed_content, ("preprocessing", "postprocessing", "inferer"))

    def read_back(path: Path) -> Row:
        """Labels and Dice, beside those of the first file that was written."""
        found = np.asarray(nibabel.load(path).dataobj).astype(np.uint8)
        dice = label_metrics(found, truth, CLASSES, metrics="dice")["dice"]
        base.append((found, dice))
        return {
            "voxels differing %": 100 * float((found != base[0][0]).mean()),
            "Dice": float(np.nanmean(dice)),
            "largest change of a class, points": 100 * float(np.nanmax(np.abs(dice - base[0][1]))),
        }

    @torch.no_grad()
    def file_to_file(kind: str) -> list[Row]:
        def infer(item: dict) -> dict:
            with precision(kind, job.device):
                return {**item, "pred": inferer(item["image"][None], network)[0]}

        parts = []
        if on_card:
            torch.cuda.reset_peak_memory_stats()
        for _ in range(1 + max(2, job.rounds // 3)):
            item, marks = {"image": str(file)}, [time.perf_counter()]
            for step in (before, infer, after):
                item = step(item)
                wait(job.device)
                marks.append(time.perf_counter())
            parts.append(np.diff(marks))
        read, middle, write = np.median(parts[1:], axis=0).tolist()  # the first warms up
        row: Row = {"what": f"{size}, {kind}", "weights": weights}
        row |= {"read s": read, "slices and network s": middle, "write s": write, "all s": read + middle + write}
        row["peak MiB"] = torch.cuda.max_memory_allocated() / 2**20 if on_card else None
        return [row | read_back(folder / "ct_seg.nii.gz")]

    def command(device: str) -> list[Row]:
        """The command line, with Python's start, on the card and on its processor."""
        torch.save(network.state_dict(), folder / "model.pt")
        target = folder / "labels.nii.gz"
        words = ["monai_ext", "segment", "--bundle", "dcaunet_synapse", "--input", file, "--output", target]
        words += ["--checkpoint", folder / "model.pt", "--device", device, "--overwrite", "true"]
        began = time.perf_counter()
        call(job, [*words, "--image_size", f"[{method.size},{method.size}]"])
        row: Row = {"what": f"{size}, python -m monai_ext segment --device {device}", "weights": weights}
        return [row | {"all s": time.perf_counter() - began} | read_back(target)]

    def too_large() -> list[Row]:
        """A batch of all slices where the memory holds a few: halved until it fits, with the same labels."""
        x = before({"image": str(file)})["image"][None]
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        options = {"image_size": method.size, "sw_device": job.device}
        with precision("float32", job.device):
            expected = SliceBatchInferer(batch_size=8, **options)(x, network)
            held = 2 * torch.cuda.max_memory_reserved() / torch.cuda.get_device_properties(job.device).total_memory
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(held)
            try:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    found = SliceBatchInferer(batch_size=shape[2], **options)(x, network)
            finally:
                torch.cuda.set_per_process_memory_fraction(1.0)
        said = [str(warning.message) for warning in caught if "out of GPU memory" in str(warning.message)]
        if not said:
            raise AssertionError("the memory was not too small")
        differing = 100 * float((found != expected).float().mean())
        if differing > 0.1:
            raise ArithmeticError(f"{differing:.3f} % of the labels differ from those of small batches")
        what = f"{size}, batch of {shape[2]}, in twice the memory that 8 take"
        return [{"what": what, "voxels differing %": differing, "said last": said[-1]}]

    for kind in job.precisions:
        if kind != "TF32":
            yield f"file to file, {kind}", 5, lambda kind=kind: file_to_file(kind)
    yield f"segment --device {job.device}", 15, lambda: command(str(job.device))
    if on_card:
        yield "batch too large for the memory", 5, too_large
        yield "segment --device cpu", 20, lambda: command("cpu")
