# SPDX-License-Identifier: Apache-2.0
"""Segment every new study of an Orthanc, and store the results in it.

The archive keeps the queue: which studies are new or have become stable stands in its log of changes, and what was made
of a series in a metadata entry of that series. So this program may be stopped, or killed, at any time; started again it
goes on where it was. One process takes one study after the other. Start it by ``monai_ext-orthanc.service``.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from monai_ext.apps.archive import ArchiveError
from monai_ext.apps.deploy import deploy
from monai_ext.apps.deploy.exchange import FEWEST, fetched
from monai_ext.apps.deploy.results_folder import OtherWeights
from monai_ext.bundle import Bundle
from monai_ext.data.files.dicom import find_series, select_series
from monai_ext.utils import locked, read_json, write_json

logger = logging.getLogger("monai_ext")

MARK = 4200  # number of the metadata entry; Orthanc leaves those from 1024 on to its users
ENDED = ("stored", "passed over", "given up")
EVENTS = ("StableStudy", "StableSeries", "NewSeries")  # an Orthanc that was stopped too early tells of no stable study


class Orthanc:
    """What is asked of Orthanc beside DICOMweb: its log of changes, and its notes of a series."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self._session = requests.Session()

    def _ask(self, method: str, path: str, **more: Any) -> requests.Response | None:
        """An answer; None where there is no such thing, as of a study that was deleted."""
        try:
            answer = self._session.request(method, f"{self.address}{path}", timeout=60, **more)
        except requests.RequestException as e:
            raise ArchiveError(f"monai_ext: Orthanc cannot be reached ({type(e).__name__}).") from e
        if answer.status_code == 404:
            return None
        if not answer.ok:
            raise ArchiveError(f"monai_ext: Orthanc answers {path} with {answer.status_code}.", answer.status_code)
        return answer

    def get(self, path: str) -> Any:
        answer = self._ask("GET", path)
        return None if answer is None else answer.json()

    def last_change(self) -> int:
        return int(self.get("/changes?last")["Last"])

    def changes(self, since: int) -> tuple[list[tuple[int, str]], int]:
        """(number, study) of what happened after a change, and the number up to which the log was read."""
        found, done = [], False
        while not done:
            part = self.get(f"/changes?since={since}&limit=1000")
            for change in part["Changes"]:
                since = int(change["Seq"])
                if change["ChangeType"] in EVENTS:
                    study = change["ID"]
                    if change["ResourceType"] == "Series":
                        series = self.get(f"/series/{study}")
                        study = series and series["ParentStudy"]
                    if study:
                        found.append((since, study))
            done = part["Done"] or not part["Changes"]
        return found, since

    def marks(self, series: str) -> dict[str, Any]:
        """Bundle -> what was made of a series with it."""
        answer = self._ask("GET", f"/series/{series}/metadata/{MARK}")
        try:
            return {} if answer is None else dict(json.loads(answer.text))
        except ValueError:
            return {}  # not ours

    def mark(self, series: str, bundle: str, **what: Any) -> None:
        marks = {**self.marks(series), bundle: what}
        self._ask("PUT", f"/series/{series}/metadata/{MARK}", data=json.dumps(marks))


@dataclass
class Waiting:
    """A study of the queue."""

    change: int  # that told of it
    not_before: float = 0.0


