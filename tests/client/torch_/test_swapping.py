"""Modules whose tensors are swapped for others while they are watched."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from .conftest import Watch, close, mlp, reference


@pytest.fixture
def swapping() -> Iterator[None]:
    torch.__future__.set_swap_module_params_on_conversion(True)
    yield
    torch.__future__.set_swap_module_params_on_conversion(False)


@pytest.mark.parametrize("by_hand", [True, False], ids=["no hook", "hooks"])
def test_converted_and_reloaded_models_are_watched_on(watch: Watch, swapping: None, by_hand: bool) -> None:
    original = torch.utils.swap_tensors
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    capture, seen = watch(model, optimizers=[optimizer])
    expected = []
    for step in range(9):
        if step == 3:
            model.to(torch.float64)  # with the gradients of the last step
        if step == 6:
            optimizer.zero_grad()
            model.load_state_dict(mlp((6, 8, 5, 3)).double().state_dict())
        optimizer.zero_grad()
        loss = model(torch.randn(4, 6, dtype=model[0].weight.dtype)).pow(2).mean()
        if by_hand:
            for parameter, grad in zip(
                model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True
            ):
                parameter.grad = grad
        else:
            loss.backward()
        expected.append(reference(model))
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        assert capture.scalar_step() == step
    for frame, norms in zip(seen.frames, expected, strict=True):
        close(seen.norms(frame), norms)
    capture.detach()
    assert torch.utils.swap_tensors is original


def test_tensors_that_may_not_be_swapped_still_may_not(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    capture, seen = watch(model)
    keeps_it = model[0].weight.view(-1)
    expected = []
    for _ in range(2):
        with pytest.raises(RuntimeError, match="use_count"):
            torch.utils.swap_tensors(model[0].weight, nn.Parameter(torch.zeros(8, 6)))
        model(torch.randn(4, 6)).sum().backward()
        expected.append(reference(model))
        optimizer.step()
    capture.detach()
    assert keeps_it.numel() == 48
    for frame, norms in zip(seen.frames, expected, strict=True):
        close(seen.norms(frame), norms)
