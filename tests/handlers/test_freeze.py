# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from ignite.engine import Engine, Events

from monai_ext.handlers import FreezeUntil


def test_a_part_trains_from_its_epoch_on():
    torch.manual_seed(0)
    part, rest = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD([*part.parameters(), *rest.parameters()], 0.1)

    def step(engine, batch):
        optimizer.zero_grad()
        rest(part(batch)).square().sum().backward()
        optimizer.step()

    trainer = Engine(step)
    FreezeUntil(part, 3).attach(trainer)
    history = []
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: history.append(part.weight.detach().clone()))
    first = part.weight.detach().clone()
    trainer.run([torch.ones(1, 2)], max_epochs=4)
    assert torch.equal(history[0], first) and torch.equal(history[1], first)
    assert not torch.equal(history[2], first)
    assert not torch.equal(history[3], history[2])
