"""How often healthy training is disturbed: ``python -m tests.benchmarks.health.silence``.

Trains herds of small healthy runs (each herd once, kept as an npz file), replays every replica through the Monitor, and
prints what was said, beside other tools' rules on the same steps. Seed 0 is what the rules may be tuned on; any other seed
has other widths, batches, rates, text, initial weights and order of samples.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from gradwatch.health import Incident

from . import baselines
from .herd_recorder import record, runs
from .herds import herds
from .replay import watch

BOUND = {"critical": 1.0, "warning": 20.0}
"""Incidents per million healthy steps."""


def upper(events: int) -> float:
    """95 % upper bound of a Poisson mean when ``events`` were seen (exact for few, else a normal approximation)."""
    few = (3.0, 4.74, 6.3, 7.75, 9.15, 10.51)
    return few[events] if events < len(few) else events + 1.645 * math.sqrt(events) + 1.35


def rate(events: int, steps: int) -> str:
    """Events per million steps and their 95 % upper bound."""
    return f"{1e6 * events / steps:.2f} per million (95 %: <= {1e6 * upper(events) / steps:.2f})"


def told(found: Sequence[Incident]) -> list[Incident]:
    """Incidents that speak for themselves: not those that turned out to be part of another."""
    return [i for i in found if not i.merged_into]


class Count:
    """What was said over all replicas so far."""

    def __init__(self) -> None:
        self.steps = self.runs = self.frames_us = 0
        self.severity: Counter[str] = Counter()
        self.kinds: Counter[tuple[str, str]] = Counter()
        self.loudest = 0
        self.others: Counter[str] = Counter()
        self.seconds = 0.0

    def add(self, name: str, number: int, run: object, profile: str, compare: bool) -> list[str]:
        """Replays one replica; gives a line for each incident above info."""
        start = time.process_time()
        monitor, _ = watch(run, profile=profile)
        self.seconds += time.process_time() - start
        found = told(monitor.incidents)
        self.steps += run.steps
        self.runs += 1
        self.severity.update(i.severity for i in found)
        self.kinds.update((i.kind, i.severity) for i in found)
        loud = [i for i in found if i.severity != "info"]
        self.loudest = max(self.loudest, len(loud))
        if compare:
            for label, rule in baselines.RULES.items():
                self.others[label] += len(baselines.thin(rule(run)))
        return [
            f"  {name}[{number}] {i.severity} {i.kind} opened {i.opened_step}, warned {i.warned_step}: "
            f"{i.evidence[0].text}"
            for i in loud
        ]

    def report(self, workloads: int) -> None:
        print(f"\nSilence: {workloads} workloads, {self.runs} runs, {self.steps:,} healthy steps")
        for severity, bound in BOUND.items():
            print(
                f"  {severity}: {self.severity[severity]}, {rate(self.severity[severity], self.steps)}; bound {bound:g}"
            )
        print(
            f"  info: {self.severity['info']}, {rate(self.severity['info'], self.steps)} (remarks, never sent)"
        )
        print(f"  most warnings in one run: {self.loudest}")
        for (kind, severity), n in sorted(self.kinds.items(), key=lambda item: -item[1]):
            print(f"    {kind} {severity}: {n}")
        for label, n in self.others.items():
            print(f"  {label}: {n} alarms, {rate(n, self.steps)}")
        print(f"  replay: {1e6 * self.seconds / max(self.steps, 1):.0f} us per frame")


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument(
        "--folder",
        type=Path,
        default=Path(os.environ.get("GRADWATCH_ZOO", tempfile.gettempdir())) / "gradwatch-herds",
    )
    ask.add_argument("--seed", type=int, default=1, help="0 is the part that rules were tuned on")
    ask.add_argument("--replicas", type=int, default=12)
    ask.add_argument("--steps", type=int, default=2500, help="steps of a run of scale 1")
    ask.add_argument("--only", nargs="*", default=[], help="names of workloads")
    ask.add_argument("--compare", action="store_true", help="run the other tools' rules too")
    ask.add_argument("--record", action="store_true", help="only record what is not yet there")
    given = ask.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    count, workloads = Count(), 0
    for name, herd in herds(given.seed, given.steps).items():
        if given.only and name not in given.only:
            continue
        path = given.folder / f"{name}-{given.seed}-{given.replicas}x{given.steps}.npz"
        record(herd, path, seed=given.seed, replicas=given.replicas, steps=given.steps)
        workloads += 1
        if given.record:
            continue
        for number, run in enumerate(runs(path)):
            for line in count.add(name, number, run, herd.profile, given.compare):
                print(line, flush=True)
    if not given.record:
        count.report(workloads)


if __name__ == "__main__":
    main()
