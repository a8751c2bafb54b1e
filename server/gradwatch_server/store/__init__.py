"""The only SQL: runs, their numbers, and what people said of them, in one SQLite file or one PostgreSQL database."""

from .database import Database
from .live import StreamHandle
from .opening import OpenedStream
from .store import Appended, Store

__all__ = ["Appended", "Database", "OpenedStream", "Store", "StreamHandle"]
