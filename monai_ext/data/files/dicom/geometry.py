# SPDX-License-Identifier: Apache-2.0
"""Whether the frames of a series make a volume; if not, why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from monai_ext.data.files.affines import flip_lps
from monai_ext.data.files.dicom.frames import Frame

__all__ = ["affine_of", "one_stack", "sorted_frames", "tilt_of"]

OFF_LINE = 0.1  # of the distance between slices: how far one may lie from where the affine puts it
ROUNDED = 0.1  # mm; files with one decimal lie that far off, where slices are thin
FEW = 3  # images of another kind among ten times as many: localisers under the same UID


def one_stack(frames: Sequence[Frame], localisers: frozenset[str]) -> tuple[list[Frame], dict[str, list[Frame]]]:
    """The frames of one size and orientation, and the few that are none of them, by what tells them apart.

    Args:
        frames: of a series.
        localisers: values of Image Type that images of the stack do not have.

    Raises:
        ValueError: if the series is mixed: a part of it cannot be told to be the volume.
    """
    named = [frame for frame in frames if frame.kind & localisers]
    stack = [frame for frame in frames if not frame.kind & localisers]
    if not stack:
        named, stack = [], list(frames)
    groups: list[list[Frame]] = []
    for frame in stack:
        group = next((group for group in groups if not _differs(group[0], frame)), None)
        if group is None:
            groups.append([frame])
        else:
            group.append(frame)
    groups.sort(key=len, reverse=True)
    stack, odd = groups[0], [frame for group in groups[1:] for frame in group]
    left: dict[str, list[Frame]] = {}
    for frame in named:
        left.setdefault(f"image type {', '.join(sorted(frame.kind & localisers))}", []).append(frame)
    for frame in odd:
        reason = _differs(stack[0], frame) or ""
        if len(odd) > FEW or 10 * len(odd) > len(stack) or _continues(stack, frame):
            raise ValueError(
                f"images {stack[0].number} and {frame.number} have {reason}: the series is mixed. Export the part to "
                "segment as a series of its own."
            )
        left.setdefault(reason, []).append(frame)
    return stack, left


def sorted_frames(frames: Sequence[Frame]) -> list[Frame]:
    """The frames from one end of the patient to the other, once it is sure that they are one regular volume.

    Raises:
        ValueError: if frames have several frames of reference, lie at one place, or a slice is missing: labels would
            lie elsewhere than they seem to.
    """
    first = frames[0]
    for frame in frames:
        if (frame.source.get("FrameOfReferenceUID") or "") != (first.source.get("FrameOfReferenceUID") or ""):
            raise ValueError(
                f"images {first.number} and {frame.number} have different frames of reference (the patient may have "
                "moved): the series is mixed. Export the part to segment as a series of its own."
            )
    frames = sorted(frames, key=lambda frame: float(frame.position @ first.normal))
    if len(frames) > 1:
        _check_line(frames)
    return frames


def affine_of(frames: Sequence[Frame]) -> np.ndarray:
    """From ``(column, row, slice)`` to RAS in mm, of sorted frames; sheared where the gantry was tilted."""
    first = frames[0]
    lps = np.eye(4)
    lps[:3, 0] = first.rows * first.spacing[1]
    lps[:3, 1] = first.columns * first.spacing[0]
    lps[:3, 3], lps[:3, 2] = _line(frames)
    return flip_lps(lps)


def tilt_of(frames: Sequence[Frame]) -> float:
    """Degrees between the way from slice to slice and the upright on the slices."""
    _, step = _line(frames)
    return float(np.degrees(np.arccos(np.clip(step @ frames[0].normal / np.linalg.norm(step), -1, 1))))


def _line(frames: Sequence[Frame]) -> tuple[np.ndarray, np.ndarray]:
    """Where the slices begin, and the step from one to the next: the line nearest to all positions."""
    places = np.array([frame.position for frame in frames])
    if len(frames) == 1:
        return places[0], frames[0].normal * frames[0].thickness
    k = np.arange(len(frames)) - (len(frames) - 1) / 2
    step = k @ places / (k @ k)
    return places.mean(axis=0) + k[0] * step, step


def _check_line(frames: Sequence[Frame]) -> None:
    places = np.array([frame.position for frame in frames])
    normal = frames[0].normal
    along = np.diff(places @ normal)
    if (along < 1e-3).any():
        same = Counter(np.round(places @ normal, 2).tolist()).most_common(1)[0][1]
        raise ValueError(
            f"up to {max(same, 2)} images lie at one place: several phases, echoes or reconstructions in one series. "
            "Export the one to segment as a series of its own."
        )
    start, step = _line(frames)
    off = np.linalg.norm(places - start - np.outer(np.arange(len(frames)), step), axis=1)
    usual = float(np.median(along))
    if off.max() <= min(max(OFF_LINE * usual, ROUNDED), 0.25 * usual):
        return
    worst = int(np.abs(along - usual).argmax())
    if abs(along[worst] - usual) > OFF_LINE * usual:
        missing = round(along[worst] / usual) - 1
        what = f"{missing} slice(s) missing" if missing > 0 else "slices not evenly spaced"
        raise ValueError(
            f"{what}: {along[worst]:.4g} mm between slices {worst + 1} and {worst + 2} of {len(frames)} "
            f"(images {frames[worst].number} and {frames[worst + 1].number}), elsewhere {usual:.4g} mm. Send the "
            "series again."
        )
    raise ValueError(
        f"the slices do not lie on one line: image {frames[int(off.argmax())].number} is {off.max():.3g} mm beside it. "
        "The table or the patient moved, or the series is mixed; export the part to segment as a series of its own."
    )


def _differs(first: Frame, frame: Frame) -> str | None:
    """Why two images are not slices of one volume."""
    if frame.size != first.size:
        return f"{first.size[0]}x{first.size[1]} and {frame.size[0]}x{frame.size[1]} pixels"
    if not np.allclose([frame.rows, frame.columns], [first.rows, first.columns], atol=1e-3):
        return "different orientations (such as a localiser among them)"
    if not np.allclose(frame.spacing, first.spacing, rtol=1e-3):
        return f"pixels of {first.spacing[0]:.4g} and {frame.spacing[0]:.4g} mm"
    return None


def _continues(stack: Sequence[Frame], frame: Frame) -> bool:
    """Whether an odd image lies where a slice would: then it is one that came out wrong."""
    start, step = _line(sorted(stack, key=lambda other: float(other.position @ stack[0].normal)))
    k = float((frame.position - start) @ step / max(float(step @ step), 1e-9))
    off = np.linalg.norm(frame.position - start - round(k) * step)
    return bool(-1.5 < k < len(stack) + 0.5 and off < 0.25 * np.linalg.norm(step))
