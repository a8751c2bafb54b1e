"""The settings that people train in, one row each. Doctor prints them, tests prove them, on whatever device there is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import LBFGS, SGD, AdamW, Optimizer

from .bench import Bench, Setting

__all__ = ["SETTINGS"]

Clip = Callable[[nn.Module], object]
LIMIT: Final = 0.05


def _loop(
    bench: Bench,
    *,
    clip: Clip | None = None,
    told: bool = True,
    make: Callable[[nn.Module], Optimizer] = lambda model: AdamW(model.parameters(), lr=0.01),
    set_to_none: bool = True,
    dtype: torch.dtype = torch.float32,
    gain: float = 1.0,
) -> None:
    """The ordinary loop. ``told`` is False where clipping happens unseen, so that its result is all there is to see."""
    model = bench.model().to(dtype)
    optimizer = make(model)
    bench.watch(model)
    for x in bench.batches():
        optimizer.zero_grad(set_to_none=set_to_none)
        bench.backward(model(x.to(dtype)) * gain)
        if told:
            bench.expect(model)
        if clip is not None:
            clip(model)
            if told:
                bench.after_clip(model)
        if not told:
            bench.expect(model)
        optimizer.step()
    bench.done(model)


def _accumulated(bench: Bench) -> None:
    model = bench.model()
    optimizer = AdamW(model.parameters(), lr=0.01)
    bench.watch(model)
    for x in bench.batches():
        for part in torch.split(x, 4):
            bench.backward(model(part), share=0.25)
        bench.expect(model)
        nn.utils.clip_grad_norm_(model.parameters(), LIMIT)
        bench.after_clip(model)
        optimizer.step()
        optimizer.zero_grad()
    bench.done(model)


def _total_norm(model: nn.Module) -> None:
    norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    nn.utils.clip_grads_with_norm_(model.parameters(), LIMIT, norm)


def _by_hand(model: nn.Module) -> None:
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.stack([grad.norm() for grad in grads]).norm()
    for grad in grads:
        grad.mul_((LIMIT / norm).clamp(max=1.0))


def _scaled(
    bench: Bench, *, fused: bool = False, unscale: bool = False, overflow: int = -1, autocast: bool = False
) -> None:
    """Loss scaling; at step ``overflow`` the gradients are Inf and the scaler skips the step."""
    model = bench.model()
    optimizer = AdamW(model.parameters(), lr=0.01, fused=fused)
    scaler = GradScaler(bench.device.type, init_scale=1024.0, growth_interval=2)
    bench.watch(model)
    for step, x in enumerate(bench.batches()):
        scale = scaler.get_scale()
        optimizer.zero_grad()
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=autocast):
            loss = model(x * (float("inf") if step == overflow else 1.0)).float().pow(2).mean()
        scaler.scale(loss).backward()
        bench.saw(loss)
        bench.expect(model, scale=scale)
        if unscale:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), LIMIT)
            bench.after_clip(model)
        if step == overflow:
            bench.skipped.add(step)
        scaler.step(optimizer)
        scaler.update()
    bench.done(model)


def _autocast(bench: Bench) -> None:
    model = bench.model()
    optimizer = AdamW(model.parameters(), lr=0.01)
    bench.watch(model)
    for x in bench.batches():
        optimizer.zero_grad()
        with torch.autocast(bench.device.type, torch.bfloat16):
            out = model(x)
        bench.backward(out)
        bench.expect(model)
        optimizer.step()
    bench.done(model)


def _float16(bench: Bench) -> None:
    _loop(bench, dtype=torch.float16, gain=300.0, make=lambda model: SGD(model.parameters(), lr=1e-7))


class _Sparse(nn.Sequential):
    def __init__(self) -> None:
        torch.manual_seed(7)
        super().__init__(nn.Embedding(20, 6, sparse=True), nn.Flatten(), nn.Linear(36, 3))


def _sparse(bench: Bench) -> None:
    model = _Sparse().to(bench.device)
    optimizer = SGD(model.parameters(), lr=0.1)
    bench.watch(model)
    for x in bench.batches():
        optimizer.zero_grad()
        bench.backward(model((x.abs() * 10).long().clamp(max=19)))
        bench.expect(model)
        optimizer.step()
    bench.done(model)


def _compiled(bench: Bench, *, forward: bool, update: bool, whole: bool = False) -> None:
    model = bench.model()
    optimizer = AdamW(model.parameters(), lr=0.01)
    bench.watch(model)
    run: Any = torch.compile(model, backend="aot_eager") if forward else model

    def step() -> None:
        optimizer.step()

    stepping: Any = torch.compile(step, backend="aot_eager") if update else step

    def attempt(x: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = run(x).pow(2).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    attempting: Any = torch.compile(attempt, backend="aot_eager") if whole else attempt
    for x in bench.batches():
        bench.saw(attempting(x))
        bench.expect(model)
        nn.utils.clip_grad_norm_(model.parameters(), LIMIT)
        bench.after_clip(model)
        stepping()
    bench.done(model)


def _gan(bench: Bench) -> None:
    maker, judge = bench.model(6, 8, 4), bench.model(4, 8, 1)
    optimizers = [AdamW(maker.parameters(), lr=0.01), AdamW(judge.parameters(), lr=0.01)]
    bench.watch(optimizers=optimizers, named={"maker": maker, "judge": judge})
    for x in bench.batches():
        optimizers[1].zero_grad()
        bench.backward(judge(maker(x).detach()))
        bench.expect(judge, prefix="judge.")
        optimizers[1].step()
        optimizers[0].zero_grad()
        bench.backward(judge(maker(x)))
        bench.expect(maker, prefix="maker.")
        optimizers[0].step()
    bench.done(maker, judge)


def _shared(bench: Bench) -> None:
    model = bench.model(6, 6, 6)
    tied: Any = model
    tied[2].weight = tied[0].weight
    optimizer = AdamW(model.parameters(), lr=0.01)
    bench.watch(model)
    for x in bench.batches():
        optimizer.zero_grad()
        bench.backward(model(x))
        bench.expect(model)
        optimizer.step()
    bench.done(model)


def _frozen(bench: Bench) -> None:
    """The first layer is frozen until step 3, and one layer is never used."""
    model = bench.model()
    chain = model[:5]
    model.add_module("unused", nn.Linear(2, 2).to(bench.device))
    first: Any = model[0]
    first.requires_grad_(False)
    optimizer = AdamW(model.parameters(), lr=0.01)
    bench.watch(model)
    for step, x in enumerate(bench.batches()):
        if step == 3:
            first.requires_grad_(True)
        optimizer.zero_grad()
        bench.backward(chain(x))
        bench.expect(model)
        optimizer.step()
    bench.done(model)


def _added(bench: Bench) -> None:
    """A layer joins at step 3; the last one is in no optimizer."""
    model = bench.model()
    kept = [p for name, p in model.named_parameters() if not name.startswith("4.")]
    optimizer = AdamW(kept, lr=0.01)
    bench.watch(model, optimizers=[optimizer])
    for step, x in enumerate(bench.batches()):
        if step == 3:
            torch.manual_seed(9)
            model.append(nn.Linear(3, 2).to(bench.device))
            optimizer.add_param_group({"params": model[-1].parameters(), "lr": 0.001})
        model.zero_grad()
        bench.backward(model(x))
        bench.expect(model)
        optimizer.step()
    bench.done(model)


def _lbfgs(bench: Bench) -> None:
    model = bench.model(6, 3)
    optimizer: Any = LBFGS(model.parameters(), max_iter=3)
    bench.watch(model)
    for x in bench.batches():

        def closure(x: Tensor = x) -> Tensor:
            optimizer.zero_grad()
            loss: Tensor = model(x).pow(2).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        bench.saw(optimizer.step(closure))
        bench.expect(model)
    bench.done(model)


def _reloaded(bench: Bench) -> None:
    """Loaded again at step 2, moved to double at step 4, beside a deep copy that trains on its own."""
    model = bench.model()
    optimizer = SGD(model.parameters(), lr=0.1)
    bench.watch(model, optimizers=[optimizer])
    twin = copy.deepcopy(model)
    other = SGD(twin.parameters(), lr=0.1)
    for step, x in enumerate(bench.batches()):
        if step == 2:
            model.load_state_dict({name: value * 2 for name, value in model.state_dict().items()})
        if step == 4:
            model.double()
        for one, turn in ((twin, other), (model, optimizer)):
            turn.zero_grad()
            one(x.double() if one is model and step >= 4 else x).pow(2).mean().backward()
            if one is model:
                bench.expect(model)
            turn.step()
    bench.losses.append(0.0)
    bench.done(model)


def _threads(bench: Bench) -> None:
    """Trained in one thread, while another model trains in a second one."""
    model, foreign = bench.model(), bench.model(6, 4)
    optimizer, other = AdamW(model.parameters(), lr=0.01), SGD(foreign.parameters(), lr=0.1)
    bench.watch(model)

    def elsewhere() -> None:
        for _ in range(20):
            foreign.zero_grad()
            foreign(torch.ones(4, 6, device=bench.device)).sum().backward()
            nn.utils.clip_grad_norm_(foreign.parameters(), 0.1)
            other.step()

    def here() -> None:
        for x in bench.batches():
            optimizer.zero_grad()
            bench.backward(model(x))
            bench.expect(model)
            nn.utils.clip_grad_norm_(model.parameters(), LIMIT)
            bench.after_clip(model)
            optimizer.step()

    with ThreadPoolExecutor(2) as pool:
        for work in [pool.submit(elsewhere), pool.submit(here)]:
            work.result()
    bench.done(model)


def _no_compiler(device: torch.device) -> str:
    dynamo: Any = torch._dynamo
    return "" if dynamo.is_dynamo_supported() else "torch.compile does not run on this Python"


def _rows(rows: Sequence[tuple[str, str, Callable[[Bench], None]]]) -> list[Setting]:
    return [Setting(key=key, title=title, train=train) for key, title, train in rows]


def _compiled_row(key: str, title: str, **what: bool) -> Setting:
    return Setting(
        key=key,
        title=title,
        train=lambda b: _compiled(b, **{"forward": False, "update": False, **what}),
        lacks=_no_compiler,
        compiled=True,
    )


SETTINGS: Final = (
    *_rows(
        (
            ("plain", "plain loop", _loop),
            ("zeroed", "zero_grad(set_to_none=False)", lambda b: _loop(b, set_to_none=False)),
            ("accumulated", "gradient accumulation", _accumulated),
            (
                "clip_norm",
                "clip_grad_norm_",
                lambda b: _loop(b, clip=lambda m: nn.utils.clip_grad_norm_(m.parameters(), LIMIT)),
            ),
            (
                "clip_value",
                "clip_grad_value_",
                lambda b: _loop(b, clip=lambda m: nn.utils.clip_grad_value_(m.parameters(), 1e-3)),
            ),
            ("by_hand", "clipped by hand (seen after it)", lambda b: _loop(b, clip=_by_hand, told=False)),
            (
                "fused",
                "fused AdamW",
                lambda b: _loop(b, make=lambda m: AdamW(m.parameters(), lr=0.01, fused=True)),
            ),
            ("scaled", "GradScaler", _scaled),
            ("scaled_fused", "GradScaler, fused", lambda b: _scaled(b, fused=True)),
            ("unscaled", "GradScaler, unscale_, clip", lambda b: _scaled(b, unscale=True)),
            (
                "unscaled_fused",
                "GradScaler, unscale_, clip, fused",
                lambda b: _scaled(b, unscale=True, fused=True),
            ),
            ("overflow", "GradScaler, overflow step", lambda b: _scaled(b, overflow=3)),
            (
                "overflow_fused",
                "GradScaler, overflow step, fused",
                lambda b: _scaled(b, overflow=3, fused=True),
            ),
            ("amp", "autocast bfloat16, GradScaler", lambda b: _scaled(b, autocast=True, unscale=True)),
            ("autocast", "autocast bfloat16", _autocast),
            ("bf16", "bfloat16 gradients", lambda b: _loop(b, dtype=torch.bfloat16)),
            (
                "fp16",
                "float16 gradients, squares beyond 65,504",
                _float16,
            ),
            ("sparse", "sparse embedding", _sparse),
            ("gan", "two models, two optimizers", _gan),
            ("shared", "shared parameter", _shared),
            ("frozen", "frozen, unused, unfrozen later", _frozen),
            ("added", "added later, in no optimizer", _added),
            ("lbfgs", "LBFGS closure", _lbfgs),
            ("reloaded", "reloaded, moved, deep-copied", _reloaded),
            ("threads", "two threads that train", _threads),
        )
    ),
    Setting(
        key="total_norm",
        title="get_total_norm, clip_grads_with_norm_",
        train=lambda b: _loop(b, clip=_total_norm),
        lacks=lambda device: "" if hasattr(nn.utils, "get_total_norm") else "torch has it from 2.6 on",
    ),
    _compiled_row("compiled", "torch.compile of the model", forward=True),
    _compiled_row("compiled_step", "torch.compile of the step", update=True),
    _compiled_row("compiled_both", "torch.compile of both", forward=True, update=True),
    _compiled_row("compiled_loop", "torch.compile of forward and backward", whole=True),
)
"""One row per setting of a single process."""