class Worker:
    """Takes studies from the queue until it is ended, or, ``once``, until the queue is empty."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.output = options, options.output
        self.orthanc = Orthanc(options.orthanc)
        self.dicomweb = f"{options.orthanc.rstrip('/')}/{options.root.strip('/')}"
        self.bundles = [Bundle.find(name) for name in options.bundles.split(",")]
        self._checked: dict[str, float] = {}
        for bundle in self.bundles:
            self._check(bundle)
        self.state = self.output / "changes.json"
        self.waiting: dict[str, Waiting] = {}

    def _check(self, bundle: Bundle) -> None:
        """Raise if its weights are missing or do not fit: no fault of a study, and none is to be given up for it."""
        changed = bundle.require_weights().stat().st_mtime
        if self._checked.get(bundle.name) != changed and not bundle.exported:
            bundle.network()
        self._checked[bundle.name] = changed

    def run(self) -> None:
        read = self._first_change()
        while True:
            try:
                found, read = self.orthanc.changes(read)
                for change, study in found:
                    self.waiting.setdefault(study, Waiting(change)).not_before = 0.0
                for study in [s for s, waiting in self.waiting.items() if waiting.not_before <= time.time()]:
                    self._take(study)
                    first = min((waiting.change for waiting in self.waiting.values()), default=read + 1)
                    write_json(self.state, {"read": first - 1})
                if self.options.once and not self.waiting:
                    return
            except ArchiveError as e:
                logger.warning("%s Asked again in %g s.", e, self.options.poll)
            time.sleep(self.options.poll)

    def _first_change(self) -> int:
        """After which change to read: where the last process was, or, at the very first start, now."""
        while True:
            try:
                last = self.orthanc.last_change()
                break
            except ArchiveError as e:
                logger.warning("%s Asked again in %g s.", e, self.options.poll)
                time.sleep(self.options.poll)
        if self.options.since is not None:
            return int(self.options.since)
        if self.state.exists():
            read = int(read_json(self.state, "place in the log of changes")["read"])
            return read if read <= last else 0  # another archive is there now
        write_json(self.state, {"read": last})
        return last

    def _take(self, study: str) -> None:
        found = self.orthanc.get(f"/studies/{study}")
        if found is None:  # deleted
            del self.waiting[study]
            return
        if not found["IsStable"]:
            return
        ended = [self._take_series(found, series) for series in found["Series"]]
        if all(ended):
            del self.waiting[study]

    def _take_series(self, study: dict[str, Any], name: str) -> bool:
        """Whether nothing is left to do for a series."""
        series = self.orthanc.get(f"/series/{name}")
        if series is None:
            return True
        tags, images = series["MainDicomTags"], len(series["Instances"])
        study_uid, uid = study["MainDicomTags"]["StudyInstanceUID"], tags["SeriesInstanceUID"]
        left = 0
        for bundle in self.bundles:
            if bundle.modality != tags.get("Modality", "").upper():
                continue
            mark = self.orthanc.marks(name).get(bundle.name) or {}
            if mark.get("images") != images:  # others have come
                mark = {}
            if mark.get("state") in ENDED:
                continue
            tries, limit = int(mark.get("tries", 0)) + 1, self.options.tries
            if tries > limit:
                state, why = "given up", "it ended this program each time"
            else:
                self._check(bundle)
                self.orthanc.mark(name, bundle.name, state="begun", tries=tries, images=images)
                state, why = self._segment(bundle, study_uid, uid)
            if state == "failed":
                state, why = ("given up" if tries == limit else state), f"try {tries} of {limit}: {why}"
            logger.info("study %s, series %s, %s: %s%s", study_uid, uid, bundle.name, state, why and f", {why}")
            self.orthanc.mark(name, bundle.name, state=state, tries=tries, images=images)
            if state not in ENDED:
                left += 1
                waiting = self.waiting[study["ID"]]
                waiting.not_before = time.time() + self.options.wait * 2 ** (tries - 1)
        return not left

    def _segment(self, bundle: Bundle, study: str, series: str) -> tuple[str, str]:
        """Segment, store, and remove the copy on this machine once it is confirmed; how it ended, and why."""
        output = self.output / bundle.name
        try:
            with fetched(self.dicomweb, study, series, bundle.modality, output) as (folder, _):
                try:
                    images = select_series(find_series(folder), bundle.modality).images
                except ValueError as e:
                    return "passed over", str(e)
                if images < FEWEST:
                    return "passed over", f"fewer than {FEWEST} images"
                work = str(bundle.exported or bundle.folder), str(folder), str(output)
                try:
                    deploy(*work, send=self.dicomweb)
                except OtherWeights:  # new ones came before the results of the old were stored
                    deploy(*work, send=self.dicomweb, overwrite=True)
            shutil.rmtree(output / study / series)
            if all(path.name.startswith(".") for path in (output / study).iterdir()):  # what a killed process left
                shutil.rmtree(output / study)
            return "stored", ""
        except Exception as e:  # no study may stop the others
            return "failed", (str(e).splitlines() or [type(e).__name__])[0]


def main() -> None:
    """Read the options and work; an error before the first study is one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundles", required=True, help="names or folders of bundles with weights, commas between")
    parser.add_argument("--output", required=True, type=Path, help="folder for results that are not confirmed yet")
    parser.add_argument("--orthanc", default="http://localhost:8042", help="address of Orthanc")
    parser.add_argument("--root", default="dicom-web", help="of its DICOMweb")
    parser.add_argument("--tries", type=int, default=5, help="how often a series is begun before it is given up")
    parser.add_argument("--wait", type=float, default=60.0, help="seconds before the second try, doubled each time")
    parser.add_argument("--poll", type=float, default=5.0, help="seconds between two looks at the log of changes")
    parser.add_argument("--since", type=int, help="read the log from this change on; 0 takes every study that is there")
    parser.add_argument("--once", action="store_true", help="end when the queue is empty")
    options = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    try:
        with locked(options.output, ".monai_ext-orthanc.lock", "One is enough."):
            Worker(options).run()
    except (ValueError, OSError) as e:
        sys.exit(str(e))
    except KeyboardInterrupt:
        sys.exit("monai_ext: stopped.")


if __name__ == "__main__":
    main()
