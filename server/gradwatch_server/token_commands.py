"""``gradwatch token create | list | revoke``: named ways in, managed on a running server."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from .owner_api import ask

__all__ = ["ROLES", "configure", "run"]

DAY: Final = 86_400.0
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
    made = ask(environ, "POST", "/tokens", body)
    print(made["secret"])


def _list(_: argparse.Namespace, environ: Mapping[str, str]) -> None:
    for token in ask(environ, "GET", "/tokens")["tokens"]:
        print(f"{token['id']}  {token['role']:8} {token['project']:16} {_state(token):22} {token['name']}")


def _revoke(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    ask(environ, "DELETE", f"/tokens/{quote(arguments.id, safe='')}")
    print(f"revoked {arguments.id}")


def _state(token: Mapping[str, Any]) -> str:
    if token["revoked_at"] is not None:
        return "revoked"
    if token["expires_at"] is None:
        return "works"
    day = time.strftime("%Y-%m-%d", time.gmtime(token["expires_at"]))
    return f"until {day}" if token["expires_at"] > time.time() else "expired"
