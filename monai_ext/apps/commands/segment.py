# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
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
    ensemble: bool = True,
    naming: str = "seg",
    quality: bool = False,
    **knobs: Any,
) -> None:
    """Segment one image, or every image and DICOM series below a folder; labels lie on the source's grid.

    Volumes: NIfTI, NRRD, MetaImage, or folders with a DICOM series. Pictures: PNG, JPEG, TIFF, BMP. Stopped, for
    whatever reason, and started again, it does what is missing. torchrun --nproc_per_node=N shares the cases out.

    Args:
        bundle: a bundle's name, or its folder.
        input: a file or a folder; labels of this command in it are passed over. Of several channels a folder with
            case_0000.nii.gz, case_0001.nii.gz, ..., a case's files with commas between, or one file with all of them.
        output: a folder, made if needed, for <name>_seg.nii.gz (pictures: .png), <folder>_<name>_seg.nii.gz for images
            in folders below the input; or, for one image, the file to write, ending in .nii.gz, .nii, .nrrd, .mha or
            .png.
        checkpoint: weights instead of the bundle's own; several, with commas between, are averaged.
        tta: average the predictions of mirrored views too.
        overwrite: replace files that are there already.
        force: go on when an image does not look like the bundle's modality.
        ensemble: use the folds that crossval trained, and what it decided on; false for models/model.pt.
        naming: of the labels, seg (<name>_seg.nii.gz) or nnunet (case.nii.gz of case_0000.nii.gz).
        quality: say of each label what Dice is expected, and whether its image is unlike the training cases, in the log
            and in run_inference.json; the labels are the same. The weights must be calibrated, see calibrate.
        knobs: of the bundle's inference.json, such as --device cpu or --batch_size 8.
    """
    from monai_ext.apps.segmentation import segment as run

    checkpoints = [part for part in (checkpoint or "").split(",") if part]
    labels = run(bundle, input, output, checkpoints, tta, overwrite, force, ensemble, naming, quality=quality, **knobs)
    if os.environ.get("RANK", "0") == "0":  # of several processes, one tells of all
        for path in labels:
            print(path)
    labels.check()
