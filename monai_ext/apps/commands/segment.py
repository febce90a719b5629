# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

__all__ = ["segment"]


def segment(
    bundle: str,
    input: str,
    output: str,
    checkpoint: str | None = None,
    tta: bool = False,
    overwrite: bool = False,
    force: bool = False,
    **knobs: Any,
) -> None:
    """Segment one image, every image of a folder, or a DICOM series; labels lie on the source's grid.

    Volumes: NIfTI, NRRD, MetaImage, or a folder with a DICOM series. Pictures: PNG, JPEG, TIFF, BMP.

    Args:
        bundle: a bundle's name, or its folder.
        input: a file or a folder.
        output: a folder, made if needed, for <name>_seg.nii.gz (pictures: .png); or, for one image, the file to write,
            ending in .nii.gz, .nii, .nrrd, .mha or .png.
        checkpoint: weights instead of the bundle's models/model.pt; several, with commas between, are averaged.
        tta: average the predictions of mirrored views too.
        overwrite: replace files that are there already.
        force: go on when an image does not look like the bundle's modality.
        knobs: of the bundle's inference.json, such as --device cpu or --batch_size 8.
    """
    from monai_ext.apps.segmentation import segment as run
    from monai_ext.data import UnreadableCasesError

    checkpoints = [part for part in str(checkpoint).split(",") if part] if checkpoint else []
    # fire turns a,b into a tuple
    if isinstance(checkpoint, (tuple, list)):
        checkpoints = [str(part) for part in checkpoint]
    try:
        done, failure = run(str(bundle), str(input), str(output), checkpoints, tta, overwrite, force, **knobs), None
    except UnreadableCasesError as e:
        done, failure = e.done, e
    for path in done:
        print(path)
    if failure is not None:
        raise failure
