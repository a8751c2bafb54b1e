"""What the person sees in the terminal or notebook: the link at the start, trouble once, a command at the end."""

from __future__ import annotations

import getpass
import os
import socket
import sys
from collections.abc import Mapping
from typing import TextIO
from urllib.parse import urlsplit

__all__ = ["Console", "Silence", "in_notebook", "is_interactive", "is_loopback", "proxied", "tunnel_hint"]


def in_notebook() -> bool:
    """Whether this is an IPython kernel, such as a Jupyter notebook's."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return shell is not None and hasattr(shell, "kernel")


def is_interactive() -> bool:
    """Whether a person starts this: from a notebook or at a terminal."""
    return in_notebook() or (sys.stdin is not None and sys.stdin.isatty())


def is_loopback(url: str) -> bool:
    """Whether only this computer reaches ``url``."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


class Console:
    """Prints; every line begins with ``gradwatch:``. Links go to stdout where a person reads it, all else to stderr."""

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out = out
        self._err = err

    @property
    def interactive(self) -> bool:
        """Whether a person sees stdout as it is written: a terminal or a notebook, not a log file."""
        out = self._out or sys.stdout
        return in_notebook() or (out is not None and out.isatty())

    def tell(self, text: str) -> None:
        """A sentence about the run."""
        self._print(text, self._err or sys.stderr)

    def show(self, text: str) -> None:
        """Something to act on, such as the link."""
        self._print(text, (self._out or sys.stdout) if self.interactive else (self._err or sys.stderr))

    @staticmethod
    def _print(text: str, stream: TextIO | None) -> None:
        if stream is not None:
            stream.write(f"gradwatch: {text}\n")
            stream.flush()


class Silence(Console):
    """Prints nothing: of several processes that train together only one speaks."""

    interactive = False

    def tell(self, text: str) -> None:
        """Nothing."""

    def show(self, text: str) -> None:
        """Nothing."""


def proxied(url: str, environ: Mapping[str, str]) -> str:
    """``url`` as a browser reaches it from outside: through JupyterHub's or VS Code's proxy where one is declared."""
    port = urlsplit(url).port
    if not is_loopback(url) or port is None:
        return url
    if template := environ.get("VSCODE_PROXY_URI", ""):
        return template.replace("{{port}}", str(port)).rstrip("/")
    if prefix := environ.get("JUPYTERHUB_SERVICE_PREFIX", ""):
        base = environ.get("JUPYTERHUB_PUBLIC_URL") or environ.get("JUPYTERHUB_HOST", "") + prefix
        return f"{base.rstrip('/')}/proxy/{port}"
    return url


def tunnel_hint(url: str, environ: Mapping[str, str]) -> str:
    """The command that makes ``url`` reachable from the computer one has logged in from; "" if not under SSH."""
    port = urlsplit(url).port
    if not environ.get("SSH_CONNECTION") or not is_loopback(url) or port is None:
        return ""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = os.environ.get("USER", "you")
    return f"to reach it from your computer: ssh -N -L {port}:127.0.0.1:{port} {user}@{socket.gethostname()}"
