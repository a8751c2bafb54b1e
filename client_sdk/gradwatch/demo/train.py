"""One training of the demo, in a process of its own: ``python -m gradwatch.demo.train chars --explode``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

import gradwatch

from .data import CharText, Digits
from .models import CharTransformer, DigitsNet

__all__ = ["TASKS", "main", "train"]

Step = Callable[[], Tensor]
RISE_FROM = 250
RISE = 1.04
"""From step 250 on the exploding runs multiply their learning rate by 1.04 at each step."""


def chars(seed: int) -> tuple[nn.Module, torch.optim.Optimizer, Step, None]:
    """A four-layer Transformer on characters, AdamW at 2e-3."""
    data = CharText(length=48, batch=16, seed=seed)
    model = CharTransformer(data.size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)

    def loss() -> Tensor:
        x, y = data.batch()
        return nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())

    return model, optimizer, loss, None


def digits(seed: int) -> tuple[nn.Module, torch.optim.Optimizer, Step, Step]:
    """A small CNN on scikit-learn's digits, SGD with momentum at 0.02."""
    data = Digits(batch=32, seed=seed)
    model = DigitsNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)

    def loss() -> Tensor:
        x, y = data.batch()
        return nn.functional.cross_entropy(model(x), y)

    def validation() -> Tensor:
        with torch.no_grad():
            x, y = data.validation
            return nn.functional.cross_entropy(model(x), y)

    return model, optimizer, loss, validation


TASKS = {"chars": chars, "digits": digits}


def train(task: str, *, explode: bool, steps: int, rate: float, seed: int = 0) -> None:
    """Trains ``task`` for ``steps`` steps at no more than ``rate`` steps a second, watched."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    model, optimizer, loss_of, validation = TASKS[task](seed)
    kind = "exploding" if explode else "healthy"
    config = {"task": task, "optimizer": type(optimizer).__name__, "seed": seed, "explode": explode}
    with gradwatch.watch(model, project="demo", name=f"{task}-{kind}", config=config) as run:
        for step in range(steps):
            started = time.perf_counter()
            optimizer.zero_grad()
            loss = loss_of()
            loss.backward()  # type: ignore[no-untyped-call]
            if not explode:
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            run.log(loss=loss)
            if validation is not None and step % 50 == 0:
                run.log({"val/loss": validation()})
            if step and step % 500 == 0:
                run.mark("checkpoint", path=f"{task}-{kind}-{step}.pt")
            if explode and step >= RISE_FROM:
                for group in optimizer.param_groups:
                    group["lr"] = min(group["lr"] * RISE, 1e4)
            time.sleep(max(0.0, 1 / rate - (time.perf_counter() - started)))


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of one training."""
    parser = argparse.ArgumentParser(prog="python -m gradwatch.demo.train", description=__doc__)
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("--explode", action="store_true", help="raise the learning rate until it explodes")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=20.0, help="at most this many steps a second")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    try:
        train(args.task, explode=args.explode, steps=args.steps, rate=args.rate, seed=args.seed)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
