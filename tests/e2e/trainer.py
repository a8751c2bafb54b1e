"""A real training script on a tiny model, told what to do by lines on its standard input.

Commands: ``scale X`` multiplies the loss (and so every gradient) from the next step on, ``pause``, ``go``, ``finish``.
After each step it appends to the file named by its argument what it computed itself, as JSON lines:
``{"step", "norm", "norms": {tensor: L2 norm}, "loss"}``.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import torch

import gradwatch

STEP_SECONDS = 0.05


class Told:
    """What standard input asked for last."""

    def __init__(self) -> None:
        self.scale = 1.0
        self.go = threading.Event()
        self.go.set()
        self.finish = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin:
            word, _, rest = line.strip().partition(" ")
            if word == "scale":
                self.scale = float(rest)
            elif word == "pause":
                self.go.clear()
            elif word == "go":
                self.go.set()
            elif word == "finish":
                self.finish = True
                self.go.set()


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    name, path = sys.argv[1], sys.argv[2]
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    told = Told()
    run = gradwatch.watch(model, project="e2e", name=name)
    print(run.id, flush=True)
    step = 0
    with open(path, "a", encoding="utf-8") as out:
        while not told.finish:
            told.go.wait()
            optimizer.zero_grad()
            inputs = torch.randn(32, 8)
            loss = told.scale * torch.nn.functional.mse_loss(model(inputs), inputs[:, :3])
            loss.backward()
            norms = {
                tensor: float(parameter.grad.double().norm())
                for tensor, parameter in model.named_parameters()
                if parameter.grad is not None
            }
            optimizer.step()
            run.log(loss=loss)
            norm = sum(value**2 for value in norms.values()) ** 0.5
            out.write(json.dumps({"step": step, "norm": norm, "norms": norms, "loss": loss.item()}) + "\n")
            out.flush()
            step += 1
            time.sleep(STEP_SECONDS)
    run.finish()


main()
