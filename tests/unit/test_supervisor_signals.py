"""`--signal` finds the process that is meant, and says so when it cannot."""

import os
import signal
from pathlib import Path

import pytest

from supervisor import signals
from supervisor.flags import FlagError


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["/usr/bin/python3", "/opt/bin/midge", "serve", "-p", "1"], True),
        (["/opt/bin/midge", "serve"], True),
        (["/usr/bin/python3", "/opt/bin/nats-server", "-p", "1"], True),
        (["/usr/bin/python3", "/opt/bin/midge", "bench"], False),
        (["/usr/bin/python3", "-I", "-m", "workers", "--link", "5"], False),
        (["/opt/bin/nats-server", "-p", "1"], False),
        (["vi", "midge", "notes"], False),
        ([], False),
    ],
)
def test_server_is_known_by_its_command_line(words: list[str], expected: bool) -> None:
    assert signals.is_server(words) is expected


def write_process(proc: Path, process_id: int, *words: str) -> None:
    folder = proc / str(process_id)
    folder.mkdir()
    (folder / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))


def test_only_running_server_is_found(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "99").mkdir()
    write_process(tmp_path, 10, "python3", "/bin/midge", "serve")
    write_process(tmp_path, 11, "python3", "-m", "workers")
    write_process(tmp_path, os.getpid(), "python3", "/bin/midge", "serve", "-sl", "ldm")
    assert signals.only_running(tmp_path) == 10


def test_no_server_or_several_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FlagError, match="no midge processes running"):
        signals.only_running(tmp_path)
    write_process(tmp_path, 11, "python3", "/bin/midge", "serve")
    write_process(tmp_path, 10, "python3", "/bin/midge", "serve")
    with pytest.raises(FlagError, match="multiple midge processes running: 10, 11"):
        signals.only_running(tmp_path)


def test_pid_is_a_number_or_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text("4711")
    assert signals.read_process_id("4711") == 4711
    assert signals.read_process_id(str(tmp_path / "pid")) == 4711


@pytest.mark.parametrize("content", ["", "abc", "-1", "0"])
def test_what_is_no_pid_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "pid"
    path.write_text(content)
    with pytest.raises(FlagError, match="invalid pid: "):
        signals.read_process_id(str(path))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bogus=1", 'unknown signal "bogus"'),
        ("quit=/no/file", "invalid pid: /no/file"),
        ("term=999999999", 'signal "term" 999999999: no such process'),
    ],
)
def test_signal_that_cannot_be_sent_is_refused(text: str, expected: str) -> None:
    with pytest.raises(FlagError) as caught:
        signals.send_signal(text)
    assert str(caught.value) == expected


def test_commands_send_what_nats_server_sends() -> None:
    assert signals.COMMANDS == {
        "stop": signal.SIGKILL,
        "quit": signal.SIGINT,
        "term": signal.SIGTERM,
        "reopen": signal.SIGUSR1,
        "reload": signal.SIGHUP,
        "ldm": signal.SIGUSR2,
    }
