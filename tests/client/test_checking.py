"""``gradwatch.check``: real models, right and wrong, before their first step."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gradwatch
from gradwatch.cli import main


def mlp(
    depth: int, act: type[nn.Module] = nn.ReLU, std: float | None = None, width: int = 32
) -> nn.Sequential:
    """``std`` is times sqrt(2 / fan-in); None keeps torch's own init."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for n in range(depth):
        layer = nn.Linear(16 if n == 0 else width, width)
        if std is not None:
            nn.init.normal_(layer.weight, 0.0, std * math.sqrt(2.0 / layer.in_features))
            nn.init.zeros_(layer.bias)
        layers += [layer, act()]
    return nn.Sequential(*layers, nn.Linear(width, 5))


def batch(n: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    gen = torch.Generator().manual_seed(1)
    return torch.randn(n, 16, generator=gen), torch.randint(5, (n,), generator=gen)


def said(report: gradwatch.CheckReport) -> list[tuple[str, str]]:
    return [(remark.check, remark.severity) for remark in report.remarks]


class WithNorm(nn.Module):
    """Convolution, batch norm, dropout and an attention layer, with activations as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv1d(1, 8, 3, padding=1), nn.BatchNorm1d(8)
        self.mix = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.inner, self.head = nn.Linear(8, 16), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn(self.conv(x[:, None]))).transpose(1, 2)
        return self.head(torch.tanh(self.inner(self.mix(x).mean(1))))


@pytest.mark.parametrize("model", [mlp(9, std=1.0), mlp(1), WithNorm()], ids=["he", "shallow", "norm"])
def test_sound_models_pass(model: nn.Module) -> None:
    report = gradwatch.check(model, batch(), F.cross_entropy)
    assert report.ok and said(report) == []
    assert report.expected_loss == pytest.approx(math.log(5)) and 1.0 < report.loss < 3.0
    assert "nothing to say against it" in str(report)


def test_nothing_is_changed_by_looking() -> None:
    model = WithNorm()
    optimizer = torch.optim.Adam(model.parameters())
    model.head.weight.grad = torch.ones_like(model.head.weight)
    before = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    gradwatch.check(model, batch(), F.cross_entropy, optimizer=optimizer)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state()) and not optimizer.state
    assert model.head.weight.grad.sum() == model.head.weight.numel() and model.conv.weight.grad is None
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_sizes_are_those_of_a_plain_computation() -> None:
    model, (x, y) = mlp(2, std=1.0), batch()
    seen = {layer.name: layer for layer in gradwatch.check(model, (x, y), F.cross_entropy).glimpse.layers}
    h = model[0](x)
    h.retain_grad()
    F.cross_entropy(model[1:](h), y).backward()
    assert seen["0"].rms == pytest.approx(float(h.detach().square().mean().sqrt()), rel=1e-5)
    assert seen["0"].grad_rms == pytest.approx(float(h.grad.square().mean().sqrt()), rel=1e-5)
    assert seen["0"].std == pytest.approx(float(model[0].weight.detach().std()), rel=1e-5)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (mlp(14), "Initialise `0` to `26` with std 0.35 instead of"),
        (mlp(8, nn.Sigmoid), "Use ReLU or GELU with He init"),
        (mlp(8, std=8.0), "Initialise `0` to `14` with std 0.35 instead of 2."),
    ],
    ids=["torch default, deep", "sigmoid", "too large"],
)
def test_depth_that_multiplies_is_told_with_the_std_to_use(model: nn.Module, words: str) -> None:
    report = gradwatch.check(model, batch(), F.cross_entropy)
    found = [remark for remark in report.remarks if remark.check == "depth"]
    assert found and not report.ok and all(remark.advice.startswith(words) for remark in found)


def test_a_first_loss_that_is_too_high_is_told() -> None:
    model = mlp(2, std=1.0)
    with torch.no_grad():
        model[-1].weight.mul_(100)
    report = gradwatch.check(model, batch(), nn.CrossEntropyLoss())
    assert ("first_loss", "warning") in said(report) and "ln 5" in report.remarks[0].sentence


@pytest.mark.parametrize(
    ("loss_fn", "y", "expected"),
    [
        (nn.BCEWithLogitsLoss(), torch.zeros(64, 5), math.log(2)),
        (nn.MSELoss(), torch.full((64, 5), 3.0), 9.0),
        (lambda out, y: F.cross_entropy(out, y), batch()[1], math.log(5)),
        (lambda out, y: (out - y).abs().mean(), torch.zeros(64, 5), math.nan),
    ],
)
def test_the_loss_to_expect(loss_fn: nn.Module, y: torch.Tensor, expected: float) -> None:
    report = gradwatch.check(mlp(1), (batch()[0], y), loss_fn)
    assert report.expected_loss == pytest.approx(expected, nan_ok=True)


def test_dead_and_saturated_units() -> None:
    model = mlp(2, std=1.0)
    with torch.no_grad():
        model[0].bias.fill_(-100.0)
    assert ("dead", "warning") in said(gradwatch.check(model, batch(), F.cross_entropy))
    assert ("saturated", "warning") in said(
        gradwatch.check(mlp(2, nn.Tanh, std=20.0), batch(), F.cross_entropy)
    )


def test_parameters_without_gradient_or_optimizer() -> None:
    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.cut, self.idle = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
            self.frozen, self.head = nn.Linear(16, 16), nn.Linear(16, 5)
            self.frozen.requires_grad_(False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.frozen(self.used(x)) + self.cut(x).detach())

    model = Split()
    optimizer = torch.optim.SGD([*model.used.parameters(), *model.cut.parameters()], lr=0.1)
    report = gradwatch.check(model, batch(), F.cross_entropy, optimizer=optimizer)
    sentences = {remark.check: remark.sentence for remark in report.remarks}
    assert "`cut.weight`" in sentences["unused"] and "`idle.weight`" in sentences["unused"]
    assert "frozen" not in sentences["unused"] and "used.weight" not in sentences["unused"]
    assert "`head.weight`" in sentences["not_in_optimizer"] and "`used" not in sentences["not_in_optimizer"]


def test_a_gate_at_zero_is_a_remark_and_no_fault() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.block, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 5)
            self.gate = nn.Parameter(torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            return self.head(x + self.gate * self.block(x))

    report = gradwatch.check(Gated(), batch(), F.cross_entropy)
    assert report.ok and said(report) == [("zero_gradient", "info")]


def test_where_a_nan_begins() -> None:
    class Root(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sqrt(x - 10)

    forward = nn.Sequential(nn.Linear(16, 16), Root(), nn.Linear(16, 5))
    report = gradwatch.check(forward, batch(), F.cross_entropy)
    assert said(report)[0] == ("nonfinite", "critical") and "`1` (Root)" in report.remarks[0].sentence
    x, y = batch()
    x[0, 0] = math.nan
    assert (
        gradwatch.check(mlp(1), (x, y), F.cross_entropy).remarks[0].sentence == "The input holds NaN or Inf."
    )

    class Distance(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.sqrt((x - x).square().sum(-1, keepdim=True))

    backward = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16), Distance(), nn.Linear(16, 5))
    assert "it begins at `1.bias`" in gradwatch.check(backward, batch(), F.cross_entropy).remarks[0].sentence


def test_large_inputs_are_told() -> None:
    x, y = batch()
    assert ("input", "warning") in said(gradwatch.check(mlp(1), (100 + 50 * x, y), F.cross_entropy))


def test_other_forms_of_a_batch() -> None:
    x, y = batch()

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp(1)

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(self.net(x), labels)

    assert gradwatch.check(Named(), {"x": x, "labels": y}).loss > 0
    assert gradwatch.check(Named(), (x, y, None), lambda loss, _: loss).loss > 0
    assert gradwatch.check(mlp(1), x, lambda out: out.square().mean()).loss > 0


@pytest.mark.parametrize(
    ("given", "loss_fn"),
    [(batch(), None), (batch()[0], lambda out: 3.0), (batch(), lambda out, y: out.detach().sum())],
)
def test_what_gives_no_loss_is_one_sentence(given: object, loss_fn: object) -> None:
    with pytest.raises(ValueError, match="one number with a gradient"):
        gradwatch.check(mlp(1), given, loss_fn)


def test_a_frozen_model_is_one_sentence() -> None:
    model = mlp(1).requires_grad_(False)
    x = batch()[0].requires_grad_()
    with pytest.raises(ValueError, match="not frozen"):
        gradwatch.check(model, x, lambda out: out.sum())


FACTORY = """
import torch
from torch import nn
def good():
    torch.manual_seed(0)
    return nn.Linear(4, 3), (torch.randn(8, 4), torch.randint(3, (8,))), nn.CrossEntropyLoss()
def bad():
    model, batch, loss = good()
    return model, (batch[0] * 1e3, batch[1]), loss, torch.optim.SGD(model.parameters(), 0.1)
def wrong():
    return 3
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "made_here.py"
    path.write_text(FACTORY)
    return path


def test_doctor_looks_at_a_model(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--model", f"{script}:good"], installed=list) == 0
    assert "expected 1.099 (ln 3, guessing among 3 classes)" in capsys.readouterr().out
    assert main(["doctor", "--model", f"{script}:bad"], installed=list) == 1
    assert "warning: The inputs are large" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{script}:wrong", "must return (model, batch, loss_fn)"),
        ("{script}:missing", "has no function missing"),
        ("no.such.module:f", "No module named"),
        ("no/such/file.py:f", "there is no file no/such/file.py"),
        ("only_a_name", "takes MODULE:FACTORY"),
    ],
)
def test_doctor_says_what_is_wrong(
    script: Path, text: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--model", text.format(script=script)], installed=list) == 1
    assert words in capsys.readouterr().err


def test_doctor_without_the_server_says_what_the_database_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--db"], installed=list) == 1
    assert "gradwatch[server]" in capsys.readouterr().err


def test_the_growth_over_layers_is_robust() -> None:
    from gradwatch.health.precheck import slope

    values = (2.0 ** (0.7 * np.arange(12))).tolist()
    values[5] *= 1000
    found, layers = slope(values)
    assert found == pytest.approx(0.7, abs=0.02) and layers == 12
    assert slope([1.0, 2.0, 4.0]) == (0.0, 3)
