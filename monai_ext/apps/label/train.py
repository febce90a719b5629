# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.tasks.train.bundle import BundleTrainTask
from monailabel.utils.others.generic import device_list, name_to_device

from monai_ext.apps.label.cases import own_cases, split_cases
from monai_ext.apps.label.request_knobs import RequestError, checked_knobs
from monai_ext.apps.label.training_state import LOCK, STATS, WORK
from monai_ext.bundle import Bundle, literal, trained_with
from monai_ext.utils import read_json, replacing, write_json

__all__ = ["BundleTraining"]

logger = logging.getLogger(__name__)
OPTIONS = ("learning_rate", "batch_size", "val_interval")  # knobs of every bundle that a request may set


class BundleTraining(BundleTrainTask):
    """Fine-tune a bundle on the labels that annotators saved, with the bundle's own ``train.json``.

    Training runs in a process and a folder of its own. Only when it has ended well, and its weights are finite numbers
    of the same network, do they become ``models/model.pt``, in one step; the former ones stay as
    ``models/previous.pt``, which a viewer can choose. Failed, stopped or killed, it leaves the model as it was.

    Args:
        path: the bundle's folder, with ``models/model.pt``.
        conf: options of the server.
    """

    def __init__(self, path: str, conf: dict[str, str]) -> None:
        super().__init__(path, conf, load_strict=True)
        self.bundle = Bundle(path)

    def checked(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What of a request reaches the training's config, each a value of its knob's kind.

        Raises:
            RequestError: names the knob, what was found and what was expected.
        """
        if request.get("device") == "cuda" and "cuda" not in self.config()["device"]:  # of clients told nothing
            request = {**request, "device": None}
        knobs = checked_knobs(request, self.config())
        if not 0 <= knobs["val_split"] < 1:
            raise RequestError(400, f"monai_ext: val_split {knobs['val_split']}: expected at least 0 and below 1.")
        return knobs

    def stats(self) -> dict[str, Any]:
        """How far the latest training is, as 3D Slicer shows it: ``epoch``, ``total_epochs``, ``best_metric``."""
        file = Path(self.bundle_path, STATS)
        try:
            return read_json(file, "training's progress") if file.is_file() else {}
        except ValueError:
            return {}

    def config(self) -> dict[str, Any]:
        knobs = {name: self.bundle_config.get(name) for name in OPTIONS}
        return {
            "device": device_list(),
            "max_epochs": 50,
            "val_split": 0.2,
            "pretrained": True,
            "multi_gpu": True,
            **knobs,
        }

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        request = self.checked(request)
        try:
            with FileLock(Path(self.bundle_path, LOCK), timeout=0):
                return self._train(request, datastore)
        except Timeout:
            raise RequestError(409, f"monai_ext: {Path(self.bundle_path).name} is being trained already.") from None

    def _train(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        work = Path(self.bundle_path, WORK)  # beside models, so that a rename is all that is left to do
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        started = time.monotonic()
        classes = {name.lower(): value for value, name in self.bundle.channel_def.items()}
        foreground = [name for name, value in classes.items() if value > 0]
        cases = own_cases(_saved(datastore, self.bundle.modality, foreground), classes, work)
        parts = split_cases(cases, float(request["val_split"]))
        # each process takes its share of either part
        processes = max(1, min(self.processes(request), len(parts["training"]), len(parts["validation"])))
        overrides = self._overrides(request, work, bool(parts["validation"]), processes)
        (work / "datalist.json").write_text(json.dumps(parts, indent=1), encoding="utf-8")
        (work / "fine_tuning.json").write_text(json.dumps(overrides, indent=1), encoding="utf-8")
        logger.info("monai_ext: fine-tuning %s on %d studies", Path(self.bundle_path).name, len(cases))
        # the figures of the training before say nothing of this one
        write_json(Path(self.bundle_path, STATS), {"epoch": 0, "total_epochs": request["max_epochs"]})
        self._run(work, processes)
        self._publish(work / "model.pt")
        shutil.rmtree(work)
        took = str(timedelta(seconds=round(time.monotonic() - started)))
        write_json(Path(self.bundle_path, STATS), {**self.stats(), "total_time": took})
        return {"studies": len(cases), "epochs": int(request["max_epochs"]), "weights": "model.pt"}

    def _overrides(self, request: dict[str, Any], work: Path, validated: bool, processes: int) -> dict[str, Any]:
        epochs = request["max_epochs"]  # as all of a request, checked when it came: a text could be code here
        given = {name: request[name] for name in OPTIONS}
        overrides: dict[str, Any] = {
            **trained_with(self.bundle.weights),
            **given,
            "bundle_root": self.bundle_path,
            "datalist": str(work / "datalist.json"),
            "split": "holdout" if validated else "paper",
            "output_dir": str(work),
            "ckpt_dir": str(work),
            "epochs": epochs,
            "val_interval": min(epochs, given.get("val_interval", epochs)),
        }
        if processes == 1:  # of several, each takes a GPU of its own
            overrides["device"] = name_to_device(request["device"])
        if request["pretrained"]:
            overrides["first_weights"] = str(self.bundle.weights)
        overrides = {knob: literal(value) for knob, value in overrides.items()}
        if request["pretrained"]:
            config = self.bundle.config("train" if processes == 1 else "multi_gpu_train")
            # into what DistributedDataParallel wraps, where it does
            loading = "$monai_ext.networks.load_weights(@network_def, @first_weights)"
            overrides["initialize"] = [*config["initialize"], loading]
        return overrides

    def processes(self, request: dict[str, Any]) -> int:
        """How many processes may train: one for each GPU, if the request allows it."""
        return max(1, torch.cuda.device_count()) if request["multi_gpu"] else 1

    def _run(self, work: Path, processes: int) -> None:
        configs = Path(self.bundle_path, "configs")
        files = [configs / "train.json", work / "fine_tuning.json"]
        command = [sys.executable, "-m"]
        if processes > 1:
            command += ["torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m"]
            files.insert(1, configs / "multi_gpu_train.json")
        # the configs are links: metadata and logging are found beside the bundle's own
        command += ["monai.bundle", "run", "--config_file", str([str(file) for file in files])]
        command += ["--meta_file", str(configs / "metadata.json"), "--logging_file", str(configs / "logging.conf")]
        lines: deque[str] = deque(maxlen=500)
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=os.environ
        )
        try:
            for line in process.stdout or ():
                if progress := _progress(line):
                    if progress != self.stats():
                        write_json(Path(self.bundle_path, STATS), progress)
                    continue
                logger.info("%s", line.rstrip())
                lines.append(line.rstrip())
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait()
        if process.returncode:
            reason = _reason(lines) or f"exit status {process.returncode}"
            raise ValueError(f"monai_ext: training failed, the model is as before: {reason}")

    def _publish(self, trained: Path) -> None:
        if not trained.is_file():
            raise ValueError("monai_ext: training wrote no weights, the model is as before.")
        model = Path(self.bundle_path, "models", "model.pt")
        try:
            self.bundle.network(trained)  # strictly, and no NaN in it
        except ValueError as e:
            raise ValueError(
                f"monai_ext: training failed, the model is as before: {str(e).removeprefix('monai_ext: ')}"
            ) from e
        with replacing(model.with_name("previous.pt")) as temporary:
            shutil.copyfile(model, temporary)
        with replacing(model) as temporary:
            shutil.copyfile(trained, temporary)


def _progress(line: str) -> dict[str, Any] | None:
    """What the progress bar of a training says."""
    epoch = re.search(r"epoch=(\d+)/(\d+)", line)
    if epoch is None:
        return None
    best = re.search(r"\(best (\d+\.\d+)\)", line)
    found: dict[str, Any] = {"epoch": int(epoch[1]), "total_epochs": int(epoch[2])}
    return found | ({"best_metric": float(best[1])} if best else {})


def _reason(lines: Iterable[str]) -> str | None:
    """Why a training failed: this library's own words if there are any, else the first error."""
    start, kind = r"^(?:\[rank\d+\]: )?", r"[\w.]*(?:Error|Exception): "
    for pattern in (rf"{start}(?:{kind})?monai_ext: (.+)", rf"{start}({kind}.+)"):
        for line in lines:
            if found := re.search(pattern, line):
                return found[1]
    return None


def _saved(datastore: Datastore, modality: str | None, classes: Collection[str]) -> list[dict[str, Any]]:
    """The studies with a final label, and what the viewer said of its segments.

    An archive holds series and labels of many kinds: of these, the series of the model's modality with a class of it.
    """
    tag = DefaultLabelTag.FINAL.value
    saved = []
    for study in sorted(datastore.get_labeled_images()):
        segments = datastore.get_label_info(study, tag).get("label_info")
        kind = datastore.get_image_info(study).get("Modality")
        if kind and (kind != modality or not {str(s.get("name")).lower() for s in segments or []} & {*classes}):
            continue
        paths = {"image": datastore.get_image_uri(study), "label": datastore.get_label_uri(study, tag)}
        saved.append({**paths, "segments": segments})
    return saved
