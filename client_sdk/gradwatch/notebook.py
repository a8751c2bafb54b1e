"""Inside a notebook: one run for each cell, the live page inline, and no secret in what is saved.

IPython is asked only where the script runs in its kernel, and is never imported otherwise.
"""

from __future__ import annotations

import html
import importlib
import json
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

from .console import in_notebook, is_loopback

if TYPE_CHECKING:
    from .run import Run

__all__ = ["CELLS", "Cells", "Page", "as_the_notebook_says", "display_page"]

SIGN_IN_S: Final = 2.0
"""How long the page inside a notebook has to spend the code in its address, before the address is shown without it."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """An open run, the cell that made it, and in which execution of that cell."""

    run: weakref.ref[Run]
    models: tuple[weakref.ref[Any], ...]
    cell: str
    execution: str


class Cells:
    """The open runs of a notebook. Executing a cell again finishes what it started before.

    Args:
        executing: the cell that is being executed, and the name of this execution; ("", "") outside a notebook.
    """

    def __init__(self, executing: Callable[[], tuple[str, str]]) -> None:
        self._executing = executing
        self._kept: list[_Kept] = []

    def finish_earlier(self, models: Sequence[Any]) -> None:
        """Finishes the runs of earlier executions of this cell, and those that watch one of ``models``."""
        cell, execution = self._executing()
        if not cell:
            return
        for kept in self._kept:
            run = kept.run()
            again = kept.cell == cell and kept.execution != execution
            same = any(ref() is model for ref in kept.models for model in models)
            if run is not None and (again or same):
                run.finish()
        self._kept = [kept for kept in self._kept if not _is_over(kept)]

    def keep(self, run: Run, models: Sequence[Any]) -> None:
        """``run`` was started by the cell that is being executed."""
        cell, execution = self._executing()
        if cell:
            refs = tuple(weakref.ref(model) for model in models)
            self._kept.append(_Kept(weakref.ref(run), refs, cell, execution))


def _is_over(kept: _Kept) -> bool:
    run = kept.run()
    return run is None or run.over


def _executing() -> tuple[str, str]:
    """The request that the kernel works on: front ends name the cell, others are told apart by its text."""
    if not in_notebook():
        return "", ""
    shell = sys.modules["IPython"].get_ipython()
    request = shell.get_parent() if hasattr(shell, "get_parent") else {}
    name = request.get("metadata", {}).get("cellId") or request.get("content", {}).get("code", "")
    return str(name), str(request.get("header", {}).get("msg_id", ""))


CELLS: Final = Cells(_executing)
"""The open runs of this kernel, of which there is one in a process."""


class Page:
    """The page of a run, for a notebook to show."""

    def __init__(self, url: str, height: int, label: str) -> None:
        self._url = url
        self._height = height
        self._label = label

    def _repr_html_(self) -> str:
        url, label = html.escape(self._url, quote=True), html.escape(self._label)
        plain = url.partition("#")[0]
        return (
            f'<iframe src="{url}" title="{label}" width="100%" height="{int(self._height)}"'
            f' style="border: 0" allow="clipboard-write"></iframe>'
            f'<p><a href="{plain}" target="_blank" rel="noopener">{label}</a></p>'
        )

    def __repr__(self) -> str:
        return self._url.partition("#")[0]


def display_page(
    url: str, signed: str, height: int, label: str, *, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Shows the page at ``url`` below the cell. ``signed`` is the address with a single-use code, or ``url`` again: with a
    code, the page has a moment to sign in; then the output is replaced, so that no code is saved with the notebook."""
    display = importlib.import_module("IPython.display").display
    handle = display(Page(signed, height, label), display_id=True)
    if signed != url:
        sleep(SIGN_IN_S)
        handle.update(Page(url, height, label))


def as_the_notebook_says(url: str, environ: Mapping[str, str]) -> str:
    """A loopback address by the host name under which the browser has the notebook open.

    A page in a frame gets its cookies only if it is of the same site as the page around it, and to a browser ``localhost``
    and ``127.0.0.1`` are two.
    """
    host = _notebook_host(environ)
    parts = urlsplit(url)
    if not host or not is_loopback(url) or not is_loopback(f"http://{host}"):
        return url
    return urlunsplit(parts._replace(netloc=f"{host}:{parts.port}" if parts.port else host))


def _notebook_host(environ: Mapping[str, str]) -> str:
    """From the file that a Jupyter server describes itself in; "" if there is none."""
    paths, server = sys.modules.get("jupyter_core.paths"), environ.get("JPY_PARENT_PID", "")
    if paths is None or not server.isdecimal():
        return ""
    try:
        described = json.loads((Path(paths.jupyter_runtime_dir()) / f"jpserver-{server}.json").read_text())
        return urlsplit(str(described["url"])).hostname or ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""
