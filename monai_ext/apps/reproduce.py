# SPDX-License-Identifier: Apache-2.0
"""Start a recorded run again, on the same cases, into a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigWorkflow

from monai_ext.bundle import Bundle, literal
from monai_ext.data.files.fingerprint import fingerprint
from monai_ext.handlers.run_record import RUN_PARTS, version_of
from monai_ext.utils import config_errors, read_json

__all__ = ["bundle_of_record", "read_record", "reproduce"]


def reproduce(record: str | os.PathLike, output_dir: str | os.PathLike | None = None, **overrides: Any) -> Path:
    """Start a recorded run again.

    Args:
        record: a ``run_<kind>.json``.
        output_dir: folder for its files and weights; by default ``reproduced`` beside the record.
        overrides: knobs to change, such as ``dataset_dir`` where data lies elsewhere now.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: if the record or its bundle is not there.
        ValueError: if it is no record, the run had another number of processes, or a case changed since; it is named.
    """
    content = read_record(record)
    config, kind = content["config"], content["kind"]
    processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    launched = int(os.environ.get("WORLD_SIZE", processes))
    if kind != "inference" and content["processes"] != launched:  # labels do not depend on who made them
        raise ValueError(
            f"monai_ext: {record}: a run of {content['processes']} processes. Start it with "
            f"torchrun --standalone --nproc_per_node={content['processes']} -m monai_ext reproduce {record}."
        )
    for name, then in content["versions"].items():
        now = version_of(name)
        if now != then:
            print(f"note: {name} {now}, recorded with {then}: results may differ")
    folder = Path(output_dir) if output_dir is not None else Path(record).parent / "reproduced"
    config = {**config, "output_dir": literal(str(folder))}
    if kind == "training":
        config["ckpt_dir"] = literal(str(folder))
        config["resume"] = False
    images = (
        config.get("dataset", {}).get("data")
        if kind == "inference" and isinstance(config.get("dataset"), dict)
        else None
    )
    if isinstance(images, list):
        overrides.setdefault("dataset#data", tuple(images))  # in a tuple MONAI looks for no expressions, see segment
    bundle = bundle_of_record(Path(record), content["bundle"])
    if bundle is not None and "bundle_root" in config:
        config["bundle_root"] = literal(str(bundle.folder))
    if (split := Path(record).with_name("split.json")).is_file() and not folder.exists():
        folder.mkdir(parents=True)
        shutil.copy(split, folder)  # one that the user may have chosen
    with tempfile.TemporaryDirectory() as scratch, config_errors(record):
        file = Path(scratch) / "config.json"
        file.write_text(json.dumps(config), encoding="utf-8")
        workflow = ConfigWorkflow(
            str(file),
            meta_file=None if bundle is None else str(bundle.config_file("metadata")),
            logging_file=False,
            workflow_type="inference" if kind == "inference" else "training",
            **{knob: literal(value) for knob, value in overrides.items()},
        )
        workflow.initialize()
        part = workflow.parser.get_parsed_content("dataset#data" if kind == "inference" else "cases")
        _check_cases(
            record, content, fingerprint({p: part if kind == "inference" else part[p] for p in RUN_PARTS[kind]})
        )
        workflow.run()
        workflow.finalize()
    return folder


def bundle_of_record(record: Path, name: str) -> Bundle | None:
    """The bundle that the record lies in, else the known one of that name."""
    for folder in record.resolve().parents:
        if (folder / "configs" / "metadata.json").is_file():
            return Bundle(folder)
    return Bundle.find(name) if name else None


def read_record(record: str | os.PathLike) -> dict[str, Any]:
    """A record whose parts are of the kinds that ``RunRecord`` writes."""
    content = read_json(record, "record")
    if not isinstance(content, dict) or not isinstance(content.get("config"), dict) or "kind" not in content:
        raise ValueError(f"monai_ext: {record}: no record of a bundle's run (run_training.json, for instance).")
    if content["kind"] not in list(RUN_PARTS):
        raise ValueError(f"monai_ext: {record}: kind {content['kind']!r}, expected one of {', '.join(RUN_PARTS)}.")
    kinds = {"processes": (int, 1), "bundle": (str, ""), "versions": (dict, {}), "cases": (list, [])}
    for key, (kind, default) in kinds.items():
        if content.get(key) is None:
            content[key] = default
        if not isinstance(content[key], kind):
            raise ValueError(f"monai_ext: {record}: {key} is {content[key]!r}, expected {kind.__name__}.")
    if not all(isinstance(case, dict) and {"part", "case"} <= case.keys() for case in content["cases"]):
        raise ValueError(f"monai_ext: {record}: cases without part or name.")
    return content


def _check_cases(record: str | os.PathLike, content: dict[str, Any], now: list[dict[str, Any]]) -> None:
    """Refuse to repeat a run on other data."""
    both = (content["cases"], now)
    before, after = ({(str(case["part"]), str(case["case"])): case for case in cases} for cases in both)
    changed = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    if changed:
        told = ", ".join(f"{part} case {case}" for part, case in changed[:5]) + (", ..." if len(changed) > 5 else "")
        raise ValueError(
            f"monai_ext: {record}: {len(changed)} cases are not those of the recorded run: {told}. Give the data as it "
            "was (--dataset_dir), or start a run of its own."
        )
