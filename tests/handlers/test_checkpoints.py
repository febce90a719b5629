# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import random
import signal

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler, MeanDice, from_engine
from monai.utils import set_determinism

from monai_ext.data.training.slice_dataset import SliceDataset, SliceSampler
from monai_ext.handlers import LastCheckpoint, SaveWeights, TrainingProgress, ValidateEpochs

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


def training(folder, epochs, resume=False, stop_after=None, total=4, rate=1e-2, interval=1, batch_size=4, empty=False):
    set_determinism(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), Noise(), torch.nn.Conv2d(4, 2, 1))
    optimizer = torch.optim.AdamW(network.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    dataset = SliceDataset(DATA, make_volume, progress=False)
    loader = torch.utils.data.DataLoader(dataset, batch_size=batch_size, sampler=SliceSampler(dataset, seed=0))
    volume = make_volume(DATA[0])
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=[
            {"image": volume["image"][None, ..., :1], "label": volume["label"][None, ..., :1] * (not empty)}
        ],
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
            ValidateEpochs(interval, evaluator),
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
    spent = [torch.load(tmp_path / name / "last.pt", weights_only=True)["spent"] for name in ("whole", "broken")]
    assert [cost["steps"] for cost in spent] == [16, 16]  # a step that is done again counts once
    assert all(cost["seconds"] > 0 and cost["cpu_seconds"] > 0 and cost["peak_bytes"] > 2**20 for cost in spent)
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
    with pytest.raises(ValueError, match=r"last\.pt: its weights do not fit Conv2d"):
        LastCheckpoint(tmp_path / "last.pt", objects, resume=True).load(trainer)
    with pytest.raises(FileNotFoundError, match="no checkpoint to resume from"):
        LastCheckpoint(tmp_path / "none.pt", objects, resume=True)


def test_a_checkpoint_that_is_not_finite_is_not_gone_on_from(tmp_path):
    trainer, _, _ = training(tmp_path, 1)
    trainer.run()
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    state["objects"]["network"]["2.bias"][1] = float("nan")
    torch.save(state, tmp_path / "last.pt")
    again, _, other = training(tmp_path, 2, resume=True)
    untouched = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(ValueError, match=r"last\.pt: Sequential cannot work with 2\.bias: 1 of 2 values are NaN"):
        again.run()
    assert all(torch.equal(value, untouched[key]) for key, value in other.state_dict().items())
    state["objects"]["network"]["2.bias"][1] = 0.5
    torch.save(state, tmp_path / "last.pt")
    again, _, _ = training(tmp_path, 2, resume=True)
    again.run()
    assert again.state.iteration == 2 * trainer.state.iteration


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


def rates(folder):
    return torch.load(folder / "last.pt", weights_only=True)["objects"]["optimizer"]["param_groups"][0]


def test_a_resumed_training_has_the_schedule_of_its_options_now(tmp_path, caplog):
    training(tmp_path / "a", 2, total=2)[0].run()
    assert rates(tmp_path / "a")["lr"] == pytest.approx(0)
    resumed, _, _ = training(tmp_path / "a", 6, resume=True, total=6, rate=3e-2)
    seen = []
    resumed.add_event_handler(Events.EPOCH_STARTED, lambda: seen.append(resumed.optimizer.param_groups[0]["lr"]))
    resumed.run()
    expected = [3e-2 * (1 + np.cos(np.pi * epoch / 6)) / 2 for epoch in range(2, 6)]
    np.testing.assert_allclose(seen, expected, rtol=1e-12)
    assert resumed.optimizer.param_groups[0]["initial_lr"] == 3e-2
    told = [record.getMessage().split("options: ")[1] for record in caplog.records if "other options" in record.msg]
    assert "epochs was 2, is 6 now." in told and "optimizer initial_lr was 0.01, is 0.03 now." in told
    assert "schedule T_max was 2, is 6 now." in told


def test_an_unchanged_resume_says_nothing_of_options(tmp_path, caplog):
    broken, _, _ = training(tmp_path, 4, stop_after=10)
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    training(tmp_path, 4, resume=True)[0].run()
    assert not [record for record in caplog.records if "other options" in record.msg]


def test_other_steps_an_epoch_count_anew(tmp_path, caplog):
    stopped, _, _ = training(tmp_path, 3)
    stopped.add_event_handler(Events.ITERATION_STARTED(once=6), lambda: signal.raise_signal(signal.SIGINT))
    stopped.run()
    assert torch.load(tmp_path / "last.pt", weights_only=True)["iteration"] == 6
    resumed, _, _ = training(tmp_path, 3, resume=True, batch_size=2)
    resumed.run()
    assert resumed.state.epoch == 3 and resumed.state.iteration == 3 * 8 == 3 * resumed.state.epoch_length
    assert "steps of an epoch was 4, is 8 now" in caplog.text and "epoch 2 starts anew" in caplog.text


@pytest.mark.parametrize(("epochs", "interval", "expected"), [(1, 10, [1]), (5, 2, [2, 4, 5]), (4, 2, [2, 4])])
def test_the_last_epoch_is_validated(tmp_path, epochs, interval, expected):
    trainer, evaluator, _ = training(tmp_path, epochs, interval=interval)
    validated = []
    evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda: validated.append(evaluator.state.epoch))
    trainer.run()
    assert validated == expected
    assert (tmp_path / "model.pt").is_file()


