"""A rank's own norms: on a grid of steps, and at every step while it looks closely."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradwatch.frames import Frame, PendingFrame
from gradwatch.outbox import ReadyFrame
from gradwatch.place import LOCAL_NORM
from gradwatch.torch_.local_norms import LocalNorms


def test_own_norms_at_each_step_while_it_looks_closely() -> None:
    model = torch.nn.Linear(3, 1, bias=False)
    put: list[PendingFrame] = []
    local = LocalNorms([model], put.append, wrap=lambda hook, where: hook, only=True, every=10)
    for step in range(30):
        if step == 13:
            local.look_closely(18)
        model.zero_grad()
        model(torch.full((1, 3), float(step))).sum().backward()
        local.put(ReadyFrame(Frame(step=step, time=0.0, values={"loss_scale": np.ones(1)})))
    norms = {frame.step: float(frame.resolve().values[LOCAL_NORM.name][0]) for frame in put}
    expected = {step: step * 3**0.5 for step in (10, 14, 15, 16, 17, 20)}
    assert norms == pytest.approx(expected, rel=1e-6)
    local.detach()
