"""Where findings become incidents: opened, joined, made graver, closed. One fault is one incident."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Final

from .cause_table import CAUSES
from .causes import explain
from .facts import gather
from .incidents import Evidence, Finding, Incident, incident_id, worse
from .kinship import ABSORBED_BY, CAUSED_BY, REMARKS_OF, SIGN_OF, TAKES_OVER
from .layout import Layout
from .locate import rise_origin, shares
from .memory import Memory
from .sentences import verdict
from .table import KINDS

__all__ = ["Case", "Desk"]

_REFINE: Final = 8
_KEPT: Final = 400
"""Closed incidents kept; older info ones go first."""

_BLOW: Final = frozenset(("spike", "exploding", "diverging", "oscillating", "accumulating"))
_STALE: Final = 20


@dataclass(slots=True)
class Case:
    """An incident with what only the desk needs."""

    incident: Incident
    last_seen: int
    tensors: tuple[int, ...] = ()
    refine_at: int = -1
    """The step at which to look again who followed, -1 when that is done or there is no rise to follow."""


@dataclass(slots=True)
class Desk:
    """All incidents of a run. ``changed`` collects snapshots until they are taken."""

    run: str = ""
    cases: dict[str, Case] = field(default_factory=dict)
    """Open ones, by id."""
    closed: dict[str, Incident] = field(default_factory=dict)
    changed: list[Incident] = field(default_factory=list)
    opened: int = 0

    def report(self, finding: Finding, memory: Memory, layout: Layout) -> None:
        """Takes a finding: a new incident, or more about an open one."""
        self._retire(finding, memory)
        case = self._same(finding)
        if case is not None:
            self._again(case, finding, memory, layout, own=True)
            return
        host = self._host(finding)
        if host is not None:
            self._again(host, finding, memory, layout, own=False)
            return
        self._open(finding, memory, layout)

    def age(self, memory: Memory, layout: Layout) -> None:
        """Closes what has been quiet for long enough: the kind's time, or as long as it lasted, up to 500 steps.

        A rise is looked at again 8 steps after it was told: who followed, and does it last?
        """
        for key in list(self.cases):
            case = self.cases[key]
            if 0 <= case.refine_at <= memory.step:
                self._refine(case, memory, layout)
            lasted = case.last_seen - case.incident.first_step
            quiet = max(KINDS[case.incident.kind].quiet, min(lasted, 500))
            if case.incident.kind == "spike":
                quiet = KINDS["spike"].quiet
            if memory.step - case.last_seen > quiet:
                self._close(case, memory.step, memory.time)

    def take(self) -> list[Incident]:
        """The snapshots since the last call; the newest of each incident only."""
        newest = {incident.id: incident for incident in self.changed}
        self.changed = []
        return list(newest.values())

    def close_kind(self, kind: str, memory: Memory) -> None:
        """Closes open incidents of a kind at once (a step came: the run has not stopped)."""
        for case in [c for c in self.cases.values() if c.incident.kind == kind]:
            self._close(case, memory.step, memory.time)

    def all(self) -> list[Incident]:
        """Every incident that is kept, by first step."""
        everything = [*self.closed.values(), *(c.incident for c in self.cases.values())]
        return sorted(everything, key=lambda i: (i.opened_step, i.first_step, i.id))

    def worst(self) -> Incident | None:
        """The gravest open incident above info; of equals the oldest."""
        found = [c.incident for c in self.cases.values() if c.incident.severity != "info"]
        found.sort(key=lambda i: (i.severity != "critical", i.opened_step, i.id))
        return found[0] if found else None

    # --- opening ----------------------------------------------------------------------------------------------------

    def _retire(self, finding: Finding, memory: Memory) -> None:
        """A remark on the gradients that had not been seen for a while is not how something grave began: it closes."""
        if finding.severity == "info" or finding.kind not in _BLOW:
            return
        for case in list(self.cases.values()):
            old = case.incident
            if old.severity == "info" and old.kind in _BLOW and case.last_seen < finding.step - _STALE:
                self._close(case, memory.step, memory.time)

    def _same(self, finding: Finding) -> Case | None:
        for case in self.cases.values():
            if case.incident.kind == finding.kind and case.incident.group == finding.group:
                return case
        return None

    def _host(self, finding: Finding) -> Case | None:
        hosts = ABSORBED_BY.get(finding.kind, ())
        hosts = (*hosts, *SIGN_OF.get(finding.detector, ()))
        if finding.group == "depth":
            hosts = (*hosts, "exploding", "vanishing")
        found = [c for c in self.cases.values() if c.incident.kind in hosts]
        # An info incident does not swallow something graver of another nature.
        found = [
            c
            for c in found
            if c.incident.severity != "info" or finding.severity == "info" or _kin(c, finding)
        ]
        found.sort(
            key=lambda c: (
                c.incident.severity == "info",
                hosts.index(c.incident.kind),
                c.incident.opened_step,
            )
        )
        return found[0] if found else None

    def _open(self, finding: Finding, memory: Memory, layout: Layout) -> None:
        identity = incident_id(self.run, finding.kind, finding.group, finding.step)
        if identity in self.closed:
            reopened = dataclasses.replace(self.closed.pop(identity), closed_step=None, closed_time=None)
            self.cases[identity] = Case(reopened, memory.step)
            self._again(self.cases[identity], finding, memory, layout, own=True, force=True)
            return
        origin = finding.origin or rise_origin(memory, layout, finding.step)
        first = max(min(finding.step, origin.step) if origin.where == "tensor" else finding.step, 0)
        earlier = self._earlier(finding)
        incident = Incident(
            id=identity,
            kind=finding.kind,
            severity=finding.severity,
            sentence=verdict(finding.kind, first, origin),
            opened_step=memory.step,
            opened_time=memory.time,
            warned_step=None if finding.severity == "info" else memory.step,
            first_step=first,
            group=finding.group,
            origin=origin,
            shares=shares(memory, layout),
            detectors=(finding.detector,),
            evidence=finding.evidence,
            caused_by=self._cause_of(finding, earlier),
            help=KINDS[finding.kind].help,
        )
        refine_at = memory.step + _REFINE if finding.origin is None else -1
        case = self.cases[identity] = Case(incident, memory.step, finding.tensors, refine_at)
        self.opened += 1
        taken = self._take_over(finding, incident)
        # What has become part of this one can't explain it: nobody would be told of either.
        gone = any(i.id == incident.caused_by and i.merged_into == identity for i in self.all())
        case.incident = dataclasses.replace(
            incident,
            evidence=(*incident.evidence, *taken)[:8],
            caused_by="" if gone else incident.caused_by,
        )
        self._explain(case, finding, memory, layout)
        self.changed.append(case.incident)

    def _take_over(self, finding: Finding, incident: Incident) -> tuple[Evidence, ...]:
        found: list[Evidence] = []
        kinds = TAKES_OVER.get(finding.kind, ())
        for key in list(self.cases):
            other = self.cases[key].incident
            near = other.kind != "spike" or incident.first_step - other.first_step <= 40
            remark = other.severity == "info" and other.kind in REMARKS_OF.get(finding.detector, ())
            if (other.kind in kinds or remark) and other.id != incident.id and near:
                del self.cases[key]
                found += other.evidence
                merged = dataclasses.replace(
                    other,
                    closed_step=incident.opened_step,
                    closed_time=incident.opened_time,
                    merged_into=incident.id,
                )
                self._keep(merged)
                self.changed.append(merged)
        return tuple(found)

    def _earlier(self, finding: Finding) -> list[Incident]:
        near = [i for i in self.all() if i.kind != finding.kind and -300 <= i.first_step - finding.step <= 20]
        return [i for i in near if i.open or i.closed_step is None or finding.step - i.closed_step <= 300]

    def _cause_of(self, finding: Finding, earlier: list[Incident]) -> str:
        wanted = CAUSED_BY.get(finding.kind, ())
        found = [
            i
            for i in earlier
            if i.kind in wanted
            and not i.merged_into
            and i.first_step <= finding.step
            # A remark that was over before is no cause.
            and (i.open or i.severity != "info" or i.kind == "spike")
        ]
        found.sort(key=lambda i: (i.severity == "info", wanted.index(i.kind), -i.first_step))
        return found[0].id if found else ""

    # --- more about an open one -----------------------------------------------------------------------------------------

    def _again(
        self, case: Case, finding: Finding, memory: Memory, layout: Layout, *, own: bool, force: bool = False
    ) -> None:
        case.last_seen = memory.step
        old = case.incident
        severity = worse(old.severity, finding.severity)
        new_detector = finding.detector not in old.detectors
        origin = old.origin
        revised = (
            finding.kind == "nonfinite"
            and old.kind == "nonfinite"
            and finding.origin is not None
            and finding.origin.step == old.origin.step
            and finding.origin != old.origin
            and finding.detector == "nonfinite_loss"
        )
        if revised and finding.origin is not None:
            origin = finding.origin
        if severity == old.severity and not new_detector and not revised and not force:
            return
        evidence = old.evidence
        if new_detector or not own:
            evidence = (*old.evidence, *finding.evidence)[:8]
        warned = memory.step if old.warned_step is None and severity != "info" else old.warned_step
        case.incident = dataclasses.replace(
            old,
            severity=severity,
            warned_step=warned,
            detectors=(*old.detectors, finding.detector) if new_detector else old.detectors,
            evidence=evidence,
            origin=origin,
            sentence=verdict(old.kind, old.first_step, origin),
        )
        subject = dataclasses.replace(
            finding,
            kind=old.kind,
            step=old.first_step,
            group=old.group,
            tensors=(finding.tensors if own else ()) or case.tensors,
        )
        if severity != old.severity or revised or new_detector:
            self._explain(case, subject, memory, layout)
        self.changed.append(case.incident)

    def _refine(self, case: Case, memory: Memory, layout: Layout) -> None:
        case.refine_at = -1
        old = case.incident
        if old.origin.where != "weights":
            origin = rise_origin(memory, layout, old.first_step)
            case.incident = dataclasses.replace(
                old, origin=origin, sentence=verdict(old.kind, old.first_step, origin)
            )
        finding = Finding(
            detector=old.detectors[0],
            kind=old.kind,
            severity=old.severity,
            step=old.first_step,
            group=old.group,
            tensors=case.tensors,
        )
        self._explain(case, finding, memory, layout)
        if case.incident != old:
            self.changed.append(case.incident)

    def _explain(self, case: Case, finding: Finding, memory: Memory, layout: Layout) -> None:
        incident = case.incident
        known = [i for i in self._earlier(finding) if i.severity != "info" or i.open or i.kind == "spike"]
        earlier = frozenset(i.kind for i in known)
        calm = min([finding.step, *(i.first_step for i in known if i.kind in _BLOW)])
        facts = gather(
            memory,
            layout,
            finding,
            detectors=incident.detectors,
            origin=incident.origin,
            shares=incident.shares,
            earlier=earlier,
            calm=calm,
        )
        causes, unsure = explain(facts, CAUSES)
        case.incident = dataclasses.replace(incident, causes=causes, unsure=unsure)

    # --- closing ----------------------------------------------------------------------------------------------------------

    def _close(self, case: Case, step: int, time: float) -> None:
        del self.cases[case.incident.id]
        closed = dataclasses.replace(case.incident, closed_step=step, closed_time=time)
        self._keep(closed)
        self.changed.append(closed)

    def _keep(self, incident: Incident) -> None:
        self.closed[incident.id] = incident
        if len(self.closed) > _KEPT:
            oldest = min(self.closed.values(), key=lambda i: (i.severity != "info", i.opened_step, i.id))
            del self.closed[oldest.id]


def _kin(case: Case, finding: Finding) -> bool:
    """Whether both are signs of one blow-up, so that the finding makes the open incident graver."""
    learning = {"vanishing", "bad_init", "stalled", "saturated", "dead", "clip_too_tight"}
    kinds = {case.incident.kind, finding.kind}
    if finding.detector == "never_moves" and case.incident.kind == "vanishing":
        return True
    return (
        kinds <= _BLOW or kinds <= learning or (finding.group == "depth" and case.incident.kind == "bad_init")
    )
