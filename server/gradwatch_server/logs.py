"""The server's log: plain lines for people, JSON lines for machines, and no tokens in either."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable

from .config import Config

__all__ = ["JsonLines", "set_up_logs"]

_SECRET_PATH = re.compile(r"/s/[^/?\s\"]+")


def set_up_logs(config: Config, *, silent: Callable[[], bool] = lambda: False) -> None:
    """Sends what the server says to the standard error stream. While ``silent()`` holds, uvicorn says nothing: a failed
    start is told in one sentence by who started it."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonLines() if config.log_format == "json" else PlainLines("%(asctime)s %(levelname)s %(message)s")
    )
    handler.addFilter(_without_secrets)
    quiet = logging.getLogger("uvicorn")
    quiet.addFilter(lambda record: not silent())
    logging.getLogger("uvicorn.error").addFilter(lambda record: not silent())
    for name, level in (("gradwatch", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False


def _without_secrets(record: logging.LogRecord) -> bool:
    record.msg, record.args = _SECRET_PATH.sub("/s/***", record.getMessage()), None
    return True


class PlainLines(logging.Formatter):
    """``2026-01-31 12:00:00,000 WARNING a sentence``, in UTC."""

    def __init__(self, template: str) -> None:
        super().__init__(template)
        self.converter = time.gmtime


class JsonLines(logging.Formatter):
    """One JSON object a line: time (Unix seconds), level, logger, message, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)
