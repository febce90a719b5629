# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.engines import SupervisedTrainer

from monai_ext.data import SliceDataset, SliceSampler
from monai_ext.handlers import LastCheckpoint, StopOnBadLoss


def test_a_loss_that_is_no_number_names_its_cases_and_spares_the_checkpoint(tmp_path):
    torch.manual_seed(0)

    def make(item):
        image = torch.full((1, 4, 4, 2), item["value"])
        return {"image": image, "label": torch.zeros(1, 4, 4, 2)}

    data = [{"case_id": f"p{i}", "value": float("inf") if i == 3 else 1.0} for i in range(5)]
    dataset = SliceDataset(data, make, progress=False)
    network = torch.nn.Conv2d(1, 1, 1)
    optimizer = torch.optim.SGD(network.parameters(), 1e-3)
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=2,
        train_data_loader=torch.utils.data.DataLoader(dataset, batch_size=2, sampler=SliceSampler(dataset)),
        network=network,
        optimizer=optimizer,
        loss_function=torch.nn.functional.mse_loss,
        train_handlers=[StopOnBadLoss(), LastCheckpoint(tmp_path / "last.pt", {"network": network})],
    )
    with pytest.raises(
        ValueError, match=r"the loss is (nan|inf) in epoch 1, step \d; cases of the batch: .*p3 slice [01]"
    ):
        trainer.run()
    kept = torch.load(tmp_path / "last.pt", weights_only=True)["objects"]["network"]
    assert all(torch.isfinite(value).all() for value in kept.values())
