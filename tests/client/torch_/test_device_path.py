"""What is done at a step of a model on CUDA, without CUDA: tensors that have a shape and a device but no numbers.

Whoever asks such a tensor for a number, as ``item()``, ``tolist()``, ``bool()`` or an index by mask do and as would make the host wait
for the device, gets an error; and no operation may take numbers from the device to the host but the copies that wait for nobody.
``tests/gpu`` holds the rest: that the numbers are right, and what it costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gradwatch.torch_ import catalog, gathered, norms, scalars
from gradwatch.torch_.scalars import defer

from .conftest import Recorder, Watch

SHAPES = [(256, 64), (256,), (3, 700), (70_000,), ()]
Step = Callable[[nn.Module, torch.optim.Optimizer], None]


class Copies:
    """What is on its way to the host, as ``(device, shape)``."""

    made: list[tuple[str, tuple[int, ...]]]

    def __init__(self, tensor: torch.Tensor) -> None:
        self.shape = tuple(tensor.shape)
        Copies.made.append((tensor.device.type, self.shape))

    def ready(self) -> bool:
        return True

    def numpy(self) -> np.ndarray:
        return np.ones(self.shape)


class NothingComesBack(TorchDispatchMode):
    """Fails where an operation on CUDA tensors gives one on the host."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        devices = [
            {leaf.device.type for leaf in tree_leaves(part) if isinstance(leaf, torch.Tensor)}
            for part in ((args, kwargs), result)
        ]
        assert not ("cuda" in devices[0] and "cpu" in devices[1]), f"{func} waits for the device"
        return result


class Weights(nn.Module):
    """Parameters of many shapes."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.all = nn.ParameterList(torch.empty(shape, dtype=dtype, device="cuda") for shape in SHAPES)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    Copies.made = []
    for module in (scalars, norms, gathered):
        monkeypatch.setattr(module, "HostCopy", Copies)
    for module in (norms, gathered):
        monkeypatch.setattr(module, "PLAIN", (*norms.PLAIN, FakeTensor))
    monkeypatch.setattr(catalog, "_std", lambda _: None)  # indexing asks for a driver
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    with FakeTensorMode(), NothingComesBack():
        yield


def train(model: nn.Module, optimizer: torch.optim.Optimizer, before: Step, seen: Recorder) -> None:
    for _ in range(12):
        for parameter in model.parameters():
            parameter.grad = torch.empty_like(parameter)
        before(model, optimizer)
        optimizer.step()
        assert seen.frames  # resolved, or no further sample is taken


def nothing(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """No clipping."""


def clip_norm(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)


def clip_value(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    nn.utils.clip_grad_value_(model.parameters(), 1.0)


def clip_by_hand(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    total = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    nn.utils.clip_grads_with_norm_(model.parameters(), 1.0, total)


def scaled(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """As a GradScaler leaves it to a fused optimizer to unscale."""
    optimizer.grad_scale = torch.empty((), device="cuda")  # type: ignore[attr-defined]
    optimizer.found_inf = torch.empty((), device="cuda")  # type: ignore[attr-defined]


def test_such_tensors_have_no_numbers_to_give(cuda: None) -> None:
    tensor = torch.empty(3, device="cuda")
    for ask in (lambda: tensor[0].item(), lambda: bool(tensor.sum() > 0), lambda: tensor.sum().tolist()):
        with pytest.raises((DataDependentOutputException, RuntimeError)):
            ask()
    with pytest.raises(AssertionError, match="waits for the device"):
        tensor.cpu()


@pytest.mark.parametrize(
    ("before", "dtype"),
    [
        (nothing, torch.float32),
        (nothing, torch.bfloat16),
        (nothing, torch.float64),
        (clip_norm, torch.float32),
        (clip_norm, torch.float16),
        (clip_value, torch.float32),
        (clip_by_hand, torch.float32),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_step_asks_the_device_for_nothing(
    watch: Watch, cuda: None, before: Step, dtype: torch.dtype
) -> None:
    model = Weights(dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    _, seen = watch(model, optimizers=[optimizer], budget=1e6)
    train(model, optimizer, before, seen)
    assert {device for device, _ in Copies.made} == {"cuda"}
    assert Copies.made.count(("cuda", (2, len(SHAPES)))) >= 12, (
        "norms and max-abs of all tensors, at each step in one copy"
    )
    assert len(seen.frames) == 12
    for frame in seen.frames:
        assert len(seen.norms(frame)) == len(seen.norms(frame, "grad_maxabs")) == len(SHAPES)
    assert {"weight_norm", "update_ratio", "grad_cosine", "adam_ratio"} <= set(seen.frames[10].values)


def test_scaled_gradients_are_unscaled_without_asking(watch: Watch, cuda: None) -> None:
    model = Weights(torch.float32)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)
    _, seen = watch(model, optimizers=[optimizer], budget=1e6)
    train(model, optimizer, scaled, seen)
    assert {device for device, _ in Copies.made} == {"cuda"}
    assert ("cuda", ()) in Copies.made, "the scale itself"
    assert "adam_ratio" in seen.frames[10].values


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool], ids=str)
def test_a_number_of_the_script_is_fetched_later(cuda: None, dtype: torch.dtype) -> None:
    number = defer(torch.empty((1,), dtype=dtype, device="cuda"))
    assert number is not None and Copies.made == [("cuda", (1,))]
