# SPDX-License-Identifier: Apache-2.0
"""What a run was: enough to start it again, and to know later which cases its model has seen."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.utils import ensure_tuple

import monai_ext
from monai_ext.bundle import literal, running
from monai_ext.data import is_phantom
from monai_ext.data.files.fingerprint import fingerprint
from monai_ext.handlers.endings import at_end
from monai_ext.handlers.processes import any_process
from monai_ext.handlers.schedules import differences
from monai_ext.utils import flag, locked, read_json, write_json

__all__ = ["RUN_PARTS", "RunRecord", "cases_file", "version_of"]

logger = logging.getLogger(__name__)
RUN_PARTS = {"training": ("training", "validation"), "evaluation": ("test",), "inference": ("inference",)}
PACKAGES = (
    *("python", "monai_ext", "monai", "torch", "pytorch-ignite"),
    *("numpy", "scipy", "nibabel", "SimpleITK", "pydicom", "pillow"),
)


def version_of(package: str) -> str:
    """The version of a package, of Python or of this library; "not installed" where Python does not know of one.

    A package may work without: copied to a folder, or built by hand.
    """
    if package == "python":
        return platform.python_version()
    try:
        return monai_ext.__version__ if package == "monai_ext" else version(package)
    except (PackageNotFoundError, ValueError):
        return "not installed"


def cases_file(weights: str | os.PathLike) -> Path:
    """Where the cases that a weights file was trained on are noted: ``model.cases.json`` beside ``model.pt``."""
    return Path(weights).with_suffix(".cases.json")


class RunRecord:
    """Write ``run_<kind>.json`` into a run's output folder when it starts, and refuse test cases that trained it.

    The record holds the config with all overrides, versions, seed, number of processes, the git commit if there is
    one, and the cases with hashes of their files; no host names, and no paths but those that the user gave.
    ``python -m monai_ext reproduce`` starts the run again from it.

    A training also notes its cases beside its weights (``model.cases.json``). An evaluation compares them with its
    test cases by content, whatever they are called.

    Args:
        kind: ``"training"``, ``"evaluation"`` or ``"inference"``.
        output_dir: the run's folder.
        cases: what ``load_datalist`` gave, or for an inference the list of images.
        weights: the weights file, or several: written by a training, read otherwise.
        allow_overlap: evaluate on cases that the model was trained or chosen on all the same.

    Raises:
        ValueError: for an unknown kind; at the start of an evaluation, if training and test cases overlap.

    Examples::

        {"_target_": "monai_ext.handlers.RunRecord", "kind": "training", "output_dir": "@output_dir",
         "cases": "@cases", "weights": "$@ckpt_dir + '/model.pt'"}
    """

    def __init__(
        self,
        kind: str,
        output_dir: str | os.PathLike,
        cases: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        weights: str | os.PathLike | Sequence[str | os.PathLike],
        allow_overlap: bool = False,
    ) -> None:
        if kind not in RUN_PARTS:
            raise ValueError(f"monai_ext: RunRecord: kind must be one of {', '.join(RUN_PARTS)}; got {kind!r}.")
        self.kind = kind
        self.output_dir = Path(output_dir)
        parts = cases if isinstance(cases, Mapping) else {"inference": cases}
        self.cases = {part: list(parts[part]) for part in RUN_PARTS[kind]}
        self.weights = [Path(path) for path in ensure_tuple(weights)]
        self.allow_overlap = allow_overlap
        self.started = False

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.lock)
        if self.kind == "training":
            # when it is sure to train: another may hold its folder of weights, or a checkpoint be damaged
            engine.add_event_handler(Events.EPOCH_STARTED, self.start)
            engine.add_event_handler(Events.COMPLETED | Events.TERMINATE, self.finish)
        else:
            engine.add_event_handler(Events.STARTED, self.start)

    def lock(self, engine: Engine) -> None:
        """Keep the output folder for this run until it ends; another of its kind would replace what it writes."""
        self.started = False
        error = None
        if idist.get_rank() == 0:
            remedy = f"Wait until that {self.kind} has ended, or give another --output_dir."
            held = ExitStack()
            try:
                held.enter_context(locked(self.output_dir, f".monai_ext-{self.kind}-run.lock", remedy))
            except OSError as e:
                error = e
            at_end(engine, held.close)
        if any_process(error is not None):
            raise error or BlockingIOError(f"monai_ext: {self.output_dir}: the first process cannot use it, see there.")

    def start(self, engine: Engine) -> None:
        """Compare cases, and write the record; once a run."""
        if self.started:
            return
        self.started = True
        if self.kind == "evaluation":
            self.check_overlap()
        if torch.distributed.is_initialized() and torch.distributed.get_rank() > 0:
            return
        record = self.record()
        file = self.output_dir / f"run_{self.kind}.json"
        if self.kind == "training" and record["config"] and file.is_file() and flag(record["config"].get("resume")):
            _tell_differences(file, record["config"])
        write_json(file, record)
        if self.kind == "training":
            noted = record["cases"]
            # until this training has saved its first weights, those that are there are of the one before
            if self.weights[0].is_file() and cases_file(self.weights[0]).is_file():
                noted = noted + [case for case in _noted(self.weights[0]) if case not in noted]
            write_json(cases_file(self.weights[0]), {"phantom": record["phantom"], "cases": noted})

    def finish(self, engine: Engine) -> None:
        """Note the cases of this training alone: the weights are its own now.

        Raises:
            ValueError: if there are no weights.
        """
        if torch.distributed.is_initialized() and torch.distributed.get_rank() > 0:
            return
        if not self.weights[0].is_file():
            raise ValueError(
                f"monai_ext: {self.weights[0]}: the training was stopped before there was a model to keep. Go on with "
                "--resume true."
            )
        if self.started:
            cases = fingerprint(self.cases)
            write_json(cases_file(self.weights[0]), {"phantom": self._phantom(), "cases": cases})

    def check_overlap(self) -> None:
        """Refuse test cases whose image is one that the weights were trained or chosen on."""
        seen = {}
        for path in self.weights:
            if not cases_file(path).is_file():
                logger.info("monai_ext: %s: not noted which cases it was trained on.", path)
                continue
            seen.update(
                {case["image"]: f"{case['part']} case {case['case']}" for case in _noted(path) if "image" in case}
            )
        same = [(case["case"], seen[case["image"]]) for case in fingerprint(self.cases) if case.get("image") in seen]
        if not same:
            return
        told = ", ".join(f"{case} ({was})" for case, was in same[:5]) + (", ..." if len(same) > 5 else "")
        message = (
            f"monai_ext: {', '.join(map(str, self.weights))}: {len(same)} of {len(self.cases['test'])} test cases are "
            f"cases that this model was trained or chosen on: {told}."
        )
        if not self.allow_overlap:
            raise ValueError(f"{message} Scores on them say nothing; give --allow_overlap true to have them anyway.")
        logger.warning("%s Scores on them say nothing.", message)

    def record(self) -> dict[str, Any]:
        """What ``run_<kind>.json`` holds."""
        run = running()
        config = None if run is None else _plain(run.parser.get())
        name = None
        if run is None or config is None:
            logger.warning("monai_ext: run_%s.json has no config; this run cannot be started again from it.", self.kind)
        else:
            config.pop("_meta_", None)
            root = run.parser.get_parsed_content("bundle_root") if "bundle_root" in config else run.bundle
            if root is not None and Path(root, "configs", "metadata.json").is_file():
                name = Path(root).resolve().name
                config["bundle_root"] = f"$monai_ext.bundle_root({name!r})"
        world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        return {
            "kind": self.kind,
            "bundle": name,
            "seed": None if config is None else config.get("seed"),
            "phantom": self._phantom(),
            "processes": world,
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "versions": {package: version_of(package) for package in PACKAGES},
            "commit": _commit(),
            "config": config,
            "cases": fingerprint(self.cases),
        }

    def _phantom(self) -> bool:
        cases = [case for part in self.cases.values() for case in part]
        return bool(cases) and is_phantom(str(ensure_tuple(cases[0]["image"])[0]))


def _plain(value: Any) -> Any:
    """As JSON has it; what it cannot hold as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else literal(str(value))


def _tell_differences(file: Path, config: Mapping[str, Any]) -> None:
    """Say in the log in what a training that goes on differs from the one that was stopped."""
    before = read_json(file, "record").get("config")
    if not isinstance(before, dict):
        return
    ways = ("resume", "bundle_root")
    old, new = ({key: v for key, v in _flat(part) if key not in ways} for part in (before, config))
    for line in differences(old, new):
        logger.warning("monai_ext: resumed with other options than in %s: %s.", file.name, line)


def _flat(value: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a config with their ids."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{above}#{key}" if above else key)
    else:
        yield above, value


def _commit() -> str | None:
    """The git commit of this library, with ``-dirty`` behind it where files differ from it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None


def _noted(weights: Path) -> list[dict[str, Any]]:
    content = read_json(cases_file(weights), "training cases")
    cases = content.get("cases") if isinstance(content, dict) else None
    keys = {"part", "case"}
    if not isinstance(cases, list) or not all(isinstance(case, dict) and keys <= case.keys() for case in cases):
        raise ValueError(f"monai_ext: {cases_file(weights)}: no list of training cases. Remove it, or train again.")
    return cases
