"""Sends a signal to a running midge: `midge serve --signal CMD[=PID|FILE]`, in nats-server's words."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from supervisor.flags import FlagError

COMMANDS = {
    # nats-server's "stop" is SIGKILL too; workers end when their supervisor is gone.
    "stop": signal.SIGKILL,
    "quit": signal.SIGINT,
    "term": signal.SIGTERM,
    "reopen": signal.SIGUSR1,
    "reload": signal.SIGHUP,
    "ldm": signal.SIGUSR2,
}
_PROGRAM_NAMES = ("midge", "nats-server")


def send_signal(text: str) -> None:
    """Send what `CMD[=PID|FILE]` asks for.

    Without a PID the one running midge is meant.

    Raises:
        FlagError: the command or the PID cannot be understood, or there is no such process, or more than one.
    """
    command, _, target = text.partition("=")
    number = COMMANDS.get(command)
    if number is None:
        raise FlagError(f'unknown signal "{command}"')
    process_id = read_process_id(target) if target else only_running()
    try:
        os.kill(process_id, number)
    except OSError as error:
        raise FlagError(f'signal "{command}" {process_id}: {(error.strerror or "").lower()}') from error


def read_process_id(target: str) -> int:
    """Return the PID that a word or the file of that name holds.

    Raises:
        FlagError: neither is a PID.
    """
    text = target
    if not target.isdigit():
        try:
            text = Path(target).read_text().strip()
        except (OSError, ValueError):
            text = ""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise FlagError(f"invalid pid: {target}")
    return int(text)


def only_running(proc: Path = Path("/proc")) -> int:
    """Return the PID of the one midge that runs on this host beside this process.

    Raises:
        FlagError: there is none, or there are several; the text lists them.
    """
    found = []
    for folder in proc.iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if is_server([os.fsdecode(word) for word in words]):
            found.append(int(folder.name))
    if not found:
        raise FlagError("no midge processes running")
    if len(found) > 1:
        raise FlagError(f"multiple midge processes running: {', '.join(map(str, sorted(found)))}")
    return found[0]


def is_server(words: Sequence[str]) -> bool:
    """Return whether a process with this command line is a midge that serves: `[python] …/midge serve …`."""
    for index, word in enumerate(words[:2]):
        name = os.path.basename(word)
        if name == _PROGRAM_NAMES[0]:
            return words[index + 1 : index + 2] == ["serve"]
        if name == _PROGRAM_NAMES[1]:
            return index == 1
    return False
