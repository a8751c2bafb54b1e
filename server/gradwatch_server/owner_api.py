"""How the command line asks a running server: over its API, with the owner's token."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Final

from gradwatch import local
from gradwatch.config import check_server, state_directory
from gradwatch.errors import GradwatchError

__all__ = ["ask"]

TIMEOUT_S: Final = 10.0


def ask(environ: Mapping[str, str], method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """The server's answer.

    Raises:
        GradwatchError: there is no server, or it says no.
    """
    address, secret = _server(environ)
    request = urllib.request.Request(
        f"{address}/api/v1{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {secret}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        raise GradwatchError(_sentence(error)) from None
    except OSError as error:
        raise GradwatchError(f"the server at {address} doesn't answer ({error})") from None
    return json.loads(text) if text else None


def _sentence(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read(65_536))["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered with status {error.code}"


def _server(environ: Mapping[str, str]) -> tuple[str, str]:
    """Address and secret: those of the environment, or of the local server."""
    if environ.get("GRADWATCH_SERVER"):
        return check_server(environ["GRADWATCH_SERVER"], "GRADWATCH_SERVER"), environ.get(
            "GRADWATCH_TOKEN", ""
        )
    found = local.find(state_directory(environ))
    if found is None:
        raise GradwatchError(
            "no local server runs; start one with gradwatch serve, or set GRADWATCH_SERVER and GRADWATCH_TOKEN"
        )
    return found.url, found.token
