"""What the engine costs per frame on one core: ``python -m tests.benchmarks.health.cost``.

Healthy noise over 10 to 3,000 tensors, in batches as the server feeds them, with the statistics that the SDK samples.
Prints the time per frame and a least-squares fit of its two terms, and the size of the state after short and long runs.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from gradwatch.health import Monitor, Observation, to_bytes
from gradwatch.health.observation import Series
from gradwatch.protocol import Tensor

SIZES = (10, 50, 100, 300, 1000, 3000)
BOUND_FIXED_US, BOUND_PER_TENSOR_US = 60.0, 0.15


def network(width: int) -> list[Tensor]:
    return [
        Tensor(
            name=f"layers.{n // 2}.{'bias' if n % 2 else 'weight'}",
            shape=(64,) if n % 2 else (64, 64),
            numel=64 if n % 2 else 4096,
            depth=n,
            module=f"layers.{n // 2}",
            kind="bias" if n % 2 else "weight",
            fan_in=None if n % 2 else 64,
            init_std=0.0 if n % 2 else 0.17,
            optimizer=0,
        )
        for n in range(width)
    ]


def batches(width: int, frames: int, size: int, seed: int = 0) -> list[Observation]:
    """Noise with a slow drift, a loss that falls, and every tenth step the sampled statistics."""
    rng = np.random.default_rng(seed)
    found = []
    for a in range(0, frames, size):
        steps = np.arange(a, min(a + size, frames), dtype=np.float64)
        n = len(steps)
        norms = np.exp2(rng.normal(0, 0.4, (n, width)) - np.log1p(steps / 500)[:, None]).astype(np.float32)
        total = np.sqrt((norms.astype(np.float64) ** 2).sum(axis=1))[:, None]
        loss = (0.3 + 2 * np.exp(-steps / 300))[:, None] * np.exp2(rng.normal(0, 0.1, (n, 1)))
        at = steps[steps % 10 == 0]
        tensor = {
            "update_ratio": np.exp2(rng.normal(-10, 0.3, (len(at), width))),
            "weight_norm": np.full((len(at), width), 5.0) + rng.normal(0, 1e-3, (len(at), width)),
            "grad_cosine": rng.normal(0, 0.1, (len(at), width)),
            "zero_fraction": np.zeros((len(at), width)),
        }
        run = {
            "loss": loss,
            "lr": np.full((n, 1), 1e-3),
            "global_grad_norm": total,
            "clip_coef": np.minimum(1.0 / total, 1.0),
            "step_time": np.full((n, 1), 0.1),
        }
        series = [Series("grad_norm", "tensor", steps, steps, norms)]
        series += [Series(k, "tensor", at, at, v.astype(np.float32)) for k, v in tensor.items() if len(at)]
        series += [Series(k, "run", steps, steps, v) for k, v in run.items()]
        found.append(Observation(tuple(series)))
    return found


def cost_us(width: int, frames: int, size: int) -> tuple[float, int]:
    """CPU time per frame in microseconds once the run is warm, and the bytes of the packed state."""
    monitor = Monitor(network(width), optimizers=[{"class": "AdamW", "betas": (0.9, 0.999)}])
    everything = batches(width, frames + 400, size)
    warm = 400 // size
    for observation in everything[:warm]:
        monitor.observe(observation)
    start = time.process_time()
    for observation in everything[warm:]:
        monitor.observe(observation)
    took = time.process_time() - start
    return 1e6 * took / frames, len(to_bytes(monitor.state()))


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--frames", type=int, default=3000)
    ask.add_argument("--batch", type=int, default=20, help="frames per observation")
    given = ask.parse_args()
    found = []
    for width in SIZES:
        best = min(cost_us(width, given.frames, given.batch)[0] for _ in range(3))
        found.append(best)
        bound = BOUND_FIXED_US + BOUND_PER_TENSOR_US * width
        print(f"{width:5d} tensors: {best:7.1f} us per frame (bound {bound:.0f})", flush=True)
    # Relative errors count: every size says as much about the fit as any other.
    matrix = np.stack([np.ones(len(SIZES)), np.array(SIZES, dtype=float)], 1) / np.array(found)[:, None]
    (fixed, per_tensor), *_ = np.linalg.lstsq(matrix, np.ones(len(SIZES)), rcond=None)
    print(
        f"fit: {fixed:.1f} us + {per_tensor:.3f} us per tensor "
        f"(bound {BOUND_FIXED_US:.0f} us + {BOUND_PER_TENSOR_US} us per tensor)"
    )
    short, long = cost_us(100, 2000, given.batch)[1], cost_us(100, 20_000, given.batch)[1]
    print(f"state of 100 tensors: {short:,} bytes after 2,400 steps, {long:,} after 20,400")


if __name__ == "__main__":
    main()