def test_no_epochs_and_no_interval_are_refused(tmp_path):
    with pytest.raises(ValueError, match="monai_ext: --epochs 0: expected the number of epochs to train, 1 or more"):
        training(tmp_path, 0)
    with pytest.raises(ValueError, match="monai_ext: --val_interval 0: expected 1 or more"):
        training(tmp_path, 1, interval=0)


def test_validation_labels_that_are_empty_choose_no_epoch(tmp_path, caplog):
    trainer, _, network = training(tmp_path, 3, empty=True)
    told = []
    trainer.add_event_handler(Events.ITERATION_STARTED(once=1), lambda: told.append(caplog.text))
    trainer.run()
    assert "the labels of all 1 validation cases are empty" in told[0]
    kept = torch.load(tmp_path / "model.pt", weights_only=True)
    assert all(torch.equal(kept[key], value) for key, value in network.state_dict().items())


def test_the_whole_checkpoint_outlives_a_damaged_one(tmp_path, monkeypatch):
    """Resumed from ``.previous``: at each step of the next writing a whole checkpoint is there."""
    broken, _, _ = training(tmp_path, 4, stop_after=10)
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    last, previous = tmp_path / "last.pt", tmp_path / "last.pt.previous"
    whole = previous.read_bytes()
    last.write_bytes(b"junk")
    resumed, _, _ = training(tmp_path, 4, resume=True)
    resumed.add_event_handler(Events.EPOCH_COMPLETED(once=2), resumed.terminate)
    seen = []
    with monkeypatch.context() as patch:
        for name in STEPS:
            real = getattr(os, name)

            def look(*args, real=real, **kwargs):
                seen.append((last.read_bytes() == b"junk", previous.read_bytes() == whole))
                return real(*args, **kwargs)

            patch.setattr(os, name, look)
        resumed.run()
    assert len(seen) > 3 and all(kept for damaged, kept in seen if damaged)
    assert torch.load(last, weights_only=True)["epoch"] == 2
    assert previous.read_bytes() == whole
    training(tmp_path, 4, resume=True)[0].run()
    assert torch.load(previous, weights_only=True)["epoch"] == 3


STEPS = ("fsync", "link", "replace", "rename", "unlink")


def test_last_is_never_absent(tmp_path, monkeypatch):
    trainer, _, _ = training(tmp_path, 3)
    absent = []
    for name in STEPS:
        real = getattr(os, name)

        def look(*args, real=real, name=name, **kwargs):
            done = real(*args, **kwargs)
            if trainer.state.iteration and not (tmp_path / "last.pt").is_file():
                absent.append(name)
            return done

        monkeypatch.setattr(os, name, look)
    trainer.run()
    assert not absent and (tmp_path / "last.pt.previous").is_file()


def test_a_file_system_without_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    training(tmp_path, 2)[0].run()
    assert [torch.load(tmp_path / f"last.pt{end}", weights_only=True)["epoch"] for end in ("", ".previous")] == [2, 1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.pt", "last.pt.previous", "model.pt"]


def test_two_trainings_in_one_folder(tmp_path):
    first, _, _ = training(tmp_path, 2)
    second, _, _ = training(tmp_path, 2)
    told = []

    @first.on(Events.ITERATION_COMPLETED(once=5))
    def start_another(engine):
        before = (tmp_path / "last.pt").read_bytes()
        with pytest.raises(
            BlockingIOError, match=rf"in use by process {os.getpid()} on .*give another --ckpt_dir"
        ) as e:
            second.run()
        told.append(e)
        assert (tmp_path / "last.pt").read_bytes() == before

    first.run()
    assert told and second.state.iteration == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.pt", "last.pt.previous", "model.pt"]
    training(tmp_path, 2)[0].run()  # the lock is free again
