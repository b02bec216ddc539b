"""Log lines as nats-server prints them, to standard error or a file.

    [4711] 2026/03/01 12:34:56.123456 [INF] Server is ready

Scripts and client test suites read these lines, so the format is fixed: process id, local time with
microseconds (left out on request), level, text. Each process opens the file itself with O_APPEND and writes
a line with one write, so lines of several processes never mix.

The standard logging package is not used: importing it takes a tenth of the time that a broker may take from
exec to its first PONG, and nothing here needs its handlers, filters or locks, for a process logs from one
thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

FATAL = "FTL"
ERROR = "ERR"
WARNING = "WRN"
INFO = "INF"
DEBUG = "DBG"
TRACE = "TRC"

STANDARD_ERROR = 2
# A log may hold subjects and client names: not for everybody's eyes. nats-server uses the same mode.
LOG_FILE_MODE = 0o640
# How many different keys limited() remembers; at this bound the oldest is forgotten and may log again at
# once.
LIMITED_KEYS_MAX = 1024


class Log:
    """Writes lines of the levels that are switched on.

    A log that cannot be written (full disk, closed pipe) is not allowed to stop the broker: such lines are
    counted in `lost_lines` and dropped.
    """

    def __init__(
        self,
        *,
        file: str = "",
        debug: bool = False,
        trace: bool = False,
        time: bool = True,
        utc: bool = False,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Open the log.

        Args:
            file: path to append to, created if missing; "" for standard error.
            debug, trace: whether those levels are written; the others always are.
            time: whether lines carry the time; utc: in UTC, not in local time.
            clock_ns: Unix time in nanoseconds.
        Raises:
            OSError: the file cannot be opened.
        """
        self.file = file
        self.is_debug = debug
        self.is_trace = trace
        self.lost_lines = 0
        self._with_time = time
        self._utc = utc
        self._clock_ns = clock_ns
        self._process_id = os.getpid()
        self._second = -1
        self._second_text = ""
        self._limited: dict[str, tuple[int, int]] = {}
        self._descriptor = self._open()

    def info(self, text: str) -> None:
        """Write what an operator wants to know."""
        self._write(INFO, text)

    def debug(self, text: str) -> None:
        """Write a line for finding out what happens, if -D was given."""
        if self.is_debug:
            self._write(DEBUG, text)

    def trace(self, text: str) -> None:
        """Write a protocol line, if -V was given. Check is_trace first where building the text costs."""
        if self.is_trace:
            self._write(TRACE, text)

    def warning(self, text: str) -> None:
        """Write what somebody should read."""
        self._write(WARNING, text)

    def error(self, text: str) -> None:
        """Write what somebody should act upon."""
        self._write(ERROR, text)

    def fatal(self, text: str) -> None:
        """Write why this process ends; to standard error as well, where whoever started it looks."""
        self._write(FATAL, text)
        if self._descriptor != STANDARD_ERROR:
            self._write_to(STANDARD_ERROR, FATAL, text)

    def limited(self, key: str, text: str, *, level: str = WARNING, every_ns: int = 10_000_000_000) -> None:
        """Write a line that may repeat often: one per key and `every_ns`, saying how many were left out.

        Args:
            key: what makes two lines the same event.
        """
        now_ns = self._clock_ns()
        last_ns, skipped = self._limited.get(key, (-every_ns, 0))
        if now_ns - last_ns < every_ns:
            self._limited[key] = (last_ns, skipped + 1)
            return
        self._limited.pop(key, None)
        if len(self._limited) >= LIMITED_KEYS_MAX:
            del self._limited[next(iter(self._limited))]
        self._limited[key] = (now_ns, 0)
        self._write(level, f"{text} ({skipped} more like this not shown)" if skipped else text)

    def reopen(self) -> bool:
        """Open the file by its path again, after somebody moved it away.

        Returns:
            False when the log is not a file; then nothing was done.
        Raises:
            OSError: the path cannot be opened; the old file stays in use.
        """
        if not self.file:
            return False
        descriptor = self._open()
        os.close(self._descriptor)
        self._descriptor = descriptor
        return True

    def close(self) -> None:
        """Close the file; later lines go to standard error."""
        if self._descriptor != STANDARD_ERROR:
            os.close(self._descriptor)
            self._descriptor = STANDARD_ERROR

    def _open(self) -> int:
        if not self.file:
            return STANDARD_ERROR
        return os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, LOG_FILE_MODE)

    def _write(self, level: str, text: str) -> None:
        self._write_to(self._descriptor, level, text)

    def _write_to(self, descriptor: int, level: str, text: str) -> None:
        line = f"[{self._process_id}] {self._time_text()}[{level}] {text}\n"
        try:
            os.write(descriptor, line.encode("utf-8", "backslashreplace"))
        except OSError:
            self.lost_lines += 1

    def _time_text(self) -> str:
        if not self._with_time:
            return ""
        second, nanosecond = divmod(self._clock_ns(), 1_000_000_000)
        if second != self._second:
            parts = time.gmtime(second) if self._utc else time.localtime(second)
            self._second_text = time.strftime("%Y/%m/%d %H:%M:%S", parts)
            self._second = second
        return f"{self._second_text}.{nanosecond // 1000:06d} "
