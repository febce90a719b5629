# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

__all__ = ["new"]


def new(
    name: str,
    bundle: str | None = None,
    images: str | None = None,
    labels: str | None = None,
    datalist: str | None = None,
    class_names: str | Sequence[str] = (),
    test_share: float | str = 0.2,
    where: str = ".",
    recipe: str = "strong",
    nnunet: str | None = None,
    channel_names: str | Sequence[str] = (),
    dims: int | str = 2,
    memory: str = "8GB",
    network: str | None = None,
) -> None:
    """Make a bundle for your own data: read it, choose window, classes and sizes, and write bundles/NAME.

    Args:
        name: of the new bundle: small letters, digits and underscores.
        bundle: whose network and recipe to take; by default dcaunet_synapse for volumes, with a planned network on
            slices, and qtseg_busi for pictures.
        images: folder of images (NIfTI, NRRD, MetaImage; PNG, JPEG, TIFF, BMP).
        labels: folder of labels, whose files agree with the images' in name (img01 and label01, a and a_seg).
        datalist: instead of the two, a Decathlon or nnU-Net dataset.json; its validation and test cases are kept.
        class_names: of the labels' values above 0, in rising order, with commas between.
        test_share: part of the cases to test on.
        where: the folder that has, or gets, bundles.
        recipe: strong (carries to other patients and scanners) or paper (the bundle's own, as published).
        nnunet: instead of images and labels, a dataset's folder as nnU-Net has it, such as nnUNet_raw/Dataset004_X.
        channel_names: what the channels of images in several files (a_0000, a_0001) or of four dimensions are, in
            their order, with commas between.
        dims: 2 (slices), 3 (volumes: voxels, patch and batch are planned), or auto (3 where scans are volumes).
        memory: that a training step in 3D may take, such as 8GB; patch and batch follow from it.
        network: a network in place of the bundle's, by its name, such as dcaunet or basic_unet; a wrong one lists all.
    """
    from monai_ext.apps.new_bundle import new_bundle

    made, choices = new_bundle(
        name,
        bundle,
        images,
        labels,
        datalist,
        class_names,
        test_share,
        where,
        recipe=recipe,
        nnunet=nnunet,
        channel_names=channel_names,
        dims=dims,
        memory=memory,
        network=network,
    )
    print(f"{made}\n" + "\n".join(f"  {choice}" for choice in choices))
    shown = made if where == "." else made.resolve()  # whichever folder the command is started from
    print(f"Train it: python -m monai.bundle run --config_file {shown}/configs/train.json")
