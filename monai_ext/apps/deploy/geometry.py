# SPDX-License-Identifier: Apache-2.0
"""Whether the frames of a series make a volume; if not, why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from monai_ext.apps.deploy.frames import Frame

__all__ = ["affine_of", "sorted_frames"]

UNEVEN = 0.1  # of the usual distance between slices; what the reader of NIfTI and DICOM folders allows, too
TILT = 0.5  # degrees


def sorted_frames(frames: Sequence[Frame]) -> list[Frame]:
    """The frames from one end of the patient to the other, once it is sure that they are one regular volume.

    Raises:
        ValueError: if frames are of several sizes, orientations or places, lie at one place, a slice is missing, or the
            gantry was tilted: labels would lie elsewhere than they seem to.
    """
    if len(frames) < 3:
        raise ValueError(f"monai_ext: {len(frames)} slice(s), expected a volume of at least 3.")
    _check_alike(frames)
    normal = frames[0].normal
    frames = sorted(frames, key=lambda frame: float(frame.position @ normal))
    steps = np.diff([frame.position for frame in frames], axis=0)
    along = steps @ normal
    usual = float(np.median(along))
    if usual < 1e-3 or (along < 1e-3).any():
        same = Counter(round(float(frame.position @ normal), 2) for frame in frames).most_common(1)[0][1]
        raise ValueError(
            f"monai_ext: up to {same} images lie at one place: several phases, echoes or reconstructions in one "
            "series. Export the one to segment as a series of its own."
        )
    worst = int(np.abs(along - usual).argmax())
    if abs(along[worst] - usual) > UNEVEN * usual:
        missing = round(along[worst] / usual) - 1
        what = f"{missing} slice(s) missing" if missing > 0 else "slices not evenly spaced"
        raise ValueError(
            f"monai_ext: {what}: {along[worst]:.4g} mm between slices {worst + 1} and {worst + 2} of {len(frames)} "
            f"(images {_number(frames[worst])} and {_number(frames[worst + 1])}), elsewhere {usual:.4g} mm. Send the "
            "series again."
        )
    whole = frames[-1].position - frames[0].position
    tilt = float(np.degrees(np.arccos(np.clip(whole @ normal / np.linalg.norm(whole), -1, 1))))
    if tilt > TILT:
        raise ValueError(
            f"monai_ext: the gantry was tilted by {tilt:.3g} degrees: each slice is shifted against the one before, so "
            "the slices are no box-shaped volume. Have the scanner or the archive correct the tilt first."
        )
    return frames


def affine_of(frames: Sequence[Frame]) -> np.ndarray:
    """From ``(column, row, slice)`` to RAS in mm, of sorted frames."""
    first, last = frames[0], frames[-1]
    lps = np.eye(4)
    lps[:3, 0] = first.rows * first.spacing[1]
    lps[:3, 1] = first.columns * first.spacing[0]
    lps[:3, 2] = (last.position - first.position) / (len(frames) - 1)
    lps[:3, 3] = first.position
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps


def _check_alike(frames: Sequence[Frame]) -> None:
    first = frames[0]
    axes = np.array([first.rows, first.columns])
    if not np.allclose(axes @ axes.T, np.eye(2), atol=1e-3):
        raise ValueError("monai_ext: rows and columns are not at right angles (Image Orientation is damaged).")
    for frame in frames[1:]:
        differs = None
        if frame.size != first.size:
            differs = f"{first.size[0]}x{first.size[1]} and {frame.size[0]}x{frame.size[1]} pixels"
        elif not np.allclose([frame.rows, frame.columns], axes, atol=1e-3):
            differs = "different orientations (such as a localiser among them)"
        elif not np.allclose(frame.spacing, first.spacing, rtol=1e-3):
            differs = f"pixels of {first.spacing[0]:.4g} and {frame.spacing[0]:.4g} mm"
        elif frame.source.get("FrameOfReferenceUID") != first.source.get("FrameOfReferenceUID"):
            differs = "different frames of reference (the patient may have moved)"
        if differs:
            raise ValueError(
                f"monai_ext: images {_number(first)} and {_number(frame)} have {differs}: the series is mixed. Export "
                "the part to segment as a series of its own."
            )


def _number(frame: Frame) -> str:
    return f"{frame.source.get('InstanceNumber', '?')}" + (f".{frame.index + 1}" if frame.index else "")
