"""Where a run can be seen, and what is printed about it."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from . import local
from .config import Config, websocket_url
from .console import Console, in_notebook, is_loopback, proxied, tunnel_hint
from .notebook import as_the_notebook_says
from .protocol import Welcome, auth
from .transport import Target

__all__ = ["LocalLinks", "NoLinks", "RunLinks", "code_request", "fetch_code"]

HTTP_TIMEOUT_S: Final = 2.0


class RunLinks:
    """Server, page and spool of one run, as far as they are known at the moment.

    Args:
        environ: for proxies and SSH.
        spool: folder of spools, for the command that delivers what is left.
    """

    def __init__(self, run_id: str, config: Config, environ: Mapping[str, str], spool: Path) -> None:
        self._run_id = run_id
        self._config = config
        self._environ = environ
        self._spool = spool
        self._server = config.server
        self._public = config.public_url
        self._key = auth.key_of(config.token) if config.token else ""
        self._linked = False
        self._signed = False

    def locate(self) -> Target | None:
        """Where to connect to now: the configured server, or the local one that runs."""
        if self._config.server:
            return Target(websocket_url(self._config.server), self._key)
        server = local.find(self._config.directory)
        if server is None:
            return None
        self.use(server)
        return Target(websocket_url(server.url), self._key)

    def use(self, server: local.LocalServer) -> None:
        """This local server shows the run."""
        self._server = server.url
        self._key = auth.key_of(server.token)
        self._public = self._config.public_url or server.public_url

    def opened(self, welcome: Welcome) -> None:
        """A server that knows its public address says so."""
        base, found, _ = welcome.run_url.partition("/runs/")
        if found and not self._public and not is_loopback(base):
            self._public = base

    def late_link(self) -> str:
        """What to say when a server was found after all; "" if the link is known already. To be called once connected."""
        if self._linked or not self.url:
            return ""
        self._linked = True
        return f"a server has been found: {self.url} (open it with: gradwatch open {self._run_id})"

    @property
    def base(self) -> str:
        """Address of the server as a browser reaches it, "" while none is known."""
        if self._public or not self._server:
            return self._public
        return as_the_notebook_says(proxied(self._server, self._environ), self._environ)

    @property
    def url(self) -> str:
        """Address of the run's page, "" while no server is known. Holds no secret."""
        return f"{self.base}/runs/{self._run_id}" if self.base else ""

    def signed_url(self) -> str:
        """The address with a single-use code the first time, if the server gives one; then without."""
        code = fetch_code(self._server, self._key) if self._key and self._server and not self._signed else ""
        self._signed = self._signed or bool(code)
        return f"{self.url}#code={code}" if code else self.url

    def prologue(self, console: Console, *, starting: bool = False) -> None:
        """Prints the link, or the command that will show the run. ``starting``: a local server is on its way."""
        if self._server:
            self._linked = True
            self._print_link(console)
        elif starting:
            console.show("a local server is starting; the link follows when it is there")
        else:
            console.show(
                f"recording to {self._spool}. To see it: gradwatch serve, and then gradwatch sync {self._spool}"
            )

    def _print_link(self, console: Console) -> None:
        if in_notebook():
            # What is printed here is saved with the notebook, and the code would be too.
            console.show(
                f"{self.url} (see it here with run.show(), or open it with: gradwatch open {self._run_id})"
            )
            return
        code = fetch_code(self._server, self._key) if console.interactive and self._key else ""
        console.show(f"{self.url}#code={code}" if code else self.url)
        if not code and self._key and is_loopback(self._server):
            console.show(f"open it with: gradwatch open {self._run_id}")
        if not self._public and (hint := tunnel_hint(self._server, self._environ)):
            console.show(hint)

    def epilogue(self, delivered: bool) -> str:
        """What to say when the run is over; nothing where the disk took nothing, which was said before."""
        if delivered or not self._spool.is_dir():
            return ""
        tried = self._server and self._config.mode != "offline"
        state = (
            "not all of it has reached a server; what is left is"
            if tried
            else "no server has this run yet; it is"
        )
        return f"{state} in {self._spool}. Deliver it with: gradwatch sync {self._spool}"


class LocalLinks:
    """A run without a server: no page, and at the end one sentence on how it did."""

    url = ""

    def __init__(self, verdict: Callable[[], str]) -> None:
        self._verdict = verdict

    def signed_url(self) -> str:
        """There is none."""
        return ""

    def epilogue(self, delivered: bool) -> str:
        """What to say when the run is over."""
        return self._verdict()


def code_request(server: str, key: str, now: float, nonce: str) -> urllib.request.Request:
    """The request for a single-use code: signed with the shared key, which itself is not sent."""
    stamp = str(int(now))
    signature = hmac.new(bytes.fromhex(key), f"code|{stamp}|{nonce}".encode(), hashlib.sha256).hexdigest()
    return urllib.request.Request(
        f"{server}/api/v1/codes",
        data=b"",
        method="POST",
        headers={"Authorization": f"Gradwatch {auth.key_id(key)}.{stamp}.{nonce}.{signature}"},
    )


def fetch_code(server: str, key: str) -> str:
    """A single-use code for a browser, valid for ten minutes; "" if the server gives none within two seconds."""
    handlers = [urllib.request.ProxyHandler({})] if is_loopback(server) else []
    opener = urllib.request.build_opener(*handlers)
    try:
        with opener.open(
            code_request(server, key, time.time(), secrets.token_hex(8)), timeout=HTTP_TIMEOUT_S
        ) as answer:
            code = json.loads(answer.read(4096)).get("code", "")
    except (OSError, ValueError, AttributeError):
        return ""
    return code if isinstance(code, str) and code.isascii() and len(code) <= 200 else ""


class NoLinks:
    """Of a run that can be seen nowhere."""

    url = ""

    def signed_url(self) -> str:
        """None."""
        return ""

    def epilogue(self, delivered: bool) -> str:
        """Nothing."""
        return ""
