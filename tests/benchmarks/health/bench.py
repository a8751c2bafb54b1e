"""The benchmark of the health engine: ``python -m tests.benchmarks.health.bench``.

What each figure means stands in ``server/docs/detection.md``.

Records what is not yet recorded, replays it through the Monitor and the other tools' rules, and prints the figures with
their bounds. Runs whose seed is not 0 were never used for tuning.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gradwatch.health import Incident

from . import baselines, remedies, unseen, zoo
from .cases import Case, harm_begins, harmful, record
from .replay import Run, load, watch

WITHIN = {
    "nonfinite": 1,
    "spike": 6,
    "exploding": 6,
    "diverging": 6,
    "disconnected": 60,
    "clip_too_tight": 60,
    "vanishing": 100,
    "dead": 100,
    "oscillating": 100,
    "stalled": 200,
    "saturated": 100,
    "bad_init": 100,
    "accumulating": 100,
    "loss_scale": 20,
}
"""The median delay in steps that each kind may have."""


@dataclass
class Result:
    """One replayed run: what was told above info, and the first that is right."""

    case: Case
    run: Run
    told: list[Incident]
    info: int
    harmful: bool
    seconds: float

    @property
    def first(self) -> Incident | None:
        after = [i for i in self.told if (i.warned_step or 0) >= self.case.onset]
        return after[0] if after else None

    @property
    def right(self) -> Incident | None:
        """The first incident of an accepted kind."""
        return next(
            (i for i in self.told if i.kind in self.case.kinds and i.opened_step >= self.case.onset), None
        )

    @property
    def delay(self) -> float:
        return (
            math.inf
            if self.right is None
            else (self.right.warned_step or 0) - harm_begins(self.case, self.run.loss)
        )


def replay(case: Case, folder: Path) -> Result:
    run = load(record(case, folder))
    start = time.process_time()
    monitor, _ = watch(run)
    seconds = time.process_time() - start
    told = [i for i in monitor.incidents if i.severity != "info" and not i.merged_into]
    info = sum(1 for i in monitor.incidents if i.severity == "info" and not i.merged_into)
    return Result(case, run, told, info, harmful(case, run.loss, folder), seconds)


def cases(seed: int, sets: list[str], steps: int) -> Iterable[Case]:
    if "zoo" in sets:
        yield from zoo.faulty(seed, seed == 0)
        yield from zoo.healthy(seed, seed == 0, steps)
    if "spikes" in sets:
        yield from zoo.spikes(seed, seed == 0)
    if "unseen" in sets:
        yield from unseen.unseen_faulty(seed)
        yield from unseen.unseen_healthy(seed, steps)


def table(title: str, rows: Iterable[tuple[str, ...]]) -> None:
    rows = list(rows)
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    print(f"\n{title}")
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def bound(events: int, steps: int) -> str:
    """Events per 10,000 steps with the 95 % upper bound for few events (3 for none)."""
    upper = {0: 3.0, 1: 4.74, 2: 6.3, 3: 7.75}.get(events, events + 2 * math.sqrt(events))
    return f"{1e4 * events / steps:.2f} (95 %: <= {1e4 * upper / steps:.2f})"


def silence(results: list[Result]) -> None:
    healthy = [r for r in results if r.case.healthy]
    steps = sum(r.run.steps for r in healthy)
    critical = sum(1 for r in healthy for i in r.told if i.severity == "critical")
    warning = sum(1 for r in healthy for i in r.told if i.severity == "warning")
    info = sum(r.info for r in healthy)
    print(f"\nSilence: {len(healthy)} healthy runs, {steps:,} steps")
    print(
        f"  critical {critical}: {bound(critical, steps)}   warning {warning}: {bound(warning, steps)}   info {info}: {bound(info, steps)} per 10,000"
    )
    for r in healthy:
        for i in r.told:
            print(f"  false: {r.case.name} {i.severity} {i.kind} at {i.opened_step}: {i.evidence[-1].text}")


def detection(results: list[Result]) -> None:
    faulty = [r for r in results if not r.case.healthy and r.harmful]
    benign = [r.case.name for r in results if not r.case.healthy and not r.harmful]
    found = [r for r in faulty if r.right is not None]
    delays = defaultdict(list)
    score: dict[str, Counter[str]] = defaultdict(Counter)
    for r in faulty:
        primary = r.case.kinds[0]
        if r.right is not None:
            delays[r.right.kind].append(r.delay)
            score[r.right.kind]["tp"] += 1
        else:
            score[primary]["fn"] += 1
        if r.first is not None and r.first.kind not in r.case.kinds:
            score[r.first.kind]["fp"] += 1
    for r in results:
        if r.case.healthy:
            for i in r.told:
                score[i.kind]["fp"] += 1
    rows = [("kind", "precision", "recall", "F1", "median delay", "bound")]
    f1 = []
    for kind in sorted(score):
        c = score[kind]
        p, q = c["tp"] / max(c["tp"] + c["fp"], 1), c["tp"] / max(c["tp"] + c["fn"], 1)
        f1.append(2 * p * q / (p + q) if p + q else 0.0)
        delay = f"{np.median(delays[kind]):.0f}" if delays[kind] else "-"
        rows.append(
            (
                kind,
                f"{p:.2f}",
                f"{q:.2f}",
                f"{f1[-1]:.2f}",
                delay,
                f"<= {WITHIN[kind]}" if kind in WITHIN else "",
            )
        )
    table(f"Detection: {len(faulty)} harmful faults ({len(benign)} more did no harm)", rows)
    print(
        f"  macro-F1 {np.mean(f1):.2f} (bound 0.90), recall of harmful faults {len(found)}/{len(faulty)} (bound 95 %)"
    )
    beside = [(r, i) for r in faulty for i in r.told if i.kind not in r.case.kinds and not i.caused_by]
    print(
        f"  incidents of another kind that name no other as their cause: {len(beside)} in {len(faulty)} faulty runs"
    )
    for r, i in beside:
        print(f"    {r.case.name}: {i.kind} {i.severity} since {i.first_step}")
    for r in faulty:
        if r.right is None:
            print(f"  missed: {r.case.name}; told: {[(i.kind, i.severity) for i in r.told]}")
        elif r.first is not r.right:
            print(f"  first told as another kind: {r.case.name} as {r.first.kind if r.first else None}")


def delays(results: list[Result]) -> None:
    """Delays by fault, which kinds hide: what a fault is told as depends on what is seen first."""
    families: dict[str, list[Result]] = defaultdict(list)
    for r in results:
        if not r.case.healthy and r.harmful:
            families[r.case.name.removeprefix("unseen/").rpartition("-")[0].partition("/")[0]].append(r)
    rows = [("fault", "found", "told as", "remark", "warning", "range", "from its onset")]
    for name, faults in sorted(families.items()):
        found = [r for r in faults if r.right is not None]
        kinds = Counter(r.right.kind for r in found)
        begins = [harm_begins(r.case, r.run.loss) for r in found]
        remarks = [r.right.opened_step - begin for r, begin in zip(found, begins, strict=True)]
        warnings = [r.delay for r in found]
        late = [(r.right.warned_step or 0) - r.case.onset for r in found]
        told = " ".join(f"{kind} {n}" for kind, n in kinds.most_common())
        numbers = [f"{np.median(d):.0f}" if d else "-" for d in (remarks, warnings, late)]
        spread = f"{min(warnings):.0f}..{max(warnings):.0f}" if found else "-"
        rows.append((name, f"{len(found)}/{len(faults)}", told, *numbers[:2], spread, numbers[2]))
    table(
        "Delay by fault, median steps to the first remark and to the first warning of an accepted kind", rows
    )
    print(
        "  counted from the fault's onset; for learning-rate ramps from where the loss does harm: there the median of the ten"
        "\n  losses that follow exceeds that of the 50 before the ramp 1.5 times and by 5 % of the first loss (so a rule that"
        "\n  sees those ten tells it at 9; below 0: told before). The last column counts from the onset in every case."
    )


def explanation(results: list[Result]) -> None:
    found = [r for r in results if r.right is not None and r.case.causes and r.harmful]
    one = [r for r in found if [c.key for c in r.right.causes[:1]] and r.right.causes[0].key in r.case.causes]
    three = [r for r in found if {c.key for c in r.right.causes} & set(r.case.causes)]
    print(
        f"\nCauses: top-1 {len(one)}/{len(found)} (bound 75 %), top-3 {len(three)}/{len(found)} (bound 90 %)"
    )
    for r in found:
        if r not in one:
            print(
                f"  {r.case.name}: wanted {r.case.causes}, got {[(c.key, c.confidence) for c in r.right.causes]}"
            )
    layered = [r for r in found if r.case.layer]
    near = [r for r in layered if _distance(r) <= 1]
    exact = [r for r in layered if _distance(r) == 0]
    print(
        f"First layer: exact {len(exact)}/{len(layered)}, within one {len(near)}/{len(layered)} (bound 85 %)"
    )
    for r in layered:
        if r not in near:
            print(f"  {r.case.name}: wanted {r.case.layer}, got {r.right.origin.tensor}")
    placed = [r for r in found if r.case.where and r.right.kind == "nonfinite"]
    good = [r for r in placed if r.right.origin.where == r.case.where]
    print(f"Origin of NaN and Inf: {len(good)}/{len(placed)} (bound 95 %)")


def _distance(r: Result) -> float:
    order = list(dict.fromkeys(t.module for t in r.run.tensors))
    wanted = r.case.layer if r.case.layer in order else r.case.layer.rpartition(".")[0]
    got = r.right.origin.module if r.right is not None else ""
    if got not in order or wanted not in order:
        return math.inf
    return abs(order.index(got) - order.index(wanted))


def others(results: list[Result]) -> None:
    healthy = [r for r in results if r.case.healthy]
    steps = sum(r.run.steps for r in healthy)
    faulty = [r for r in results if not r.case.healthy and r.harmful]
    rows = [("rule", "false events per 10,000", "recall in 150 steps", "median delay")]
    rules = {"gradwatch (warning and critical)": None, **baselines.RULES}
    for name, rule in rules.items():
        false, delays = 0, []
        for r in [*healthy, *faulty]:
            steps_of = [i.warned_step or 0 for i in r.told] if rule is None else rule(r.run)
            if r.case.healthy:
                false += len(baselines.thin(steps_of))
                continue
            begins = harm_begins(r.case, r.run.loss)
            later = [s for s in steps_of if r.case.onset <= s <= begins + 150]
            if later:
                delays.append(min(later) - begins)
        delay = f"{np.median(delays):.0f}" if delays else "-"
        rows.append((name, bound(false, steps), f"{len(delays)}/{len(faulty)}", delay))
    table("Beside other rules (any alarm counts as a find for them)", rows)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument(
        "--folder",
        type=Path,
        default=Path(os.environ.get("GRADWATCH_ZOO", tempfile.gettempdir())) / "gradwatch-zoo",
    )
    ask.add_argument(
        "--seeds", type=int, nargs="+", default=[1], help="0 is the part that thresholds were tuned on"
    )
    ask.add_argument(
        "--set",
        nargs="+",
        choices=("zoo", "spikes", "unseen"),
        default=["zoo", "spikes", "unseen"],
        help="unseen: models, data and bugs that no rule was made for",
    )
    ask.add_argument("--steps", type=int, default=3000, help="steps of each healthy run")
    ask.add_argument("--remedies", action="store_true", help="train again with our first remedy")
    given = ask.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    results = []
    for seed in given.seeds:
        for case in cases(seed, given.set, given.steps):
            results.append(replay(case, given.folder))
    silence(results)
    detection(results)
    delays(results)
    explanation(results)
    others(results)
    total = sum(r.run.steps for r in results)
    print(
        f"\nCost: {1e6 * sum(r.seconds for r in results) / total:.0f} us per frame (bound 60 us + 0.15 us per tensor), {total:,} frames"
    )
    if given.remedies:
        remedies.report(results, given.folder)


if __name__ == "__main__":
    main()
