"""Without PyTorch: tell the run each step's norms yourself. Here plain numpy fits a line."""

from __future__ import annotations

import numpy as np

import gradwatch


def main(steps: int = 300) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(256, 4))
    y = x @ np.array([1.0, -2.0, 0.5, 3.0]) + 0.7
    weight, bias = np.zeros(4), 0.0

    with gradwatch.watch(project="examples", name="numpy") as run:
        for step in range(steps):
            error = x @ weight + bias - y
            grad_weight, grad_bias = 2 * x.T @ error / len(y), 2 * error.mean()
            weight, bias = weight - 0.05 * grad_weight, bias - 0.05 * grad_bias
            norms = {"linear.weight": np.linalg.norm(grad_weight), "linear.bias": abs(grad_bias)}
            run.record(step, norms, loss=np.mean(error**2))


if __name__ == "__main__":
    main()
