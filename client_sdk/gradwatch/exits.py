"""How the process ends, told to the runs that are still open: exit, exception, signal, notebook cell. Everything chains.

One set of hooks serves all open runs of the process; it is installed with the first and taken back with the last.
A hook of somebody else that came later stays: ours is then skipped over, and does nothing once no run is open.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Mapping
from types import FrameType, TracebackType
from typing import Any, Final, NoReturn, Protocol

from .errors import GradwatchStop
from .protocol.messages import EndState

__all__ = ["EXITS", "Exits", "Watched", "describe", "state_of"]

SCHEDULERS: Final = (
    "SLURM_JOB_ID",
    "PBS_JOBID",
    "LSB_JOBID",
    "SGE_TASK_ID",
    "KUBERNETES_SERVICE_HOST",
    "RAY_JOB_ID",
)
"""Where one of these is set, SIGTERM and SIGUSR1 mean that a scheduler takes the machine back."""

_SIGNALS: Final = ("SIGTERM", "SIGHUP", "SIGUSR1")
_MESSAGE_LIMIT: Final = 2_000


class Watched(Protocol):
    """An open run, as the exit hooks see it."""

    def end(self, state: EndState, reason: str = "", error: dict[str, Any] | None = None) -> None:
        """Finishes it; does nothing the second time."""

    def note_end(self, state: EndState, reason: str, *, lasting: bool) -> None:
        """If it ends in the ordinary way from now on, then in this state; unless ``lasting``, only while no step follows."""

    def make_inert(self) -> None:
        """From now on nothing it is told has an effect: this is a forked child."""

    def activity(self) -> int:
        """Grows while training goes on."""


def describe(error: BaseException) -> dict[str, Any]:
    """Type, message and innermost frames of an exception, for the page of the run."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    return {
        "type": type(error).__name__,
        "message": str(error)[:_MESSAGE_LIMIT],
        "frames": [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames],
    }


def state_of(error: BaseException) -> tuple[EndState, str, dict[str, Any] | None]:
    """State, reason and error for a run that ends with ``error`` passing through it."""
    if isinstance(error, KeyboardInterrupt):
        return "killed", "SIGINT", None
    if isinstance(error, GradwatchStop):
        return "finished", str(error)[:200], None
    if isinstance(error, SystemExit):
        if error.code in (None, 0):
            return "finished", "", None
        return "failed", f"exit status {error.code}"[:200], None
    return "failed", "", describe(error)


class Exits:
    """The hooks of this process and the open runs they serve."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._runs: weakref.WeakSet[Watched] = weakref.WeakSet()
        self._undo: list[Callable[[], None]] = []
        self._forks_watched = False
        self._cell_activity: dict[int, int] = {}

    def watch(self, run: Watched) -> None:
        """Serves ``run`` until :meth:`forget`."""
        if not self._runs:
            self._install()
        self._runs.add(run)

    def forget(self, run: Watched) -> None:
        """``run`` has ended."""
        self._runs.discard(run)
        if not self._runs:
            while self._undo:
                self._undo.pop()()

    # --- hooks --------------------------------------------------------------------------------------------------------

    def _install(self) -> None:
        atexit.register(self._at_exit)
        self._undo.append(lambda: atexit.unregister(self._at_exit))
        self._hook_exceptions()
        self._hook_exit()
        self._hook_notebook()
        if threading.current_thread() is threading.main_thread():
            for name in _SIGNALS:
                self._hook_signal(getattr(signal, name, None))
        if not self._forks_watched and hasattr(os, "register_at_fork"):
            self._forks_watched = True
            os.register_at_fork(after_in_child=self._in_child)

    def _at_exit(self) -> None:
        for run in list(self._runs):
            run.end("finished")

    def _hook_exceptions(self) -> None:
        before = sys.excepthook

        def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            before(kind, error, trace)
            for run in list(self._runs):
                run.end(*state_of(error))

        def undo() -> None:
            if sys.excepthook is hook:
                sys.excepthook = before

        sys.excepthook = hook
        self._undo.append(undo)

    def _hook_exit(self) -> None:
        """``sys.exit(3)`` passes no exception hook, and an exit handler cannot see the status: note it on its way."""
        before = sys.exit

        def leave(status: Any = None) -> NoReturn:
            state, reason, _ = state_of(SystemExit(status))
            if threading.current_thread() is threading.main_thread():
                for run in list(self._runs):
                    run.note_end(state, reason, lasting=False)
            before(status)

        def undo() -> None:
            if sys.exit is leave:
                sys.exit = before

        sys.exit = leave
        self._undo.append(undo)

    def _hook_signal(self, number: signal.Signals | None) -> None:
        if number is None:
            return
        before = signal.getsignal(number)
        if before is None or before is signal.SIG_IGN:
            return

        def handler(received: int, frame: FrameType | None) -> None:
            self._signalled(signal.Signals(received).name)
            if callable(before):
                before(received, frame)
                return
            for run in list(self._runs):
                run.end("finished")
            signal.signal(received, signal.SIG_DFL)
            os.kill(os.getpid(), received)

        def undo() -> None:
            if threading.current_thread() is threading.main_thread() and signal.getsignal(number) is handler:
                signal.signal(number, before)

        signal.signal(number, handler)
        self._undo.append(undo)

    def _signalled(self, name: str) -> None:
        scheduler = any(key in self._environ for key in SCHEDULERS)
        state: EndState = "preempted" if scheduler and name in ("SIGTERM", "SIGUSR1") else "killed"
        for run in list(self._runs):
            run.note_end(state, name, lasting=True)

    def _hook_notebook(self) -> None:
        """In IPython an exception ends the cell, not the process: a run that was training in that cell ends with it."""
        module = sys.modules.get("IPython")
        shell = module.get_ipython() if module is not None else None
        if shell is None:
            return

        def before_cell(*_: Any) -> None:
            self._cell_activity = {id(run): run.activity() for run in self._runs}

        def after_cell(result: Any) -> None:
            error = result.error_before_exec or result.error_in_exec
            for run in list(self._runs) if isinstance(error, BaseException) else ():
                if run.activity() != self._cell_activity.get(id(run)):
                    run.end(*state_of(error))

        shell.events.register("pre_run_cell", before_cell)
        shell.events.register("post_run_cell", after_cell)
        self._undo.append(lambda: shell.events.unregister("post_run_cell", after_cell))
        self._undo.append(lambda: shell.events.unregister("pre_run_cell", before_cell))

    def _in_child(self) -> None:
        for run in list(self._runs):
            run.make_inert()
        self._runs.clear()
        while self._undo:
            self._undo.pop()()


EXITS: Final = Exits(os.environ)
"""The hooks of this process. Signals and exit handlers belong to a process, so there is one."""
