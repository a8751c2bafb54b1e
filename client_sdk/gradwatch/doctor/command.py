"""``gradwatch doctor``: one table of settings with our norm beside the reference, and the way to the server."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import math
import os
import sys
import urllib.request
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from .. import __version__, local
from ..config import Config
from ..console import is_loopback
from ..links import fetch_code
from ..protocol import auth

if TYPE_CHECKING:
    import torch

    from .bench import Outcome

__all__ = ["configure", "run", "server_row"]

STEPS: Final = 30
"""Steps of each setting: enough for the cost to settle."""

ANSWER_S: Final = 3.0
_ENGINES: Final = ("deepspeed", "megatron")
_WIDTHS: Final = (41, 6, 12, 12, 9, 9)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.add_argument("--quick", action="store_true", help="leave out torch.compile and several processes")


def run(arguments: argparse.Namespace) -> int:
    """The table, and the exit status: 1 if a norm is wrong or a configured server does not answer."""
    print(f"gradwatch {__version__}, Python {sys.version.split()[0]}, {_torch_words()}")
    wrong = _numbers(quick=arguments.quick) if _has("torch") else 0
    for words in _engines():
        print(words)
    words, reached = server_row(os.environ)
    print(f"server: {words}")
    if wrong:
        print(f"{wrong} of the settings are not measured rightly here: please report this table")
    return 1 if wrong or not reached else 0


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _torch_words() -> str:
    if not _has("torch"):
        return "without torch: there are no gradients to measure here"
    import torch

    return f"torch {torch.__version__}"


def _engines() -> Iterator[str]:
    """What is said of installed engines whose gradients cannot be seen."""
    if not _has("torch"):
        return
    from ..torch_.engines import ENGINES

    for name in _ENGINES:
        if _has(name):
            yield f"{name}: {ENGINES[name]}"


# --- numbers --------------------------------------------------------------------------------------------------------------


def _numbers(*, quick: bool) -> int:
    """Prints the table; gives how many rows are wrong."""
    import torch

    warnings.simplefilter("ignore")
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    _print_row(("setting", "device", "our norm", "reference", "rel. err.", "us/step", ""))
    devices = [torch.device("cpu")] + ([torch.device("cuda")] if torch.cuda.is_available() else [])
    wrong = sum(_row(title, str(device), found) for title, device, found in _outcomes(devices, quick))
    return wrong


def _outcomes(
    devices: Iterable[torch.device], quick: bool
) -> Iterator[tuple[str, torch.device | str, Outcome | str]]:
    from .bench import examine
    from .ranks import RANKED, examine_ranks
    from .settings import SETTINGS

    for device in devices:
        for setting in SETTINGS:
            if quick and setting.compiled:
                continue
            lacking = setting.lacks(device)
            yield setting.title, device, lacking or examine(setting, device, STEPS)
    if not quick:
        for key, outcome in examine_ranks(STEPS).items():
            yield RANKED[key][0], "cpu", outcome


def _row(title: str, device: str, found: Outcome | str) -> bool:
    """Prints one row; whether it is wrong."""
    if isinstance(found, str):
        _print_row((title, device, "", "", "", "", f"not here: {found}"))
        return False
    numbers = (f"{found.ours:.6g}", f"{found.reference:.6g}", f"{found.error:.0e}", _microseconds(found.us))
    _print_row((title, device, *numbers, found.trouble or "right"))
    return bool(found.trouble)


def _microseconds(us: float) -> str:
    return "" if math.isnan(us) else f"{us:.0f}"


def _print_row(cells: tuple[str, ...]) -> None:
    *fixed, last = cells
    words = [
        cell.ljust(width) if n < 2 else cell.rjust(width)
        for n, (cell, width) in enumerate(zip(fixed, _WIDTHS, strict=True))
    ]
    print("  ".join([*words, last]).rstrip(), flush=True)


# --- server ---------------------------------------------------------------------------------------------------------------


def server_row(environ: Mapping[str, str]) -> tuple[str, bool]:
    """What is known of the server that a run would go to, and whether all is well: no server at all is, one that is named
    and doesn't answer is not."""
    config = Config.build(environ)
    found = None if config.server else local.find(config.directory)
    if not config.server and found is None:
        spool = config.directory / "spool"
        return f"none runs here; runs are recorded to {spool} until one does (gradwatch serve)", True
    address = found.url if found is not None else config.server
    token = found.token if found is not None else config.token
    if not _answers(address):
        return f"{address} does not answer: see whether it runs, and whether a firewall lies between", False
    if not token:
        return f"{address} answers; there is no token for it (GRADWATCH_TOKEN)", True
    if fetch_code(address, auth.key_of(token)):
        return f"{address} answers and knows the token", True
    return f"{address} answers, but does not know the token: ask for another one", False


def _answers(address: str) -> bool:
    handlers = [urllib.request.ProxyHandler({})] if is_loopback(address) else []
    try:
        with urllib.request.build_opener(*handlers).open(f"{address}/healthz", timeout=ANSWER_S) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False
