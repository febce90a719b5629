# SPDX-License-Identifier: Apache-2.0
"""A CT from command to label by others: whole processes of MONAI's own route and of nnU-Net's predictor, beside ours.

    python -m benchmarks.whole_routes                          # ours and MONAI's, a CT of 512x512x148
    python -m benchmarks.whole_routes --nnunet VENV            # and nnU-Net's, from a Python with nnunetv2 2.8

nnU-Net has its pins for itself: ``python -m venv VENV && VENV/bin/pip install nnunetv2 torch==2.13.0``.

* ours: ``segment dcaunet_synapse``
* MONAI: the same network and weights by ``LoadImaged``, ``Orientationd``, ``ScaleIntensityRanged``, ``Resized``,
  ``SliceInferer``, ``Invertd`` of the logits, ``AsDiscreted``, ``SaveImaged``
* nnU-Net: ``nnUNetv2_predict_from_modelfolder -device cpu --disable_tta`` with the 2D network that it plans for
  slices of 512x512, weights of a seed; that network does more arithmetic than ours

Sides take turns, ``--repeats`` times. Labels of the first two are compared: MONAI resizes by another rule, so they
are not equal.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import torch

from benchmarks.machine import cpu_model
from benchmarks.volume_files import make_scan, monai
from benchmarks.whole_scan import HERE, Measured, process, told
from monai_ext.bundle import Bundle

BUNDLE = "dcaunet_synapse"
WIDTHS = [32, 64, 128, 256, 512, 512, 512, 512]
ARCHITECTURE = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 8,
        "features_per_stage": WIDTHS,
        "conv_op": "torch.nn.modules.conv.Conv2d",
        "kernel_sizes": [[3, 3]] * 8,
        "strides": [[1, 1]] + [[2, 2]] * 7,
        "n_conv_per_stage": [2] * 8,
        "n_conv_per_stage_decoder": [2] * 7,
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}
RESAMPLING = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
#: run by nnU-Net's Python: weights of a seed for the network that plans.json names
MAKE = """
import json, sys, torch
from pathlib import Path
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
folder = Path(sys.argv[1])
plan = json.loads((folder / "plans.json").read_text())["configurations"]["2d"]["architecture"]
torch.manual_seed(0)
network = get_network_from_plans(
    plan["network_class_name"], plan["arch_kwargs"], plan["_kw_requires_import"], 1, 9, deep_supervision=False)
(folder / "fold_0").mkdir()
torch.save({"network_weights": network.state_dict(), "trainer_name": "nnUNetTrainer",
            "init_args": {"configuration": "2d"}, "inference_allowed_mirroring_axes": (0, 1)},
           folder / "fold_0" / "checkpoint_final.pth")
"""


def make_nnunet(python: Path, folder: Path, spacing: list[float], shape: list[int]) -> None:
    """A model folder of nnU-Net for scans of this spacing (slices first) and shape, untrained."""
    folder.mkdir()
    sampling = {
        f"resampling_fn_{kind}": "resample_data_or_seg_to_shape" for kind in ("data", "seg", "probabilities")
    } | {f"resampling_fn_{kind}_kwargs": RESAMPLING for kind in ("data", "probabilities")}
    sampling["resampling_fn_seg_kwargs"] = RESAMPLING | {"is_seg": True, "order": 1}
    plans = {
        "dataset_name": "Dataset001_CT",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": spacing,
        "original_median_shape_after_transp": shape,
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {"mean": 80.0, "std": 130.0, "percentile_00_5": -900.0, "percentile_99_5": 300.0}
        },
        "configurations": {
            "2d": {
                "data_identifier": "nnUNetPlans_2d",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": 12,
                "patch_size": [512, 512],
                "median_image_size_in_voxels": shape[1:],
                "spacing": spacing[1:],
                "normalization_schemes": ["CTNormalization"],
                "use_mask_for_norm": [False],
                "batch_dice": True,
                "architecture": ARCHITECTURE,
                **sampling,
            }
        },
    }
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **{f"organ{i}": i for i in range(1, 9)}},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    subprocess.run([python, "-c", MAKE, folder], check=True)


def stock(image: str, output: str, weights: str) -> None:
    """MONAI's route, as a process of its own runs it."""
    network = Bundle.find(BUNDLE).parser().get_parsed_content("network_def")
    network.load_state_dict(torch.load(weights, weights_only=True))
    monai(Path(image), Path(output), network.eval())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="weights of the bundle; by default random ones")
    parser.add_argument("--image", type=Path, help="a volume; by default one of noise and smooth organs")
    parser.add_argument("--nnunet", type=Path, help="the folder of a virtual environment with nnunetv2")
    parser.add_argument("--quick", action="store_true", help="a smaller volume")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--stock", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stock:
        stock(*arguments.stock)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image, weights = arguments.image, arguments.checkpoint
        if image is None:
            image = folder / "ct.nii.gz"
            make_scan(image, arguments.quick)
        if weights is None:
            torch.manual_seed(0)
            weights = folder / "model.pt"
            torch.save(Bundle.find(BUNDLE).parser().get_parsed_content("network_def").state_dict(), weights)
        image, weights = image.resolve(), weights.resolve()
        header = nibabel.load(image).header
        (folder / "input").mkdir()
        (folder / "input" / "ct_0000.nii.gz").symlink_to(image)
        here = [sys.executable, "-W", "ignore", "-m"]
        ours = [*here, "monai_ext", "segment", BUNDLE, image, folder / "ours", "--checkpoint", weights, "--overwrite"]
        commands = {
            "ours": ours,
            "MONAI": [*here, "benchmarks.whole_routes", "--stock", image, folder / "MONAI", weights],
        }
        if arguments.nnunet:
            binaries = arguments.nnunet.expanduser().absolute() / "bin"
            spacing, shape = [[float(v) for v in values[2::-1]] for values in (header.get_zooms(), header["dim"][1:4])]
            make_nnunet(binaries / "python", folder / "model", spacing, [int(v) for v in shape])
            commands["nnU-Net"] = [binaries / "nnUNetv2_predict_from_modelfolder", "-i", folder / "input"]
            commands["nnU-Net"] += ["-o", folder / "nnU-Net", "-m", folder / "model", "-f", "0", "-device", "cpu"]
            commands["nnU-Net"] += ["--disable_tta"]
        print(f"{cpu_model()}, {torch.get_num_threads()} threads; {'x'.join(map(str, header['dim'][1:4]))} voxels\n")
        measured: dict[str, list[Measured]] = {side: [] for side in commands}
        for _ in range(arguments.repeats):
            for side, command in commands.items():
                measured[side].append(process([str(part) for part in command], HERE))
        print("| side | s | s of the processor | memory, MiB | ours is so many times as fast |\n|---|---|---|---|---|")
        for side, runs in measured.items():
            seconds, cpu, memory = (list(column) for column in zip(*runs))
            ratios = [theirs[0] / own[0] for own, theirs in zip(measured["ours"], runs)]
            print(f"| {side} | {told(seconds)} | {told(cpu)} | {told(memory, 0)} | {told(ratios, 1)} |")
        labels = [
            np.asarray(nibabel.load(next((folder / side).glob("*.nii.gz"))).dataobj).round()
            for side in ("ours", "MONAI")
        ]
        print(f"\n{(labels[0] != labels[1]).mean():.3%} of the voxels differ between ours and MONAI's")


if __name__ == "__main__":
    main()
