"""Start a server for one run, watch what it costs, stop it."""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from loadtest.client import Connection, Server, ServerError

HOST = "127.0.0.1"
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0
CONNECT_INTERVAL_S = 0.002
BASELINE = "nats-server"


class ServerFailed(Exception):
    """A server did not start, ended by itself, or could not be stopped; with the end of its log."""


@dataclass(frozen=True)
class Contender:
    """A server to compare: its name in tables and its command line, `{port}` standing for the port."""

    name: str
    command: str

    def arguments(self, port: int) -> list[str]:
        return [word.replace("{port}", str(port)) for word in shlex.split(self.command)]


def beside_python(program: str) -> str:
    """Return the path of a program in the environment that runs us."""
    return shlex.quote(str(Path(sys.executable).with_name(program)))


def contenders(workers: list[int], midge: str | None, nats_server: str | None) -> list[Contender]:
    """Return the baseline and midge with each number of workers.

    Args:
        midge, nats_server: command lines with `{port}` (and `{workers}`) instead of the installed ones.
    """
    midge = midge or f"{beside_python('midge')} serve -a {HOST} -p {{port}} --workers {{workers}}"
    baseline = nats_server or f"{beside_python('nats-server')} -a {HOST} -p {{port}}"
    return [
        Contender(BASELINE, baseline),
        *(Contender(f"midge-{count}", midge.replace("{workers}", str(count))) for count in workers),
    ]


class RunningServer:
    """A started server and everything it started."""

    def __init__(self, process: subprocess.Popen[bytes], server: Server, start_ns: int) -> None:
        self.server = server
        self.start_ns = start_ns
        self._process = psutil.Process(process.pid)

    def processes(self) -> list[psutil.Process]:
        """Return the processes of the tree that live now."""
        return [self._process, *self._process.children(recursive=True)]

    def cpu_ns(self) -> int:
        """Return user and system time of the tree so far, in steps of 10 ms for each process."""
        times = [process.cpu_times() for process in self.processes()]
        return int(sum(time.user + time.system for time in times) * 1e9)

    def memory_bytes(self) -> int:
        """Return the memory of the tree, what is shared being counted once (PSS)."""
        return sum(process.memory_full_info().pss for process in self.processes())


@contextmanager
def running(contender: Contender) -> Iterator[RunningServer]:
    """Start a server on a free port, wait until it answers PING, and stop it in the end.

    Raises:
        ServerFailed: no answer in time, or it did not stop when told.
    """
    port = free_port()
    with tempfile.TemporaryFile() as log, tempfile.TemporaryDirectory() as directory:
        started_ns = time.monotonic_ns()
        process = subprocess.Popen(
            contender.arguments(port), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory
        )
        try:
            server = Server(HOST, port)
            wait_for_pong(process, server, log.fileno())
            yield RunningServer(process, server, time.monotonic_ns() - started_ns)
        finally:
            stop(process)


def free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_for_pong(process: subprocess.Popen[bytes], server: Server, log_fd: int) -> None:
    """Connect again and again until a handshake succeeds."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            Connection(server, timeout_s=START_TIMEOUT_S).close()
            return
        except (OSError, ServerError):
            time.sleep(CONNECT_INTERVAL_S)
    said = Path(f"/proc/self/fd/{log_fd}").read_bytes()[-2000:].decode(errors="replace")
    raise ServerFailed(f"{shlex.join(map(str, process.args))} does not answer: {said}")  # type: ignore[arg-type]


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and what it left behind."""
    if process.poll() is not None:
        return
    children = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in psutil.wait_procs(children, timeout=STOP_TIMEOUT_S)[1]:
        child.kill()
