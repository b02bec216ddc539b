"""What storage/ and JetStream say through the logging package, in the worker's log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from workers.log import ERROR, WARNING

if TYPE_CHECKING:
    from workers.log import Log

LOGGERS = ("storage", "jetstream")


class LogBridge(logging.Handler):
    """Writes records of the logging package as lines of a Log."""

    def __init__(self, log: Log) -> None:
        """Take where to write."""
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; what may repeat often is limited, and less than a warning is for debugging."""
        text = f"JetStream: {record.getMessage()}"
        if record.levelno >= logging.WARNING:
            level = ERROR if record.levelno >= logging.ERROR else WARNING
            self._log.limited(f"{record.name} {record.msg}", text, level=level)
        else:
            self._log.debug(text)


def hear_others(log: Log) -> None:
    """Have what modules say through the logging package go to this log alone."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [LogBridge(log)]
        logger.propagate = False
