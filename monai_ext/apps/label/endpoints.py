# SPDX-License-Identifier: Apache-2.0
"""What the endpoints of MONAI Label 0.8.5 do with a request, once it is known to be one: a function for each.

``replace`` puts them in the place of upstream's; each can go when upstream checks the same.
"""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

from fastapi import BackgroundTasks
from fastapi.responses import FileResponse
from monailabel.endpoints import activelearning, batch_infer, datastore, infer, scoring, session, train
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import remove_file

from monai_ext.apps.label.request_knobs import RequestError, checked_knobs, checked_name, known

__all__ = ["download_label", "replace"]

IMAGES = (".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
LONGEST_JSON = 1 << 20


def _json_object(what: str, text: str | None) -> dict[str, Any]:
    if text and len(text) > LONGEST_JSON:
        raise RequestError(413, f"monai_ext: {what}: {len(text)} characters, expected at most {LONGEST_JSON}.")
    try:
        content = json.loads(text) if text else {}
    except (ValueError, RecursionError) as e:
        raise RequestError(400, f"monai_ext: {what} {text!r:.80}: no valid JSON.") from e
    if not isinstance(content, dict):
        raise RequestError(400, f"monai_ext: {what} {text!r:.80}: expected a JSON object.")
    return content


def _known_study(image: str) -> str:
    checked_name("study", image)
    if not app_instance().datastore().has(image):
        raise RequestError(404, f"monai_ext: no study {image!r}.")
    return image


def _known_label(study: str, tag: str) -> str:
    """The file of a label that is there."""
    path = app_instance().datastore().get_label_uri(_known_study(study), checked_name("tag", tag))
    if not path:
        raise RequestError(404, f"monai_ext: no label {tag!r} of study {study!r}.")
    return str(path)


def _suffix(file: Any, what: str) -> str:
    """The suffix of an uploaded file; what follows it in a name is the sender's, and made no part of a path."""
    name = PurePath(str(file.filename or "").replace("\\", "/")).name
    suffix = next((s for s in (".seg.nrrd", *IMAGES) if name.lower().endswith(s)), None)
    if suffix is None:
        raise RequestError(400, f"monai_ext: {what} {name!r:.80}: expected a file ending in {', '.join(IMAGES)}.")
    file.filename = f"{what}{suffix}"
    return name[: -len(suffix)]


upstream_infer, upstream_add, upstream_save = infer.run_inference, datastore.add_image, datastore.save_label
upstream_update_image, upstream_update_label = datastore.update_image_info, datastore.update_label_info
upstream_remove_label, upstream_archive = datastore.remove_label, datastore.download_dataset
upstream_image, upstream_image_info = datastore.download_image, datastore.get_image_info
upstream_label, upstream_label_info = datastore.download_label, datastore.get_label_info
upstream_remove_image = datastore.remove_image
upstream_session, upstream_train = session.create_session, train.run_model
upstream_batch, upstream_sample, upstream_scoring = batch_infer.run, activelearning.sample, scoring.run_method


def run_inference(
    background_tasks: Any,
    model: str,
    image: str = "",
    session_id: str = "",
    params: str | None = None,
    file: Any = None,
    label: Any = None,
    output: Any = None,
) -> Any:
    """Upstream's, for a study that is there and knobs of the right kinds; a scribble is of no use to these models."""
    task = known("model", model, app_instance()._infers)
    asked = _json_object("params", params)
    knobs = {k: v for k, v in task.checked(asked).items() if v is not None}
    if file:
        _suffix(file, "image")
    elif session_id:
        if not app_instance().sessions().get_session(checked_name("session", session_id)):
            raise RequestError(404, f"monai_ext: no session {session_id!r}.")
    else:
        _known_study(image)
    if output == "dicom_seg":
        if file or session_id:
            raise RequestError(400, "monai_ext: output dicom_seg: only of a study of the server's, not of an upload.")
        made = app_instance().infer_as_seg({"model": model, "image": image, **knobs})
        return _seg_answer(background_tasks, made)
    return upstream_infer(background_tasks, model, image, session_id, json.dumps(knobs), file, None, output)


def _seg_answer(background_tasks: BackgroundTasks, made: str) -> FileResponse:
    background_tasks.add_task(remove_file, made)
    return FileResponse(made, media_type="application/dicom", filename="segmentation.dcm")


def add_image(background_tasks: Any, image: str | None, params: str, file: Any, user: str | None = None) -> Any:
    """Upstream's, under a name of its own."""
    stem = _suffix(file, "image")
    name = checked_name("study", image or stem)
    if app_instance().datastore().has(name):
        raise RequestError(409, f"monai_ext: study {name!r} is there already. Remove it first, or give another name.")
    return upstream_add(background_tasks, name, json.dumps(_json_object("params", params)), file, user)


def save_label(background_tasks: Any, image: str, params: str, tag: str, label: Any, user: str | None = None) -> Any:
    """Upstream's, of a study that is there."""
    _suffix(label, "label")
    checked_name("tag", tag or "final")
    content = json.dumps(_json_object("params", params))
    return upstream_save(background_tasks, _known_study(image), content, tag, label, user)


def update_image_info(image: str, info: str, user: str | None = None) -> Any:
    return upstream_update_image(_known_study(image), json.dumps(_json_object("info", info)), user)


def update_label_info(label: str, tag: str, info: str, user: str | None = None) -> Any:
    checked_name("tag", tag)
    return upstream_update_label(_known_study(label), tag, json.dumps(_json_object("info", info)), user)


def remove_label(id: str, tag: str, user: str | None = None) -> Any:
    _known_label(id, tag)
    return upstream_remove_label(id, tag, user)


def remove_image(id: str, user: str | None = None) -> Any:
    return upstream_remove_image(_known_study(id), user)


def download_image(image: str, check_only: bool = False, check_sum: str | None = None) -> Any:
    return upstream_image(_known_study(image), check_only, check_sum)


def get_image_info(image: str) -> Any:
    return upstream_image_info(_known_study(image))


def get_label_info(label: str, tag: str) -> Any:
    _known_label(label, tag)
    return upstream_label_info(label, tag)


def check_label(label: str, tag: str, check_only: bool = False) -> Any:
    _known_label(label, tag)
    return upstream_label(label, tag, check_only)


def download_label(background_tasks: BackgroundTasks, label: str, tag: str, output: str = "image") -> Any:
    """A label as it was saved or, of a DICOM series, as DICOM SEG (``output=dicom_seg``)."""
    if output not in ("image", "dicom_seg"):
        raise RequestError(400, f"monai_ext: output {output!r:.80}: expected image or dicom_seg.")
    _known_label(label, tag)
    if output == "image":
        return upstream_label(label, tag)
    return _seg_answer(background_tasks, app_instance().label_as_seg(label, tag))


def download_dataset(limit_cases: int | None = None) -> Any:
    if not app_instance().datastore().get_labeled_images():
        raise RequestError(404, "monai_ext: no study has a final label yet.")
    return upstream_archive(limit_cases)


def create_session(background_tasks: Any, uncompress: bool = False, expiry: int = 0, files: Any = ()) -> Any:
    """Upstream's, for images: an archive would be unpacked wherever its names lead."""
    if uncompress:
        raise RequestError(400, "monai_ext: uncompress: archives are not taken; send the images.")
    for file in files:
        if PurePath(str(file.filename)).suffix.lower() in (".dcm", ".ima", ""):
            checked_name("file", PurePath(str(file.filename)).name)
        else:
            _suffix(file, "image")
    return upstream_session(background_tasks, False, max(0, min(int(expiry), 86400)), files)


def run_model(model: str, params: Any = None, run_sync: bool | None = False, enqueue: bool | None = False) -> Any:
    task = known("model", model, app_instance()._trainers)
    return upstream_train(model, task.checked(params or {}), bool(run_sync), bool(enqueue))


def run_batch(model: str, images: Any = None, params: Any = None, run_sync: bool | None = False) -> Any:
    task = known("model", model, app_instance()._infers)
    asked = params or {}
    several = {"multi_gpu": True, "save_label": True, "max_workers": 1}
    knobs = {**task.checked(asked), **checked_knobs(asked, several)}
    knobs["label_tag"] = checked_name("label_tag", asked.get("label_tag") or "original")
    return upstream_batch(model, images, knobs, run_sync)


def sample(strategy: str, params: Any = None, user: str | None = None) -> Any:
    known("strategy", strategy, app_instance()._strategies)
    asked = params or {}
    knobs: dict[str, Any] = {}
    if asked.get("model"):
        known("model", asked["model"], app_instance()._infers)
        knobs["model"] = asked["model"]
    if asked.get("max_studies") is not None:
        knobs |= checked_knobs(asked, {"max_studies": 1})
    if isinstance(asked.get("client_id"), str):
        knobs["client_id"] = asked["client_id"][:100]
    return upstream_sample(strategy, knobs, user)


def run_scoring(method: str, params: Any = None, run_sync: bool | None = False) -> Any:
    known("scoring method", method, app_instance()._scoring_methods)
    return upstream_scoring(method, {}, run_sync)


def replace() -> None:
    """Put the functions of this module where upstream's routes look them up when they are called."""
    infer.run_inference = run_inference
    datastore.add_image, datastore.save_label, datastore.remove_label = add_image, save_label, remove_label
    datastore.update_image_info, datastore.update_label_info = update_image_info, update_label_info
    datastore.download_dataset, datastore.remove_image = download_dataset, remove_image
    datastore.download_image, datastore.get_image_info = download_image, get_image_info
    datastore.download_label, datastore.get_label_info = check_label, get_label_info
    session.create_session = create_session
    train.run_model, batch_infer.run, activelearning.sample = run_model, run_batch, sample
    scoring.run_method = run_scoring
