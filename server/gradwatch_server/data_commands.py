"""``gradwatch export``, ``import``, ``backup`` and ``doctor``: on the database itself, beside a running server or without one."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, TextIO

from gradwatch import __version__
from gradwatch.cli import Command
from gradwatch.errors import ConfigError
from gradwatch.event_logs import import_logs

from .config import Config
from .store import Store
from .store.archive import export_runs, import_runs
from .store.maintenance import backup, check
from .store.retention_sql import thinned_runs
from .store.schema import open_reader
from .store.table_export import FORMATS, export_tables

__all__ = ["COMMANDS"]

ARCHIVE: Final = "gwx"
"""The form that ``import`` takes, and the ending of its files."""


class Meter:
    """On a terminal a line with a bar, or with a count where nobody knows how much there is; nothing elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._shown = self._stream.isatty()

    def __call__(self, what: str, done: int, last: int = 0) -> None:
        share = min(max(done / last, 0.0), 1.0) if last > 0 else None
        shown = f"{done:>16,}" if share is None else f"{'#' * round(24 * share):24} {share:4.0%}"
        self._print(f"\r{what[:40]:40} {shown} ")

    def end(self) -> None:
        self._print("\r" + " " * 72 + "\r")

    def _print(self, text: str) -> None:
        if self._shown:
            print(text, end="", file=self._stream, flush=True)


def _add_database(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--db", dest="database", metavar="FILE|URL", help="database file or postgresql:// URL"
    )
    parser.add_argument("--dir", dest="directory", help="where the database is kept (default ~/.gradwatch)")


def _address(arguments: argparse.Namespace) -> str:
    database = arguments.database or None
    return Config.build(os.environ, database=database, directory=arguments.directory).database


def _configure_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="?", help="id of the run")
    parser.add_argument("--all", action="store_true", help=f"every run (only as {ARCHIVE})")
    parser.add_argument(
        "--format",
        choices=(ARCHIVE, *FORMATS),
        default=ARCHIVE,
        help=f"{ARCHIVE} (default): complete, for gradwatch import; others: one table for each statistic, or a log",
    )
    parser.add_argument("--out", type=Path, help="file or folder to write (default: named after the run)")
    _add_database(parser)


def _export(arguments: argparse.Namespace) -> int:
    if bool(arguments.run) == arguments.all:
        raise ConfigError("say which run: gradwatch export RUN, or gradwatch export --all")
    if arguments.all and arguments.format != ARCHIVE:
        raise ConfigError(f"--all goes with --format {ARCHIVE} only; export runs one by one as tables")
    reader = open_reader(_address(arguments))
    meter = Meter()
    name = arguments.run or "gradwatch-runs"
    try:
        if arguments.format == ARCHIVE:
            target = arguments.out or Path(f"{name}.{ARCHIVE}")
            ids = export_runs(reader, target, None if arguments.all else [arguments.run], meter)
            told = f"{len(ids)} run{'s' * (len(ids) != 1)} in {target}"
            runs = ids
        else:
            target = arguments.out or Path(name)
            files = export_tables(reader, arguments.run, target, arguments.format, meter)
            told = f"{len(files)} files in {target}"
            runs = [arguments.run]
        thinned = reader.read(lambda conn: thinned_runs(conn, runs))
    finally:
        meter.end()
        reader.close()
    print(told)
    for run, before in thinned.items():
        print(
            f"of run {run} exact values of steps before {before:,} were thinned to keep the database within its limits: "
            "the export has those that are left"
        )
    return 0


def _configure_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", type=Path, help=f"a .{ARCHIVE} file of gradwatch export, or a folder with TensorBoard logs"
    )
    _add_database(parser)
    logs = parser.add_argument_group(
        "TensorBoard logs", "They are told to a running server, as trainings are."
    )
    logs.add_argument("--follow", action="store_true", help="go on as the logs grow, until Ctrl-C")
    logs.add_argument("--project", help="what the runs are listed under (default: the folder's name)")
    logs.add_argument(
        "--norms",
        default="grad_norm/",
        metavar="PREFIX",
        help="how tags of gradient norms begin (default: grad_norm/)",
    )
    logs.add_argument("--server", help="address of the server (default: GRADWATCH_SERVER or the local one)")


def _import(arguments: argparse.Namespace) -> int:
    return _import_logs(arguments) if arguments.file.is_dir() else _import_archive(arguments)


def _import_logs(arguments: argparse.Namespace) -> int:
    if arguments.database:
        raise ConfigError(
            "TensorBoard logs go to a server: start it on that database, and leave --db out here"
        )
    root: Path = arguments.file
    meter = Meter()
    options = {"project": arguments.project or root.resolve().name, "server": arguments.server}
    try:
        count = import_logs(
            root, options=options, prefix=arguments.norms, follow=arguments.follow, progress=meter
        )
    finally:
        meter.end()
    print(f"{count} run{'s' * (count != 1)} from {root}")
    return 0


def _import_archive(arguments: argparse.Namespace) -> int:
    if arguments.follow:
        raise ConfigError("--follow is for a folder with TensorBoard logs")
    if not arguments.file.is_file():
        raise ConfigError(f"there is no file {arguments.file}")
    store = Store.open(_address(arguments))
    meter = Meter()
    try:
        ids = import_runs(store, arguments.file, meter)
    finally:
        meter.end()
        store.close()
    for run_id in ids:
        print(run_id)
    return 0


def _configure_backup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="the copy to make; it must not exist")
    _add_database(parser)


def _backup(arguments: argparse.Namespace) -> int:
    size = backup(_address(arguments), arguments.file)
    print(f"{arguments.file}: {size / 1e6:,.1f} MB, whole and consistent; use it with --db")
    return 0


def _configure_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--db",
        dest="database",
        nargs="?",
        const="",
        metavar="FILE|URL",
        help="check everything that is stored there; without a name, in the usual database",
    )
    parser.add_argument("--dir", dest="directory", help="the same, with the database in this folder")


def _doctor(arguments: argparse.Namespace) -> int:
    address = _address(arguments)
    print(f"gradwatch {__version__}, Python {sys.version.split()[0]}")
    meter = Meter()
    try:
        problems = check(address, lambda done, total: meter(f"checking {total:,} blocks", done))
    finally:
        meter.end()
    for problem in problems:
        print(problem)
    print(
        "the database is sound"
        if not problems
        else f"{len(problems)} problems: restore a backup, or ask for help"
    )
    return 1 if problems else 0


_Row = tuple[str, str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]]
_ROWS: Final[tuple[_Row, ...]] = (
    ("export", "write runs to files", _configure_export, _export),
    ("import", "take in exported runs (without a server), or TensorBoard logs", _configure_import, _import),
    ("backup", "copy the database while it is used", _configure_backup, _backup),
    ("doctor", "check everything that is stored", _configure_doctor, _doctor),
)

COMMANDS: Final = tuple(Command(*row) for row in _ROWS)
"""Rows of the command table."""
