"""Statistics of outputs on sampled steps, against plain arithmetic; and that nothing of the model changes for them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch._dynamo
from torch import nn

import gradwatch
from gradwatch.errors import ConfigError
from gradwatch.shield import Shield
from gradwatch.testing import FakeServer, MemoryTransport, StoredStream
from gradwatch.torch_.activations import Activations

X = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("GRADWATCH_DIR", str(tmp_path))
    monkeypatch.delenv("GRADWATCH_SERVER", raising=False)
    yield


class Net(nn.Module):
    """Bounded and unbounded activations, and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.relu = nn.ReLU()
        self.tanh = nn.Tanh()
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.tanh(8.0 * self.relu(self.stem(x))).unsqueeze(0)
        return self.head(h + self.attn(h, h, h, need_weights=False)[0])  # type: ignore[no-any-return]


def train(
    activations: bool | list[str], steps: int = 25, compiled: bool = False, budget: float = 1e6
) -> tuple[Net, StoredStream, list[torch.Tensor]]:
    torch.manual_seed(0)
    model, fake = Net(), FakeServer()
    watched = torch.compile(model, backend="eager") if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    run = gradwatch.watch(
        watched, optimizer, activations=activations, budget=budget, transport=MemoryTransport(fake)
    )
    for k in range(steps):
        if k == 20:
            weights = [p.detach().clone() for p in model.parameters()]
        optimizer.zero_grad()
        watched(X).pow(2).mean().backward()
        optimizer.step()
        with torch.no_grad():
            model.eval()
            model(100 * X)
            model.train()
    run.finish()
    return model, fake.stream, weights


def names(stream: StoredStream) -> set[str]:
    logged = {s.name for schema in stream.schemas.values() for s in schema.statistics if s.logged}
    return {name for name in logged if not name.startswith("system/")}  # those come when a test takes long


def test_each_is_what_its_formula_says() -> None:
    model, stream, weights = train(True)
    for parameter, value in zip(model.parameters(), weights, strict=True):
        parameter.data = value
    outputs: dict[str, torch.Tensor] = {}
    for name, module in model.named_children():
        module.register_forward_hook(
            lambda m, a, out, name=name: outputs.update({name: out if torch.is_tensor(out) else out[0]})
        )
    with torch.no_grad():
        model(X)
    bound = 0.94
    for name, out in outputs.items():
        x = out.double()
        expected = {"mean": x.mean(), "rms": x.pow(2).mean().sqrt(), "zero_share": (x == 0).double().mean()}
        if name == "tanh":
            expected["saturation"] = (x.abs() >= bound).double().mean()
        for key, value in expected.items():
            series = stream.scalar(f"activation/{name}/{key}")
            assert sorted(series) == [0, 10, 20]
            assert series[20] == pytest.approx(float(value), rel=1e-5, abs=1e-7)
    attn, h = model.attn, outputs["tanh"]
    q, k, _ = (h @ attn.in_proj_weight.T + attn.in_proj_bias).detach().chunk(3, -1)
    heads = [(a @ b.transpose(-1, -2)) / 2.0 for a, b in zip(q.split(4, -1), k.split(4, -1), strict=True)]
    assert stream.scalar("activation/attn/max_logit")[20] == pytest.approx(
        max(float(part.max()) for part in heads), rel=1e-5
    )
    assert stream.scalar("activation/relu/zero_share")[20] > 0.2
    assert "activation/relu/saturation" not in names(stream)


def test_globs_choose_modules_and_nothing_is_left_on_them() -> None:
    model, stream, _ = train(["tan*", "head"])
    assert {name.split("/")[1] for name in names(stream)} == {"tanh", "head"}
    assert not any(module._forward_hooks for module in model.modules())


def test_copies_and_pickles_carry_nothing_of_it() -> None:
    model, x, fake = nn.Sequential(nn.Linear(4, 4), nn.Tanh()), torch.randn(3, 4), FakeServer()
    with gradwatch.watch(model, transport=MemoryTransport(fake), activations=True) as run:
        assert all(module._forward_hooks for module in model), "a sampled step is to come"
        pickled = pickle.dumps(model)
        assert b"gradwatch" not in pickled
        for copied in (copy.deepcopy(model), pickle.loads(pickled)):
            assert isinstance(copied(x), torch.Tensor)
        out = model(2 * x).detach()
        run.log({"done": 1.0})
    told = fake.stream.scalar("activation/1/rms")
    assert told == pytest.approx({0: float(out.square().mean().sqrt())}, rel=1e-5)


def test_results_are_the_same_to_the_bit() -> None:
    plain, watched = train(False)[0], train(True)[0]
    pairs = zip(plain.parameters(), watched.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.filterwarnings("ignore")
def test_compiled_models_are_left_alone() -> None:
    torch._dynamo.reset()
    with pytest.raises(ConfigError, match="no module matches, outside of compiled ones"):
        train(True, compiled=True)


def test_hooks_are_there_only_for_sampled_steps_and_more_rarely_if_dear() -> None:
    now = [0.0]

    def timer() -> float:
        now[0] += 0.001
        return now[0]

    class Log:
        def __init__(self) -> None:
            self.steps: set[int] = set()
            self.coming = 0

        def join(self, actor: object) -> object:
            return lambda: self.coming

        def log(self, values: object, /, *, step: int | None = None) -> None:
            self.steps.add(step or 0)

    model, log = Net(), Log()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    watch = Activations([model], True, shield=Shield(print), timer=timer)
    watch.follow(log)  # type: ignore[arg-type]
    hooked = []
    for k in range(100):
        log.coming = k
        hooked.append(any(module._forward_hooks for module in model.modules()))
        model(X).sum().backward()
        now[0] += 0.03
        optimizer.step()
    assert {k for k, there in enumerate(hooked) if there} == log.steps
    assert log.steps == {0, 10, 20, 40, 60, 80}
    watch.remove()


def test_what_cannot_be_watched_is_told_before_the_run_begins() -> None:
    fake = FakeServer()
    with pytest.raises(ConfigError, match="no module matches"):
        gradwatch.watch(Net(), activations=["nothing"], transport=MemoryTransport(fake))
    assert not fake.streams
    wide = nn.Sequential(*[nn.ReLU() for _ in range(101)])
    with pytest.raises(ConfigError, match="101 modules match"):
        Activations([wide], True, shield=Shield(print))
