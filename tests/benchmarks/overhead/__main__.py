"""What watching costs in the training thread, as ratios to one ``torch.stack(torch._foreach_norm(grads))``.

``python -m tests.benchmarks.overhead [--steps N] [--models mlp,deep,gpt,gpt768,gpt16k] [--peers]``. All variants are taken in turn within
the same steps of real training, on one torch thread, so that what else the machine does hits them alike. With ``--peers``
wandb, Trackio and TensorBoard are installed into a folder that is thrown away, and record the same norms, offline.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import torch

from . import peers
from .calls import callbacks
from .models import MODELS, SLOW
from .sizes import bytes_per_value, import_seconds
from .steps import Recording, Steps, ours, whole_steps
from .timing import Times, idleness


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the sizes, and a few lines for each model."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.overhead", description=__doc__)
    parser.add_argument("--steps", type=int, default=60, help="steps whose calls are timed, 0 for none")
    parser.add_argument("--blocks", type=int, default=8, help="how many blocks of whole steps, 0 for none")
    parser.add_argument("--block", type=int, default=40, help="whole steps in a block")
    parser.add_argument("--models", default="mlp,deep,gpt,gpt768")
    parser.add_argument("--peers", action="store_true", help="beside wandb, Trackio and TensorBoard")
    parser.add_argument("--only", default="", help="whole steps of these alone, such as gradwatch,wandb.log")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, one thread, {options.steps} steps; medians [quartiles]; {idleness()}")
    one, all_of_it = bytes_per_value()
    print(
        f"{one:.3f} bytes on the wire per tensor and step for one statistic, {all_of_it:.3f} with all of a frame"
    )
    for statement in ("import gradwatch", "import gradwatch; gradwatch.watch"):
        print(f"{1e3 * import_seconds(statement):.0f} ms  {statement}")
    with ExitStack() as stack:
        logs: Mapping[str, peers.Log] = {}
        watches: Mapping[str, Recording] = {}
        if options.peers:
            folder = stack.enter_context(peers.installed())
            logs, watches = peers.logs(folder), peers.watches()
        else:
            os.environ["GRADWATCH_DIR"] = stack.enter_context(tempfile.TemporaryDirectory())
        for name in options.models.split(","):
            steps = options.steps if not name.startswith("gpt") else max(8, options.steps // 6)
            if options.steps:
                in_calls(name, callbacks(MODELS[name], steps, logs), logs)
            recordings = {"gradwatch": ours, **peers.recordings(logs), **watches}
            if options.only:
                chosen = options.only.split(",")
                if unknown := sorted(set(chosen) - set(recordings)):
                    parser.error(f"--only: no {', '.join(unknown)}; there are {', '.join(recordings)}")
                recordings = {one: recordings[one] for one in chosen}
            if options.blocks:
                warm = 1 if name in SLOW else 12
                in_whole_steps(
                    name, whole_steps(MODELS[name], recordings, options.blocks, options.block, warm)
                )


def in_calls(name: str, times: Times, logs: Mapping[str, peers.Log]) -> None:
    """Time in the calls of each, on the training thread."""
    pairs = zip(times.seconds["clip + ours"], times.seconds["clip"], strict=True)
    extra = statistics.median(watched - plain for watched, plain in pairs) / times.median("foreach")
    print(
        f"{name:5} foreach {1e6 * times.median('foreach'):6.0f} us | ours/foreach {times.ratio('ours', 'foreach')} | "
        f"beside clip_grad_norm_ {extra:+.2f}"
    )
    for other in logs:
        print(f"{name:5} ours/{other} {times.ratio('ours', other)}")


def in_whole_steps(name: str, steps: Steps) -> None:
    """What a step costs more with each, background work included."""
    plain = statistics.fmean(steps.plain)
    low, middle, high = statistics.quantiles(steps.plain, n=4)
    print(f"{name:5} plain step {1e6 * middle:8.0f} [{1e6 * low:.0f}..{1e6 * high:.0f}] us")
    for other, recorded in steps.recorded.items():
        of_median = statistics.median(recorded) / middle - 1
        low, extra, high = statistics.quantiles(steps.extra[other], n=4)
        calls, background = (statistics.median(part[other]) for part in (steps.calls, steps.background))
        print(
            f"{name:5} {other:24} {1e6 * extra:+8.0f} [{1e6 * low:+.0f}..{1e6 * high:+.0f}] us, {extra / plain:+.1%} "
            f"(median step {of_median:+.1%}); calls {1e6 * calls:.0f} us, {calls / plain:.2%}; the rest "
            f"{(extra - calls) / plain:+.1%}; processor time: this thread {_microseconds(steps.thread[other])}, "
            f"others {1e6 * background:.0f} us"
        )
    for other in steps.recorded:
        if other != "gradwatch" and "gradwatch" in steps.recorded:
            mine, theirs = steps.thread["gradwatch"], steps.thread[other]
            low, middle, high = statistics.quantiles((a / b for a, b in zip(mine, theirs, strict=True)), n=4)
            print(
                f"{name:5} gradwatch/{other} {middle:.4f} [{low:.4f}..{high:.4f}] of whole steps in processor time of this thread"
            )


def _microseconds(seconds: Sequence[float]) -> str:
    low, middle, high = (1e6 * part for part in statistics.quantiles(seconds, n=4))
    return f"{middle:+.0f} [{low:+.0f}..{high:+.0f}] us"


if __name__ == "__main__":
    main()
