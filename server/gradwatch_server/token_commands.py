"""``gradwatch token create | list | revoke``: named ways in, managed on a running server."""

from __future__ import annotations

import argparse
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from gradwatch import local
from gradwatch.config import check_server, state_directory
from gradwatch.errors import GradwatchError

__all__ = ["ROLES", "configure", "run"]

DAY: Final = 86_400.0
TIMEOUT_S: Final = 10.0
ROLES: Final = ("owner", "member", "trainer")


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of ``gradwatch token``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make a token; it is shown once")
    create.add_argument("name", help="who or what it is for")
    create.add_argument(
        "--role",
        choices=ROLES,
        default="trainer",
        help="owner: everything; member: see and edit, but no tokens; trainer (default): send runs only",
    )
    create.add_argument(
        "--project", default="*", help="for a trainer: projects it may send to, such as 'vision-*'"
    )
    create.add_argument("--days", type=float, help="how long it works (default: until it is revoked)")
    create.set_defaults(action=_create)
    actions.add_parser("list", help="list tokens").set_defaults(action=_list)
    revoke = actions.add_parser("revoke", help="end a token at once")
    revoke.add_argument("id", help="its id, as listed")
    revoke.set_defaults(action=_revoke)


def run(arguments: argparse.Namespace) -> int:
    """The exit status."""
    action: Callable[[argparse.Namespace, Mapping[str, str]], None] = arguments.action
    action(arguments, os.environ)
    return 0


def _create(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    body = {
        "name": arguments.name,
        "role": arguments.role,
        "project": arguments.project,
        "expires_in": None if arguments.days is None else arguments.days * DAY,
    }
    made = _ask(environ, "POST", "/tokens", body)
    print(made["secret"])


def _list(_: argparse.Namespace, environ: Mapping[str, str]) -> None:
    for token in _ask(environ, "GET", "/tokens")["tokens"]:
        print(f"{token['id']}  {token['role']:8} {token['project']:16} {_state(token):22} {token['name']}")


def _revoke(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    _ask(environ, "DELETE", f"/tokens/{quote(arguments.id, safe='')}")
    print(f"revoked {arguments.id}")


def _state(token: Mapping[str, Any]) -> str:
    if token["revoked_at"] is not None:
        return "revoked"
    if token["expires_at"] is None:
        return "works"
    day = time.strftime("%Y-%m-%d", time.gmtime(token["expires_at"]))
    return f"until {day}" if token["expires_at"] > time.time() else "expired"


def _ask(environ: Mapping[str, str], method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
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
