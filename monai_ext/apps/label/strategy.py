# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import random
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.strategy import Strategy

from monai_ext.apps.archive import ArchiveError
from monai_ext.apps.label.request_knobs import known
from monai_ext.apps.label.uncertainty import uncertainty

__all__ = ["AnyStudy", "FirstStudy", "MostUncertain", "Without"]

logger = logging.getLogger(__name__)
AT_ONCE = 8  # an annotator waits for them


class Without:
    """A datastore without some of its unlabelled studies."""

    def __init__(self, datastore: Datastore, left_out: Collection[str]) -> None:
        self._datastore, self._left_out = datastore, left_out

    def __getattr__(self, name: str) -> Any:
        return getattr(self._datastore, name)

    def get_unlabeled_images(self, *args: Any) -> list[str]:
        return [study for study in self._datastore.get_unlabeled_images(*args) if study not in self._left_out]


class FirstStudy(Strategy):
    """The unlabelled study whose name comes first."""

    def __init__(self) -> None:
        super().__init__("The first study by name")

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        study = min(datastore.get_unlabeled_images(), default=None)
        return None if study is None else {"id": study}


class AnyStudy(Strategy):
    """An unlabelled study by chance; rather one that was not given out for long."""

    def __init__(self) -> None:
        super().__init__("A study by chance, rather one that was not given out for long")

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        studies = sorted(datastore.get_unlabeled_images())
        if not studies:
            return None
        given = [datastore.get_image_info(study).get("strategy", {}).get("random", {}) for study in studies]
        weights = [max(1.0, time.time() - float(one.get("ts", 0))) for one in given]
        (place,) = random.choices(range(len(studies)), weights)
        return {"id": studies[place], "weight": weights[place]}


class MostUncertain(Strategy):
    """Pick the unlabelled study of which a model is least sure; ``/activelearning/uncertainty`` of the server.

    A request may name the ``model`` (default: the first) and how many studies to score while the annotator waits
    (``max_studies``). Scores are kept until the weights change, so each request looks further through the studies. A
    study that cannot be read is passed over, with its reason in the log.

    Args:
        models: the server's models.
    """

    def __init__(self, models: Mapping[str, InferTask]) -> None:
        super().__init__("The study of which the model is least sure (entropy), of those scored so far")
        self.models = models
        self.scores: dict[tuple[str, int, str], float] = {}

    def info(self) -> dict[str, Any]:
        return {**super().info(), "config": {"model": list(self.models), "max_studies": AT_ONCE}}

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        chosen = request.get("model") or next(iter(self.models))
        model: Any = known("model", chosen, self.models)
        name = chosen if isinstance(chosen, str) else chosen[0]
        version = Path(model.bundle_path, "models", "model.pt").stat().st_mtime_ns
        studies = sorted(datastore.get_unlabeled_images())
        waiting = [study for study in studies if (name, version, study) not in self.scores]
        left = int(request.get("max_studies", AT_ONCE))
        for study in waiting:
            if left == 0:
                break
            try:
                if datastore.get_image_info(study).get("Modality", model.modality) != model.modality:
                    continue
                score = model.predict_with(datastore.get_image_uri(study), uncertainty)
                if model.notice:
                    raise ValueError(model.notice)
            except ArchiveError as e:  # another time, perhaps
                logger.warning("monai_ext: study %s is passed over: %s", study, e)
                continue
            except Exception as e:  # whatever is wrong with one study, the next can be had
                logger.warning("monai_ext: study %s is passed over: %s", study, e)
                score = float("-inf")
            left -= 1
            self.scores[name, version, study] = score
        scored = {study: self.scores.get((name, version, study), float("-inf")) for study in studies}
        best = max(scored, key=lambda study: scored[study], default=None)
        if best is None or scored[best] == float("-inf"):
            return None
        return {"id": best, "weight": scored[best], "uncertainty": scored[best], "model": name}
