"""Log lines have nats-server's form, reach the right file, and never stop the broker."""

import os
import re
from pathlib import Path

import pytest

from workers import log as log_module
from workers.log import Log

# 2026-03-01 12:34:56.123456789 UTC
SOME_TIME_NS = 1_772_368_496_123_456_789


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "midge.log"


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now_ns = SOME_TIME_NS

    def __call__(self) -> int:
        return self.now_ns


def test_line_has_pid_time_level_and_text(path: Path) -> None:
    log = Log(file=str(path), utc=True, clock_ns=Clock())
    log.info("Server is ready")
    assert path.read_text() == f"[{os.getpid()}] 2026/03/01 12:34:56.123456 [INF] Server is ready\n"
    log.close()


def test_local_time_is_the_default(path: Path) -> None:
    log = Log(file=str(path))
    log.info("x")
    assert re.fullmatch(r"\[\d+\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} \[INF\] x\n", path.read_text())
    log.close()


def test_time_moves_on_within_and_beyond_a_second(path: Path) -> None:
    clock = Clock()
    log = Log(file=str(path), utc=True, clock_ns=clock)
    for step_ns in (0, 1_000, 1_000_000_000):
        clock.now_ns += step_ns
        log.info("x")
    times = [line.split()[2] for line in path.read_text().splitlines()]
    assert times == ["12:34:56.123456", "12:34:56.123457", "12:34:57.123457"]
    log.close()


def test_time_can_be_left_out(path: Path) -> None:
    log = Log(file=str(path), time=False)
    log.error("x")
    assert path.read_text() == f"[{os.getpid()}] [ERR] x\n"
    log.close()


@pytest.mark.parametrize(
    ("debug", "trace", "levels"),
    [
        (False, False, ["INF", "WRN", "ERR"]),
        (True, False, ["INF", "DBG", "WRN", "ERR"]),
        (False, True, ["INF", "TRC", "WRN", "ERR"]),
    ],
)
def test_levels_are_written_if_switched_on(path: Path, debug: bool, trace: bool, levels: list[str]) -> None:
    log = Log(file=str(path), time=False, debug=debug, trace=trace)
    log.info("x")
    log.debug("x")
    log.trace("x")
    log.warning("x")
    log.error("x")
    assert re.findall(r"\[(\w{3})\]", path.read_text()) == levels
    log.close()


def test_fatal_goes_to_standard_error_too(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = Log(file=str(path), time=False)
    log.fatal("no port")
    expected = f"[{os.getpid()}] [FTL] no port\n"
    assert path.read_text() == capfd.readouterr().err == expected
    log.close()


def test_standard_error_is_the_default(capfd: pytest.CaptureFixture[str]) -> None:
    log = Log(time=False)
    log.fatal("once")
    assert capfd.readouterr().err == f"[{os.getpid()}] [FTL] once\n"
    assert not log.reopen()


def test_lines_are_added_to_what_is_there(path: Path) -> None:
    path.write_text("before\n")
    log = Log(file=str(path), time=False)
    log.info("after")
    assert path.read_text().splitlines()[0] == "before"
    assert path.read_text().endswith("after\n")
    log.close()


def test_reopening_goes_on_in_a_new_file_after_a_move(path: Path) -> None:
    log = Log(file=str(path), time=False)
    log.info("first")
    moved = path.rename(path.with_suffix(".1"))
    log.info("second")
    assert log.reopen()
    log.info("third")
    assert [line.split()[-1] for line in moved.read_text().splitlines()] == ["first", "second"]
    assert [line.split()[-1] for line in path.read_text().splitlines()] == ["third"]
    log.close()


def test_failed_reopening_keeps_the_old_file(path: Path) -> None:
    path.parent.joinpath("sub").mkdir()
    inside = path.parent / "sub" / "midge.log"
    log = Log(file=str(inside), time=False)
    moved = path.parent.joinpath("sub").rename(path.parent / "moved") / "midge.log"
    with pytest.raises(FileNotFoundError):
        log.reopen()
    log.info("still here")
    assert moved.read_text().endswith("still here\n")
    log.close()


def test_log_file_is_not_for_everybody(path: Path) -> None:
    Log(file=str(path)).close()
    assert path.stat().st_mode & 0o007 == 0


def test_text_that_is_not_unicode_is_written(path: Path) -> None:
    log = Log(file=str(path), time=False)
    log.info(b"\xff".decode("utf-8", "surrogateescape"))
    assert path.read_text().endswith("\\udcff\n")
    log.close()


def test_log_that_cannot_be_written_loses_lines_and_nothing_else() -> None:
    log = Log(file="/dev/full")
    log.info("x")
    log.info("y")
    assert log.lost_lines == 2
    log.close()


def test_repeated_lines_are_limited_per_key(path: Path) -> None:
    clock = Clock()
    log = Log(file=str(path), time=False, clock_ns=clock)
    for _ in range(5):
        log.limited("slow", "Slow Consumer Detected", every_ns=1000)
    log.limited("other", "Other", level=log_module.ERROR, every_ns=1000)
    clock.now_ns += 1000
    log.limited("slow", "Slow Consumer Detected", every_ns=1000)
    texts = [line.split(" ", 1)[1] for line in path.read_text().splitlines()]
    assert texts == [
        "[WRN] Slow Consumer Detected",
        "[ERR] Other",
        "[WRN] Slow Consumer Detected (4 more like this not shown)",
    ]
    log.close()


def test_number_of_remembered_keys_is_bounded(path: Path) -> None:
    log = Log(file=str(path), clock_ns=Clock())
    for number in range(log_module.LIMITED_KEYS_MAX + 10):
        log.limited(str(number), "x")
    assert len(log._limited) == log_module.LIMITED_KEYS_MAX
    log.close()
