# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
import signal

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler, MeanDice, ValidationHandler, from_engine
from monai.utils import set_determinism

from monai_ext.data.training.slice_dataset import SliceDataset, SliceSampler
from monai_ext.handlers import LastCheckpoint, SaveWeights, TrainingProgress

DATA = [{"seed": i} for i in range(3)]


def make_volume(item):
    image = torch.rand(1, 8, 8, 5, generator=torch.Generator().manual_seed(item["seed"]))
    return {"image": image, "label": (image > 0.5).to(torch.uint8)}


class Noise(torch.nn.Module):
    """Draws from every global generator, as dropout or a careless transform would."""

    def forward(self, x):
        return x + 0.01 * (torch.rand(()) + np.random.rand() + random.random()) if self.training else x


class Argmax:
    def __call__(self, inputs, network, *args, **kwargs):
        return network(inputs[..., 0]).argmax(1, keepdim=True)[..., None]


def training(folder, epochs, resume=False, stop_after=None, total=4):
    set_determinism(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), Noise(), torch.nn.Conv2d(4, 2, 1))
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    dataset = SliceDataset(DATA, make_volume, progress=False)
    loader = torch.utils.data.DataLoader(dataset, batch_size=4, sampler=SliceSampler(dataset, seed=0))
    volume = make_volume(DATA[0])
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=[{"image": volume["image"][None, ..., :1], "label": volume["label"][None, ..., :1]}],
        network=network,
        inferer=Argmax(),
        key_val_metric={"dice": MeanDice(False, num_classes=2, output_transform=from_engine(["pred", "label"]))},
        val_handlers=[SaveWeights(folder / "model.pt", network)],
    )
    objects = {"network": network, "optimizer": optimizer, "schedule": schedule}
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=loader,
        network=network,
        optimizer=optimizer,
        loss_function=lambda y, t: torch.nn.functional.cross_entropy(y, t[:, 0].long()),
        train_handlers=[
            LrScheduleHandler(schedule, print_lr=False),
            ValidationHandler(1, evaluator),
            TrainingProgress(optimizer, evaluator),
            LastCheckpoint(folder / "last.pt", objects, evaluator, resume),
        ],
    )
    if stop_after:

        @trainer.on(Events.ITERATION_COMPLETED(once=stop_after))
        def stop(engine):
            raise KeyboardInterrupt

    return trainer, evaluator, network


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_a_stopped_and_resumed_training_equals_one_that_was_not(tmp_path, capsys):
    whole, _, expected = training(tmp_path / "whole", 4)
    whole.run()
    broken, _, _ = training(tmp_path / "broken", 4, stop_after=10)  # in the third epoch of four iterations
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    resumed, evaluator, network = training(tmp_path / "broken", 4, resume=True)
    resumed.run()
    assert equal(network, expected)
    assert resumed.state.iteration == whole.state.iteration == 16
    assert evaluator.state.best_metric_epoch >= 1
    bar = capsys.readouterr().err
    assert "16/16" in bar
    assert "loss=" in bar and "lr=" in bar and "dice=" in bar


def test_the_best_epoch_is_kept_and_the_previous_best_survives_a_resume(tmp_path):
    trainer, evaluator, network = training(tmp_path, 2)
    trainer.run()
    kept = torch.load(tmp_path / "model.pt", weights_only=True)
    assert set(kept) == set(network.state_dict())
    resumed, again, _ = training(tmp_path, 2, resume=True)
    again.state.best_metric = -1
    resumed.fire_event(Events.STARTED)
    assert again.state.best_metric == pytest.approx(evaluator.state.best_metric)
    assert again.state.best_metric_epoch == evaluator.state.best_metric_epoch


def test_without_validation_the_latest_weights_are_kept(tmp_path):
    trainer, _, network = training(tmp_path, 1)
    SaveWeights(tmp_path / "latest.pt", network).attach(trainer)
    trainer.run()
    kept = torch.load(tmp_path / "latest.pt", weights_only=True)
    assert all(torch.equal(kept[name], value) for name, value in network.state_dict().items())


def test_a_failed_write_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    trainer, _, _ = training(tmp_path, 1)
    trainer.run()
    before = (tmp_path / "last.pt").read_bytes()

    def fail(state, path):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    trainer, _, _ = training(tmp_path, 2, resume=True)
    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match=r"model\.pt: cannot be written \(No space.*What was there is kept"):
        trainer.run()
    assert (tmp_path / "last.pt").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.pt", "last.pt.previous", "model.pt"]


def test_a_checkpoint_of_another_network(tmp_path):
    trainer, _, _ = training(tmp_path, 1)
    trainer.run()
    other = torch.nn.Conv2d(1, 2, 1)
    with pytest.raises(ValueError, match=r"last\.pt: no checkpoint of this training"):
        LastCheckpoint(tmp_path / "last.pt", {"network": other}, resume=True).load(trainer)
    objects = {"network": other, "optimizer": trainer.optimizer, "schedule": trainer.optimizer}
    with pytest.raises(ValueError, match=r"last\.pt: its network does not fit"):
        LastCheckpoint(tmp_path / "last.pt", objects, resume=True).load(trainer)
    with pytest.raises(FileNotFoundError, match="no checkpoint to resume from"):
        LastCheckpoint(tmp_path / "none.pt", objects, resume=True)


@pytest.mark.parametrize("step", [10, 12])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_saves_and_stops_and_resuming_goes_on_exactly(tmp_path, step, number):
    """In the middle of the third epoch of four iterations, and at its last one."""
    whole, _, expected = training(tmp_path / "whole", 4)
    whole.run()
    stopped, _, _ = training(tmp_path / "stopped", 4)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    stopped.add_event_handler(Events.ITERATION_STARTED(once=step), lambda: signal.raise_signal(number))
    stopped.run()
    assert stopped.state.iteration == step
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    resumed, _, network = training(tmp_path / "stopped", 4, resume=True)
    resumed.run()
    assert resumed.state.iteration == 16
    assert equal(network, expected)


def test_a_second_signal_stops_at_once(tmp_path):
    trainer, _, _ = training(tmp_path, 4)

    @trainer.on(Events.ITERATION_STARTED(once=6))
    def twice(engine):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == 1


@pytest.mark.parametrize("damage", ["bit", "cut", "missing", "pickle"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, damage, caplog):
    whole, _, expected = training(tmp_path / "whole", 4)
    whole.run()
    broken, _, _ = training(tmp_path / "broken", 4, stop_after=10)
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    last = tmp_path / "broken" / "last.pt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "missing":  # killed between the two renames
        last.unlink()
    else:
        last.write_bytes({"bit": bytes(content), "cut": bytes(content[:500]), "pickle": b"junk"}[damage])
    resumed, _, network = training(tmp_path / "broken", 4, resume=True)
    resumed.run()
    assert equal(network, expected)
    assert "going on from last.pt.previous" in caplog.text
    (tmp_path / "broken" / "last.pt.previous").write_bytes(b"junk")
    last.write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"last\.pt: no PyTorch file.*last\.pt\.previous: no PyTorch file"):
        training(tmp_path / "broken", 4, resume=True)[0].run()


def test_a_folder_that_cannot_be_written_to_is_found_before_the_first_step(tmp_path):
    (tmp_path / "models").write_text("a file")
    trainer, _, _ = training(tmp_path / "models", 1)
    with pytest.raises(OSError, match=r"last\.pt: cannot be written"):
        trainer.run()
    assert trainer.state.iteration == 0
