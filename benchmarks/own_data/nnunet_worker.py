# SPDX-License-Identifier: Apache-2.0
"""What runs in nnU-Net's own environment: its planning, a training by CPU seconds, its inference. Nothing of ours.

    python nnunet_worker.py plan NUMBER MEMORY 2d 3d_fullres
    python nnunet_worker.py train DATASET CONFIGURATION CPU_SECONDS sgd|adam LEARNING_RATE SPENT.json
    python nnunet_worker.py predict MODEL INPUT OUTPUT ENDING mirror|plain

Folders are nnU-Net's variables, ``nnUNet_raw``, ``nnUNet_preprocessed`` and ``nnUNet_results``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

# a training's augmentation in its own process, whose time is counted; planning knows no 0
DA_PROCESSES = "1" if sys.argv[1:2] == ["plan"] else "0"
os.environ |= {"nnUNet_n_proc_DA": DA_PROCESSES, "nnUNet_compile": "f", "nnUNet_def_n_proc": "1"}


def plan(number: str, memory: str, *configurations: str) -> None:
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    api.extract_fingerprints([int(number)], num_processes=1, show_progress_bar=False)
    api.plan_experiments([int(number)], gpu_memory_target_in_gb=float(memory) or None)
    api.preprocess([int(number)], configurations=configurations, num_processes=[1], show_progress_bar=False)


def train(dataset: str, configuration: str, cpu_seconds: str, optimizer: str, rate: str, spent: str) -> None:
    import numpy as np
    import torch
    from nnunetv2.paths import nnUNet_preprocessed
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer as Published

    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)
    budget, took = float(cpu_seconds), {"steps": 0, "cpu_seconds": 0.0}
    losses: list[float] = []

    class nnUNetTrainer(Published):  # the name goes into the checkpoint, and inference builds the network by it
        def configure_optimizers(self):
            self.initial_lr = float(rate)
            if optimizer == "sgd":
                return super().configure_optimizers()
            return torch.optim.Adam(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay), None

        def run_training(self):
            self.on_train_start()
            began = time.process_time()
            # a step begins while at least half of it fits
            while not took["steps"] or took["cpu_seconds"] * (1 + 0.5 / took["steps"]) < budget:
                for group in self.optimizer.param_groups:
                    group["lr"] = self.initial_lr * max(0.0, 1 - took["cpu_seconds"] / budget) ** 0.9
                losses.append(float(self.train_step(next(self.dataloader_train))["loss"]))
                took.update(steps=took["steps"] + 1, cpu_seconds=time.process_time() - began)
            self.on_train_end()

    folder = Path(nnUNet_preprocessed, dataset)
    plans = {**json.loads((folder / "nnUNetPlans.json").read_text()), "continue_training": False}
    about = json.loads((folder / "dataset.json").read_text())
    trainer = nnUNetTrainer(plans, configuration, 0, about, torch.device("cpu"))
    trainer.run_training()
    planned = trainer.configuration_manager
    took |= {"patch": [int(side) for side in planned.patch_size], "batch": int(planned.batch_size), "losses": losses}
    Path(spent).write_text(json.dumps(took))


def predict(model: str, images: str, output: str, ending: str, mirror: str) -> None:
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    torch.set_num_threads(1)
    predictor = nnUNetPredictor(use_mirroring=mirror == "mirror", device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(model, (0,))
    cases: dict[str, list[str]] = {}
    for path in sorted(Path(images).iterdir()):
        cases.setdefault(path.name.removesuffix(ending)[:-5], []).append(str(path))
    Path(output).mkdir(parents=True, exist_ok=True)
    # in one process: those of the command line would each take memory and seconds to start
    predictor.predict_from_files_sequential(list(cases.values()), [str(Path(output, case)) for case in cases])


if __name__ == "__main__":
    {"plan": plan, "train": train, "predict": predict}[sys.argv[1]](*sys.argv[2:])
