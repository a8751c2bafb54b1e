"""``python -m gradwatch_server serve``."""

from __future__ import annotations

import argparse
import sys

from . import serving


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m gradwatch_server")
    commands = parser.add_subparsers(required=True)
    serve = commands.add_parser("serve", help="start the server")
    serving.configure(serve)
    serve.set_defaults(run=serving.run)
    arguments = parser.parse_args()
    return int(arguments.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
