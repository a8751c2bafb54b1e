"""Every setting against plain arithmetic on the gradients that autograd wrote."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gradwatch.errors import ConfigError
from gradwatch.protocol import limits

from .conftest import OpenShield, Watch, close, mlp, reference

X = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))


def loss_of(model: nn.Module, x: torch.Tensor = X) -> torch.Tensor:
    return model(x).pow(2).mean()


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop])
def test_norms_are_those_that_autograd_wrote(
    watch: Watch, kind: type[torch.optim.Optimizer], set_to_none: bool
) -> None:
    model = mlp()
    optimizer = kind(model.parameters(), lr=0.05)  # type: ignore[call-arg]
    _, seen = watch(model)
    expected = []
    for _ in range(4):
        optimizer.zero_grad(set_to_none=set_to_none)
        loss_of(model).backward()
        expected.append(reference(model))
        optimizer.step()
    optimizer.step()
    assert [frame.step for frame in seen.frames] == [0, 1, 2, 3, 4]
    for frame, norms in zip(seen.frames, expected, strict=False):
        close(seen.norms(frame), norms)
        total = sum(v**2 for v in norms.values()) ** 0.5
        assert seen.number(frame, "global_grad_norm") == pytest.approx(total, rel=1e-6)
        assert "clip_coef" not in frame.values and "grad_maxabs" not in frame.values
        assert seen.number(frame, "lr") == 0.05


def test_micro_batches_give_one_frame_per_optimizer_step(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    capture, seen = watch(model)
    for _ in range(3):
        for part in X.split(4):
            (loss_of(model, part) / 4).backward()
        expected = reference(model)
        optimizer.step()
        optimizer.zero_grad()
    assert len(seen.frames) == 3
    close(seen.norms(seen.frames[-1]), expected)
    assert capture.next_step == 3


def test_a_scalar_belongs_to_the_step_of_its_backward(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    capture, _ = watch(model, start_step=10)
    assert capture.scalar_step() == 10
    for step in range(10, 13):
        loss_of(model).backward()
        assert capture.scalar_step() == step
        optimizer.step()
        assert capture.scalar_step() == step
        optimizer.zero_grad(set_to_none=step % 2 == 0)
        assert capture.scalar_step() == step
    with torch.no_grad():
        loss_of(model)
    assert capture.scalar_step() == 12


def test_frozen_and_unused_parameters_are_absent_not_zero(watch: Watch) -> None:
    model = mlp()
    model[0].weight.requires_grad_(False)
    model.add_module("unused", nn.Linear(2, 2))
    chain = model[:5]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _, seen = watch(model)
    for _ in range(2):
        optimizer.zero_grad()
        loss_of(chain).backward()
        expected = reference(model)
        optimizer.step()
    norms = seen.norms(seen.frames[0])
    assert set(norms) == {"0.bias", "2.weight", "2.bias", "4.weight", "4.bias"}
    assert seen.names(seen.frames[0])[0] == "0.weight"
    assert seen.schemas[-1][0][0].trainable is False
    model[0].weight.requires_grad_(True)
    optimizer.zero_grad()
    loss_of(chain).backward()
    expected = reference(model)
    optimizer.step()
    optimizer.step()
    close(seen.norms(seen.frames[2]), expected)


def test_a_parameter_without_an_optimizer_is_measured_too(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.SGD([model[0].weight], lr=0.1)
    _, seen = watch(model)
    loss_of(model).backward()
    expected = reference(model)
    optimizer.step()
    optimizer.step()
    close(seen.norms(seen.frames[0]), expected)
    declared = {tensor.name: tensor.optimizer for tensor in seen.schemas[-1][0]}
    assert declared["0.weight"] == 0 and declared["4.bias"] == -1


def test_parameters_added_later_get_columns(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _, seen = watch(model)
    for _ in range(2):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
    model.append(nn.Linear(3, 2))
    optimizer.add_param_group({"params": model[-1].parameters(), "lr": 0.01})
    optimizer.zero_grad()
    loss_of(model).backward()
    expected = reference(model)
    optimizer.step()
    close(seen.norms(seen.frames[-1]), expected)
    assert list(seen.frames[-1].values["lr"]) == [0.1, 0.01]
    assert seen.names(seen.frames[-1])[-2:] == ["5.weight", "5.bias"]
    assert len(seen.names(seen.frames[0])) == 6


def test_a_step_that_was_clipped_before_new_parameters_were_noticed(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _, seen = watch(model)
    expected = []
    for step in range(6):
        if step == 3:
            model.insert(0, nn.Linear(6, 6))
            optimizer.add_param_group({"params": list(model[0].parameters())})
        model.zero_grad()
        model(X).pow(2).mean().backward()
        expected.append(reference(model))
        nn.utils.clip_grad_norm_(list(model.parameters())[2 if step == 3 else 0 :], 1e-3)
        optimizer.step()
    for frame, norms in zip(seen.frames, expected, strict=False):
        close(seen.norms(frame), norms)
        assert seen.number(frame, "clip_coef") < 1
    assert len(seen.frames) >= 5


def test_replaced_parameters_are_found_again(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _, seen = watch(model)
    loss_of(model).backward()
    optimizer.step()
    model[0] = nn.Linear(6, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(model).backward()
        expected = reference(model)
        optimizer.step()
    close(seen.norms(seen.frames[-1]), expected)


def test_moved_and_reloaded_models_are_watched_on(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _, seen = watch(model)
    loss_of(model).backward()
    optimizer.step()
    model.double()
    model.load_state_dict({k: v * 2 for k, v in model.state_dict().items()})
    optimizer.zero_grad()
    loss_of(model, X.double()).backward()
    expected = reference(model)
    optimizer.step()
    optimizer.step()
    close(seen.norms(seen.frames[1]), expected)


def test_shared_parameters_have_one_column(watch: Watch) -> None:
    model = mlp((6, 6, 6))
    model[2].weight = model[0].weight
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _, seen = watch(model)
    loss_of(model).backward()
    expected = reference(model)
    optimizer.step()
    optimizer.step()
    close(seen.norms(seen.frames[0]), expected)
    assert seen.names(seen.frames[0]) == ["0.weight", "0.bias", "2.bias"]


def test_lbfgs_is_measured_at_its_last_evaluation(watch: Watch) -> None:
    model = mlp((6, 3))
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
    _, seen = watch(model)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)
        expected = reference(model)
    assert [frame.step for frame in seen.frames] == [0, 1, 2]
    close(seen.norms(seen.frames[-1]), expected)


def test_a_closure_is_measured_after_it_has_run(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    capture, seen = watch(model, optimizers=[optimizer])

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        return loss

    plain = mlp()
    plain.load_state_dict(model.state_dict())
    loss_of(plain).backward()
    optimizer.step(closure)
    assert capture.scalar_step() == 0
    close(seen.norms(seen.frames[0]), reference(plain))
    assert seen.number(seen.frames[0], "global_grad_norm_clipped") == pytest.approx(1e-3, rel=1e-3)


def test_every_thins_the_norms_but_not_the_steps(watch: Watch) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _, seen = watch(model, every=3, optimizers=[optimizer])
    for _ in range(7):
        optimizer.zero_grad()
        loss_of(model).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        optimizer.step()
    assert ["grad_norm" in frame.values for frame in seen.frames] == [
        True,
        False,
        False,
        True,
        False,
        False,
        True,
    ]
    assert {s.name: s.cadence for s in seen.schemas[-1][1]}["grad_norm"] == 3
    assert seen.number(seen.frames[3], "clip_coef") < 1


def test_include_and_exclude_choose_by_name(watch: Watch) -> None:
    model = mlp()
    _, seen = watch(model, include=["0", "4.*"], exclude=["*.bias"])
    assert [tensor.name for tensor in seen.schemas[0][0]] == ["0.weight", "4.weight"]


def test_bad_arguments_are_told_before_anything_is_hooked() -> None:
    options = {"shield": OpenShield(), "on_frame": print, "on_schema": print}
    from gradwatch.torch_.capture import Capture

    with pytest.raises(ConfigError, match="include="):
        Capture([mlp()], include=["nothing"], **options)
    with pytest.raises(ConfigError, match="not str"):
        Capture(["model"], **options)
    with pytest.raises(ConfigError, match="optimizer= takes"):
        Capture([mlp()], optimizers=[mlp()], **options)
    with pytest.raises(ConfigError, match="nothing to watch: the model has no parameter; give watch"):
        Capture([nn.ReLU()], **options)
    many = nn.ParameterList([nn.Parameter(torch.zeros(1)) for _ in range(limits.MAX_TENSORS + 1)])
    with pytest.raises(ConfigError, match="include="):
        Capture([many], **options)


def test_a_container_made_for_the_call_is_watched(watch: Watch) -> None:
    """As ``watch(nn.ModuleList([generator, critic]))``: nobody keeps it, and the parts train on."""
    parts = [mlp(), mlp()]
    _, seen = watch(nn.ModuleList(parts))
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in parts]
    for _ in range(3):
        for part, optimizer in zip(parts, optimizers, strict=True):
            optimizer.zero_grad()
            loss_of(part).backward()
            optimizer.step()
    optimizers[0].step()
    assert [frame.step for frame in seen.frames] == [0, 1, 2]
    assert len(seen.norms(seen.frames[-1])) == sum(len(list(part.parameters())) for part in parts)
