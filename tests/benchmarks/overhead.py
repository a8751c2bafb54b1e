"""What watching costs in the training thread, as ratios to one ``torch.stack(torch._foreach_norm(grads))``.

Run as a script: ``python tests/benchmarks/overhead.py [--steps N] [--models mlp,deep,gpt]``. All variants are taken in
turn within the same steps of real training, on one torch thread, so that what else the machine does hits them alike.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from gradwatch.frames import PendingFrame
from gradwatch.shield import Shield
from gradwatch.torch_.capture import Capture


class Deep(nn.Module):
    """200 blocks of four small tensors each."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            [nn.Sequential(nn.LayerNorm(128), nn.Linear(128, 128)) for _ in range(200)]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + 0.1 * torch.tanh(block(x))
        return x


class Gpt(nn.Module):
    """A small Transformer of 10 million parameters on token ids."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(500, 384)
        layer = nn.TransformerEncoderLayer(384, 6, 1536, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
        self.head = nn.Linear(384, 500)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.layers(self.embed(ids)))
        return out


def mlp() -> tuple[nn.Module, torch.Tensor]:
    """40 tensors."""
    layers: list[nn.Module] = []
    for _ in range(20):
        layers += [nn.Linear(256, 256), nn.ReLU()]
    return nn.Sequential(*layers), torch.randn(64, 256)


def deep() -> tuple[nn.Module, torch.Tensor]:
    """800 tensors."""
    return Deep(), torch.randn(32, 128)


def gpt() -> tuple[nn.Module, torch.Tensor]:
    """76 tensors, 11 million parameters."""
    return Gpt(), torch.randint(0, 500, (4, 64))


MODELS: dict[str, Callable[[], tuple[nn.Module, torch.Tensor]]] = {"mlp": mlp, "deep": deep, "gpt": gpt}


class Still(torch.optim.Optimizer):
    """Steps without doing anything: its hooks are called by hand, as torch would, and timed."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(list(parameters), {"lr": 0.1})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Nothing."""


@dataclass
class Times:
    """Seconds by variant, by a clock that may be the CPU time of this thread: other work on the machine does not count."""

    clock: Callable[[], float] = time.perf_counter
    seconds: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def of(self, variant: str) -> Iterator[None]:
        begun = self.clock()
        yield
        self.seconds.setdefault(variant, []).append(self.clock() - begun)

    def median(self, variant: str) -> float:
        return statistics.median(self.seconds[variant])

    def ratio(self, variant: str, to: str) -> str:
        """Median of the paired ratios, with quartiles."""
        pairs = [a / b for a, b in zip(self.seconds[variant], self.seconds[to], strict=True)]
        low, middle, high = statistics.quantiles(pairs, n=4)
        return f"{middle:5.2f} [{low:.2f}..{high:.2f}]"


def _refuse(trouble: str) -> None:
    raise SystemExit(trouble)


@contextmanager
def watching(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[list[PendingFrame]]:
    """A capture that throws its frames away once they are resolved elsewhere."""
    frames: list[PendingFrame] = []

    def keep(frame: PendingFrame) -> None:
        frames[:] = [frame]

    capture = Capture(
        [model],
        optimizers=[optimizer],
        shield=Shield(_refuse),
        on_frame=keep,
        on_schema=lambda tensors, statistics: None,
    )
    capture.attach()
    try:
        yield frames
    finally:
        capture.detach()


def callbacks(make: Callable[[], tuple[nn.Module, torch.Tensor]], steps: int) -> Times:
    """Time in our calls beside the reference, with and without clipping, on the gradients of real backwards."""
    model, x = make()
    parameters = list(model.parameters())
    optimizer = Still(parameters)
    plain_clip = nn.utils.clip_grad_norm_
    times = Times(time.thread_time)

    def backward() -> None:
        optimizer.zero_grad()
        model(x).float().pow(2).mean().backward()

    def reference() -> None:
        with times.of("foreach"):
            torch.stack(torch._foreach_norm([p.grad for p in parameters if p.grad is not None]))

    def watched() -> None:
        before, after = (
            list(_global_optimizer_pre_hooks.values()),
            list(_global_optimizer_post_hooks.values()),
        )
        with times.of("ours"):
            for hook in (*before, *after):
                hook(optimizer, (optimizer,), {})

    with watching(model, optimizer):
        for step in range(steps):
            for part in (reference, watched) if step % 2 else (watched, reference):
                backward()
                part()
            for clip, name in ((plain_clip, "clip"), (nn.utils.clip_grad_norm_, "clip + ours"))[
                :: 1 if step % 2 else -1
            ]:
                backward()
                with times.of(name):
                    clip(parameters, 1e9)
                if name != "clip":
                    watched()
                    times.seconds["clip + ours"][-1] += times.seconds["ours"].pop()
    return times


def whole_steps(make: Callable[[], tuple[nn.Module, torch.Tensor]], steps: int) -> Times:
    """Time of whole training steps, watched and not, block by block."""
    times = Times()
    model, x = make()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step(variant: str) -> None:
        with times.of(variant):
            optimizer.zero_grad()
            model(x).float().pow(2).mean().backward()
            optimizer.step()

    block = 5
    for _ in range(2):
        step("warm-up")
    for _ in range(max(1, steps // block)):
        for _ in range(block):
            step("plain")
        with watching(model, optimizer):
            step("first")
            for _ in range(block):
                step("watched")
    return times


def main() -> None:
    """Prints one line per model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--whole", type=int, default=0, help="steps for the whole-step comparison")
    parser.add_argument("--models", default="mlp,deep,gpt")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, one thread, {options.steps} steps; medians [quartiles]")
    for name in options.models.split(","):
        steps = options.steps if name != "gpt" else max(8, options.steps // 6)
        times = callbacks(MODELS[name], steps)
        extra = (times.median("clip + ours") - times.median("clip")) / times.median("foreach")
        whole = whole_steps(MODELS[name], options.whole or steps)
        share = times.median("ours") / whole.median("plain")
        print(
            f"{name:5} foreach {1e6 * times.median('foreach'):6.0f} us | ours/foreach {times.ratio('ours', 'foreach')} | "
            f"beside clip_grad_norm_ +{extra:.2f} | share of step {100 * share:.2f} % | "
            f"whole step {whole.ratio('watched', 'plain')}"
        )


if __name__ == "__main__":
    main()
