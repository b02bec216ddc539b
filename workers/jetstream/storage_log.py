"""What storage/ has to say, in the worker's log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.log import Log


class StorageLog(logging.Handler):
    """Writes records of the storage logger as lines of a Log."""

    def __init__(self, log: Log) -> None:
        """Take where to write."""
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; what is less than a warning is for finding out what happens."""
        text = f"JetStream: {record.getMessage()}"
        if record.levelno >= logging.ERROR:
            self._log.error(text)
        elif record.levelno >= logging.WARNING:
            self._log.warning(text)
        else:
            self._log.debug(text)


def hear_storage(log: Log) -> None:
    """Have what storage/ says go to this log alone."""
    logger = logging.getLogger("storage")
    logger.handlers = [StorageLog(log)]
    logger.propagate = False
